"""A resumed run tells what has changed since its checkpoint, and goes on only with what --allow-change names."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from tiny_rooms import tiny_config

import kovilt
from kovilt.cli.main import main
from kovilt.engine.changes import check_allowed_keys, check_changes, find_changes
from kovilt.errors import KoviltError
from kovilt.formats.checkpoint import digest_answers, load_checkpoint_file
from tests.tools.test_dist import free_port

pytestmark = pytest.mark.usefixtures('unformatted_configs')
RUN = {'steps': 4, 'save_every': 2, 'limit': 32}
DATA = 'train_dataloader.dataset'


@pytest.fixture(scope='module')
def saved(build, tmp_path_factory) -> Path:
    """The work folder of a run that ended after step 2 of 4."""
    folder = tmp_path_factory.mktemp('saved')
    build(folder, **RUN).train()
    for file in folder.glob('*_4.pth'):
        file.unlink()
    (folder / 'last_checkpoint').write_text('iter_2.pth')
    return folder


@pytest.fixture
def resume(build, saved, tmp_path):
    """Resumes a copy of that run, with options, and returns the runner; `change` changes its checkpoint before."""

    def resume(*options: str, allow: tuple[str, ...] = (), change=None, **parts):
        work_dir = tmp_path / 'work'
        shutil.rmtree(work_dir, ignore_errors=True)
        shutil.copytree(saved, work_dir)
        if change is not None:
            checkpoint = torch.load(work_dir / 'iter_2.pth', weights_only=True)
            change(checkpoint)
            torch.save(checkpoint, work_dir / 'iter_2.pth')
        runner = build(work_dir, options, {'resume': 'auto'}, **RUN | parts)
        runner.train(allow)
        return runner

    return resume


def refusal(resume, *options: str, **arguments) -> str:
    with pytest.raises(KoviltError) as caught:
        resume(*options, **arguments)
    assert '\n' not in str(caught.value) and caught.value.exit_code == 2
    return str(caught.value)


CHANGES = {
    'model': {
        'model.encoder.drop_rate=0.3',
        'model.encoder.activation=gelu',
        'model.vqa_head.loss=bce',
        "optim_wrapper.precision='bfloat16'",
    },
    'optimizer': {
        'optim_wrapper.optimizer.lr=0.002',
        'optim_wrapper.optimizer.weight_decay=0.3',
        'optim_wrapper.optimizer.betas=(0.8,0.9)',
        'optim_wrapper.paramwise_cfg.head_lr_mult=7.0',
        'optim_wrapper.clip_grad.max_norm=9.0',
        'param_scheduler.warmup=0.9',
    },
    'data': {f'{DATA}.limit=20', 'data.train.rows', f'{DATA}.image_pipeline.1.short=32', 'randomness.seed=3'},
    'texts': {f'{DATA}.text_pipeline.0.max_text_len=6', 'train_dataloader.batch_size=4', 'pairs_per_step'},
    'scores': {"default_hooks.checkpoint.save_best='coverage'", 'val_dataloader.dataset.limit=8', 'data.val.rows'},
}


@pytest.mark.parametrize('case', CHANGES)
def test_changes_are_named_and_the_proposed_options_go_on(resume, case):
    options = [option for option in CHANGES[case] if '=' in option]
    keys = {option.partition('=')[0] for option in CHANGES[case]} - {'train_dataloader.batch_size'}
    message = refusal(resume, *options)
    assert 'iter_2.pth: since it was saved, ' in message
    proposed = re.findall(r'--allow-change (\S+)', message)
    assert set(proposed) == keys and proposed == sorted(proposed)
    assert all(re.search(rf'{re.escape(key)} was \S.*, is \S', message) for key in keys)
    assert len(keys) < 2 or f'--allow-change {proposed[1]}' in refusal(resume, *options, allow=(proposed[0],))
    runner = resume(*options, allow=tuple(proposed))
    assert runner.iter == 4
    facts = torch.load(Path(runner.work_dir, 'iter_4.pth'), weights_only=True)['meta']['run']
    assert facts == runner.run_facts  # what a further resume compares with


def test_a_refusal_leaves_the_work_folder_as_it_was(build, saved):
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in saved.rglob('*') if path.is_file()}

    before = content()
    with pytest.raises(KoviltError, match='drop_rate was 0.0, is 0.3'):
        build(saved, ('model.encoder.drop_rate=0.3',), {'resume': 'auto'}, **RUN).train()
    assert content() == before


def test_what_cannot_change_the_result_may_change(resume, saved, rooms, tmp_path, monkeypatch):
    moved = tmp_path / '다른 곳'
    for file in rooms.rglob('*'):  # copied without their times
        if file.is_file():
            (moved / file.relative_to(rooms)).parent.mkdir(parents=True, exist_ok=True)
            (moved / file.relative_to(rooms)).write_bytes(file.read_bytes())
    monkeypatch.setenv('KOVILT_ROOMS', str(moved))
    runner = resume(
        'train_dataloader.num_workers=1',
        'train_dataloader.persistent_workers=True',
        'train_dataloader.collate_fn.micro_batches=2',
        f'{DATA}.cache_images=False',
        'val_dataloader.batch_size=7',
        'model.encoder.with_cp=True',
        'default_hooks.logger.interval=7',
        'default_hooks.checkpoint.interval=3',
        "default_hooks.interrupt.max_time='9:00:00'",
        'train_cfg.val_interval=3',
        'env_cfg.dist_cfg.timeout=9',
        'log_level=WARNING',
        'load_from=x.pth',
    )
    assert runner.iter == 4 and str(moved) in str(runner.train_dataloader.dataset.data_root)
    runner = resume(f'{DATA}.reader.cache={tmp_path / "cache"}', 'train_cfg.max_iters=6')
    assert runner.iter == 6


def test_a_config_that_the_run_saved_continues_it(saved, tmp_path, monkeypatch, call):
    """From another folder, by an absolute path, with a relative work folder."""
    shutil.copytree(saved, tmp_path / 'work')
    (config,) = (tmp_path / 'work').glob('*.py')
    monkeypatch.chdir(tmp_path)
    code, _, error = call('train', config, '--work-dir', 'work', '--resume', 'work/iter_2.pth', '--launcher', 'none')
    assert code == 0, error


def test_images_and_labels_that_were_exchanged_are_named(resume, rooms, tmp_path, monkeypatch):
    changed = tmp_path / 'changed'
    shutil.copytree(rooms, changed)
    monkeypatch.setenv('KOVILT_ROOMS', str(changed))
    first, second = sorted((changed / 'vqa' / 'Training').rglob('*.jpg'))[:2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert re.findall(r'--allow-change (\S+)', refusal(resume)) == ['data.train.images']
    for labels in (changed / 'vqa' / 'Validation').rglob('*.json'):
        labels.write_text(labels.read_text(encoding='utf-8').replace('무슨 색', '어떤 색'), encoding='utf-8')
    assert re.findall(r'--allow-change (\S+)', refusal(resume)) == ['data.train.images', 'data.val.rows']


def test_answers_are_never_exchanged(resume):
    def exchange(checkpoint: dict) -> None:
        answers = checkpoint['meta']['dataset_meta']['answers']
        answers[0], answers[1] = answers[1], answers[0]

    def exchange_all(checkpoint: dict) -> None:
        exchange(checkpoint)
        checkpoint['meta']['run']['answers'] = digest_answers(checkpoint['meta']['dataset_meta']['answers'])

    with pytest.raises(KoviltError, match='none of its 1 checkpoints can be read'):
        resume(change=exchange)
    message = refusal(resume, change=exchange_all, allow=('answers',))
    assert 'its answers are not those of this data: answer 0 is' in message and 'changed: answers was' in message
    keys = ('answers', f'{DATA}.answers.min_count', 'data.train.rows')
    message = refusal(resume, f'{DATA}.answers.min_count=3', allow=keys)
    assert f'{DATA}.answers.min_count was 2, is 3' in message and 'answers there' in message


def test_of_answers_and_vocabulary_not_even_the_record_may_differ():
    for key in ('answers', 'vocabulary'):
        changes = find_changes({key: 'ab', 'b': 1}, {key: 'cd', 'b': 2})
        with pytest.raises(KoviltError, match=f'x: since it was saved, {key} .*: {key} cannot change within a run'):
            check_changes(changes, [key, 'b'], 'x')


def test_code_and_tokenizer(resume, monkeypatch):
    monkeypatch.setattr(kovilt, '__version__', '99.0')
    monkeypatch.setattr(torch, '__version__', '99.1.2+cpu')

    def exchange(checkpoint: dict) -> None:
        checkpoint['meta']['run'] |= {'tokenizer': 'lower-case', 'code.plugins.mine': 'ab'}

    assert re.findall(r'--allow-change (\S+)', refusal(resume, change=exchange)) == [
        'code.kovilt', 'code.plugins.mine', 'code.torch', 'tokenizer',
    ]  # fmt: skip
    assert resume(change=exchange, allow=('code', 'tokenizer')).iter == 4


def test_code_of_a_plugin_is_part_of_a_run(build, tmp_path, monkeypatch):
    (tmp_path / 'my_plugin').mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    facts = []
    for content in ('', 'x = 1\n'):
        (tmp_path / 'my_plugin/__init__.py').touch()
        (tmp_path / 'my_plugin/heads.py').write_text(content)
        runner = build(**RUN, more="custom_imports = dict(imports=['my_plugin'])")
        facts.append(runner.run_facts['code.plugins.my_plugin'])
    assert facts[0] != facts[1]


def rates(work_dir) -> dict[int, list[float]]:
    """The learning rates of all groups, by step."""
    rows = [json.loads(line) for line in Path(work_dir, 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    return {
        row['step']: [value for key, value in row.items() if key.startswith('lr/')]
        for row in rows
        if row['mode'] == 'train'
    }


SCHEDULES = {
    'warm-up and linear': '',
    'none': 'param_scheduler = None',
    'of MMEngine, by steps and by epochs': """
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3),
    dict(type='MultiStepLR', milestones=[1], by_epoch=True, gamma=0.5),
    dict(type='LinearMomentum', start_factor=0.5, by_epoch=False, begin=0, end=5)]
""",
}


@pytest.mark.parametrize('case', SCHEDULES)
def test_an_allowed_rate_takes_effect_on_every_schedule(build, tmp_path, case):
    """The resumed run has the rates that a run with the new values has had from its beginning."""
    parts = {'epochs': 3, 'limit': 32, 'more': SCHEDULES[case]}
    options = (
        'optim_wrapper.optimizer.lr=0.002', 'optim_wrapper.optimizer.weight_decay=0.3',
        'optim_wrapper.paramwise_cfg.head_lr_mult=5.0', 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None',
        'default_hooks.checkpoint.save_best=None', 'train_cfg.max_epochs=4',
    )  # fmt: skip
    build(tmp_path / 'new', options, **parts).train()
    build(tmp_path / 'old', options[3:-1], **parts).train()
    for epoch in (2, 3):
        work_dir = tmp_path / f'resumed{epoch}'
        shutil.copytree(tmp_path / 'old', work_dir)
        overrides = {'resume': True, 'load_from': str(work_dir / f'epoch_{epoch}.pth')}
        runner = build(work_dir, options, overrides, **parts)
        runner.train(['optim_wrapper'])
        expected = rates(tmp_path / 'new')
        assert {step: rates(work_dir)[step] for step in expected if step > 2 * epoch} == {
            step: values for step, values in expected.items() if step > 2 * epoch
        }
        assert {group['weight_decay'] for group in runner.optim_wrapper.optimizer.param_groups} == {0.3, 0.0}


def test_schedules_that_are_computed_anew_are_where_they_were(build, tmp_path, monkeypatch):
    """Without a change it makes no difference, to the last bit."""
    parts = {'epochs': 3, 'limit': 32, 'more': SCHEDULES['of MMEngine, by steps and by epochs']}
    build(tmp_path / 'old', **parts).train()
    overrides = {'resume': True, 'load_from': str(tmp_path / 'old/epoch_2.pth')}
    runner = build(tmp_path / 'new', (), overrides, **parts)
    monkeypatch.setattr('kovilt.engine.runner.changes_course', lambda changes: True)
    runner.train()
    ours, theirs = (torch.load(tmp_path / name / 'epoch_3.pth', weights_only=True) for name in ('new', 'old'))
    assert all(torch.equal(ours['state_dict'][name], value) for name, value in theirs['state_dict'].items())
    assert ours['optimizer']['param_groups'] == theirs['optimizer']['param_groups']
    assert ours['param_schedulers'] == theirs['param_schedulers']


def test_a_schedule_that_follows_the_validations_takes_no_other_rate(build, tmp_path):
    plateau = "dict(type='ReduceOnPlateauLR', monitor='accuracy', rule='greater', by_epoch=True)"
    parts = {'epochs': 2, 'limit': 32, 'more': f'param_scheduler = [{plateau}]'}
    build(tmp_path, options := ('param_scheduler.0.patience=1',), **parts).train()
    overrides = {'resume': True, 'load_from': str(tmp_path / 'epoch_1.pth')}
    build(tmp_path, options, overrides, **parts).train()
    runner = build(tmp_path, (*options, 'optim_wrapper.optimizer.lr=0.5'), overrides, **parts)
    with pytest.raises(KoviltError, match='a ReduceOnPlateauLR follows the validations of the run'):
        runner.train(['optim_wrapper'])


def test_the_best_score_is_forgotten_when_scores_are_measured_otherwise(resume):
    """A score of 101 % would let no later checkpoint be the best."""

    def change(checkpoint: dict) -> None:
        checkpoint['message_hub']['runtime_info'] |= {'best_score': 101.0, 'best_ckpt': None}

    assert resume(change=change).message_hub.get_info('best_score') == 101
    runner = resume('val_dataloader.dataset.limit=8', change=change, allow=('val_dataloader', 'data.val'))
    assert runner.message_hub.get_info('best_score') < 101


def test_a_checkpoint_of_an_earlier_version_is_resumed_with_a_warning(resume):
    def change(checkpoint: dict) -> None:
        del checkpoint['meta']['run']

    runner = resume('model.encoder.drop_rate=0.3', change=change)
    assert runner.iter == 4
    log = Path(runner.work_dir, runner.timestamp, f'{runner.timestamp}.log').read_text(encoding='utf-8')
    (warning,) = [line for line in log.splitlines() if 'WARNING' in line and 'iter_2.pth' in line]
    assert 'an earlier version wrote it' in warning
    assert re.findall(r'--allow-change (\S+)', refusal(resume, 'randomness.seed=3', change=change)) == [
        'randomness.seed'
    ]


def test_a_run_that_is_longer_than_its_new_length(resume):
    assert 'iter_2.pth: of step 2, but train_cfg ends after 1 steps' in refusal(resume, 'train_cfg.max_iters=1')


def test_sizes_that_do_not_fit_name_their_cause(resume):
    message = refusal(resume, 'model.encoder.hidden_size=32', allow=('model',))
    assert 'not a checkpoint of this ViLTForVQA' in message and 'model.encoder.hidden_size was 16, is 32' in message
    message = refusal(resume, 'optim_wrapper.optimizer.type=AdamW')
    assert 'its optimizer is no AdamW' in message and "optim_wrapper.optimizer.type was 'MuonAdamW'" in message


def test_keys_of_allow_change():
    keys = ['optim_wrapper.optimizer.lr', 'model.encoder.drop_rate', 'data.train.rows']
    check_allowed_keys(['model', 'optim_wrapper.optimizer', 'data.train.rows'], keys)
    for wrong, nearest in (
        ('optim_wraper.optimizer.lr', keys[0]),
        ('modle', 'model'),
        ('lr', None),
        ('model.', 'model'),
    ):
        with pytest.raises(KoviltError, match=f'--allow-change {wrong}: ') as caught:
            check_allowed_keys([wrong], keys)
        assert nearest is None or f'did you mean {nearest!r}?' in str(caught.value)
    changes = find_changes({'a.b': 1, 'a.bc': 1}, {'a.b': 2, 'a.bc': 1})
    check_changes(changes, ['a'], '')
    with pytest.raises(KoviltError, match=r'a\.b was 1, is 2'):
        check_changes(changes, ['a.bc'], '')


def test_the_size_of_a_step_is_kept_by_any_number_of_processes_that_divides_it():
    def hint(processes: int) -> str:
        (change,) = find_changes({'pairs_per_step': 16}, {'pairs_per_step': 12}, processes=processes)
        return str(change)

    assert hint(2) == 'pairs_per_step was 16, is 12 (train_dataloader.batch_size=8 keeps them)'
    assert hint(3) == 'pairs_per_step was 16, is 12 (3 processes cannot share them)'
    assert not find_changes({'pairs_per_step': 16}, {'pairs_per_step': 16}, processes=2)


def test_options_of_the_command(saved, rooms, tmp_path, call):
    """A wrong key is told even when there is nothing to resume; one that has not changed is none of a mistake."""
    shutil.copytree(saved, tmp_path / 'work')
    command = ['train', tiny_config(tmp_path / 'tiny.py', **RUN), '--work-dir', tmp_path / 'work']
    assert call(*command, '--allow-change', 'model')[2] == (
        'error: --allow-change is about a run that is continued; add --resume\n'
    )
    code, _, error = call(*command[:2], '--work-dir', tmp_path / 'new', '--resume', '--allow-change', 'modle')
    assert code == 2 and "did you mean 'model'?" in error and not (tmp_path / 'new').exists()
    change = '--cfg-options', 'optim_wrapper.optimizer.lr=0.5'
    code, _, error = call(*command, '--resume', *change)
    assert code == 2 and error.count('\n') == 1 and 'optim_wrapper.optimizer.lr was 0.001, is 0.5' in error
    allow = '--allow-change', 'optim_wrapper.optimizer.lr', '--allow-change', 'model'
    for _ in range(2):  # the second time the checkpoint is of the changed run, as after a restart
        assert call(*command, '--resume', *change, *allow)[0] == 0
    assert rates(tmp_path / 'work')[4] == pytest.approx([0.125] * 4 + [0.375] * 2)


def train_on_two(arguments: list[object], log: Path) -> list[int | None]:
    """Run `kovilt train` on two processes, forks of this one; returns their exit codes."""

    def train(rank: int) -> None:
        os.environ |= variables | {'RANK': str(rank), 'LOCAL_RANK': str(rank)}
        with open(log.with_suffix(f'.{rank}'), 'w', encoding='utf-8') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.stdout = sys.stderr = open(1, 'w', encoding='utf-8', closefd=False)  # pytest has replaced them
            code = main([*map(str, arguments), '--launcher', 'pytorch'])
            sys.stdout.flush()
            os._exit(code)

    variables = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port(), 'WORLD_SIZE': '2'}
    processes = [multiprocessing.get_context('fork').Process(target=train, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
        process.kill()
    return [process.exitcode for process in processes]


def test_another_number_of_processes_takes_the_same_samples(saved, rooms, tmp_path, call):
    """The batch of all processes stays; one that they cannot share is refused."""
    config = tiny_config(tmp_path / 'tiny.py', **RUN)
    for name in ('one', 'two'):
        shutil.copytree(saved, tmp_path / name)
    command = ['train', config, '--resume', '--work-dir']
    odd = [*command, tmp_path / 'two', '--cfg-options', 'train_dataloader.batch_size=3']
    assert train_on_two(odd, tmp_path / 'odd') == [2, 2]
    text = (tmp_path / 'odd.0').read_text(encoding='utf-8')
    assert 'pairs_per_step was 16, is 6 (train_dataloader.batch_size=8 keeps them)' in text
    assert call(*command, tmp_path / 'one')[0] == 0
    half = [*command, tmp_path / 'two', '--cfg-options', 'train_dataloader.batch_size=8']
    assert train_on_two(half, tmp_path / 'half') == [0, 0], (tmp_path / 'half.0').read_text(encoding='utf-8')[-3000:]
    ours, theirs = (load_checkpoint_file(tmp_path / name / 'iter_4.pth')['state_dict'] for name in ('two', 'one'))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6)
