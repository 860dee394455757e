"""The benchmark of the image prefix prints training, answering and the second question for any device's numbers."""

import pytest
from tiny_models import tiny_model

from benchmarks import prefix, work
from kovilt.errors import KoviltError


@pytest.fixture
def tiny(monkeypatch):
    def model(device='cpu', **encoder):
        sizes = dict(vocab_size=work.VOCABULARY, max_text_len=40, patch_size=32, image_size=64)
        return tiny_model(answers=[str(number) for number in range(work.ANSWERS)], **sizes | encoder).to(device)

    monkeypatch.setattr(prefix, 'base_model', model)
    monkeypatch.setattr(work, 'base_model', model)


def test_it_prints_both_tables_and_the_second_question(tiny, capsys):
    prefix.main(prefix.parse_args(['--questions', '1', '3', '--rounds', '1', '--texts', '4']))
    lines = capsys.readouterr().out.splitlines()
    for work_, rows in (('training', 2), ('answering', 2)):
        start = next(i for i, line in enumerate(lines) if line.startswith(f'| {work_}: questions an image'))
        assert [line.split('|')[1:3] for line in lines[start + 2 : start + 2 + rows]] == [
            [' 1 ', ' 4 '],
            [' 3 ', ' 1 '],
        ]
    assert any(line.startswith('an update of all parameters') for line in lines)
    assert lines[-1].startswith('VQAInferencer, PrefixViLT') and 'the next' in lines[-1]


def test_a_silly_number_is_named():
    for arguments in (['--rounds', '0'], ['--questions', '0'], ['--texts', '0']):
        with pytest.raises(KoviltError, match='must be at least 1'):
            prefix.main(prefix.parse_args(arguments))
