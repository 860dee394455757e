"""Finds the faults between the rows of a split, and between splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from kovilt.datasets.answers import AnswerVocabulary
from kovilt.datasets.rng import hash_texts
from kovilt.errors import KoviltError
from kovilt.verification.findings import Findings
from kovilt.verification.rows import SplitRows
from kovilt.verification.texts import LONGEST_TEXT, spelling_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIN_ROWS = 50  # shares of fewer rows mean nothing
MAX_MAJORITY_SHARE = 0.5  # of the rows have one answer
MAX_RARE_SHARE = 0.5  # of the rows have an answer outside the vocabulary
MAX_UNKNOWN_SHARE = 0.05  # of [UNK] tokens with which training still works well
REFUSED_UNKNOWN_SHARE = 0.5  # above it `PairDataset` refuses the tokenizer


def check_rows(split: SplitRows, findings: Findings) -> None:
    """Check ids, repeated and contradictory rows, and answers of one split."""
    _check_ids(split, findings)
    _check_repeats(split, findings)
    if 'answer' not in split.source.reader.COLUMNS or not len(split):
        return
    _check_spellings(split, findings)
    _check_numbers(split, findings)
    if split.source.training:
        _check_classes(split, findings)
    if any(split.count_answer_types()):
        for row in np.flatnonzero([not answer_type.as_py() for answer_type in split.answer_type]).tolist():
            findings.add('type.missing', split.place(row), 'no answer_type')


def check_val_answers(training: SplitRows, val: SplitRows, findings: Findings) -> None:
    """Find answers of a validation split that no training row has."""
    known = set(training.count_answers())
    known.update(training.answers.values.dictionary.to_pylist())
    first: dict[str, int] = {}
    for row, answer in enumerate(val.answer):
        first.setdefault(answer.as_py(), row)
    for answer, rows in val.count_answers().items():
        if answer not in known:
            findings.add('answer.only_in_val', val.place(first[answer]), f'{answer!r} ({rows:,} rows)')


def check_leaks(training: SplitRows, val: SplitRows, equal: Sequence[set[str]], findings: Findings) -> None:
    """Find images that are in both splits by identity, path or content; `equal` has sets of paths of equal content."""
    ours = _first_images(training)
    paths = {path: row for row, path, _ in ours}
    identities = {identity: row for row, _, identity in ours}
    group_of = {path: group for group in equal for path in group}
    for row, path, identity in _first_images(val):
        where = identities.get(identity, paths.get(path))
        if where is not None:
            findings.add('leak.image', val.place(row), f'{path} is also in training: {training.place(where)}')
            continue
        for other in sorted(group_of.get(path, ())):
            if other in paths:
                description = f'{path} has the content of {other}, {training.place(paths[other])}'
                findings.add('leak.content', val.place(row), description)
                break


def check_lengths(
    split: SplitRows, tokenizer: PreTrainedTokenizerFast | None, findings: Findings
) -> tuple[list[int], float | None]:
    """Find texts that are too long, in tokens or, without a tokenizer, in characters.

    Returns:
        the length of each text, with [CLS] and [SEP] if in tokens, and the share (0 to 1) of [UNK] tokens.
    """
    if tokenizer is None:
        lengths = pc.utf8_length(split.text).to_pylist()
        for row in np.flatnonzero(np.array(lengths) > LONGEST_TEXT).tolist():
            start = split.text[row].as_py()[:40]
            findings.add('text.long', split.place(row), f'{lengths[row]} characters: {start!r}')
        return lengths, None
    lengths, unknown, total = [], 0, 0
    longest = split.source.max_text_len
    for row, text in enumerate(split.text):
        ids = tokenizer.backend_tokenizer.encode(text.as_py(), add_special_tokens=False).ids
        lengths.append(len(ids) + 2)
        unknown, total = unknown + ids.count(tokenizer.unk_token_id), total + len(ids)
        if longest and lengths[-1] > longest:
            findings.add('text.long', split.place(row), f'{lengths[-1]} tokens, max_text_len is {longest}')
    share = unknown / max(total, 1)
    if share > MAX_UNKNOWN_SHARE:
        code = 'tokenizer.foreign' if share > REFUSED_UNKNOWN_SHARE else 'tokenizer.unknown'
        findings.add(code, tokenizer.name_or_path, f'{share:.1%} of the tokens of {split.source} are [UNK]')
    return lengths, share


def _check_ids(split: SplitRows, findings: Findings) -> None:
    ids = hash_texts(split.question_id)
    for row, earlier in _repeats(ids):
        if not ids[row]:
            continue
        code = 'id.repeated' if split.images[row] == split.images[earlier] else 'id.shared'
        description = f'question_id {split.question_id[row].as_py()!r} as in {split.place(earlier)}'
        findings.add(code, split.place(row), description)


def _check_repeats(split: SplitRows, findings: Findings) -> None:
    """Find rows of the same text about the same image, with the same answer or with another."""
    for row, earlier in _repeats(hash_texts(split.text), split.images):
        text, answer, other = split.text[row].as_py(), split.answer[row].as_py(), split.answer[earlier].as_py()
        if answer == other:
            findings.add('text.repeated', split.place(row), f'{text!r} as in {split.place(earlier)}')
        elif answer and other:
            answers = f'{answer!r}, but {other!r} in {split.place(earlier)}'
            findings.add('answer.contradictory', split.place(row), f'{text!r} is answered {answers}')


def _repeats(*keys: np.ndarray) -> Iterator[tuple[int, int]]:
    """(row, first row with equal keys) of each row that is not itself the first, ascending. Each key is (rows,)."""
    if not len(keys[0]):
        return
    order = np.lexsort(keys)  # stable: among equal rows the one read first stays first
    new = np.zeros(len(order), dtype=bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    first = np.empty_like(order)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    for row in np.flatnonzero(first != np.arange(len(order))).tolist():
        yield row, int(first[row])


def _check_spellings(split: SplitRows, findings: Findings) -> None:
    """Find answers that differ from a more frequent one only in blanks, case or final punctuation."""
    groups: dict[str, list[str]] = defaultdict(list)
    rows = split.count_answers()
    for answer, _ in rows.most_common():
        groups[spelling_key(answer)].append(answer)
    usual = {rare: group[0] for group in groups.values() for rare in group[1:]}
    seen = set()
    for row, category in enumerate(split.answer if usual else ()):
        answer = category.as_py()
        if answer in usual and answer not in seen:
            seen.add(answer)
            description = f'{answer!r} ({rows[answer]:,} rows) beside {usual[answer]!r} ({rows[usual[answer]]:,} rows)'
            findings.add('answer.spelling', split.place(row), description)


def _check_numbers(split: SplitRows, findings: Findings) -> None:
    """Where several people answer each question, find rows with another number of answers than most rows have."""
    numbers = pc.list_value_length(split.answers).to_pylist()
    usual = Counter(numbers).most_common(1)[0][0]
    if usual < 2:
        return
    for row in np.flatnonzero(np.array(numbers) != usual).tolist():
        # a single answer is stored in `answer`, not as a list
        findings.add('answer.number', split.place(row), f'{max(numbers[row], 1)} answers; most rows have {usual}')


def _check_classes(split: SplitRows, findings: Findings) -> None:
    """Check how the answers of a training split are distributed over the classes."""
    rows = split.count_answers()
    total, (majority, most) = sum(rows.values()), next(iter(rows.most_common(1)), ('', 0))
    if total >= MIN_ROWS and most > MAX_MAJORITY_SHARE * total:
        description = f'{majority!r} answers {most / total:.0%} of {split.source}'
        findings.add('answer.majority', split.source.place, description)
    if split.source.min_count is None:
        return
    try:
        vocabulary = AnswerVocabulary.build(rows, min_count=split.source.min_count)
    except KoviltError as error:
        findings.add('answer.no_class', split.source.place, str(error).partition(';')[0])
        return
    left_out = 1 - vocabulary.coverage(rows)
    if left_out > MAX_RARE_SHARE:
        description = (
            f'{left_out:.0%} of the rows of {split.source} have an answer given fewer than {vocabulary.min_count} times'
        )
        findings.add('answer.rare', split.source.place, description)


def _first_images(split: SplitRows) -> list[tuple[int, str, int]]:
    """(its first row, its path or name, its identity) of each image of a split."""
    return [(row, split.places.name(image), int(split.identities[image])) for image, row in split.first_rows().items()]
