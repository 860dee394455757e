from __future__ import annotations

import pytest

from kovilt.errors import KoviltError, nearest, run_cli, user_error


def fail(error):
    def main():
        raise error

    return main


def test_bad_input_is_one_line_and_code_2(capsys):
    assert run_cli(fail(KoviltError('x.json:3: no such key'))) == 2
    assert capsys.readouterr() == ('', 'error: x.json:3: no such key\n')


def test_debug_and_programming_errors_keep_their_traceback():
    with pytest.raises(KoviltError):
        run_cli(fail(KoviltError('x')), debug=True)
    with pytest.raises(ValueError):
        run_cli(fail(ValueError('x')))


def test_interrupted_and_done(capsys):
    assert run_cli(fail(KeyboardInterrupt())) == 130
    assert run_cli(lambda: None) == 0 and run_cli(lambda: 1) == 1


def test_a_loader_workers_error_is_its_last_line():
    import torch
    from torch.utils.data import DataLoader

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, row):
            raise KoviltError('image.jpg: cut off')

    with pytest.raises(KoviltError) as error:
        next(iter(DataLoader(Rows(), num_workers=1)))
    assert str(user_error(error.value)) == 'image.jpg: cut off'


def test_nearest():
    assert nearest('hiden', ['hidden', 'other']) == " (did you mean 'hidden'?)"
    assert nearest('zzz', ['hidden']) == ''
