import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from kovilt.cli.main import VERBS
from kovilt.engine.config import load_config
from kovilt.errors import KoviltError
from kovilt.recipes.commands import SHIPPED_ENCODER
from kovilt.recipes.quickstart import SIZES, recipe_steps
from kovilt.recipes.quickstart_results import (
    ask_model,
    draw_predictions,
    draw_training_curves,
    format_tables,
    read_summary,
    sample_predictions,
    summary_tables,
    write_summary_page,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('recipe', ['quickstart', 'rooms'])
def test_every_step_is_a_tool_with_a_folder_of_its_own(recipe, tmp_path):
    steps = recipe_steps(recipe, SIZES[recipe, 'tiny'], tmp_path, compare=True)
    assert all(step.command[:2] == ['-m', 'kovilt'] and step.command[2] in VERBS for step in steps)
    assert len({step.name for step in steps}) == len({step.folder for step in steps}) == len(steps)
    assert all(step.folder.is_relative_to(tmp_path) and step.folder != tmp_path for step in steps)


@pytest.mark.parametrize('recipe', ['quickstart', 'rooms'])
def test_the_options_of_every_training_exist(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a recipe needs nothing of the current folder
    trainings = [
        step.command
        for step in recipe_steps(recipe, SIZES[recipe, 'default'], tmp_path, compare=True)
        if step.command[2] == 'train'
    ]
    assert len(trainings) >= 4
    for command in trainings:
        config = load_config(command[3], command[command.index('--cfg-options') + 1 :])
        assert config.train_cfg.max_iters >= config.train_cfg.val_interval > 0


def quickstart(folder, compare=True):
    return recipe_steps('quickstart', SIZES['quickstart', 'default'], folder, compare=compare)


def test_the_quickstart_answers_within_three_minutes_and_compares_afterwards(tmp_path):
    first, everything = quickstart(tmp_path, compare=False), quickstart(tmp_path)
    assert [step.name for step in first] == ['draw', 'vqa', 'vqa_test', 'model']
    assert sum(step.seconds for step in first) < 170  # tables, images and an answer come on top
    assert everything[: len(first)] == first  # so that --compare goes on from a finished quickstart
    assert sum(step.seconds for step in everything) < 570


def test_pretraining_that_is_shown_starts_where_matching_is_learned(tmp_path):
    (command,) = (step.command for step in quickstart(tmp_path) if step.name == 'pretrain')
    assert command[3] == 'rooms/pretrain_uniform_masking'
    assert command[command.index('--load-from') + 1] == SHIPPED_ENCODER


def test_fine_tuning_and_its_baselines_differ_in_one_setting(tmp_path):
    steps = {step.name: list(step.command) for step in quickstart(tmp_path)}
    scratch = steps['vqa_scratch']
    begin = steps['vqa'].index('--load-from')
    assert [word.replace('vqa', 'vqa_scratch') for word in steps['vqa'][:begin] + steps['vqa'][begin + 2 :]] == scratch
    assert [word.replace('question_only', 'vqa_scratch') for word in steps['question_only']] == scratch


def prediction(number: int, kind: str, right: bool, image: str) -> dict:
    return {
        'question_id': str(number),
        'image': image,
        'question': f'질문 {number}?',
        'answer': '예',
        'ground_truth': '예' if right else '아니요',
        'score': 0.5,
        'answer_type': kind,
        'correct': right,
        'tolerant_correct': right,
    }


def test_questions_are_sampled_over_types_and_images_without_regard_to_right_and_wrong():
    rows = [prediction(i, '색' if i < 90 else '개수', i < 50, f'{i // 8}.jpg') for i in range(100)]
    shown = sample_predictions(rows, 8)
    assert len({row['image'] for row in shown}) == 8
    assert {row['answer_type'] for row in shown} == {'색', '개수'}
    wrong = [{**row, 'answer': '?', 'score': 0.0} for row in rows]
    assert [row['question'] for row in sample_predictions(wrong, 8)] == [row['question'] for row in shown]
    assert len(sample_predictions(rows[:3], 8)) == 3


@pytest.fixture
def finished(tmp_path):
    """A work folder as the steps leave it."""
    Image.new('RGB', (40, 30), 'tan').save(tmp_path / 'a.jpg')
    for name, accuracy in {'vqa': 80.0, 'vqa_scratch': 45.0, 'question_only': 41.5}.items():
        metrics = {'accuracy': accuracy, 'majority_accuracy': 12.5, 'questions': 20, 'broken': 0}
        metrics |= {'accuracy/색': accuracy, 'questions/색': 12, 'accuracy/개수': accuracy, 'questions/개수': 8}
        (tmp_path / name).mkdir()
        training = [{'mode': 'train', 'step': s, 'vqa_loss': 3 / s, 'vqa_accuracy': 0.1 * s} for s in (1, 2)]
        training += [{'mode': 'val', 'step': step, **dict.fromkeys(metrics, 1.0)} for step in (1, 2)]
        (tmp_path / name / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, training)) + '\n', encoding='utf-8')
        (tmp_path / f'{name}_test').mkdir()
        (tmp_path / f'{name}_test' / 'metrics.json').write_text(json.dumps({'metrics': metrics}), encoding='utf-8')
    folder = tmp_path / 'vqa_test'
    rows = [prediction(i, '색' if i % 2 else '개수', i % 3 > 0, str(tmp_path / 'a.jpg')) for i in range(20)]
    lines = ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
    (folder / 'predictions.jsonl').write_text(lines, encoding='utf-8')
    (tmp_path / 'pretrain').mkdir()
    names = ('mlm_loss', 'itm_loss', 'wpa_loss', 'mlm_accuracy', 'itm_accuracy', 'wpa_matched_distance')
    training = [{'mode': 'train', 'step': step, **dict.fromkeys(names, 1 / step)} for step in (10, 20)]
    (tmp_path / 'pretrain' / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, training)) + '\n', encoding='utf-8')
    (tmp_path / 'alignment').mkdir()
    score = {'alignment_accuracy': 60.0, 'alignment_random': 12.0, 'alignment_swapped': 20.0}
    (tmp_path / 'alignment' / 'alignment.json').write_text(json.dumps(score), encoding='utf-8')
    return tmp_path


SECONDS = {step.name: 0.0 for step in quickstart(Path('work'))}


@pytest.mark.parametrize(
    ('recipe', 'there', 'missing'),
    [
        ('rooms', ('Pre-training of the encoder', 'without images', 'Object words'), ('from scratch',)),
        ('quickstart', ('By answer type', 'most frequent'), ('without images', 'Pre-training', 'Object words')),
    ],
)
def test_results_show_what_the_steps_have_given_and_nothing_of_other_runs(finished, recipe, there, missing):
    (finished / 'alignment' / 'example.png').write_bytes(b'of an earlier version')
    seconds = dict.fromkeys((step.name for step in recipe_steps(recipe, SIZES[recipe, 'tiny'], finished)), 1.0)
    summary = read_summary(finished, seconds)
    assert 'scratch_accuracy' not in summary and summary['per_type']['색']['accuracy'] == 80.0
    draw_training_curves(finished, summary)
    draw_predictions(finished)
    tables = summary_tables(summary, 'the encoder')
    write_summary_page(finished, summary, tables, 'make rooms')
    page = (finished / 'report.html').read_text('utf-8')
    assert ('transport mass' in page) == (recipe == 'rooms')
    printed = format_tables(tables)
    assert all(words in printed for words in there) and not any(words in printed for words in missing)


def test_the_summary_holds_the_metrics_of_all_models(finished):
    summary = read_summary(finished, SECONDS | {'draw': 3.0, 'vqa': 100.25})
    assert summary['vqa_accuracy'] == 80.0 and summary['scratch_accuracy'] == 45.0
    assert summary['majority_accuracy'] == 12.5 and summary['question_only_accuracy'] == 41.5
    assert summary['alignment_accuracy'] == 60.0 and summary['alignment_random'] == 12.0
    assert summary['seconds'] == 103.2
    assert summary['per_type']['색'] == {
        'questions': 12,
        'accuracy': 80.0,
        'scratch_accuracy': 45.0,
        'question_only_accuracy': 41.5,
    }
    assert summary['pretraining_losses']['mlm_loss'] == [0.1, 0.05]


def test_the_images_the_page_and_the_printed_summary(finished):
    summary = read_summary(finished, SECONDS)
    draw_training_curves(finished, summary)
    assert len(draw_predictions(finished)) == 12
    tables = summary_tables(summary, 'the shipped encoder')
    write_summary_page(finished, summary, tables, 'make quickstart, 0:00')
    for name in ('curves.png', 'contact_sheet.png', 'contact_sheet.txt', 'report.html'):
        assert (finished / name).stat().st_size > 0
    page = (finished / 'report.html').read_text(encoding='utf-8')
    assert 'make quickstart, 0:00' in page and page.count('<li>') == 12
    printed = format_tables(tables)
    assert all(words in printed for words in ('80.0', '41.5', '12.5', '색', 'fine-tuned from the shipped encoder'))


def test_the_model_is_asked_as_a_user_would_ask_it(monkeypatch, capsys):
    def run_predict(command, **_):
        assert command[1:] == ['-m', 'kovilt', 'predict', 'work/model', 'a.jpg', '질문 1?', '--topk', '3']
        return subprocess.CompletedProcess(command, 0, '질문 1?\n  예  50.00 %\n', '')

    monkeypatch.setattr(subprocess, 'run', run_predict)
    asked = ask_model('work/model', prediction(1, '색', True, 'a.jpg'))
    assert asked['printed'] == ['질문 1?', '  예  50.00 %'] and asked['ground_truth'] == '예'
    assert "$ kovilt predict work/model a.jpg '질문 1?' --topk 3" in capsys.readouterr().out
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: subprocess.CompletedProcess([], 2, '', 'error: no model'))
    with pytest.raises(KoviltError, match='exit code 2: error: no model'):
        ask_model('work/model', prediction(1, '색', True, 'a.jpg'))
