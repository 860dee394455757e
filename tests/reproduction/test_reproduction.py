"""`python -m reproduction`: its steps, the tables of finished trainings, and one table from beginning to end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kovilt.cli.main import VERBS
from kovilt.engine.config import load_config
from kovilt.errors import KoviltError, run_cli
from kovilt.evaluation.comparison import compare_predictions, pool_predictions, read_predictions
from kovilt.recipes.steps import Step
from reproduction import __main__ as reproduction
from reproduction.plan import Reproduction, plan_tables
from reproduction.results import collect_results, write_tables
from reproduction.run import check_settings
from reproduction.scales import SCALES, TABLES
from reproduction.tables import first_epoch_at, paper_tables

ROOT = Path(__file__).resolve().parents[2]


def tables_of(data: str) -> tuple[str, ...]:
    return TABLES if data == 'rooms' else TABLES[:3]


def plan_of(data: str, scale: str, work_dir: Path, seeds: int = 1, tables=None) -> Reproduction:
    return plan_tables(tables or tables_of(data), scale=SCALES[data, scale], seeds=seeds, work_dir=work_dir)


def steps_of(*args, **kwargs) -> list[Step]:
    return list(plan_of(*args, **kwargs).steps.values())


@pytest.mark.parametrize(('data', 'scale'), SCALES)
def test_every_step_is_a_tool_that_depends_on_earlier_steps(data, scale, tmp_path):
    steps = steps_of(data, scale, tmp_path, seeds=2)
    names = [step.name for step in steps]
    assert len(set(names)) == len({step.folder for step in steps}) == len(steps)
    for place, step in enumerate(steps):
        is_verb = step.command[:2] == ['-m', 'kovilt'] and step.command[2] in VERBS
        assert is_verb or step.command[:2] == ['-m', 'benchmarks.model_cost']
        assert step.folder.parent == tmp_path
        assert set(step.after) <= set(names[:place])
        folders = {other.name: str(other.folder) for other in steps if other is not step}
        used = {name for name, folder in folders.items() if any(word.startswith(f'{folder}/') for word in step.command)}
        assert used <= set(step.after), step.name


@pytest.mark.parametrize(('data', 'scale'), SCALES)
def test_the_options_of_every_training_exist(data, scale, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    steps = [step for step in steps_of(data, scale, tmp_path) if '--cfg-options' in step.command]
    asked = {tuple(step.command[step.command.index('--cfg-options') + 1 :]): step for step in steps}  # each once
    for options, step in asked.items():
        config = load_config(step.command[3], options)
        if step.command[2] == 'train':
            assert config.train_cfg.get('max_iters', 0) >= config.train_cfg.get('val_interval', 0) >= 0


def test_every_training_gets_its_seed(tmp_path):
    plan = plan_of('rooms', 'small', tmp_path, seeds=3)
    for name, training in plan.trainings.items():
        command = list(plan.steps[name].command)
        assert command[command.index('--seed') + 1] == str(training.seed), name


def test_a_checkpoint_that_is_read_is_the_last_one_that_is_written(tmp_path):
    steps = steps_of('rooms', 'small', tmp_path)
    written = {
        f'{step.folder}/iter_{word.partition("=")[2]}.pth'
        for step in steps
        for word in step.command
        if word.startswith('train_cfg.max_iters=')
    }
    read = {word for step in steps for word in step.command if word.endswith('.pth')}
    assert read and read <= written


def test_a_table_has_the_same_steps_alone_and_among_others(tmp_path):
    everything = plan_of('rooms', 'small', tmp_path, 3).steps
    for table in TABLES:
        for step in steps_of('rooms', 'small', tmp_path, 3, [table]):
            assert everything[step.name] == step


def test_compared_trainings_differ_in_one_setting(tmp_path):
    steps = {step.name: list(step.command) for step in steps_of('rooms', 'small', tmp_path)}

    def without_load_from(name: str) -> list[str]:
        command = [word.replace('subset_pretrained', 'subset_scratch') for word in steps[name]]
        if '--load-from' in command:
            begin = command.index('--load-from')
            del command[begin : begin + 2]
        return command[4:]  # without the verb and the config

    assert without_load_from('subset_pretrained_0') == without_load_from('subset_scratch_0')
    lengths = {tuple(word for word in steps[f'{model}_0'] if 'train_cfg' in word) for model in ('meter', 'scratch')}
    assert len(lengths) == 1


MODELS = {'meter': 0.4, 'scratch': 0.5, 'pretrained': 0.8}  # share of right answers


def record(work: Path, name: str, curve: list[float], accuracy: float | None = None, peak: float = 300.0) -> None:
    """A training's folder and that of its evaluation, as the tools leave them."""
    folder = work / name
    folder.mkdir(parents=True)
    metrics = {'majority_accuracy': 25.0, 'questions': 40, 'accuracy/색': 12.0, 'accuracy/개수': 14.0}
    lines = [{'mode': 'val', 'step': 10 * (i + 1), 'accuracy': value, **metrics} for i, value in enumerate(curve)]
    lines.append({'mode': 'epoch', 'step': 10, 'epoch_seconds': 5.0, 'peak_memory_mb': peak})
    (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n', encoding='utf-8')
    (folder / 'data.json').write_text(json.dumps({'train': {'rows': 640}}), encoding='utf-8')
    machine = {'gpus': [], 'cpus': 2, 'packages': {'torch': '2'}, 'python': '3'}
    (folder / 'environment.json').write_text(json.dumps(machine), encoding='utf-8')
    if accuracy is None:
        return
    test = work / f'{name}_test'
    test.mkdir()
    right = [i < round(accuracy * 40) for i in range(40)]
    rows = [
        {
            'question_id': str(i),
            'image': f'{i // 4}.jpg',
            'ground_truth': '예',
            'answer_type': '색' if i % 2 else '개수',
            'correct': one,
            'tolerant_correct': one,
        }
        for i, one in enumerate(right)
    ]
    text = ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
    (test / 'predictions.jsonl').write_text(text, encoding='utf-8')
    found = {'metrics': metrics | {'accuracy': 100 * sum(right) / 40}}
    (test / 'metrics.json').write_text(json.dumps(found), encoding='utf-8')


@pytest.fixture
def finished(tmp_path):
    """A plan of two seeds, all finished but the second one of METER; and the seconds of the finished steps."""
    plan = plan_of('rooms', 'small', tmp_path, 2)
    names = ['cost']
    for seed in (0, 1):
        for model, accuracy in MODELS.items():
            if (model, seed) != ('meter', 1):
                record(tmp_path, f'{model}_{seed}', [20.0, 30.0], accuracy - 0.1 * seed)
                names += [f'{model}_{seed}', f'{model}_{seed}_test']
        record(tmp_path, f'question_only_{seed}', [10.0, 13.0])
        record(tmp_path, f'subset_scratch_{seed}', [20.0, 25.0, 31.0])
        record(tmp_path, f'subset_pretrained_{seed}', [20.0 + 10 * seed, 40.0, 55.0], 0.5)
        record(tmp_path, f'subset_head_lr_1_{seed}', [20.0, 30.0, 40.0], 0.25)
        record(tmp_path, f'tuned_full_{seed}', [30.0], 0.5)
        record(tmp_path, f'tuned_no_wpa_{seed}', [30.0], 0.6)
        names += [
            f'question_only_{seed}',
            *(f'subset_{variant}_{seed}' for variant in ('scratch', 'pretrained', 'head_lr_1')),
        ]
        names += [f'subset_{variant}_{seed}_test' for variant in ('pretrained', 'head_lr_1')]
        names += [f'tuned_{variant}_{seed}{end}' for variant in ('full', 'no_wpa') for end in ('', '_test')]
        for variant, accuracy in {'full': 60.0, 'no_wpa': 20.0}.items():
            folder = tmp_path / f'align_{variant}_{seed}'
            folder.mkdir()
            score = {'alignment_accuracy': accuracy, 'alignment_swapped': None, 'alignment_random': 17.0}
            (folder / 'alignment.json').write_text(json.dumps({**score, 'per_name': {}}), encoding='utf-8')
            names.append(f'align_{variant}_{seed}')
    one = {'parameters': 2_000_000, 'multiply_adds': 1e8, 'questions_per_second': 1000.0, 'epoch_seconds': 9.0}
    models = {'METER': one, 'ViLT': {**one, 'questions_per_second': 4000.0}}
    (tmp_path / 'cost').mkdir()
    cost = {'device': 'a CPU', 'threads': 1, 'amp': True, 'models': models}
    (tmp_path / 'cost' / 'cost.json').write_text(json.dumps(cost), encoding='utf-8')
    return plan, dict.fromkeys(names, 1.0)


def rows_of(results, name: str) -> list[dict[str, str]]:
    (table,) = [table for table in paper_tables(results) if table.name == name]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def test_the_tables_hold_the_results_of_the_runs(finished):
    plan, seconds = finished
    results = json.loads(json.dumps(collect_results(plan, seconds)))  # as results.json holds them
    rows = {row['']: row for row in rows_of(results, 'table2')}
    accuracy = rows['accuracy, %, mean ± std']
    assert accuracy['METER'] == '40.00' and accuracy['ViLT, pre-trained'] == '75.00 ± 7.07'
    assert rows['each seed']['ViLT, no pre-training'] == '50.00, 40.00'
    assert rows['relative to METER']['ViLT, pre-trained'] == '4.00' and rows['the paper, %']['METER'] == '85.24'
    assert rows['peak memory of training, MiB']['METER'] == '300'
    assert rows['minus METER']['ViLT, pre-trained'].startswith('+40.00 (')  # seed 0, the one that METER has
    assert rows['minus METER']['METER'] == '–'
    by_epoch = rows_of(results, 'table3')
    assert [row['ViLT, pre-trained'] for row in by_epoch] == ['25.00 ± 7.07', '40.00 ± 0.00', '55.00 ± 0.00']
    assert [row['the paper: ViLT, pre-trained'] for row in by_epoch] == ['5.21', '5.21', '5.21']
    first = {(row['model'], row['seed']): row for row in rows_of(results, 'convergence')}
    assert first['ViLT, no pre-training', '0']['above the most frequent answer'] == '3'  # 25 % is not above 25 %
    assert first['ViLT, no pre-training', '0']['40 %'] == 'not in 3' and first['ViLT, pre-trained', '1']['30 %'] == '1'
    ablations = {row['pre-training']: row for row in rows_of(results, 'ablations')}
    assert ablations['without word-patch alignment']['words aligned with their object, %'] == '20.0 ± 0.0'
    assert ablations['without word-patch alignment']['minus the first row'].startswith('+10.00 (')
    assert len(rows_of(results, 'fine_tuning')) == 2
    kinds = {row['answer type']: (row['questions'], row['ViLT, no image']) for row in rows_of(results, 'types')}
    assert kinds == {'색': ('20', '12.0'), '개수': ('20', '14.0')}


def test_without_finished_steps_there_is_no_table(tmp_path):
    plan = plan_of('rooms', 'small', tmp_path)
    assert paper_tables(collect_results(plan, {})) == []


def test_the_files_of_the_tables(finished):
    plan, seconds = finished
    files = write_tables(collect_results(plan, seconds), plan.work_dir, 'About.\n')
    assert {file.name for file in files} >= {'tables.md', 'results.json', 'curves.png', 'table2.csv', 'convergence.csv'}
    assert all(file.stat().st_size for file in files)
    text = (plan.work_dir / 'tables.md').read_text(encoding='utf-8')
    assert text.startswith('About.\n') and text.count('\n## ') == 6
    assert (plan.work_dir / 'table3.csv').read_text(encoding='utf-8').count('\n') == 4


def test_pooling_the_same_predictions_does_not_narrow_the_interval(finished):
    plan, _ = finished
    a, b = (read_predictions(plan.work_dir / f'{model}_0_test' / 'predictions.jsonl') for model in ('meter', 'scratch'))
    once = compare_predictions(a, b)
    thrice = compare_predictions(pool_predictions({0: a, 1: a, 2: a}), pool_predictions({0: b, 1: b, 2: b}))
    for key in ('difference', 'difference_interval', 'accuracy'):
        assert thrice[key] == pytest.approx(once[key])


def test_the_first_epoch_that_reaches_a_target():
    assert first_epoch_at([5.0, 6.0], 5.0) == 1
    assert first_epoch_at([5.0, 6.0], 5.0, above=True) == 2
    assert first_epoch_at([5.0], 9.0) == 0


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the tool in this process; returns exit code, stdout, stderr. What it changes of the process is undone."""
    monkeypatch.chdir(ROOT)
    for name in ('KOVILT_ROOMS', 'KOVILT_ROOMS_ALONE'):
        monkeypatch.setenv(name, '')

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', ['reproduction', *map(str, arguments)])
        try:
            code = run_cli(lambda: reproduction.main(reproduction.parse_args()))
        except SystemExit as ended:  # a wrong argument
            code = ended.code
        return code, *capsys.readouterr()

    return call


WRONG = {
    'unknown table': (['tabel2'], "tabel2: no such table .did you mean 'table2'"),
    'no such scale': (['table1', '--data', 'aihub', '--scale', 'small'], '--scale base'),
    'no seeds': (['table1', '--seeds', '0'], '--seeds: must be at least 1'),
    'no encoder': (['table1', '--encoder', 'configs'], 'no model folder; kovilt export'),
    'no boxes': (['ablations', '--data', 'aihub'], 'only Rooms has'),
    'no data': (['table1', '--data', 'aihub'], 'nowhere: no such folder'),
    'nothing run': (['table1', '--no-run'], 'nothing was run there'),
    'other settings': (['table1', '--scale', 'tiny'], "made with scale 'small', not 'tiny'"),
}


@pytest.mark.parametrize('name', WRONG)
def test_bad_input_is_one_line(name, tmp_path, call, monkeypatch):
    monkeypatch.setenv('KOVILT_AIHUB_101', str(tmp_path / 'nowhere'))
    arguments, message = WRONG[name]
    if name == 'other settings':
        (tmp_path / 'settings.json').write_text(json.dumps({'data': 'rooms', 'scale': 'small'}), encoding='utf-8')
    code, _, error = call(*arguments, '--work-dir', tmp_path)
    assert code == 2 and error.startswith('error: ') and error.count('\n') == 1
    assert re.search(message, error)


def test_help_imports_nothing_heavy():
    code = 'import sys; import reproduction.__main__; print([m for m in ("torch", "numpy") if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == '[]'


def test_a_table_from_beginning_to_end_and_again(tmp_path, call):
    arguments = ['table1', '--scale', 'tiny', '--work-dir', tmp_path / 'work']
    code, printed, error = call(*arguments)
    assert code == 0, error
    table = (tmp_path / 'work' / 'table1.csv').read_text(encoding='utf-8').splitlines()
    questions = dict(zip(table[0].split(','), table[1].split(','), strict=False))
    assert questions['images'] == '40' and int(questions['answers removed']) > 0
    assert int(questions['rows']) + int(questions['rows left out']) > 200
    code, printed, _ = call(*arguments)
    assert code == 0 and 'finished before' in printed


def test_a_folder_made_with_other_sizes_names_the_size(tmp_path):
    check_settings(tmp_path, {'scale': 'small', 'sizes': {'pretrain': 1, 'fine_tune': 2}})
    check_settings(tmp_path, {'scale': 'small', 'sizes': {'pretrain': 1, 'fine_tune': 2}})
    with pytest.raises(KoviltError, match=r'made with sizes\.pretrain 1, not 3; name another --work-dir'):
        check_settings(tmp_path, {'scale': 'small', 'sizes': {'pretrain': 3, 'fine_tune': 2}})
