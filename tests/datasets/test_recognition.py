"""Which data sets lie in a folder, by its files."""

import pytest

from kovilt.datasets import HFDatasetReader, LLaVAReader, ParquetReader, PlainReader
from kovilt.datasets.recognition import find_data_sets, find_questions
from kovilt.errors import KoviltError
from tests.support import planted_faults

ROW = '{"image": "a.png", "question": "뭐?", "answer": "공"}\n'


def test_a_table_in_the_folder_itself_goes_before_what_lies_beneath(data):
    planted_faults.parquet(data)
    assert find_questions(str(data.root)) == (ParquetReader, {'train', 'val'})
    data.write('train.jsonl', ROW)
    assert find_questions(str(data.root)) == (PlainReader, {'train'})


def test_conversations_are_no_rows_even_under_the_name_of_a_table(data):
    data.write('train.jsonl', '{"image": "a.png", "conversations": []}\n')
    data.write('val.csv', 'image,question,answer\n')
    assert find_data_sets(data.root) == {PlainReader: {'val'}}
    (data.root / 'val.csv').unlink()
    assert find_data_sets(data.root) == {LLaVAReader: {'train'}}


def test_a_saved_data_set_without_splits_is_for_training(data):
    for name in ('state.json', 'dataset_info.json'):
        data.write(f'mine/{name}', {})
    assert find_data_sets(data.root) == {HFDatasetReader: {'train'}}


@pytest.mark.parametrize(
    ('layouts', 'message'),
    [
        (['captions'], 'no questions .found: AIHubCOCOKoreanReader.; give a config'),
        (['parquet', 'kvqa'], 'several data sets of questions .found: KVQAReader, ParquetReader.; give a config'),
        ([], 'an empty folder'),
    ],
)
def test_what_a_training_cannot_choose(data, layouts, message):
    data.root.mkdir()
    for layout in layouts:
        getattr(planted_faults, layout)(data)
    with pytest.raises(KoviltError, match=message):
        find_questions(str(data.root))
