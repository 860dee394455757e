"""What can be wrong between the rows of a split, and between splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from kovilt.datasets.answers import AnswerVocabulary
from kovilt.errors import KoviltError
from kovilt.verification.findings import Findings
from kovilt.verification.rows import SplitRows
from kovilt.verification.texts import LONGEST_TEXT, spelling

FEW_ROWS = 50  # of fewer the shares say nothing
MOST_MAJORITY = 0.5  # share of the rows with one answer
MOST_RARE = 0.5  # share of the rows whose answer is no class
MOST_UNKNOWN = 0.05  # share of [UNK] pieces that still trains well
REFUSED_UNKNOWN = 0.5  # above it `PairDataset` refuses the tokenizer


def check_rows(split: SplitRows, findings: Findings) -> None:
    """Ids, repeated and contradictory rows, answers of one split."""
    _check_ids(split, findings)
    _check_repeats(split, findings)
    if 'answer' not in split.source.reader.COLUMNS or not len(split):
        return
    _check_spellings(split, findings)
    _check_numbers(split, findings)
    if split.source.training:
        _check_classes(split, findings)
    if any(split.answer_type[row] for row in range(len(split))):
        for row in np.flatnonzero([not split.answer_type[row] for row in range(len(split))]):
            findings.add('type.missing', split.place(row), 'no answer_type')


def check_dev(training: SplitRows, dev: SplitRows, findings: Findings) -> None:
    """Answers of a dev split that no training row has."""
    known = set(training.answer_rows())
    known.update(training.answers.items.values[code] for code in range(len(training.answers.items.values)))
    first: dict[str, int] = {}
    for row in range(len(dev)):
        first.setdefault(dev.answer[row], row)
    for answer, rows in dev.answer_rows().items():
        if answer not in known:
            findings.add('answer.only_in_dev', dev.place(first[answer]), f'{answer!r} ({rows:,} rows)')


def check_leaks(training: SplitRows, dev: SplitRows, same: Sequence[set[str]], findings: Findings) -> None:
    """Images that are in both splits, by their identity or path, or by their content (`same`: sets of paths)."""
    ours = _images(training)
    paths = {path: row for row, path, _ in ours}
    identities = {identity: row for row, _, identity in ours}
    group_of = {path: group for group in same for path in group}
    for row, path, identity in _images(dev):
        where = identities.get(identity, paths.get(path))
        if where is not None:
            findings.add('leak.image', dev.place(row), f'{path} is also in training: {training.place(where)}')
            continue
        for other in sorted(group_of.get(path, ())):
            if other in paths:
                what = f'{path} has the content of {other}, {training.place(paths[other])}'
                findings.add('leak.content', dev.place(row), what)
                break


def check_lengths(split: SplitRows, tokenizer: object | None, findings: Findings) -> tuple[list[int], float | None]:
    """Texts that are too long: for `max_text_len` pieces of the tokenizer, else by characters.

    Returns how many characters, or pieces with [CLS] and [SEP], each text has, and the share of [UNK] pieces (0 to 1).
    """
    if tokenizer is None:
        lengths = [len(split.text[row]) for row in range(len(split))]
        for row in np.flatnonzero(np.array(lengths) > LONGEST_TEXT):
            findings.add('text.long', split.place(row), f'{lengths[row]} characters: {split.text[row][:40]!r}')
        return lengths, None
    lengths, unknown, pieces = [], 0, 0
    most = split.source.max_text_len
    for row in range(len(split)):
        ids = tokenizer.backend_tokenizer.encode(split.text[row], add_special_tokens=False).ids
        lengths.append(len(ids) + 2)
        unknown, pieces = unknown + ids.count(tokenizer.unk_token_id), pieces + len(ids)
        if most and lengths[-1] > most:
            findings.add('text.long', split.place(row), f'{lengths[-1]} pieces, max_text_len is {most}')
    share = unknown / max(pieces, 1)
    if share > MOST_UNKNOWN:
        code = 'tokenizer.foreign' if share > REFUSED_UNKNOWN else 'tokenizer.unknown'
        findings.add(code, tokenizer.name_or_path, f'{share:.1%} of the pieces of {split.source} are [UNK]')
    return lengths, share


def _check_ids(split: SplitRows, findings: Findings) -> None:
    ids = split.question_id.hashes()
    for row, earlier in _repeats(ids):
        if not ids[row]:
            continue
        code = 'id.repeated' if split.images[row] == split.images[earlier] else 'id.shared'
        what = f'question_id {split.question_id[row]!r} as in {split.place(earlier)}'
        findings.add(code, split.place(row), what)


def _check_repeats(split: SplitRows, findings: Findings) -> None:
    """The same text about the same image, with the same answer or another."""
    for row, earlier in _repeats(split.text.hashes(), split.images):
        text = split.text[row]
        if split.answer[row] == split.answer[earlier]:
            findings.add('text.repeated', split.place(row), f'{text!r} as in {split.place(earlier)}')
        elif split.answer[row] and split.answer[earlier]:
            answers = f'{split.answer[row]!r}, but {split.answer[earlier]!r} in {split.place(earlier)}'
            findings.add('answer.contradictory', split.place(row), f'{text!r} is answered {answers}')


def _repeats(*keys: np.ndarray) -> Iterator[tuple[int, int]]:
    """(row, the first row that has the same keys) of each row that is not itself the first; ascending."""
    if not len(keys[0]):
        return
    order = np.lexsort(keys)  # stable: of equals the row read first stays first
    new = np.zeros(len(order), dtype=bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    first = np.empty_like(order)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    for row in np.flatnonzero(first != np.arange(len(order))).tolist():
        yield row, int(first[row])


def _check_spellings(split: SplitRows, findings: Findings) -> None:
    groups: dict[str, list[str]] = defaultdict(list)
    rows = split.answer_rows()
    for answer, _ in rows.most_common():
        groups[spelling(answer)].append(answer)
    usual = {rare: group[0] for group in groups.values() for rare in group[1:]}
    seen = set()
    for row in range(len(split)) if usual else ():
        answer = split.answer[row]
        if answer in usual and answer not in seen:
            seen.add(answer)
            what = f'{answer!r} ({rows[answer]:,} rows) beside {usual[answer]!r} ({rows[usual[answer]]:,} rows)'
            findings.add('answer.spelling', split.place(row), what)


def _check_numbers(split: SplitRows, findings: Findings) -> None:
    """Sets in which ten people answer each question: rows with another number of answers than most have."""
    numbers = [len(split.answers[row]) for row in range(len(split))]
    usual = Counter(numbers).most_common(1)[0][0]
    if usual < 2:
        return
    for row in np.flatnonzero(np.array(numbers) != usual):
        # a single answer is kept as such, not as a list
        findings.add('answer.number', split.place(row), f'{max(numbers[row], 1)} answers; most rows have {usual}')


def _check_classes(split: SplitRows, findings: Findings) -> None:
    rows = split.answer_rows()
    total, (majority, most) = sum(rows.values()), next(iter(rows.most_common(1)), ('', 0))
    if total >= FEW_ROWS and most > MOST_MAJORITY * total:
        what = f'{majority!r} answers {most / total:.0%} of {split.source}'
        findings.add('answer.majority', split.source.place, what)
    if split.source.min_count is None:
        return
    try:
        vocabulary = AnswerVocabulary.build(rows, min_count=split.source.min_count)
    except KoviltError as error:
        findings.add('answer.no_class', split.source.place, str(error).partition(';')[0])
        return
    left_out = 1 - vocabulary.coverage(rows)
    if left_out > MOST_RARE:
        what = (
            f'{left_out:.0%} of the rows of {split.source} have an answer given fewer than {vocabulary.min_count} times'
        )
        findings.add('answer.rare', split.source.place, what)


def _images(split: SplitRows) -> list[tuple[int, str, int]]:
    """(its first row, its path or name, its identity) of each image a row speaks about."""
    return [(row, split.places.name(image), int(split.identities[image])) for image, row in split.first_rows().items()]
