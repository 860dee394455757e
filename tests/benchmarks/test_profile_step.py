"""The profile of a training step names parts of the model and operators, and its times add up to the step."""

import re

import pytest
from tiny_rooms import CONFIGS

from benchmarks import profile_step


@pytest.mark.parametrize(('name', 'amp'), [('pretrain', ['--amp']), ('vqa', [])])
def test_times_by_part_and_by_operator_add_up(name, amp, capsys):
    config = str(CONFIGS / 'rooms' / f'{name}.py')
    profile_step.main(profile_step.parse_args([config, '--texts', '4', '--steps', '1', *amp]))
    out = capsys.readouterr().out
    parts, operators = (table.splitlines() for table in re.findall(r'(?:^\|.*\n)+', out, re.MULTILINE))
    for table in (parts, operators):
        shares = [float(line.split('|')[-2].strip(' %')) for line in table[2:]]
        assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))
        assert table[-1].startswith('| host |')
    linear = next(line for line in parts if re.match(r'\| encoder\..*\.fc1 \|', line))
    forward, backward, update = (cell.strip() for cell in linear.split('|')[2:5])
    assert float(forward) > 0 and float(backward) > 0 and not update  # also the backward pass has found its part
    assert any(line.startswith('| optimizer |  |  | ') for line in parts)
    assert {'mm', 'addmm'} < {line.split('|')[1].strip() for line in operators}
    assert re.search(r'GFLOP, by torch.mm and torch.bmm alone [\d.]+ ms', out)
