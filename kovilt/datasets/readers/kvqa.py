"""Reads KVQA of SKT Brain and Testworks: VizWiz in Korean, with the answers of ten people to each question."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from kovilt.datasets.answers import read_answers
from kovilt.datasets.folders import find_file
from kovilt.datasets.image_store import index_by_folder
from kovilt.datasets.readers.base import QuestionReader, refusing
from kovilt.datasets.readers.json_rows import read_rows, required, required_text
from kovilt.datasets.rng import hash63
from kovilt.datasets.rows import FoundImage, ReadReport
from kovilt.errors import KoviltError
from kovilt.registry import READERS

_WHOLE = 'kvqa_annotations.json'  # the file of the HuggingFace hub has no splits: one image in ten is put into 'val'
_VAL_ONE_IN = 10


@READERS.register_module()
class KVQAReader(QuestionReader):
    """Reader of KVQA: one question an image, asked by blind people or in the same style, with ten answers.

    Reads `KVQA_annotations_<split>.json` or, without it, `kvqa_annotations.json`, which holds both splits: a hash of
    the name of an image decides its split, so that the splits are the same everywhere. The files and the images, in
    folders or zips, may lie anywhere beneath `data_root`; images are found by name. The `question_id` of a row is the
    name of its image.

    A question that cannot be answered from its image has the answer that people gave, usually the English
    `unanswerable`, which counts like any other answer. `answer_type` identifies these questions; the key `answerable`,
    which disagrees with it in about 5 % of the rows, is read by verification alone. Answers to yes/no questions are the
    English `Yes` and `No`, too: `answer_map='kvqa'` makes them Korean.

    Source of layout and keys: SKTBrain/KVQA, whose licence allows research and education only.
    """

    COLUMNS = QuestionReader.SEVERAL_ANSWERS
    HOW_TO_GET = (
        'Get KVQA from https://github.com/SKTBrain/KVQA or https://huggingface.co/datasets/skt/KVQA, and put the '
        'annotations and the images, extracted from their tar.gz, beneath data_root'
    )

    def records(self, report: ReadReport) -> Iterator[dict[str, Any]]:
        folders = self.list_folders()
        own = f'KVQA_annotations_{self.split}.json'
        path = find_file(self.data_root, own, folders)
        whole = path is None
        if whole and self.split in ('train', 'val'):
            path = find_file(self.data_root, _WHOLE, folders)
        if path is None:
            raise KoviltError(f'{self.data_root}: neither {own} nor {_WHOLE} (train and val). {self.HOW_TO_GET}')
        images = index_by_folder(folders)
        for row, source in refusing(read_rows(path, None), report):
            try:
                name = required(row, 'image', source)
                if whole and (hash63('kvqa', name) % _VAL_ONE_IN == 0) != (self.split == 'val'):
                    continue
                number = images.find([''], *os.path.split(name))
                record = {
                    'image': FoundImage(images[number], f'kvqa/{name}', name),
                    'question': required_text(row, 'question', source),
                    'question_id': os.path.splitext(name)[0],
                    **read_answers(row, source),
                    'answer_type': row.get('answer_type'),
                    'answerable': row.get('answerable'),
                    'source': source,
                }
            except KoviltError as error:
                report.refuse(error)
                continue
            yield record
