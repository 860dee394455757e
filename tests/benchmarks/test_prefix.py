"""The benchmark of PrefixViLT prints training, answering and the second question about an image."""

import pytest
from tiny_models import tiny_model

from benchmarks import fixtures, prefix


@pytest.fixture
def tiny(monkeypatch):
    def model(device='cpu', **encoder):
        sizes = dict(vocab_size=fixtures.VOCAB_SIZE, max_text_len=40, patch_size=32, image_size=64)
        answers = [str(number) for number in range(fixtures.NUM_ANSWERS)]
        return tiny_model(answers=answers, **sizes | encoder).to(device)

    monkeypatch.setattr(prefix, 'base_model', model)
    monkeypatch.setattr(fixtures, 'base_model', model)


def test_it_prints_both_tables_and_the_second_question(tiny, capsys):
    prefix.main(prefix.parse_args(['--layers', '2', '--questions', '1', '3', '--rounds', '1', '--texts', '4']))
    lines = capsys.readouterr().out.splitlines()
    for name in ('training', 'answering'):
        start = next(i for i, line in enumerate(lines) if line.startswith(f'| {name}: questions an image'))
        assert [line.split('|')[1:3] for line in lines[start + 2 : start + 4]] == [[' 1 ', ' 4 '], [' 3 ', ' 1 ']]
    assert any(line.startswith('the update of all parameters') for line in lines)
    assert lines[-1].startswith('VQAInferencer, PrefixViLT') and 'the next' in lines[-1]
