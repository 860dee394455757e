"""Every command and config that a page shows is run, in seconds, or stands in `NOT_RUN` with the reason.

tests/test_docs_site.py holds the pages of both languages to the same commands.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image
from recipe_steps import run_steps_here

from kovilt.engine.interruption import Interruption
from kovilt.errors import KoviltError
from kovilt.model_names import packaged_models
from tests.test_readme import blocks as blocks_of
from tests.test_readme import commands, run

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / 'docs').rglob('*.md'))
# The pages whose commands run in the test below, and what their readers have done before.
RUN: dict[str, list[str]] = {
    'abstention': [],
    'aihub': [],
    'data': [],
    'demo': [],
    'distillation': [],
    'distributed': [],
    'encoders': [],
    'evaluation': [
        'kovilt train rooms/vqa_scratch --work-dir work_dirs/vqa',
        'kovilt test rooms/vqa work_dirs/vqa/iter_2000.pth --out B.jsonl',
    ],
    'explain': [],
    'formats': [],
    'interrupted': [],
    'model_zoo': [],
    'multiple_choice': [],
    'out_of_domain': [],
    'own_images': [],
    'plugins': [],
    'predict': [],
    'prepare': [],
    'pretraining': [],
    'training': [],
    'verify': [],
}
# What is not run here: regular expressions of lines, and of the first line of programs.
NOT_RUN = {
    r'make \w+( COMPARE=1)?': '.ci/run runs them (test_ci_runs_what_make_is_told)',
    r'docker |kubectl |KOVILT_TOKEN=': 'Docker or a cluster; tests/serving/test_deploy.py compares the files',
    r'pip install ': 'a package index',
    r'kovilt serve |curl ': 'tests/serving asks the server in every way',
    r'kovilt demo': 'tests/serving/demo asks the page in every way',
    r'import base64': 'tests/serving/test_chat.py asks with the same client',
    r'@MODELS|_base_ = ': 'parts of examples/plugin, which the other commands of plugins.md train',
    r'kovilt report ': 'commands of training.md (see below)',
    r'kovilt export |kovilt predict models/kovilt-vqa': 'tests/weights/test_graph_files.py exports small ones',
    r'kovilt import |kovilt train kovilt_\w+ --load-from OUT': 'public weights; tests/weights/test_importing.py',
    r'kovilt rooms .*--images (8|10)000 ': 'minutes; the first blocks of the page are the same',
    r'python -m reproduction ': 'hours; tests/reproduction runs the smallest scale',
    r'(OMP_NUM_THREADS=1 )?python -m benchmarks\.': 'minutes; tests/benchmarks measures at the smallest size',
}
NEVER_RUN = r'make |pip install |kovilt demo'  # commands of NOT_RUN that also the pages above show
NOT_THERE = ('aihub_visual', 'aihub_knowledge', 'kvqa', 'vqav2')  # data sets of which no test has a copy
FEW_STEPS = [
    'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=8',
    'val_dataloader.num_workers=0',
]  # fmt: skip
SMALL_MODEL = [
    'model.encoder.hidden_size=16', 'model.encoder.num_layers=1', 'model.encoder.num_heads=2', 'train_cfg.max_epochs=1',
    'train_dataloader.batch_size=16', 'train_dataloader.num_workers=0', 'train_dataloader.dataset.limit=16',
    'val_dataloader.num_workers=0', 'val_dataloader.dataset.limit=8', 'load_from=None',
]  # fmt: skip


def blocks(text: str) -> list[tuple[str, str]]:
    """The language and the content of each code block of a page."""
    return re.findall(r'^```(\w*)\n(.*?)^```$', text, re.M | re.S)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


@pytest.mark.parametrize('page', DOCS, ids=lambda page: page.name)
def test_links_to_sections_exist(page):
    for file, section in re.findall(r'\]\(([\w/.]*\.md)?#([^)]+)\)', page.read_text('utf-8')):
        text = (page.parent / file if file else page).read_text('utf-8')
        assert section in map(anchor, re.findall(r'^#+ (.+)$', text, re.M)), f'{file}#{section}'


def write_table(path: Path, images: list[Path]) -> None:
    """Questions about images, as a JSONL or CSV table."""
    names = [str(image.relative_to(path.parent)) for image in images]
    rows = [{'image': name, 'question': '소파가 있어요?', 'answer': a} for name in names for a in ('예', '아니요')]
    with path.open('w', encoding='utf-8', newline='') as file:
        if path.suffix == '.csv':
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


@pytest.fixture
def checkout(tmp_path, rooms, monkeypatch):
    """A folder like a checkout, in which Rooms stands for AI-Hub 101 and 261, which have the same layouts."""
    for name in ('configs', 'examples'):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / 'kovilt').symlink_to(ROOT / 'kovilt')
    for name in [name for name in os.environ if name.startswith('KOVILT_') and name != 'KOVILT_NO_REPORT']:
        monkeypatch.delenv(name)
    monkeypatch.setenv('KOVILT_TOKENIZER', str(rooms / 'tokenizer'))
    monkeypatch.chdir(tmp_path)
    for name, folder in (('aihub_101', 'vqa'), ('aihub_261', 'captions')):
        (tmp_path / 'data').mkdir(exist_ok=True)
        (tmp_path / 'data' / name).symlink_to(rooms / folder)
    for split, folder in (('train', 'train2014'), ('val', 'val2014')):
        for table in (f'custom/{split}.jsonl', f'mine/{split}.csv'):
            path = tmp_path / 'data' / table
            shutil.copytree(rooms / 'captions' / folder, path.parent / folder)
            write_table(path, sorted((path.parent / folder).iterdir()))
    Image.new('RGB', (320, 240), 'tan').save('room.jpg')
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (320, 240), 'tan').save('images/sofa.jpg')
    Path('questions.jsonl').write_text('{"image": "room.jpg", "question": "소파가 있어요?"}\n', encoding='utf-8')
    (tmp_path / 'work_dirs' / 'quickstart').mkdir(parents=True)
    (tmp_path / 'work_dirs' / 'quickstart' / 'model').symlink_to(packaged_models()['rooms'])
    return tmp_path


def smaller(line: str) -> str:
    """A documented command as one process that takes seconds."""
    line = re.sub(r'bash tools/dist_(train|test)\.sh (.*?) 8\b', r'kovilt \1 \2', line)
    line = re.sub(r'bash tools/slurm_train\.sh \S+ \S+ (\S+) (\S+)', r'kovilt train \1 --work-dir \2', line)
    line = line.replace('--images 2000', '--images 24').replace('--workers 16', '--workers 1')
    line = line.replace('--val-images 500', '--val-images 4')
    line = line.replace('iter_2000', 'iter_2').replace('epoch_10', 'epoch_1')
    line = line.replace('--optuna 20', '--optuna 1').replace('--seeds 2', '--seeds 1')
    if re.search(r'\bkovilt (train|test|sweep) ', line):
        line += ' --cfg-options ' + ' '.join(SMALL_MODEL if re.search(r' kovilt_(vqa|pretrain)', line) else FEW_STEPS)
    if ' verify kovilt_vqa' in line:  # of so few rows hardly an answer occurs six times
        line += ' --cfg-options train_dataloader.dataset.answers.min_count=1'
    return line


def run_line(line: str, monkeypatch) -> int:
    """The exit code of `NAME=VALUE ... kovilt VERB ...`."""
    with monkeypatch.context() as patch:
        while assignment := re.match(r'(\w+)=(\S+) ', line):
            patch.setenv(*assignment.groups())
            line = line[assignment.end() :]
        if 'examples/plugin' in os.environ.get('PYTHONPATH', ''):
            patch.syspath_prepend('examples/plugin')
        return run(smaller(line))


@pytest.mark.parametrize('name', RUN)
def test_the_commands_of_a_page(name, checkout, rooms, capsys, monkeypatch):
    run_steps_here(monkeypatch)
    text = (ROOT / 'docs' / 'en' / f'{name}.md').read_text('utf-8')
    if 'kovilt rooms' not in text:
        shutil.copytree(rooms, 'data/rooms')
    for line in RUN[name]:
        assert run_line(line, monkeypatch) == 0
    capsys.readouterr()
    for language, block in blocks(text):
        if path := re.match(r'# (\S+\.py)\n', block):
            Path(path[1]).write_text(block, encoding='utf-8')
        elif language == 'python' and block.startswith('from '):
            exec(block, {})
        for line in commands(f'```bash\n{block}```') if language == 'bash' else ():
            if re.match(NEVER_RUN, line):
                continue
            code, error = run_line(line, monkeypatch), capsys.readouterr().err
            if any(data in line for data in NOT_THERE):
                assert code == 2 and re.match('error: .*data/', error), line
            else:
                assert code in ((0, 1) if 'kovilt verify' in line else (0,)), f'{line}\n{error}'


def test_every_command_and_program_is_run_or_listed_with_the_reason():
    listed = []  # what test_the_commands_of_a_page leaves out
    for page in sorted((ROOT / 'docs' / 'en').rglob('*.md')):
        for kind, block in blocks(page.read_text('utf-8')):
            runs = page.stem in RUN
            if kind == 'python' and not (runs and re.match(r'# \S+\.py\n|from ', block)):
                listed.append(block.splitlines()[0])
            if kind in ('bash', 'sh') and not block.startswith('#!'):  # a job, which the test of Slurm runs
                lines = commands(f'```bash\n{block}```')
                listed += [line for line in lines if not runs or kind == 'sh' or re.match(NEVER_RUN, line)]
    assert [line for line in listed if not any(re.match(pattern, line) for pattern in NOT_RUN)] == []
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, line) for line in listed)] == []


def test_a_prediction_prints_the_best_answers(checkout, capsys):
    """The first commands and the program of predict.md."""
    text = (ROOT / 'docs' / 'en' / 'predict.md').read_text('utf-8')
    for line in blocks_of(text, 'bash')[0].splitlines():
        assert run(line) == 0
        assert len(re.findall(r'^  \S+ +\d+\.\d+ %$', capsys.readouterr().out, re.M)) == 5
    exec(blocks_of(text, 'python')[0], {})
    assert len(re.findall(r'^\S+ 0\.\d+$', capsys.readouterr().out, re.M)) == 2


@pytest.mark.parametrize('line', commands((ROOT / 'docs' / 'en' / 'aihub.md').read_text('utf-8')))
def test_a_command_without_its_files_says_what_is_missing(line, tmp_path, monkeypatch, capsys):
    """What dist_train.sh adds is tested in tests/tools/test_dist.py."""
    for name in [name for name in os.environ if name.startswith('KOVILT_') and name != 'KOVILT_NO_REPORT']:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    assert run(line) == 2
    report, error = capsys.readouterr()
    if ' verify ' in line:  # which finds more than one error
        assert 'aihub.or.kr' in report
        return
    (error,) = re.findall(r'^error: (.*)$', error, re.M)
    assert 'aihub.or.kr' in error or re.search(r'(epoch_10\.pth|scratch\.jsonl): no such', error)
    assert not (tmp_path / 'work_dirs').exists()


def test_the_commands_about_reports_are_those_of_the_training_page():
    shown = [
        [
            line
            for kind, block in blocks((ROOT / 'docs' / page).read_text('utf-8'))
            if kind == 'bash'
            for line in block.splitlines()
        ]
        for page in ('en/report.md', 'ko/report.md', 'en/training.md')
    ]
    assert shown[0] == shown[1] and set(shown[0]) <= set(shown[2])


def page_block(language: str, name: str) -> str:
    """The only block of a language on a page, which is the same in English and Korean."""
    english, korean = (
        [block for kind, block in blocks((ROOT / 'docs' / place / f'{name}.md').read_text('utf-8')) if kind == language]
        for place in ('en', 'ko')
    )
    assert english == korean and len(english) == 1
    return english[0]


@pytest.mark.parametrize('code', [0, 1, 75])
def test_the_job_of_slurm_is_queued_again_when_the_run_is_saved(tmp_path, code):
    (tmp_path / 'job').write_text(page_block('sh', 'interrupted'), encoding='utf-8')
    for program, end in (('srun', f'exit {code}'), ('scontrol', '')):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} "$@" >> "$(dirname "$0")/called"\n{end}\n')
        (tmp_path / program).chmod(0o755)
    environment = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '7'}
    assert subprocess.run(['bash', str(tmp_path / 'job')], env=environment).returncode == code
    called = (tmp_path / 'called').read_text().splitlines()
    assert '-m kovilt train ' in called[0] and called[1:] == (['scontrol requeue 7'] if code == 75 else [])


def test_the_job_of_kubernetes_counts_no_saved_run_as_failed():
    job = yaml.safe_load(page_block('yaml', 'interrupted'))['spec']
    pod, rules = job['template']['spec'], job['podFailurePolicy']['rules']
    codes = {code: rule['action'] for rule in rules for code in rule.get('onExitCodes', {}).get('values', ())}
    assert codes == {Interruption.exit_code: 'Ignore', KoviltError.exit_code: 'FailJob'}
    assert pod['restartPolicy'] == 'Never'  # which podFailurePolicy requires
    (container,) = pod['containers']
    assert {mount['name'] for mount in container['volumeMounts']} == {volume['name'] for volume in pod['volumes']}
    assert container['command'][-1] == '--resume'
