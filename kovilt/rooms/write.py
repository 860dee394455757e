"""Writes a Rooms folder: images, questions and captions in the real sets' layouts, boxes, and what made them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from kovilt.errors import KoviltError
from kovilt.rooms.draw import draw_scene
from kovilt.rooms.language import captions, questions
from kovilt.rooms.scene import sample_scene

VERSION = 5  # grows when the same seed would draw other bytes
QUALITY = 90
ALONE = 0.25  # of the training images show one thing: what a name means is seen there first
CHUNK = 16  # images a worker draws before it reports
SUBSETS = '실내 가전 및 가구배치 이미지 수집', '개인생활환경 이미지 수집'  # the second with a cat or a dog
SPLITS = {'train': ('Training', 'train2014'), 'val': ('Validation', 'val2014')}
CAPTION_FILE = 'MSCOCO_train_val_Korean.json'
SUMMARY_FILE = 'rooms.json'
MAX_QUESTIONS = 10  # question ids of an image: image_id * 10, image_id * 10 + 1, ...


@dataclass(frozen=True)
class Job:
    """A run of images of one split, drawn by one worker into `root`."""

    root: Path
    seed: int
    split: str
    indices: range
    zipped: bool
    alone: float


@dataclass(frozen=True)
class Entry:
    """What one image adds to the files, as lines of JSON."""

    split: str
    subset: str
    member: str
    coco_file: str
    image: str
    questions: list[str]
    captions: str
    boxes: str
    answer_types: list[str]


def line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def image_id(split: str, index: int) -> int:
    """Odd ids for training, even for validation: both splits can grow."""
    return 2 * index + (1 if split == 'train' else 2)


def draw_job(job: Job) -> list[Entry]:
    return [draw_entry(job, index) for index in job.indices]


def draw_entry(job: Job, index: int) -> Entry:
    """Draws one pixels to its place and returns its rows."""
    seed, split = job.seed, job.split
    folder, coco_folder = SPLITS[split]
    scene = sample_scene(seed, split, index, alone=job.alone)
    pixels, boxes, _ = draw_scene(scene, seed, split, index)
    identity = image_id(split, index)
    file = hashlib.md5(f'kovilt rooms {seed} {split} {index}'.encode(), usedforsecurity=False).hexdigest() + '.jpg'
    subset = SUBSETS[any(thing.kind.alive for thing in scene.things)]
    member = f'{subset}/{scene.room}/{file}'
    coco_file = f'{coco_folder}/COCO_{coco_folder}_{identity:012d}.jpg'
    target = job.root / 'captions' / coco_file
    buffer = io.BytesIO()
    pixels.save(buffer, 'JPEG', quality=QUALITY)
    target.write_bytes(buffer.getvalue())
    if not job.zipped:
        link(target, job.root / 'vqa' / folder / 'images' / member)
    rows = questions(scene, seed, split, index)
    korean, english = captions(scene, seed, split, index)
    objects = [
        {
            'name': thing.kind.name,
            'color': thing.color.name,
            'size': thing.size,
            'zone': thing.zone,
            'box': list(box),
        }
        for thing, box in zip(scene.things, boxes, strict=True)
    ]
    return Entry(
        split=split,
        subset=subset,
        member=member,
        coco_file=coco_file,
        image=line({'image_id': identity, 'image': file, 'category': scene.room, 'weather': '그외'}),
        questions=[
            line(
                {
                    'question_id': identity * MAX_QUESTIONS + k,
                    'image_id': identity,
                    'question': row.text,
                    'answer': row.answer,
                    'answer_type': row.answer_type,
                }
            )
            for k, row in enumerate(rows)
        ],
        captions=line({'file_path': coco_file, 'captions': english, 'id': identity, 'caption_ko': korean}),
        boxes=line(
            {
                'image_id': identity,
                'file': file,
                'coco_file': coco_file,
                'split': split,
                'width': scene.width,
                'height': scene.height,
                'room': scene.room,
                'objects': objects,
            }
        ),
        answer_types=[row.answer_type for row in rows],
    )


def link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def make_rooms(
    out: str | Path,
    *,
    images: int,
    dev_images: int,
    seed: int,
    workers: int = 1,
    zipped: bool = False,
    alone: float = ALONE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Draws a Rooms folder, whole or not at all: it grows under another name beside `out` and is renamed at the end.

    Returns False when `out` already holds Rooms of the same parameters. KoviltError when `out` holds anything else or
    cannot be written. The bytes do not depend on `workers`. `alone` is the share of training images that show one
    thing; no validation image does. `progress(done, total)` counts images.
    """
    out = Path(out)
    wanted = {'version': VERSION, 'images': images, 'dev_images': dev_images, 'seed': seed, 'zip': zipped}
    wanted['alone'] = alone
    if holds_rooms(out, wanted):
        return False
    temporary = out.absolute().with_name(f'.{out.absolute().name}.{os.getpid()}')
    try:
        temporary.mkdir(parents=True)
        write_rooms(temporary, wanted, workers, progress)
        temporary.replace(out)
    except OSError as error:
        raise KoviltError(
            f'{out} cannot be written ({error.strerror or error}): name a folder you may write to'
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def holds_rooms(out: Path, wanted: dict) -> bool:
    """Whether `out` holds Rooms of the wanted parameters; False when it is absent or empty, KoviltError otherwise."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not out.is_dir():
        raise KoviltError(f'{out} is a file: name a folder')
    try:
        there = json.loads((out / SUMMARY_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        raise KoviltError(f'{out} is not empty and holds no Rooms: name another folder or empty it') from None
    differing = [f'{key} {there.get(key)}, not {value}' for key, value in wanted.items() if there.get(key) != value]
    if differing:
        raise KoviltError(f'{out} holds other Rooms ({"; ".join(differing)}): name another folder or remove it')
    return True


def write_rooms(root: Path, wanted: dict, workers: int, progress: Callable[[int, int], None]) -> None:
    """Fills the empty folder `root`."""
    for folder, coco_folder in SPLITS.values():
        (root / 'captions' / coco_folder).mkdir(parents=True)
        (root / 'vqa' / folder).mkdir(parents=True)
    counts = {'train': wanted['images'], 'val': wanted['dev_images']}
    jobs = [
        Job(
            root,
            wanted['seed'],
            split,
            range(start, min(start + CHUNK, count)),
            wanted['zip'],
            wanted['alone'] if split == 'train' else 0.0,
        )
        for split, count in counts.items()
        for start in range(0, count, CHUNK)
    ]
    entries: list[Entry] = []
    with open_text(root / 'boxes.jsonl') as boxes, open_text(root / 'captions' / CAPTION_FILE) as told:
        for drawn in run_jobs(jobs, workers):
            for entry in drawn:
                boxes.write(entry.boxes + '\n')
                told.write((',\n' if entries else '[\n') + entry.captions)
                entries.append(replace(entry, boxes='', captions=''))
            progress(len(entries), sum(counts.values()))
        told.write('\n]\n')
    for split, (folder, _) in SPLITS.items():
        for subset in SUBSETS:
            rows = [entry for entry in entries if entry.split == split and entry.subset == subset]
            if rows:
                write_subset(root, root / 'vqa' / folder, subset, rows, wanted['zip'])
    answer_types = Counter(answer_type for entry in entries for answer_type in entry.answer_types)
    summary = {
        **wanted,
        'questions': {split: sum(len(e.questions) for e in entries if e.split == split) for split in SPLITS},
        'answer_types': dict(sorted(answer_types.items())),
    }
    (root / SUMMARY_FILE).write_text(json.dumps(summary, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')


def run_jobs(jobs: list[Job], workers: int) -> Iterator[list[Entry]]:
    """The jobs' results in the order of the jobs."""
    if workers == 1:
        yield from map(draw_job, jobs)
        return
    # Workers leave Ctrl-C to the main process: one message instead of a traceback from each.
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield from pool.map(draw_job, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def open_text(path: Path) -> TextIO:
    return path.open('w', encoding='utf-8', newline='\n')


def write_subset(root: Path, folder: Path, subset: str, rows: list[Entry], zipped: bool) -> None:
    """One subset's label file, and with `zipped` its two zips."""
    images = ',\n'.join(entry.image for entry in rows)
    asked = ',\n'.join(question for entry in rows for question in entry.questions)
    labels = f'{{"images": [\n{images}\n], "question": [\n{asked}\n]}}\n'
    if not zipped:
        path = folder / 'labels' / f'[라벨]{subset}' / f'{subset}.json'
        path.parent.mkdir(parents=True)
        path.write_text(labels, encoding='utf-8')
        return
    with zipfile.ZipFile(folder / f'[라벨]{subset}.zip', 'w') as archive:
        archive.writestr(dated(f'{subset}.json'), labels, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(folder / f'{subset}.zip', 'w') as archive:
        for entry in rows:
            archive.writestr(dated(entry.member), (root / 'captions' / entry.coco_file).read_bytes())


def dated(name: str) -> zipfile.ZipInfo:
    """A zip member that carries no clock: same seed, same bytes."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
