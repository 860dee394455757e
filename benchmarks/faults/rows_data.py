"""Rows of data that is damaged: images in training and in evaluation, label files."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.checks import Silent, describe_end, expect, expect_told, latest
from benchmarks.faults.rig import STEPS, Try, at_step
from benchmarks.faults.suite import row


def copy_data(attempt: Try) -> tuple[Path, dict[str, str]]:
    """A copy of the data to damage, and the environment in which configs read it."""
    rooms = Path(shutil.copytree(attempt.data, attempt.folder / 'damaged'))
    return rooms, {'KOVILT_ROOMS': str(rooms)}


def images_of(rooms: Path, task: str, split: str) -> list[Path]:
    folder = {
        ('pretrain', 'train'): 'captions/train2014',
        ('pretrain', 'val'): 'captions/val2014',
        ('vqa', 'train'): 'vqa/Training/images',
        ('vqa', 'val'): 'vqa/Validation/images',
    }[task, split]
    return sorted((rooms / folder).rglob('*.jpg'))


def damage_image(path: Path, how: int) -> None:
    """Cut it off, empty it, replace it by text, or remove it."""
    content = path.read_bytes()
    if how == 3:
        path.unlink()
    else:
        path.write_bytes((content[: len(content) // 2], b'', b'this is no image')[how])


@row('F10', 'damaged images in training', '학습 이미지 손상', tries=12, fast=0)
def damaged_training_images(attempt: Try) -> None:
    """Cut off, empty, text, absent: few are counted, named and left out, and a resumed run is exact; more than
    max_broken_fraction of them stop the run before or while it trains."""
    rooms, environment = copy_data(attempt)
    files = images_of(rooms, attempt.task, 'train')
    too_many = attempt.number % 3 == 2
    damaged = attempt.rng.sample(files, len(files) // 2 if too_many else 1)
    for path in damaged:
        damage_image(path, attempt.number // 3 % 4)
    share = 'train_dataloader.dataset.max_broken_fraction=0.1'
    if too_many:
        outcome = attempt.train(share, environment=environment)
        expect_told(outcome, 2, 'max_broken_fraction')
        return
    expect_told(attempt.train(environment=environment), 2, 'max_broken_fraction')  # 1 of 16 is more than 1 %
    attempt.clear()
    golden = attempt.golden_of(share, environment=environment)
    step = attempt.rng.randint(4, STEPS)
    killed = attempt.train(share, environment=environment, fault=at_step('before_step', step, 'SIGKILL'))
    expect(killed.code == -signal.SIGKILL, f'it ended with {killed.code}')
    attempt.resume_exactly(share, environment=environment, golden=golden)
    listed = json.loads((attempt.work / 'data.json').read_text('utf-8'))['train']['broken_images']
    if [Path(name).name for name in listed] != [damaged[0].name]:
        raise Silent(f'data.json lists {listed}')


@row('F11', 'damaged image in evaluation', '평가 이미지 손상', tries=8, fast=1)
def damaged_evaluation_image(attempt: Try) -> None:
    """No question is left out or gets another image: those of the damaged image count as wrong, all others are as they
    were."""
    attempt.task = 'vqa'
    rooms, environment = copy_data(attempt)
    damaged = attempt.rng.choice(images_of(rooms, 'vqa', 'val'))
    whole = evaluate(attempt, 'whole', environment)
    damage_image(damaged, attempt.number % 4)
    hurt = evaluate(attempt, 'hurt', environment)
    if whole.keys() != hurt.keys():
        raise Silent(f'{len(hurt)} questions, not {len(whole)}')
    for question, line in hurt.items():
        if Path(line['image']).name == damaged.name:
            if line['correct']:
                raise Silent('a question about the damaged image counts as right')
        elif {**line, 'score': 0, 'topk': 0} != {**whole[question], 'score': 0, 'topk': 0}:
            raise Silent('the answer to a question about another image has changed')


def evaluate(attempt: Try, name: str, environment: dict[str, str]) -> dict[Any, dict[str, Any]]:
    """The predictions of `kovilt test` by question, whose number and accuracy its metrics must agree with."""
    out, work = attempt.folder / f'{name}.jsonl', attempt.folder / name
    checkpoint = latest(attempt.golden_folder / 'run')
    outcome = attempt.call(*attempt.test_command(checkpoint, out, work), environment=environment)
    expect(outcome.code == 0, f'the test ended with {outcome.code}')
    lines = [json.loads(line) for line in out.read_text('utf-8').splitlines()]
    metrics = json.loads((work / 'metrics.json').read_text('utf-8'))['metrics']
    accuracy = 100 * sum(line['correct'] for line in lines) / len(lines)
    if metrics['questions'] != len(lines) or abs(metrics['accuracy'] - accuracy) > 1e-9:
        raise Silent(f'{metrics["accuracy"]} of {metrics["questions"]}, but {accuracy} of {len(lines)} predictions')
    return {line['question_id']: line for line in lines}


def at_random(attempt: Try, text: str, marks: str) -> int:
    """A position of one of the marks in a text."""
    return attempt.rng.choice([index for index, mark in enumerate(text) if mark in marks])


def cut(attempt: Try, text: str) -> bytes:
    return text.encode()[: attempt.rng.randint(1, len(text) - 2)]


def without(marks: str) -> Callable[[Try, str], bytes]:
    def damage(attempt: Try, text: str) -> bytes:
        place = at_random(attempt, text, marks)
        return (text[:place] + text[place + 1 :]).encode()

    return damage


def with_bytes(content: bytes) -> Callable[[Try, str], bytes]:
    def damage(attempt: Try, text: str) -> bytes:
        place = at_random(attempt, text, '가나다라마바사아자있는')
        return text[:place].encode() + content + text[place:].encode()

    return damage


def change(edit: Callable[[Any, Any], None]) -> Callable[[Try, str], bytes]:
    """A change of a random question or entry."""

    def damage(attempt: Try, text: str) -> bytes:
        content = json.loads(text)
        rows = content['question'] if isinstance(content, dict) else content
        edit(rows, attempt.rng.randrange(len(rows)))
        return json.dumps(content, ensure_ascii=False).encode()

    return damage


def replace(value: Any) -> Callable[[Any, Any], None]:
    def edit(rows: Any, index: int) -> None:
        rows[index] = value

    return edit


def set_text(value: Any) -> Callable[[Any, Any], None]:
    def edit(rows: Any, index: int) -> None:
        rows[index]['question' if 'question' in rows[index] else 'caption_ko'] = value

    return edit


def repeat_key(attempt: Try, text: str) -> bytes:
    place = text.index('{', attempt.rng.randrange(len(text) // 2)) + 1
    return f'{text[:place]}"k": 1, "k": 2, {text[place:]}'.encode()


# What is refused, with words that the message holds beside the name of the file.
REFUSED: dict[str, tuple[Callable[[Try, str], bytes], str]] = {
    'empty': (lambda attempt, text: b'', ''),
    'cut off': (cut, 'line'),
    'a quote is missing': (without('"'), 'line'),
    'a bracket is missing': (without('{}[]'), 'line'),
    'a colon is missing': (without(':'), 'line'),
    'CP949': (lambda attempt, text: text.encode('cp949'), ''),
    'UTF-16': (lambda attempt, text: text.encode('utf-16'), ''),
    'bytes that are no text': (with_bytes(b'\xff\xfe'), ''),
    'NUL': (with_bytes(b'\0'), ''),
    'a line break in a text': (with_bytes(b'\n'), 'line'),
    'NaN': (change(set_text(float('nan'))), 'line'),
    'a key twice': (repeat_key, ''),
    'nested': (lambda attempt, text: b'[' * 100_000 + b']' * 100_000, ''),
    'a number': (lambda attempt, text: b'17', ''),
    'a text': (lambda attempt, text: '"질문"'.encode(), ''),
    'another object': (lambda attempt, text: b'{"a": 1}', ''),
    'an entry is null': (change(replace(None)), ''),
    'an entry is a list': (change(replace([1])), ''),
    'a question is a number': (change(set_text(7)), ''),
    'a question is null': (change(set_text(None)), ''),
}
HARMLESS: list[Callable[[str], bytes]] = [
    lambda text: b'\xef\xbb\xbf' + text.encode(),
    lambda text: json.dumps(json.loads(text), ensure_ascii=True, indent=3).replace('\n', '\r\n').encode(),
]


@row('F12', 'damaged label files', '라벨 파일 손상', tries=44, fast=2)
def damaged_labels(attempt: Try) -> None:
    """One line names file and place, exit code 2, before anything is trained. A byte order mark, CRLF and escapes
    change nothing."""
    rooms, environment = copy_data(attempt)
    pattern = 'captions/*.json' if attempt.task == 'pretrain' else 'vqa/Training/**/*.json'
    path = max(rooms.glob(pattern), key=lambda file: file.stat().st_size)
    text = path.read_text('utf-8')
    kind = attempt.number // 2
    if kind >= len(REFUSED):
        path.write_bytes(HARMLESS[kind - len(REFUSED)](text))
        golden = attempt.golden_of()
        outcome = attempt.train(environment=environment)
        expect(outcome.code == 0, describe_end(outcome))
        attempt.check(golden)
        return
    name = list(REFUSED)[kind]
    damage, word = REFUSED[name]
    path.write_bytes(damage(attempt, text))
    outcome = attempt.train(environment=environment)
    if name == 'a question is null' and attempt.task == 'pretrain':  # an image may lack captions, which is counted
        expect_told(outcome, 0, 'left out: no Korean caption (1 rows)')
        return
    expect_told(outcome, 2, path.name, word)
    errors = [line for line in outcome.text.splitlines() if line.startswith('error: ')]
    expect(len(errors) == 1, f'{len(errors)} lines of errors')
    expect(not attempt.work.exists(), 'a work folder is left')
