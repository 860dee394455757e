"""Writes a Rooms folder: images, questions and captions in the layouts of AI-Hub 101 and 261, boxes and parameters."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from kovilt.errors import KoviltError
from kovilt.files import atomic_folder, read_json, write_json
from kovilt.processes import map_in_processes
from kovilt.rooms.captions import write_captions
from kovilt.rooms.draw_scene import draw_scene
from kovilt.rooms.questions import write_questions
from kovilt.rooms.scene import sample_scene
from kovilt.rooms.unanswerable import write_unanswerable

VERSION = 5  # grows when the same seed would draw other bytes
JPEG_QUALITY = 90
ALONE = 0.25  # share of the training images that show a single object: names of objects are learned there first
CHUNK = 16  # images that a worker draws at a time
SUBSETS = '실내 가전 및 가구배치 이미지 수집', '개인생활환경 이미지 수집'  # the second with a cat or a dog
SPLITS = {'train': ('Training', 'train2014'), 'val': ('Validation', 'val2014')}
CAPTION_FILE = 'MSCOCO_train_val_Korean.json'
SUMMARY_FILE = 'rooms.json'
MAX_QUESTIONS = 10  # question ids of an image: image_id * 10, image_id * 10 + 1, ...
Job = tuple[str, int]  # split, and the number of an image in it


class ImageEntry(NamedTuple):
    """What one image adds to the files of AI-Hub 101; a row is a line of JSON."""

    split: str
    subset: str  # one of SUBSETS
    member: str  # path of the image within AI-Hub 101: <subset>/<room>/<file>
    coco_file: str  # path of the image within AI-Hub 261
    image: str  # its row in the label file
    questions: list[str]  # rows of the label file
    answer_types: list[str]  # of the questions


Drawn = tuple[ImageEntry, str, str]  # with the row of captions and the line of boxes


def json_line(**values: object) -> str:
    """JSON without a line break, Hangul as it is."""
    return json.dumps(values, ensure_ascii=False)


def coco_name(split: str, index: int) -> tuple[int, str]:
    """The id of image `index` of a split, and its path within AI-Hub 261."""
    image_id = 2 * index + (1 if split == 'train' else 2)  # odd for training, even for validation: both can grow
    folder = SPLITS[split][1]
    return image_id, f'{folder}/COCO_{folder}_{image_id:012d}.jpg'


def draw_image(root: Path, wanted: dict[str, Any], job: Job) -> Drawn:
    """Draws one image into its file below `root`; returns its entry, its row of captions and its line of boxes."""
    seed, (split, index) = wanted['seed'], job
    folder = SPLITS[split][0]
    scene = sample_scene(seed, split, index, alone=wanted['alone'] if split == 'train' else 0.0)
    pixels, boxes, _ = draw_scene(scene, seed, split, index)
    image_id, coco_file = coco_name(split, index)
    file = hashlib.md5(f'kovilt rooms {seed} {split} {index}'.encode(), usedforsecurity=False).hexdigest() + '.jpg'
    subset = SUBSETS[any(obj.kind.alive for obj in scene.objects)]
    member = f'{subset}/{scene.room}/{file}'
    target = root / 'captions' / coco_file
    buffer = io.BytesIO()  # Pillow itself would not tell why a file cannot be written
    pixels.save(buffer, 'JPEG', quality=JPEG_QUALITY)
    target.write_bytes(buffer.getvalue())
    if not wanted['zip']:
        link_or_copy(target, root / 'vqa' / folder / 'images' / member)
    rows = write_questions(scene, seed, split, index)
    if wanted.get('unanswerable'):
        rows += write_unanswerable(scene, seed, split, index)
    questions = [
        json_line(question_id=question_id, image_id=image_id, question=text, answer=answer, answer_type=answer_type)
        for question_id, (text, answer, answer_type) in enumerate(rows, image_id * MAX_QUESTIONS)
    ]
    korean, english = write_captions(scene, seed, split, index)
    objects = [
        dict(name=obj.kind.name, color=obj.color.name, size=obj.size, zone=obj.zone, box=box)
        for obj, box in zip(scene.objects, boxes, strict=True)
    ]
    image = json_line(image_id=image_id, image=file, category=scene.room, weather='그외')
    names = dict(image_id=image_id, file=file, coco_file=coco_file, split=split)
    return (
        ImageEntry(split, subset, member, coco_file, image, questions, [row.answer_type for row in rows]),
        json_line(file_path=coco_file, captions=english, id=image_id, caption_ko=korean),
        json_line(**names, width=scene.width, height=scene.height, room=scene.room, objects=objects),
    )


def link_or_copy(source: Path, target: Path) -> None:
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
    val_images: int,
    seed: int,
    workers: int = 1,
    zipped: bool = False,
    alone: float = ALONE,
    unanswerable: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Draws a Rooms folder, whole or not at all.

    Args:
        images: of the training split.
        val_images: of the validation split.
        seed: the same seed gives the same bytes, with any number of workers.
        workers: processes that draw.
        zipped: write zips, as AI-Hub 101 is downloaded, instead of folders.
        alone: share (0 to 1) of the training images that show a single object; no validation image does.
        unanswerable: ask two more questions about each image, which it does not answer (`write_unanswerable`).
        progress: called with the number of images drawn and of all images.

    Returns:
        False when `out` already holds Rooms of the same parameters, True after drawing.

    Raises:
        KoviltError: `out` holds anything else or cannot be written.
    """
    out = Path(out)
    wanted = dict(version=VERSION, images=images, val_images=val_images, seed=seed, zip=zipped, alone=alone)
    if unanswerable:  # else the key is absent, and all files are as those of earlier releases
        wanted['unanswerable'] = True
    if holds_rooms(out, wanted):
        return False
    with atomic_folder(out) as draft:
        write_rooms(draft, wanted, workers, progress)
    return True


def holds_rooms(out: Path, wanted: dict[str, Any]) -> bool:
    """Whether `out` holds Rooms of the wanted parameters; False when it is absent or empty.

    Raises:
        KoviltError: it holds Rooms of other parameters, or something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not out.is_dir():
        raise KoviltError(f'{out} is a file: name a folder')
    try:
        there = read_json(out / SUMMARY_FILE)
    except KoviltError:
        raise KoviltError(f'{out} is not empty and holds no Rooms: name another folder or empty it') from None
    there, wanted = ({'unanswerable': False} | values for values in (there, wanted))
    differing = [f'{key} {there.get(key)}, not {value}' for key, value in wanted.items() if there.get(key) != value]
    if differing:
        raise KoviltError(f'{out} holds other Rooms ({"; ".join(differing)}): name another folder or remove it')
    return True


def write_rooms(root: Path, wanted: dict[str, Any], workers: int, progress: Callable[[int, int], None]) -> None:
    """Fills the empty folder `root`."""
    for folder, coco_folder in SPLITS.values():
        (root / 'captions' / coco_folder).mkdir(parents=True)
        (root / 'vqa' / folder).mkdir(parents=True)
    jobs = [('train', i) for i in range(wanted['images'])] + [('val', i) for i in range(wanted['val_images'])]
    entries: list[ImageEntry] = []
    with open_text(root / 'boxes.jsonl') as boxes_file, open_text(root / 'captions' / CAPTION_FILE) as caption_file:
        draw = functools.partial(draw_image, root, wanted)
        for entry, captions, boxes in map_in_processes(draw, jobs, workers=workers, chunk_size=CHUNK):
            boxes_file.write(boxes + '\n')
            caption_file.write((',\n' if entries else '[\n') + captions)
            entries.append(entry)
            progress(len(entries), len(jobs))
        caption_file.write('\n]\n')
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
    write_json(root / SUMMARY_FILE, summary)


def open_text(path: Path) -> TextIO:
    """A UTF-8 file for writing, with the same line ends on every system."""
    return path.open('w', encoding='utf-8', newline='\n')


def write_subset(root: Path, folder: Path, subset: str, rows: list[ImageEntry], zipped: bool) -> None:
    """The label file of one subset; with `zipped` the zip of its labels and the zip of its images."""
    images = ',\n'.join(entry.image for entry in rows)
    questions = ',\n'.join(question for entry in rows for question in entry.questions)
    labels = f'{{"images": [\n{images}\n], "question": [\n{questions}\n]}}\n'
    if not zipped:
        path = folder / 'labels' / f'[라벨]{subset}' / f'{subset}.json'
        path.parent.mkdir(parents=True)
        path.write_text(labels, encoding='utf-8')
        return
    with zipfile.ZipFile(folder / f'[라벨]{subset}.zip', 'w') as archive:
        archive.writestr(fixed_date_member(f'{subset}.json'), labels, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(folder / f'{subset}.zip', 'w') as archive:
        for entry in rows:
            archive.writestr(fixed_date_member(entry.member), (root / 'captions' / entry.coco_file).read_bytes())


def fixed_date_member(name: str) -> zipfile.ZipInfo:
    """A zip member of a fixed date, so that the same seed gives the same bytes."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
