"""The faults that verification can find: each code with its severity and remedy, and a list of bounded length."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from kovilt.datasets.members import Member

Severity = Literal['error', 'warning', 'note']
ImageLocation = Path | Member
_LINE = re.compile(r', (?:line|row|record|character) \d.*$', re.DOTALL)  # of a place in a file
SEVERITIES: tuple[Severity, ...] = ('error', 'warning', 'note')


class FindingKind(NamedTuple):
    """Severity and remedy of a code: errors stop training or falsify its scores, warnings cost rows or quality."""

    severity: Severity
    remedy: str


FINDING_KINDS: dict[str, FindingKind] = {
    # Files and rows that a reader refuses; its message names the remedy.
    'set.refused': FindingKind('error', ''),
    'labels.refused': FindingKind('error', ''),
    'split.absent': FindingKind('warning', 'training needs both a train and a val split'),
    'split.empty': FindingKind('error', 'no row of the split can be used; see the other findings'),
    'row.left_out': FindingKind('warning', 'the reader skips it; correct the ids'),
    # Images.
    'image.missing': FindingKind('error', 'put the image there or remove its rows'),
    'image.compressed': FindingKind('error', 'missing images may be in it'),
    'image.empty': FindingKind('error', 'the file has no content; get it again'),
    'image.unreadable': FindingKind('error', 'not an image, or a damaged one; get it again'),
    'image.broken': FindingKind('error', 'its header is intact, its content is damaged; get it again'),
    'image.too_large': FindingKind('error', 'it is not decoded; make it smaller'),
    'image.tiny': FindingKind('warning', 'a thumbnail or a placeholder? get the original'),
    'image.thin': FindingKind('warning', 'resizing distorts it; crop it'),
    'image.animated': FindingKind('warning', 'only the first frame is read'),
    'image.blank': FindingKind('warning', 'all pixels are equal: a placeholder? get the original'),
    'image.repeated': FindingKind('warning', 'the same content under two names; keep one'),
    'image.mode': FindingKind('note', 'it is converted to RGB'),
    'image.turned': FindingKind('note', 'it is rotated upright by its EXIF orientation'),
    'image.suffix': FindingKind('note', 'it is read anyway'),
    # Questions and captions.
    'text.empty': FindingKind('warning', 'the row is left out; write the text or remove the row'),
    'text.mojibake': FindingKind('warning', 'Hangul decoded with a wrong encoding; export the file again as UTF-8'),
    'text.replaced': FindingKind('warning', 'characters were lost in an earlier conversion; export the file again'),
    'text.markup': FindingKind('warning', 'strip tags and entities'),
    'text.jamo': FindingKind('warning', 'letters that form no syllable become [UNK]; correct the text'),
    'text.no_hangul': FindingKind('warning', 'is this the Korean translation?'),
    'text.long': FindingKind('note', 'tokens beyond the length are cut off'),
    'text.short': FindingKind('note', 'hardly a question or a caption'),
    'text.decomposed': FindingKind('note', 'it is composed (NFC) when read'),
    'text.invisible': FindingKind('note', 'such characters are removed when read'),
    'text.statement': FindingKind('note', 'such questions are read like all others'),
    'text.fixed': FindingKind('note', 'one question about all images; scores by answer_type show its share'),
    'text.repeated': FindingKind('warning', 'the same text and answer about the same image; keep one'),
    # Ids and types.
    'id.empty': FindingKind('warning', 'give every row an id'),
    'id.repeated': FindingKind('warning', 'the second row is left out; give it an id of its own'),
    'id.shared': FindingKind('warning', 'rows of two images have one id; give each its own'),
    'type.missing': FindingKind('note', 'other rows have an answer_type; scores by type omit this one'),
    'type.disagrees': FindingKind('note', 'scores by type follow answer_type'),
    # Answers.
    'answer.empty': FindingKind('warning', 'the row is left out; write the answer or remove the row'),
    'answer.placeholder': FindingKind('warning', 'the text of an empty table cell would become a class'),
    'answer.mojibake': FindingKind('warning', 'Hangul decoded with a wrong encoding; export the file again as UTF-8'),
    'answer.replaced': FindingKind('warning', 'characters were lost in an earlier conversion; export the file again'),
    'answer.markup': FindingKind('warning', 'strip tags and entities'),
    'answer.jamo': FindingKind('warning', 'letters that form no syllable; the answer becomes a class of its own'),
    'answer.long': FindingKind('note', 'a sentence hardly ever occurs twice and so is no class'),
    'answer.spelling': FindingKind(
        'warning', 'one answer to the tolerant score, but a class for each spelling; write them alike'
    ),
    'answer.case': FindingKind('note', 'differs in capitals or blanks only; they become two classes'),
    'answer.english': FindingKind(
        'warning', 'a model that answers in Korean is wrong there; answer_map of the reader maps them'
    ),
    'answer.contradictory': FindingKind('warning', 'the same question about the same image; keep one answer'),
    'answer.number': FindingKind('warning', 'answers of some people are missing or repeated'),
    'answer.majority': FindingKind('warning', 'compare an accuracy with that of the majority answer'),
    'answer.rare': FindingKind('warning', 'most training rows are left out; lower answers=dict(min_count=...)'),
    'answer.no_class': FindingKind('error', 'no answer is frequent enough; lower answers=dict(min_count=...)'),
    'answer.only_in_val': FindingKind('note', 'no training row has it: it cannot be predicted'),
    'answer.unanswerable': FindingKind(
        'error', 'no model can get them right; take both splits from one set, write answers alike, lower min_count'
    ),
    # Between the splits.
    'leak.image': FindingKind('error', 'the validation score would count memorized images; keep it in one split'),
    'leak.copy': FindingKind(
        'warning', 'as leak.image, encoded again, rescaled or cropped; keep one of them, in one split'
    ),
    'leak.content': FindingKind('error', 'as leak.image, under another name; keep it in one split'),
    # Tokenizer.
    'tokenizer.refused': FindingKind('error', ''),
    'tokenizer.unknown': FindingKind('warning', 'train one on these texts: kovilt tokenizer'),
    'tokenizer.foreign': FindingKind('error', 'training refuses it; train one: kovilt tokenizer'),
}


@dataclass
class Finding:
    """A fault.

    Attributes:
        code: one of FINDING_KINDS.
        places: where it is (file and line, or the path of an image): of rows of one file with the same fault the
            first ones.
        description: what is wrong there.
        times: how often, in different rows of the file for instance.
        images: the images that it is about, where they may be worth a look.
    """

    code: str
    places: list[str]
    description: str
    images: tuple[ImageLocation, ...] = ()
    times: int = 1

    @property
    def place(self) -> str:
        return self.places[0]

    def __str__(self) -> str:
        return f'{self.place}: {self.description}' + (f' ({self.times:,} times)' if self.times > 1 else '')


class Findings:
    """Counts all findings and lists the first `max_listed` of each code, so that a broken set fits in memory.

    Rows of one file with the same fault, such as a wrong header, are one finding.
    """

    def __init__(self, max_listed: int = 1000) -> None:
        self.max_listed = max_listed
        self.counts: Counter[str] = Counter()
        self.times: Counter[str] = Counter()  # code -> rows with it, of which some may share a finding
        self._listed: dict[str, dict[tuple[str, str], Finding]] = {}  # code -> (file, description) -> finding

    def add(self, code: str, place: object, description: str, images: tuple[ImageLocation, ...] = ()) -> None:
        """Count a finding, and list it unless `max_listed` of its code are."""
        self.times[code] += 1
        listed = self._listed.setdefault(code, {})
        key = _LINE.sub('', str(place)), description
        if key in listed:
            listed[key].times += 1
            if len(listed[key].places) < self.max_listed:
                listed[key].places.append(str(place))
            return
        self.counts[code] += 1
        if len(listed) < self.max_listed:
            listed[key] = Finding(code, [str(place)], description, images)

    def __iter__(self) -> Iterator[Finding]:
        """The listed findings, errors first."""
        for severity in SEVERITIES:
            for code, kind in FINDING_KINDS.items():
                if kind.severity == severity:
                    yield from self.of(code)

    def of(self, code: str) -> list[Finding]:
        """The listed findings of a code."""
        return list(self._listed.get(code, {}).values())

    def severities(self) -> dict[Severity, int]:
        """The number of findings of each severity, listed or not."""
        return {
            severity: sum(count for code, count in self.counts.items() if FINDING_KINDS[code].severity == severity)
            for severity in SEVERITIES
        }

    @property
    def exit_code(self) -> int:
        """0 nothing or only notes, 1 warnings, 2 errors."""
        found = self.severities()
        return 2 if found['error'] else 1 if found['warning'] else 0
