"""A calibrated model gives softmax(scores / temperature) and abstains below its threshold; nothing else changes."""

from __future__ import annotations

import json
import re

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
from kovilt.errors import KoviltError
from kovilt.weights import save_model_folder
from kovilt.weights.calibration import Calibration, store_calibration
from kovilt.weights.folder_info import read_folder_info

QUESTIONS = ['소파는 무슨 색 이에요 ?', '의자가 있어요 ?', '책은 몇 개 ?']
CHOICES = ['빨간 책', '파란 의자', '소파', '책 위']
TEMPERATURE = 1.8


def image(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


IMAGES = [image(seed) for seed in range(4) for _ in QUESTIONS]


def save(folder, kind='ViLTForVQA', calibration=None, **encoder):
    return save_model_folder(
        tiny_model(kind, **encoder),
        tiny_tokenizer(),
        folder,
        model_cfg=tiny_config(kind, **encoder),
        image_pipeline=IMAGE_PIPELINE,
        max_text_len=MAX_TEXT_LEN,
        calibration=calibration,
    )


def ask(folder, choices=None, **options):
    inferencer = VQAInferencer(folder, device='cpu', **options)
    return inferencer(IMAGES, QUESTIONS * 4, topk=9, choices=choices)


def scaled(result, temperature=TEMPERATURE):
    """The probabilities of a result of a model without calibration, as softmax(scores / temperature) has them."""
    logs = np.log([one['score'] for one in result['topk']]) / temperature
    shares = np.exp(logs - logs.max())
    answers = [one['answer'] for one in result['topk']]
    return dict(zip(answers, (shares / shares.sum()).tolist(), strict=True))


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    return save(tmp_path_factory.mktemp('plain') / 'model')


@pytest.fixture(scope='module')
def without(plain):
    """The answers of the model without a calibration."""
    return ask(plain)


def middle(results, temperature=TEMPERATURE):
    """A threshold between the probabilities of the best answers, far from each of them."""
    scores = sorted(max(scaled(one, temperature).values()) for one in results)
    at = max(range(2, len(scores) - 3), key=lambda number: scores[number + 1] - scores[number])
    return (scores[at] + scores[at + 1]) / 2


@pytest.fixture(scope='module')
def calibrated(without, tmp_path_factory):
    calibration = Calibration(TEMPERATURE, middle(without), 0.95, '모르겠음', 12)
    return save(tmp_path_factory.mktemp('calibrated') / 'model', calibration=calibration)


def test_a_model_without_calibration_answers_as_ever(plain, without):
    inferencer = VQAInferencer(plain, device='cpu')
    assert (inferencer.calibration, inferencer.threshold, inferencer.abstention) == (None, 0.0, '모르겠음')
    read = [inferencer.transforms.read_question(question) for question in QUESTIONS * 4]
    prepared = [inferencer.transforms.read_image(one) for one in IMAGES]
    batch = pack([
        one.tokens | dict(image=pixels, image_id=number, sample_seed=0)
        for number, (one, pixels) in enumerate(zip(read, prepared, strict=True))
    ])  # fmt: skip
    with torch.inference_mode():
        best = inferencer.model.scores(inferencer.model.data_preprocessor(batch)).softmax(dim=1).topk(5, dim=1)
        found = inferencer.rank(batch, [[]] * 12, 5)
    assert [[one['answer'] for one in row['topk']] for row in found] == [
        [ANSWERS[label] for label in labels] for labels in best.indices.tolist()
    ]
    assert [[one['score'] for one in row['topk']] for row in found] == best.values.tolist()  # to the last bit
    assert all(row.keys() == {'answer', 'score', 'topk', 'unknown_token_share'} for row in without)
    assert not {'temperature', 'threshold', 'abstention'} & inferencer._summary().keys()


@pytest.mark.parametrize(
    ('kind', 'encoder', 'options', 'tolerance'),
    [
        ('ViLTForVQA', 'ViLT', {}, 1e-5),
        ('ViLTForVQA', 'PrefixViLT', {}, 1e-5),
        ('ViLTForVQA', 'ViLT', {'precision': 'int8'}, 1e-5),
        ('ViLTForVQA', 'ViLT', {'precision': 'bfloat16'}, 1e-5),
        ('ViLTForMultipleChoice', 'ViLT', {'choices': CHOICES}, 1e-5),
        ('ViLTForMultipleChoice', 'PrefixViLT', {'choices': CHOICES}, 1e-5),
    ],
)
def test_every_kind_of_model_abstains_below_the_threshold(tmp_path, monkeypatch, kind, encoder, options, tolerance):
    monkeypatch.setattr('kovilt.apis.precision.has_fast_bfloat16', lambda: True)
    folder = save(tmp_path / 'model', kind, type=encoder)
    before = ask(folder, **options)
    threshold = middle(before)
    store_calibration(folder, Calibration(TEMPERATURE, threshold, abstention='글쎄요'))
    after = ask(folder, **options)
    for old, new in zip(before, after, strict=True):
        probabilities = scaled(old)
        assert {one['answer']: one['score'] for one in new['topk']} == pytest.approx(probabilities, abs=tolerance)
        assert [one['answer'] for one in new['topk']] == [one['answer'] for one in old['topk']]
        assert new['score'] == new['topk'][0]['score'] and new['abstained'] == (new['score'] < threshold)
        assert new['answer'] == ('글쎄요' if new['abstained'] else old['answer'])
        assert new['unknown_token_share'] == old['unknown_token_share']
        if kind == 'ViLTForMultipleChoice':
            assert new['choice'] == (None if new['abstained'] else old['choice'])
    assert 2 < sum(one['abstained'] for one in after) < 10


def test_a_call_can_ask_for_another_threshold_or_abstention(calibrated, without):
    inferencer = VQAInferencer(calibrated, device='cpu', threshold=0)
    assert inferencer.threshold == 0 and 'threshold' not in repr(inferencer)
    for one, old in zip(inferencer(IMAGES, QUESTIONS * 4, topk=9), without, strict=True):
        assert 'abstained' not in one and one['answer'] == old['answer']
        assert one['score'] == pytest.approx(scaled(old)[old['answer']], abs=1e-5)
    assert all(one['abstained'] for one in ask(calibrated, threshold=1))
    found = ask(calibrated, abstention=' 모르겠습니다. ')
    assert {one['answer'] for one in found if one['abstained']} == {'모르겠습니다.'}
    shown = repr(VQAInferencer(calibrated, device='cpu'))
    assert f'temperature={TEMPERATURE}' in shown and "abstention='모르겠음'" in shown


def test_a_model_without_calibration_abstains_by_its_plain_probabilities(plain, without, tmp_path):
    threshold = middle(without, 1.0)
    for model in (plain, tiny_checkpoint(tmp_path)):
        found = ask(model, threshold=threshold)
        assert [one['score'] for one in found] == [one['score'] for one in without]
        assert [one['abstained'] for one in found] == [one['score'] < threshold for one in without]
        assert {one['answer'] for one in found if one['abstained']} == {'모르겠음'}


def test_a_model_with_answers_never_abstains_among_given_choices(calibrated):
    own = [ANSWERS[3], ANSWERS[0]]
    for found in (ask(calibrated, own, threshold=1), ask(calibrated, choices=None, threshold=1.0)):
        assert ('choice' in found[0]) != ('abstained' in found[0])
    assert {one['answer'] for one in ask(calibrated, own, threshold=1)} <= set(own)
    inferencer = VQAInferencer(calibrated, device='cpu', threshold=1.0)
    mixed = [inferencer.transforms.read_question(QUESTIONS[0], given) for given in (None, own)]
    pixels = inferencer.transforms.read_image(image(0))
    batch = pack([one.tokens | dict(image=pixels, image_id=0, sample_seed=0) for one in mixed])
    first, second = inferencer.rank(batch, [one.choices for one in mixed], 5)
    assert first['abstained'] and 'abstained' not in second and second['answer'] in own


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'threshold': 2}, 'threshold is 2; it must be at least 0 and at most 1 or None'),
        ({'threshold': -0.1}, 'threshold is -0.1'),
        ({'threshold': float('nan')}, 'threshold is nan'),
        ({'threshold': '0.5'}, "threshold is '0.5', a str"),
        ({'threshold': True}, 'threshold is True, a bool'),
        ({'abstention': ''}, 'abstention: it is empty'),
        ({'abstention': ' \n'}, 'abstention: it is empty'),
        ({'abstention': ['모르겠음']}, 'abstention: .* is a list; give text'),
        ({'abstention': '모' * 201}, 'abstention: 201 characters'),
        ({'abstention': 'a\0'}, 'abstention: it holds the character NUL'),
        ({'abstention': '\ud800'}, 'abstention: it holds U[+]D800, half a character'),
    ],
)
def test_other_values_are_refused_in_one_line(plain, options, message):
    with pytest.raises(KoviltError, match=message) as caught:
        VQAInferencer(plain, device='cpu', **options)
    assert '\n' not in str(caught.value)


def test_an_abstention_of_blanks_in_a_folder_is_refused_by_its_name(tmp_path):
    folder = save(tmp_path / 'model', calibration=Calibration(abstention=' '))
    with pytest.raises(KoviltError, match=f'^{folder}: abstention: it is empty'):
        VQAInferencer(folder, device='cpu')


def test_an_explanation_tells_that_the_model_abstains(calibrated, plain, tmp_path, call):
    inferencer, old = VQAInferencer(calibrated, device='cpu'), VQAInferencer(plain, device='cpu')
    results = inferencer(IMAGES, QUESTIONS * 4)
    abstained, given = (
        next(i for i, one in enumerate(results) if one['abstained'] is found) for found in (True, False)
    )
    for number in (abstained, given):
        asked = IMAGES[number], QUESTIONS[number % 3]
        found, before = inferencer.explain(*asked), old.explain(*asked)
        assert found.answer == found.best_answer == results[number]['topk'][0]['answer'] == before.answer
        assert found.score == pytest.approx(results[number]['score'], abs=1e-5) and before.abstention is None
        assert found.abstention == ('모르겠음' if number == abstained else None)
        np.testing.assert_array_equal(found.patch_relevance, before.patch_relevance)
        assert ('it abstains: 모르겠음' in found._repr_html_()) == (number == abstained)
    Image.fromarray(IMAGES[abstained]).save(tmp_path / 'room.png')
    other = next(answer for answer in ANSWERS if answer != results[abstained]['topk'][0]['answer'])
    asked = 'explain', calibrated, tmp_path / 'room.png', QUESTIONS[abstained % 3], '--out', tmp_path / 'out'
    code, out, _ = call(*asked, '--answer', other)
    assert code == 0 and f'  the model would answer {results[abstained]["topk"][0]["answer"]}\n' in out
    assert '  it abstains, as that is below its threshold: 모르겠음\n' in out


def test_the_command_shows_what_it_would_have_said(calibrated, tmp_path, call):
    Image.fromarray(image(0)).save(tmp_path / 'room.png')
    asked = 'predict', calibrated, tmp_path / 'room.png', QUESTIONS[0], '--topk', 2
    (expected,) = VQAInferencer(calibrated, device='cpu', threshold=0.995)(image(0), QUESTIONS[0], topk=2)
    best, share = expected['topk'][0]['answer'], 100 * expected['score']
    code, out, _ = call(*asked, '--threshold', 0.995, '--abstention', '글쎄요')
    lines = out.splitlines()
    assert code == 0 and lines[1] == f'  글쎄요 ({best} has {share:.2f} %, the threshold is 99.5 %)'
    assert lines[2].split()[0] == best and lines[2].endswith(f'  {share:.2f} %') and len(lines) == 4
    code, out, _ = call(*asked, '--threshold', 0.995, '--json')
    assert json.loads(out) == {'image': str(tmp_path / 'room.png'), 'question': QUESTIONS[0]} | expected
    code, out, _ = call(*asked, '--threshold', 0)
    assert code == 0 and len(out.splitlines()) == 3 and '모르겠음' not in out
    for value, message in (
        ('1.5', 'threshold is 1.5; it must be'),
        ('nan', 'threshold is nan'),
        ('x', 'invalid float'),
    ):
        code, out, said = call(*asked, '--threshold', value)
        assert (code, out) == (2, '') and message in said and said.count('\n') == 1


def test_a_table_tells_from_which_questions_the_model_abstains(calibrated, tmp_path, call):
    for number in range(2):
        Image.fromarray(image(number)).save(tmp_path / f'{number}.png')
    rows = [{'image': f'{number}.png', 'question': question} for number in range(2) for question in QUESTIONS]
    (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows)), encoding='utf-8')
    files = '--input', tmp_path / 'rows.jsonl', '--output', tmp_path / 'out.jsonl'
    code, out, _ = call('predict', calibrated, *files, '--workers', 1)
    lines = [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text('utf-8').splitlines()]
    expected = VQAInferencer(calibrated, device='cpu')(IMAGES[:6], QUESTIONS * 2)
    assert [line['answer'] for line in lines] == [one['answer'] for one in expected]
    assert [line['abstained'] for line in lines] == [one['abstained'] for one in expected]
    count = sum(line['abstained'] for line in lines)
    assert code == 0 and (f'6 questions, {count} of them answered with 모르겠음, in ' in out) == bool(count)


def test_answers_of_another_threshold_are_not_continued(calibrated, tmp_path, monkeypatch):
    from kovilt.apis.answer_file import _digest

    def digest(**options):
        return _digest(VQAInferencer(calibrated, device='cpu', **options), [], 5)

    digests = [digest(), digest(threshold=0.1), digest(abstention='글쎄요'), digest(threshold=0)]
    assert len(set(digests)) == 4 and digest() == digests[0]


def test_the_card_tells_of_the_calibration_and_exports_keep_it(tmp_path, monkeypatch):
    folder = save(tmp_path / 'model')
    written = (folder / 'README.md').read_text('utf-8')
    assert '## Calibration' not in written
    calibration = Calibration(1.2345678, 0.61, 0.95, '모르겠음', 1234)
    store_calibration(folder, calibration)
    card = (folder / 'README.md').read_text('utf-8')
    assert '| temperature | 1.235, fitted on 1,234 questions |\n| threshold | 0.61, for a precision of 95 % |\n' in card
    assert '| abstention | 모르겠음 |\n' in card and card.index('## Calibration') < card.index('## Use')
    graph = dict(precision='float32', grids=[[4, 6]], inputs=8, largest_difference=1e-6)
    monkeypatch.setattr('kovilt.weights.folder.write_graph', lambda *_, format, **__: graph | {'format': format})
    for kind in ('hf', 'onnx', 'pt2', 'triton'):  # real graphs are asked in tests/serving/test_same_answers.py
        out = export_checkpoint(folder, tmp_path / kind, format=kind) / ('kovilt/1' if kind == 'triton' else '')
        assert read_folder_info(out)['calibration'] == calibration.to_json()
        both = (out / 'README.md').read_text('utf-8') + card
        found, expected = re.findall(r'## Calibration\n.*?(?=## )', both, re.S)
        assert found == expected
    store_calibration(folder, Calibration(2.0))
    card = (folder / 'README.md').read_text('utf-8')
    assert card.count('## Calibration') == 1 and '| threshold | none: it always answers |' in card
    assert re.sub(r'## Calibration\n.*?(?=## )', '', card, flags=re.S) == written
    (folder / 'README.md').unlink()
    store_calibration(folder, calibration)  # a folder whose card was removed
    assert not (folder / 'README.md').exists()
