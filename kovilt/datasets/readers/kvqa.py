"""KVQA of SKT Brain and Testworks: VizWiz in Korean, with the answers of ten people to each question."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

from kovilt.datasets.answers import parse_answers
from kovilt.datasets.image_store import find_file, index_by_folder, list_folders
from kovilt.datasets.questions import QuestionDataset
from kovilt.datasets.readers.json_rows import read_rows, required
from kovilt.datasets.rng import hash63
from kovilt.errors import KoviltError
from kovilt.registry import DATASETS

_WHOLE = 'kvqa_annotations.json'  # the file of the HuggingFace hub has no splits: one image in ten is kept for 'val'
_ONE_IN = 10


@DATASETS.register_module()
class KVQA(QuestionDataset):
    """One question an image, asked by blind people or in their manner, with ten answers.

    Reads `KVQA_annotations_<split>.json` or, where there is none, `kvqa_annotations.json` (both splits; an image's
    name decides which it is in, so that the split is the same everywhere). Both, and the images, may lie anywhere
    beneath `data_root`; images in folders or zips, found by their name. A row's `question_id` is that name.

    A question that cannot be answered from its image is kept, and its answer is what people gave: as a rule
    `unanswerable`, in English, which is then an answer like any other. `answer_type` tells these questions apart.

    Layout and keys: SKTBrain/KVQA and its licence, which allows research and education only.
    """

    COLUMNS = QuestionDataset.SEVERAL_ANSWERS
    HOW_TO_GET = (
        'Get KVQA from https://github.com/SKTBrain/KVQA or https://huggingface.co/datasets/skt/KVQA, and put the '
        'annotations and the images, extracted from their tar.gz, beneath data_root'
    )

    def load_data_list(self) -> Iterator[dict[str, Any]]:
        folders = list(list_folders(self.data_root))
        own = f'KVQA_annotations_{self.split}.json'
        path = find_file(self.data_root, own, folders)
        whole = path is None
        if whole and self.split in ('train', 'val'):
            path = find_file(self.data_root, _WHOLE, folders)
        if path is None:
            raise KoviltError(f'{self.data_root}: neither {own} nor {_WHOLE} (train and val). {self.HOW_TO_GET}')
        images = index_by_folder(folders)
        for row, rows in self.guarded(read_rows(functools.partial(open, path, 'rb'), str(path), None)):
            with self.guard:
                name = required(row, 'image', rows)
                if whole and (hash63('kvqa', name) % _ONE_IN == 0) != (self.split == 'val'):
                    continue
                number = images.find([''], *os.path.split(name))
                place = None if number is None else images[number]
                yield {
                    'image': self.add_image(place, identity=f'kvqa/{name}', name=name),
                    'question': required(row, 'question', rows),
                    'question_id': os.path.splitext(name)[0],
                    'answers': parse_answers(row.get('answers'), rows),
                    'answer_type': row.get('answer_type'),
                    'source': rows,
                }
