"""Answers given with the question: any for a model of multiple choice or a pre-trained one, else some of its own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import (
    ANSWERS,
    IMAGE_PIPELINE,
    MAX_TEXT_LEN,
    tiny_checkpoint,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
)

from kovilt.apis import VQAInferencer, export_checkpoint
from kovilt.datasets.collate import pack
from kovilt.errors import KoviltError, KoviltWarning
from kovilt.weights import save_model_folder

QUESTION, CHOICES = '소파는 무슨 색 이에요 ?', ['빨간 책', '파란 의자', '소파', '책 위']


def save(folder, kind, **encoder):
    return save_model_folder(
        tiny_model(kind, **encoder),
        tiny_tokenizer(),
        folder,
        model_cfg=tiny_config(kind, **encoder),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
    )


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    out = tmp_path_factory.mktemp('models')
    kinds = dict(choice='ViLTForMultipleChoice', pretrained='ViLTForPreTraining', vqa='ViLTForVQA')
    made = {name: save(out / name, kind) for name, kind in kinds.items()}
    made['prefix'] = save(out / 'prefix', 'ViLTForMultipleChoice', type='PrefixViLT')
    return made


@pytest.fixture(scope='module')
def choose(folders):
    return VQAInferencer(folders['choice'], device='cpu', batch_size=3)


def image(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_each_choice_is_scored_as_a_pair_of_its_own(choose):
    (result,) = choose(image(0), QUESTION, choices=CHOICES)
    assert result.keys() == {'answer', 'score', 'choice', 'topk', 'unknown_token_share'}
    assert {one['answer'] for one in result['topk']} == set(CHOICES) and CHOICES[result['choice']] == result['answer']
    read, pixels = choose.transforms.read_question(QUESTION, CHOICES), choose.transforms.read_image(image(0))
    scores = []
    for option in read.tokens['options']:
        batch = pack([option | dict(image=pixels, image_id=0, sample_seed=0)])
        with torch.inference_mode():
            scores.append(float(choose.model.scores(choose.model.data_preprocessor(batch))))
    expected = dict(zip(CHOICES, torch.tensor(scores).softmax(0).tolist(), strict=True))
    assert {one['answer']: one['score'] for one in result['topk']} == pytest.approx(expected, abs=1e-5)
    assert sorted(expected.values(), reverse=True) == pytest.approx([one['score'] for one in result['topk']], abs=1e-5)


@pytest.mark.parametrize('name', ['choice', 'prefix'])
def test_order_batches_and_lists_of_each_question_change_no_probability(folders, name):
    choose = VQAInferencer(folders[name], device='cpu', batch_size=2)
    images, questions = [image(0), image(1), image(0)], [QUESTION, '의자가 있어요 ?', '책은 몇 개 ?']
    lists = [CHOICES, CHOICES[:2], CHOICES[::-1]]
    together = choose(images, questions, choices=lists)
    for one, question, own, result in zip(images, questions, lists, together, strict=True):
        (alone,) = choose(one, question, choices=own[1:] + own[:1])
        assert alone['answer'] == result['answer'] and alone['score'] == pytest.approx(result['score'], abs=1e-5)
        assert own[result['choice']] == result['answer']
    assert [len(one['topk']) for one in choose(images, questions, 1, lists)] == [1, 1, 1]


def test_an_empty_question_reads_the_choices_alone(choose):
    (result,) = choose(image(0), '', choices=CHOICES)
    read = choose.transforms.read_question('', CHOICES).tokens['options']
    assert all(option['input_ids'].tolist().count(3) == 1 for option in read)  # one [SEP]
    assert result['answer'] in CHOICES


def test_a_pre_trained_model_chooses_by_its_matching_head(folders, tmp_path):
    choose = VQAInferencer(folders['pretrained'], device='cpu', choices=CHOICES)
    (result,) = choose(image(0), QUESTION)
    model = tiny_model('ViLTForPreTraining')
    matching = []
    read, pixels = choose.transforms.read_question(QUESTION, CHOICES), choose.transforms.read_image(image(0))
    for option in read.tokens['options']:
        batch = model.data_preprocessor(pack([option | dict(image=pixels, image_id=0, sample_seed=0)]))
        with torch.no_grad():
            images = model.encoder.embed_images(batch['patches'], batch['grids'])
            pair = model.itm_head(model.encoder.pool(model.encode(batch, images, 'cls')))[0]
        matching.append(float(pair[1] - pair[0]))
    assert result['choice'] == int(np.argmax(matching))
    assert result['score'] == pytest.approx(float(torch.tensor(matching).softmax(0).max()), abs=1e-5)
    checkpoint = tiny_checkpoint(tmp_path, 'ViLTForPreTraining')
    (same,) = VQAInferencer(checkpoint, device='cpu', choices=CHOICES)(image(0), QUESTION)
    assert same['answer'] == result['answer']


def test_a_model_with_answers_chooses_among_some_of_them(folders):
    answer = VQAInferencer(folders['vqa'], device='cpu')
    (whole,) = answer(image(0), QUESTION)
    own = [ANSWERS[3], ANSWERS[0]]
    (result,) = answer(image(0), QUESTION, choices=own)
    scores = {one['answer']: one['score'] for one in whole['topk']}
    total = sum(scores[one] for one in own)
    assert {one['answer']: one['score'] for one in result['topk']} == pytest.approx(
        {one: scores[one] / total for one in own}, abs=1e-5
    )
    with pytest.raises(
        KoviltError, match=r"choices: '초록색' is none of the 5 answers of the model; a model of multiple"
    ):
        answer(image(0), QUESTION, choices=['초록색', '네'])
    mixed = [answer.transforms.read_question(QUESTION, given) for given in (None, own)]
    batch = pack([one.tokens | dict(image=answer.transforms.read_image(image(0)), image_id=0, sample_seed=0)
                  for one in mixed])  # fmt: skip
    first, second = answer.rank(batch, [one.choices for one in mixed], 5)
    assert first['answer'] == whole['answer'] and second['answer'] == result['answer']


@pytest.mark.parametrize(
    ('choices', 'message'),
    [
        (None, 'a model of multiple choice: give choices'),
        (['소파'], 'choices: 1 texts; give at least two'),
        (['소파', '소파'], "choices: '소파' is there twice"),
        (['소파', ' '], 'choices, number 1: it is empty'),
        ('소파|의자', 'choices: .* is a str; give a list'),
        (['소파', 3], 'choices, number 1: 3 is a int'),
        ([['소파', '책'], ['소파', '책']], 'choices: 2 lists for 1 questions'),
        ([['소파']], 'choices 0: 1 texts'),
        ([], 'choices: 0 texts'),
    ],
)
def test_choices_that_are_none_are_refused_in_one_line(choose, choices, message):
    with pytest.raises(KoviltError, match=message) as caught:
        choose(image(0), QUESTION, choices=choices)
    assert '\n' not in str(caught.value)


def test_what_it_has_no_answers_for_is_refused_or_told(choose, folders):
    with pytest.raises(KoviltError, match='explain is for models that have answers'):
        choose.explain(image(0), QUESTION)
    assert choose.answers == [] and "answers='the given choices'" in repr(choose)
    with pytest.warns(KoviltWarning, match='of its tokens are unknown'):
        (result,) = choose(image(0), '책', choices=['소파', '뷁 쀍 꿻'])
    assert result['unknown_token_share'] > 0.5
    with pytest.warns(KoviltWarning, match="question 0: '하나' and '둘' are the same tokens to the model"):
        (result,) = choose(image(0), '책은 몇 개 ?', choices=['소파', '하나', '둘'])
    assert {one['answer']: one['score'] for one in result['topk']}['하나'] == pytest.approx(
        {one['answer']: one['score'] for one in result['topk']}['둘']
    )


def test_a_table_with_options_is_answered_in_bulk(folders, choose, tmp_path, call):
    Image.fromarray(image(0)).save(tmp_path / 'a.png')
    rows = [dict(image='a.png', question=QUESTION, options=CHOICES, answer=0), dict(image='a.png', question='책 ?')]
    rows.append(dict(image='a.png', question='의자 ?', a='소파', b='책', answer='a'))
    table = tmp_path / 'rows.jsonl'
    table.write_text(''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows), encoding='utf-8')
    asked = 'predict', folders['choice'], '--input', table, '--output'
    code, out, _ = call(*asked, tmp_path / 'own.jsonl')
    assert code == 0 and '1 of them with an error' in out
    lines = [json.loads(line) for line in (tmp_path / 'own.jsonl').read_text('utf-8').splitlines()]
    (expected,) = choose(image(0), QUESTION, choices=CHOICES)
    assert (lines[0]['answer'], lines[0]['choice']) == (expected['answer'], expected['choice'])
    assert lines[0]['score'] == pytest.approx(expected['score'], abs=1e-5)
    assert 'give choices' in lines[1]['error'] and lines[2]['answer'] in ('소파', '책')
    assert call(*asked, tmp_path / 'all.jsonl', '--choices', '소파|책')[0] == 0
    lines = [json.loads(line) for line in (tmp_path / 'all.jsonl').read_text('utf-8').splitlines()]
    assert lines[0]['answer'] in CHOICES and lines[1]['answer'] in ('소파', '책')


def test_the_command_chooses_among_what_bars_separate(folders, choose, tmp_path, call):
    Image.fromarray(image(0)).save(tmp_path / 'a.png')
    code, out, _ = call('predict', folders['choice'], tmp_path / 'a.png', QUESTION, '--choices', ' | '.join(CHOICES))
    (expected,) = choose(image(0), QUESTION, choices=CHOICES)
    assert code == 0 and out.splitlines()[1].strip().startswith(expected['answer'])
    code, out, said = call('predict', folders['choice'], tmp_path / 'a.png', QUESTION)
    assert (code, out) == (2, '') and 'error: a model of multiple choice: give choices' in said
    code, _, said = call(
        'predict', folders['pretrained'], tmp_path / 'a.png', QUESTION, '--choices', '소파|책', '--json'
    )
    assert code == 0, said


@pytest.mark.parametrize('kind', ['onnx', 'pt2'])
def test_an_exported_scorer_chooses_as_its_model(folders, choose, tmp_path, kind, call):
    folder = export_checkpoint(folders['choice'], tmp_path / kind, format=kind)
    assert 'float32 (batch, 1)' in (folder / 'README.md').read_text('utf-8')
    graph = VQAInferencer(folder, trust=True)
    images, lists = [image(0), image(1)], [CHOICES, CHOICES[:2]]
    for ours, theirs in zip(
        graph(images, QUESTION, choices=lists), choose(images, QUESTION, choices=lists), strict=True
    ):
        assert ours['choice'] == theirs['choice'] and ours['score'] == pytest.approx(theirs['score'], abs=1e-5)
    Image.fromarray(image(0)).save(tmp_path / 'a.png')
    row = dict(image='a.png', question=QUESTION, options=CHOICES)
    (tmp_path / 'rows.jsonl').write_text(json.dumps(row, ensure_ascii=False), encoding='utf-8')
    files = '--input', tmp_path / 'rows.jsonl', '--output', tmp_path / 'answers.jsonl'
    assert call('predict', folder, *files, '--trust')[0] == 0
    assert (
        json.loads((tmp_path / 'answers.jsonl').read_text('utf-8'))['choice']
        == choose(image(0), QUESTION, choices=CHOICES)[0]['choice']
    )
    with pytest.raises(KoviltError, match='give choices'):
        graph(images, QUESTION)
