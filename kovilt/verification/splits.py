"""Finds the faults between the rows of a split, and between splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from kovilt.datasets.answers import AnswerVocabulary
from kovilt.datasets.korean import HANGUL
from kovilt.datasets.rng import hash_texts
from kovilt.datasets.tokenizer_check import REFUSED_UNKNOWN_SHARE, TokenCounts, count_tokens
from kovilt.errors import KoviltError
from kovilt.evaluation.tolerant import tolerant_form
from kovilt.verification.checked_images import CheckedImages
from kovilt.verification.findings import Findings
from kovilt.verification.rows import SplitRows
from kovilt.verification.texts import LONGEST_TEXT, spelling_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIN_ROWS = 50  # shares of fewer rows mean nothing
MAX_MAJORITY_SHARE = 0.5  # of the rows have one answer
MAX_RARE_SHARE = 0.5  # of the rows have an answer outside the vocabulary
MAX_UNANSWERABLE_SHARE = 0.5  # of the validation rows have no answer that training can give
MIN_YES_NO = 10  # yes/no questions of which it is told how they end
MIN_FIXED_SHARE = 0.95  # of the images, about which a question is called the same for all
MAX_LATIN_SHARE = 0.5  # of the answers are English
_ENGLISH = ('yes', 'no', 'maybe', 'unanswerable')
_YES_NO = ('예', '네', '아니요', '아니오', 'yes', 'no')
_LATIN = re.compile('[A-Za-z]')
_STATEMENT = re.compile('(?:있어|없어|이야|맞아|보여|다)[.!]?$')
MAX_UNKNOWN_SHARE = 0.01  # of [UNK] tokens with which training still works well


def check_rows(split: SplitRows, findings: Findings) -> None:
    """Check ids, repeated and contradictory rows, and answers of one split."""
    _check_ids(split, findings)
    _check_repeats(split, findings)
    if 'answer' not in split.source.reader.COLUMNS or not len(split):
        return
    _check_questions(split, findings)
    _check_languages(split, findings)
    _check_numbers(split, findings)
    if split.source.training:
        _check_spellings(split, findings)
        _check_classes(split, findings)
    if any(split.count_answer_types()):
        for row in np.flatnonzero([not answer_type.as_py() for answer_type in split.answer_type]).tolist():
            findings.add('type.missing', split.place(row), 'no answer_type')


def check_val_answers(training: SplitRows, val: SplitRows, findings: Findings) -> float | None:
    """Find answers of a validation split that no training row has, and whether they are most of its answers.

    Returns:
        the share (0 to 1) of the rows with an answer that a model trained on `training` can give; None without answers.
    """
    given = training.count_answers()
    known = {*given, *training.answers.values.dictionary.to_pylist()}
    spelled = {tolerant_form(answer): answer for answer in reversed(list(_by_frequency(given)))}
    rows, first = val.count_answers(), _first_rows_of_answers(val)
    for answer in _by_frequency(rows):
        if answer not in known:
            usual = spelled.get(tolerant_form(answer))
            hint = f'; training spells it {usual!r}' if usual else ''
            findings.add('answer.only_in_val', val.place(first[answer]), f'{answer!r} ({rows[answer]:,} rows){hint}')
    if not rows:
        return None
    classes = _classes(training)
    can_be_given = _rows_with_any(val, given if classes is None else classes.class_of)
    share = float(can_be_given[_has_answer(val)].mean())
    if 1 - share > MAX_UNANSWERABLE_SHARE and (classes is None or len(classes)):
        left_out = '' if classes is None else f' {classes.min_count} times or more'
        findings.add(
            'answer.unanswerable',
            val.source.place,
            f'{1 - share:.0%} of the rows of {val.source} have no answer that {training.source} gives{left_out}',
        )
    return share


def check_leaks(training: SplitRows, val: SplitRows, images: CheckedImages, findings: Findings) -> None:
    """Find images that are in both splits by identity, path or content, or as a copy."""
    ours = _first_images(training)
    paths = {path: row for row, path, _ in ours}
    identities = {identity: row for row, _, identity in ours}
    suspects = {}
    for row, path, identity in _first_images(val):
        where = identities.get(identity, paths.get(path))
        equal = next((other for other in images.equal_to(path) if other in paths), None)
        if where is not None:
            findings.add('leak.image', val.place(row), f'{path} is also in training: {training.place(where)}')
        elif equal is not None:
            description = f'{path} has the content of {equal}, {training.place(paths[equal])}'
            findings.add('leak.content', val.place(row), description)
        else:
            suspects[path] = row
    for path, original in images.find_copies(suspects, paths).items():
        description = f'{path} is a copy of {original}, {training.place(paths[original])}'
        findings.add('leak.copy', val.place(suspects[path]), description, images.locations(path, original))


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
    lengths, total = [], TokenCounts(0, 0, 0)
    longest = split.source.max_text_len
    for row, text in enumerate(split.text):
        counts = count_tokens(tokenizer, [text.as_py()])
        lengths.append(counts.given + 2)
        total = TokenCounts(*map(sum, zip(total, counts, strict=True)))
        if longest and lengths[-1] > longest:
            findings.add('text.long', split.place(row), f'{lengths[-1]} tokens, max_text_len is {longest}')
    share = total.unknown_share
    if share > MAX_UNKNOWN_SHARE:
        code = 'tokenizer.foreign' if share > REFUSED_UNKNOWN_SHARE else 'tokenizer.unknown'
        findings.add(code, tokenizer.name_or_path, f'{share:.1%} of the tokens of {split.source} are unknown')
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


def _check_questions(split: SplitRows, findings: Findings) -> None:
    """Note yes/no questions that are statements, as in AI-Hub 101, and a question that is asked about all images."""
    yes_no = np.array([answer.casefold() in _YES_NO for answer in split.answer.dictionary.to_pylist()], dtype=bool)
    rows = np.flatnonzero(yes_no[split.answer.indices.to_numpy()])
    statements = [row for row in rows.tolist() if _STATEMENT.search(split.text[row].as_py())]
    if len(rows) >= MIN_YES_NO and statements:
        first, count = statements[0], f'{len(statements):,} of {len(rows):,} yes/no questions of {split.source}'
        description = f'{count} are statements without a question mark, such as {split.text[first].as_py()!r}'
        findings.add('text.statement', split.place(first), description)
    images, hashes = len(np.unique(split.images)), hash_texts(split.text)
    if images < MIN_ROWS:
        return
    # a key for each question about each image
    keys = hashes ^ (split.images.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    _, once = np.unique(keys, return_index=True)
    texts, counts = np.unique(hashes[once], return_counts=True)
    if len(texts) == 1:
        return
    for text, count in zip(texts, counts.tolist(), strict=True):
        if count >= MIN_FIXED_SHARE * images:
            row = int(np.flatnonzero(hashes == text)[0])
            shown = f'{split.text[row].as_py()!r} is asked about {count / images:.0%} of the images'
            findings.add('text.fixed', split.place(row), f'{shown} of {split.source}')


def _check_languages(split: SplitRows, findings: Findings) -> None:
    """Find the English yes and no among Korean questions, and answers that are mostly English."""
    if not any(HANGUL.search(split.text[row].as_py()) for row in range(min(len(split), MIN_ROWS))):
        return
    rows, first = split.count_answers(), _first_rows_of_answers(split)
    # one that is also given in Korean is a spelling of that, which `_check_spellings` tells
    korean = {tolerant_form(answer) for answer in rows if answer.casefold() not in _ENGLISH}
    words = (answer for answer in _by_frequency(rows) if answer.casefold() in _ENGLISH)
    english = [word for word in words if not (split.source.training and tolerant_form(word) in korean)]
    if english:
        listed = ', '.join(f'{answer!r} ({rows[answer]:,} rows)' for answer in english)
        findings.add('answer.english', split.place(first[english[0]]), f'{listed}, where questions are Korean')
    latin = sum(count for answer, count in rows.items() if _LATIN.search(answer) and not HANGUL.search(answer))
    if not english and rows.total() >= MIN_ROWS and latin > MAX_LATIN_SHARE * rows.total():
        description = f'{latin / rows.total():.0%} of the answers of {split.source} are English, its questions Korean'
        findings.add('answer.english', split.source.place, description)


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
    """Find classes that the tolerant score calls equal, and those that differ in capitals and blanks alone."""
    rows, first = split.count_answers(), _first_rows_of_answers(split)
    alike: dict[str, list[str]] = defaultdict(list)
    for answer in _by_frequency(rows):
        alike[spelling_key(answer)].append(answer)
    for similar in (group for group in alike.values() if len(group) > 1):
        equal: dict[str, list[str]] = defaultdict(list)
        for answer in similar:
            equal[tolerant_form(answer)].append(answer)
        groups = [('answer.spelling', group) for group in equal.values()]
        groups.append(('answer.case', [group[0] for group in equal.values()]))
        for code, group in groups:
            if len(group) > 1:
                listed = ', '.join(f'{answer!r} ({rows[answer]:,} rows)' for answer in group)
                findings.add(code, split.place(first[group[1]]), listed)


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
    vocabulary = _classes(split)
    if vocabulary is None:
        return
    if not len(vocabulary):
        description = f'no answer of {split.source} is given at least {vocabulary.min_count} times'
        findings.add('answer.no_class', split.source.place, description)
        return
    left_out = 1 - vocabulary.coverage(rows)
    if left_out > MAX_RARE_SHARE:
        description = (
            f'{left_out:.0%} of the rows of {split.source} have an answer given fewer than {vocabulary.min_count} times'
        )
        findings.add('answer.rare', split.source.place, description)


def _classes(training: SplitRows) -> AnswerVocabulary | None:
    """The answer vocabulary that a training on the split builds; None where its `min_count` is not known."""
    if training.source.min_count is None:
        return None
    try:
        return AnswerVocabulary.build(training.count_answers(), min_count=training.source.min_count)
    except KoviltError:  # no answer is frequent enough
        return AnswerVocabulary([], [], min_count=training.source.min_count)


def _by_frequency(rows: Counter[str]) -> Iterator[str]:
    """The answers, most frequent first."""
    return (answer for answer, _ in rows.most_common())


def _first_rows_of_answers(split: SplitRows) -> dict[str, int]:
    """Answer -> the first row that has it."""
    codes, rows = np.unique(split.answer.indices.to_numpy(), return_index=True)
    return dict(zip(split.answer.dictionary.take(codes).to_pylist(), rows.tolist(), strict=True))


def _has_answer(split: SplitRows) -> np.ndarray:
    """bool (rows,): whether the row has an answer."""
    return np.array([bool(answer) for answer in split.answer.dictionary.to_pylist()])[split.answer.indices.to_numpy()]


def _rows_with_any(split: SplitRows, answers: Container[str]) -> np.ndarray:
    """bool (rows,): whether the answer of the row, or of one of several people, is among `answers`."""
    own, of_several = (
        np.array([answer in answers for answer in column.dictionary.to_pylist()], dtype=bool)[column.indices.to_numpy()]
        for column in (split.answer, split.answers.values)
    )
    own[pc.list_parent_indices(split.answers).to_numpy()[of_several]] = True
    return own


def _first_images(split: SplitRows) -> list[tuple[int, str, int]]:
    """(its first row, its path or name, its identity) of each image of a split."""
    return [(row, split.places.name(image), int(split.identities[image])) for image, row in split.first_rows().items()]
