"""What verification can find: every code with its severity and its remedy, and a list that does not grow endlessly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

Severity = Literal['error', 'warning', 'note']
SEVERITIES: tuple[Severity, ...] = ('error', 'warning', 'note')


class Kind(NamedTuple):
    """Errors stop a training or make its numbers lie; warnings cost rows or quality; notes are good to know."""

    severity: Severity
    remedy: str


KINDS: dict[str, Kind] = {
    # What the readers refuse; their message names the remedy.
    'set.refused': Kind('error', ''),
    'labels.refused': Kind('error', ''),
    'split.absent': Kind('warning', 'a training needs both, train and dev'),
    'split.empty': Kind('error', 'no row of the split can be used; see what else is found'),
    'row.left_out': Kind('warning', 'the reader passes over it; mend the ids'),
    # Pictures.
    'picture.missing': Kind('error', 'put the picture there or remove its rows'),
    'picture.empty': Kind('error', 'the file has no content; get it again'),
    'picture.unreadable': Kind('error', 'no picture, or a damaged one; get it again'),
    'picture.broken': Kind('error', 'its header is whole, its content is not; get it again'),
    'picture.too_large': Kind('error', 'no reader opens it; make it smaller'),
    'picture.tiny': Kind('warning', 'a thumbnail or a placeholder? get the real one'),
    'picture.thin': Kind('warning', 'resizing distorts it; cut it'),
    'picture.animated': Kind('warning', 'only the first frame is read'),
    'picture.blank': Kind('warning', 'all pixels are alike: a placeholder? get the real one'),
    'picture.repeated': Kind('warning', 'the same content under two names; keep one'),
    'picture.mode': Kind('note', 'it is converted to RGB'),
    'picture.turned': Kind('note', 'it is turned upright, as its EXIF says'),
    'picture.suffix': Kind('note', 'it is read all the same'),
    # Questions and captions.
    'text.empty': Kind('warning', 'the row is left out; write the text or remove the row'),
    'text.mojibake': Kind('warning', 'Hangul read in a wrong encoding; export the file again as UTF-8'),
    'text.replaced': Kind('warning', 'characters were lost in an earlier conversion; export the file again'),
    'text.markup': Kind('warning', 'strip tags and entities'),
    'text.no_hangul': Kind('warning', 'is it the translation that was meant?'),
    'text.long': Kind('note', 'what exceeds the length is cut off'),
    'text.short': Kind('note', 'hardly a question or a caption'),
    'text.decomposed': Kind('note', 'it is composed (NFC) when read'),
    'text.invisible': Kind('note', 'such characters are dropped when read'),
    'text.repeated': Kind('warning', 'the same text and answer about the same picture; keep one'),
    # Ids and types.
    'id.empty': Kind('warning', 'give every row an id'),
    'id.repeated': Kind('warning', 'the second row is left out; give it an id of its own'),
    'id.shared': Kind('warning', 'one id names rows of two pictures; give each its own'),
    'type.missing': Kind('note', 'other rows have an answer_type; scores by type leave this one apart'),
    # Answers.
    'answer.empty': Kind('warning', 'the row is left out; write the answer or remove the row'),
    'answer.placeholder': Kind('warning', 'what a table writes for an empty cell would become a class'),
    'answer.mojibake': Kind('warning', 'Hangul read in a wrong encoding; export the file again as UTF-8'),
    'answer.replaced': Kind('warning', 'characters were lost in an earlier conversion; export the file again'),
    'answer.long': Kind('note', 'a sentence is hardly ever given twice and so no class'),
    'answer.spelling': Kind('note', 'differs only in blanks, case or final punctuation; they become two classes'),
    'answer.contradictory': Kind('warning', 'the same question about the same picture; keep one answer'),
    'answer.number': Kind('warning', 'people who answered are missing or counted twice'),
    'answer.majority': Kind('warning', 'compare with the majority answer before you trust an accuracy'),
    'answer.rare': Kind('warning', 'most training rows are left out; lower answers=dict(min_count=...)'),
    'answer.no_class': Kind('error', 'no answer is frequent enough; lower answers=dict(min_count=...)'),
    'answer.only_in_dev': Kind('note', 'no training row has it: it cannot be answered'),
    # Between the splits.
    'leak.picture': Kind('error', 'the dev score would count what was learned by heart; keep it in one split'),
    'leak.content': Kind('error', 'as leak.picture, under another name; keep it in one split'),
    # Tokenizer.
    'tokenizer.refused': Kind('error', ''),
    'tokenizer.unknown': Kind('warning', 'train one on these texts: tools/data/train_tokenizer.py'),
    'tokenizer.foreign': Kind('error', 'a training refuses it; train one: tools/data/train_tokenizer.py'),
}
_BY_SEVERITY = sorted(KINDS, key=lambda code: SEVERITIES.index(KINDS[code].severity))  # stable: else as above


class Finding(NamedTuple):
    """One fault: its code in KINDS, where it is (file and line, or the path of a picture), and what it is."""

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
