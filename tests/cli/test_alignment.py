import json

import pytest
from tiny_models import tiny_checkpoint
from tiny_rooms import tiny_config

from kovilt.cli.main import main
from kovilt.engine.config import load_config
from kovilt.registry import RUNNERS


def run(*arguments) -> int:
    return main(['alignment', *map(str, arguments)])


def test_a_score_and_an_image_of_one_caption(rooms, tmp_path, monkeypatch, capsys):
    config = load_config(tiny_config(tmp_path / 'pretrain.py', task='pretrain', steps=1))
    config.work_dir = str(tmp_path / 'run')
    RUNNERS.build(config).train()
    assert run(tmp_path / 'run' / 'iter_1.pth', rooms, '--out', tmp_path / 'out', '--batch-size', 7) == 0
    score = json.loads((tmp_path / 'out' / 'alignment.json').read_text(encoding='utf-8'))
    assert 0 <= score['alignment_accuracy'] <= 100 and 0 < score['alignment_random'] < 100 and score['images'] == 4
    assert f'{score["alignment_accuracy"]:.1f} % of {score["words"]:,} object words' in capsys.readouterr().out
    words = (tmp_path / 'out' / 'example.txt').read_text(encoding='utf-8').splitlines()
    assert (tmp_path / 'out' / 'example.png').is_file() and len(words) > 1


@pytest.mark.parametrize('kind', ['ViLTForVQA', None])
def test_bad_input_is_one_line(rooms, tmp_path, monkeypatch, capsys, kind):
    if kind is None:
        arguments, culprit = [tmp_path / 'any.pth', tmp_path / 'nothing'], 'nothing/boxes.jsonl: no such file'
    else:
        arguments, culprit = (
            [tiny_checkpoint(tmp_path, kind), rooms],
            'holds a ViLTForVQA, a ViLTForPreTraining is needed',
        )
    assert run(*arguments, '--out', tmp_path / 'out') == 2
    said = capsys.readouterr().err
    assert culprit in said and said.count('\n') == 1
    assert not (tmp_path / 'out').exists()
