"""Multiple-choice questions become samples whose options share an image."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kovilt.datasets import (
    AIHubLivingReader,
    ChoiceDataset,
    ChoiceReader,
    QuestionDataset,
    TokenizeKorean,
    collate_pairs,
)
from kovilt.errors import KoviltError

ROWS = [
    dict(image='a.png', question='소파는 무슨 색입니까', options=['빨간색', '의자', '소파'], answer='의자'),
    dict(image='b.png', question='고양이가 있어요?', options=['고양이가', '공이'], answer=0),
    dict(image='a.png', question='의자는 몇 개예요?', options=['의자', '의자', '공이', '탁자'], answer='의자'),
    dict(image='b.png', question='소파', options=['의자', '공이'], answer=None),
]


@pytest.fixture
def choices(data):
    for number, name in enumerate(('a.png', 'b.png')):
        data.image(name, seed=number)
    data.write('train.jsonl', ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in ROWS))
    return data


def open_(data, reader=ChoiceReader, kind=ChoiceDataset, split='train', **options):
    return kind(reader=reader(data_root=str(data.root), split=split), **{**data.pipelines, **options})


def test_samples_have_a_pair_for_each_option_and_the_label_of_the_right_one(choices):
    dataset = open_(choices, keep_record=True)
    assert len(dataset) == 3 and dataset.left_out == {'the answer is none of the options': 1}
    samples = dataset.__getitems__([0, 1, 2])
    assert [(len(one['options']), one['label']) for one in samples] == [(3, 1), (4, 0), (2, 0)]  # by image
    (batch,) = collate_pairs(samples)
    assert batch['option_offsets'].tolist() == [0, 3, 7, 9] and batch['label'].tolist() == [1, 0, 0]
    assert len(batch['grids']) == 2 and batch['image_index'].tolist() == [0] * 7 + [1] * 2
    assert len(batch['input_ids']) == len(batch['sample_seed']) == 9
    assert [record['options'] for record in batch['records']] == [ROWS[n]['options'] for n in (0, 2, 1)]
    assert [len(part['label']) for part in collate_pairs(samples, micro_batches=3)] == [1, 1, 1]


def test_an_option_stands_behind_its_question_and_keeps_its_tokens(choices):
    dataset = open_(choices)
    question, option = (dataset._tokenize(text=text) for text in ('소파는 무슨 색입니까', '의자'))
    ids = dataset[0]['options'][1]['input_ids']
    assert ids.tolist() == [*question['input_ids'], *option['input_ids'][1:]]
    words = dataset[0]['options'][1]['word_ids']
    assert words.tolist() == [*question['word_ids'], *(option['word_ids'][1:-1] + 3), -1]
    alone = open_(choices, with_question=False)
    assert alone[0]['options'][1]['input_ids'].tolist() == option['input_ids'].tolist()


@pytest.mark.parametrize(
    ('texts', 'kept'), [((3, 2), (3, 2)), ((30, 2), (7, 2)), ((30, 30), (4, 5)), ((2, 30), (2, 7)), ((1, 1), (1, 1))]
)
def test_of_two_long_texts_the_question_is_cut_first_to_half(tokenizer, texts, kept):
    transform = TokenizeKorean(tokenizer=str(tokenizer), max_text_len=12)
    question, option = ('공 ' * count for count in texts)
    read = transform({'text': question.strip(), 'option': option.strip()})
    sep = transform._sep_id
    places = np.flatnonzero(read['input_ids'] == sep)
    assert (places[0] - 1, places[1] - places[0] - 1) == kept and places[1] == len(read['input_ids']) - 1


def test_csv_with_lettered_columns(choices):
    choices.write('val.csv', 'image,question,a,b,c,answer\na.png,소파,의자,공이,,b\nb.png,의자,탁자,소파,공이,A\n')
    dataset = open_(choices, split='val', test_mode=True)
    assert [(dataset.record(row)['options'], dataset.record(row)['answer']) for row in range(2)] == [
        (['의자', '공이'], '공이'),
        (['탁자', '소파', '공이'], '탁자'),
    ]


def test_the_same_rows_train_an_answer_head(choices):
    dataset = open_(choices, kind=QuestionDataset, answers=dict(min_count=1))
    assert dataset.metainfo['answers'] == ['의자', '고양이가'] and 'options' in dataset.record(0)


def test_rows_without_options_are_refused(choices):
    with pytest.raises(KoviltError, match="gives no options to choose from; reader=dict.type='ChoiceReader'"):
        choices.living()
        open_(choices, AIHubLivingReader)
    choices.write('train.jsonl', json.dumps(ROWS[0] | dict(options=['하나'])))
    with pytest.raises(KoviltError, match='train.jsonl, line 1: 1 options'):
        open_(choices)
