"""What verification can find: every code with its severity and its remedy, and a list that does not grow endlessly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

Severity = Literal['error', 'warning', 'note']
SEVERITIES: tuple[Severity, ...] = ('error', 'warning', 'note')


class FindingKind(NamedTuple):
    """Errors stop a training or make its numbers lie; warnings cost rows or quality; notes are good to know."""

    severity: Severity
    remedy: str


KINDS: dict[str, FindingKind] = {
    # What the readers refuse; their message names the remedy.
    'set.refused': FindingKind('error', ''),
    'labels.refused': FindingKind('error', ''),
    'split.absent': FindingKind('warning', 'a training needs both, train and dev'),
    'split.empty': FindingKind('error', 'no row of the split can be used; see what else is found'),
    'row.left_out': FindingKind('warning', 'the reader passes over it; mend the ids'),
    # Images.
    'image.missing': FindingKind('error', 'put the image there or remove its rows'),
    'image.empty': FindingKind('error', 'the file has no content; get it again'),
    'image.unreadable': FindingKind('error', 'no image, or a damaged one; get it again'),
    'image.broken': FindingKind('error', 'its header is whole, its content is not; get it again'),
    'image.too_large': FindingKind('error', 'no reader opens it; make it smaller'),
    'image.tiny': FindingKind('warning', 'a thumbnail or a placeholder? get the real one'),
    'image.thin': FindingKind('warning', 'resizing distorts it; cut it'),
    'image.animated': FindingKind('warning', 'only the first frame is read'),
    'image.blank': FindingKind('warning', 'all pixels are alike: a placeholder? get the real one'),
    'image.repeated': FindingKind('warning', 'the same content under two names; keep one'),
    'image.mode': FindingKind('note', 'it is converted to RGB'),
    'image.turned': FindingKind('note', 'it is turned upright, as its EXIF says'),
    'image.suffix': FindingKind('note', 'it is read all the same'),
    # Questions and captions.
    'text.empty': FindingKind('warning', 'the row is left out; write the text or remove the row'),
    'text.mojibake': FindingKind('warning', 'Hangul read in a wrong encoding; export the file again as UTF-8'),
    'text.replaced': FindingKind('warning', 'characters were lost in an earlier conversion; export the file again'),
    'text.markup': FindingKind('warning', 'strip tags and entities'),
    'text.no_hangul': FindingKind('warning', 'is it the translation that was meant?'),
    'text.long': FindingKind('note', 'what exceeds the length is cut off'),
    'text.short': FindingKind('note', 'hardly a question or a caption'),
    'text.decomposed': FindingKind('note', 'it is composed (NFC) when read'),
    'text.invisible': FindingKind('note', 'such characters are dropped when read'),
    'text.repeated': FindingKind('warning', 'the same text and answer about the same image; keep one'),
    # Ids and types.
    'id.empty': FindingKind('warning', 'give every row an id'),
    'id.repeated': FindingKind('warning', 'the second row is left out; give it an id of its own'),
    'id.shared': FindingKind('warning', 'one id names rows of two images; give each its own'),
    'type.missing': FindingKind('note', 'other rows have an answer_type; scores by type leave this one apart'),
    # Answers.
    'answer.empty': FindingKind('warning', 'the row is left out; write the answer or remove the row'),
    'answer.placeholder': FindingKind('warning', 'what a table writes for an empty cell would become a class'),
    'answer.mojibake': FindingKind('warning', 'Hangul read in a wrong encoding; export the file again as UTF-8'),
    'answer.replaced': FindingKind('warning', 'characters were lost in an earlier conversion; export the file again'),
    'answer.long': FindingKind('note', 'a sentence is hardly ever given twice and so no class'),
    'answer.spelling': FindingKind(
        'note', 'differs only in blanks, case or final punctuation; they become two classes'
    ),
    'answer.contradictory': FindingKind('warning', 'the same question about the same image; keep one answer'),
    'answer.number': FindingKind('warning', 'people who answered are missing or counted twice'),
    'answer.majority': FindingKind('warning', 'compare with the majority answer before you trust an accuracy'),
    'answer.rare': FindingKind('warning', 'most training rows are left out; lower answers=dict(min_count=...)'),
    'answer.no_class': FindingKind('error', 'no answer is frequent enough; lower answers=dict(min_count=...)'),
    'answer.only_in_dev': FindingKind('note', 'no training row has it: it cannot be answered'),
    # Between the splits.
    'leak.image': FindingKind('error', 'the dev score would count what was learned by heart; keep it in one split'),
    'leak.content': FindingKind('error', 'as leak.image, under another name; keep it in one split'),
    # Tokenizer.
    'tokenizer.refused': FindingKind('error', ''),
    'tokenizer.unknown': FindingKind('warning', 'train one on these texts: tools/data/train_tokenizer.py'),
    'tokenizer.foreign': FindingKind('error', 'a training refuses it; train one: tools/data/train_tokenizer.py'),
}
_BY_SEVERITY = sorted(KINDS, key=lambda code: SEVERITIES.index(KINDS[code].severity))  # stable: else as above


class Finding(NamedTuple):
    """One fault: its code in KINDS, where it is (file and line, or the path of an image), and what it is."""

    code: str
    place: str
    what: str

    @property
    def severity(self) -> Severity:
        return KINDS[self.code].severity

    @property
    def remedy(self) -> str:
        return KINDS[self.code].remedy


class Findings:
    """Counts all findings and keeps the first `most` of each code, so that a set broken throughout fits into memory."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.counts: Counter[str] = Counter()
        self._kept: dict[str, list[Finding]] = {}

    def add(self, code: str, place: object, what: str) -> None:
        self.counts[code] += 1
        kept = self._kept.setdefault(code, [])
        if len(kept) < self.most:
            kept.append(Finding(code, str(place), what))

    def __iter__(self) -> Iterator[Finding]:
        """Those kept, the gravest first."""
        for code in _BY_SEVERITY:
            yield from self._kept.get(code, ())

    def of(self, code: str) -> list[Finding]:
        return self._kept.get(code, [])

    def severities(self) -> dict[Severity, int]:
        """How many of each severity, kept or not."""
        return {
            severity: sum(count for code, count in self.counts.items() if KINDS[code].severity == severity)
            for severity in SEVERITIES
        }

    @property
    def exit_code(self) -> int:
        """0 nothing or only notes, 1 warnings, 2 errors."""
        found = self.severities()
        return 2 if found['error'] else 1 if found['warning'] else 0
