"""kovilt distill writes what the teacher answers, whole or not at all, and refuses in one line what it cannot use."""

import json

import pytest
import torch
from tiny_models import tiny_checkpoint

from kovilt.apis import VQAInferencer, distillation
from kovilt.datasets import AIHubLivingReader
from kovilt.datasets.table import map_table

ALL_ANSWERS = ('--cfg-options', 'train_dataloader.dataset.answers.min_count=1')


def test_the_file_holds_the_probabilities_that_the_teacher_gives(rooms, tmp_path, call):
    out = tmp_path / 'made' / 'teacher.arrow'
    code, text, error = call('distill', 'rooms', 'rooms/vqa', '--out', out, '--topk', 3, '--workers', 1, *ALL_ANSWERS)
    assert code == 0, error
    table = map_table(out)
    rows = AIHubLivingReader(data_root=str(rooms / 'vqa'), split='train').read_rows()
    assert table['question'].to_pylist() == rows.table['question'].to_pylist()
    assert table['question_id'].to_pylist() == rows.table['question_id'].to_pylist()
    assert table['image_id'].to_pylist() == rows.images.image_ids[rows.row_images].tolist()
    images = [rows.images.name(number) for number in rows.row_images[:4].tolist()]
    for row, result in enumerate(VQAInferencer('rooms')(images, table['question'].to_pylist()[:4], topk=3)):
        assert table['answers'][row].as_py() == [guess['answer'] for guess in result['topk']]
        shares = torch.tensor(table['log_probabilities'][row].as_py()).exp().tolist()
        assert shares == pytest.approx([guess['score'] for guess in result['topk']], rel=1e-4)
    about = json.loads(table.batch.schema.metadata[b'kovilt'])
    assert (about['answers'], about['topk'], about['rows']) == (37, 3, len(rows))
    assert about['teacher'] == 'rooms' and len(about['weights']) == 32
    share = sum(
        torch.tensor(values).exp()[[answer not in set(rows.table['answer'].to_pylist()) for answer in answers]].sum()
        for answers, values in zip(table['answers'].to_pylist(), table['log_probabilities'].to_pylist(), strict=True)
    )
    total = torch.tensor(table['log_probabilities'].values.to_numpy()).exp().sum()
    first, second = text.splitlines()[-2:]  # behind the log
    assert f'{len(rows):,} questions, the 3 best of 37 answers, which have {total / len(rows):.2%} of the' in first
    assert second.startswith(f'{share / total:.2%} of this falls on answers outside the answer vocabulary of rooms/vqa')

    code, _, error = call('distill', 'rooms', 'rooms/vqa', '--out', out)
    assert code == 2 and 'there is such a file; name another, or give --overwrite' in error
    more = ('--split', 'val', '--overwrite', '--workers', 1)
    code, text, error = call('distill', 'rooms', rooms / 'vqa', '--out', out, *more)
    assert code == 0 and 'outside' not in text and len(map_table(out)['question']) < len(rows)


def test_an_interrupted_command_leaves_nothing(rooms, tmp_path, call, monkeypatch):
    calls = []

    def one_batch_only(data, split, trained):
        score = trained.model.scores

        def scores(batch):
            calls.append(len(batch['input_ids']))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return score(batch)

        trained.model.scores = scores
        return opened(data, split, trained)

    opened = distillation.open_questions
    monkeypatch.setattr(distillation, 'open_questions', one_batch_only)
    options = ('--batch-size', 8, '--workers', 1, *ALL_ANSWERS)
    code, _, error = call('distill', 'rooms', 'rooms/vqa', '--out', tmp_path / 'teacher.arrow', *options)
    assert code == 130 and len(calls) == 2 and list(tmp_path.iterdir()) == []


def test_scores_that_are_not_finite_are_refused(rooms, tmp_path, call, monkeypatch):
    def broken(data, split, trained):
        torch.nn.init.constant_(trained.model.vqa_head.fc2.bias, float('nan'))
        return opened(data, split, trained)

    opened = distillation.open_questions
    monkeypatch.setattr(distillation, 'open_questions', broken)
    options = ('--workers', 1, *ALL_ANSWERS)
    code, _, error = call('distill', 'rooms', 'rooms/vqa', '--out', tmp_path / 'teacher.arrow', *options)
    assert code == 2 and 'its scores are not finite' in error and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('data', 'out', 'message'),
    [
        ('rooms/vqa', 'teacher.jsonl', 'name a file that ends in .arrow'),
        ('rooms/vqa', 'folder.arrow', 'this is a folder; name a file in it'),
        ('rooms/choice', 'teacher.arrow', 'ChoiceDataset: a teacher scores the questions of a QuestionDataset'),
        ('rooms/pretrain', 'teacher.arrow', 'PairDataset: a teacher scores the questions of a QuestionDataset'),
        ('rooms/vqaa', 'teacher.arrow', 'rooms/vqaa'),
    ],
)
def test_what_cannot_be_distilled_is_refused(rooms, tmp_path, call, data, out, message):
    (tmp_path / 'folder.arrow').mkdir()
    code, _, error = call('distill', 'rooms', data, '--out', tmp_path / out)
    assert code == 2 and message in error and error.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['folder.arrow']


def test_a_teacher_that_does_not_answer_questions_is_refused(tmp_path, rooms, call):
    pretrained = tiny_checkpoint(tmp_path / 'model', 'ViLTForPreTraining')
    code, _, error = call('distill', pretrained, 'rooms/vqa', '--out', tmp_path / 'teacher.arrow')
    assert code == 2 and 'ViLTForPreTraining' in error and not (tmp_path / 'teacher.arrow').exists()


def test_a_meter_teaches_too(rooms, tmp_path, call):
    few = (
        'train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=4',
        'train_dataloader.dataset.limit=4', 'train_dataloader.dataset.answers.min_count=1',
        'val_dataloader.dataset.limit=4', 'load_from=None',
    )  # fmt: skip
    code, _, error = call(
        'train', 'rooms/meter_vqa', '--work-dir', tmp_path / 'meter', '--no-report', '--cfg-options', *few
    )
    assert code == 0, error
    out = tmp_path / 'teacher.arrow'
    code, text, error = call(
        'distill', tmp_path / 'meter', 'rooms/vqa', '--out', out, '--topk', 2, '--workers', 1, *ALL_ANSWERS
    )
    assert code == 0, error
    table = map_table(out)
    assert f'{len(table["question"]):,} questions, the 2 best of' in text
    assert table['log_probabilities'].value_lengths().to_pylist() == [2] * len(table['question'])
