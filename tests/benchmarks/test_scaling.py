"""The benchmark of growing cost: its laws are fitted to the measurements, and every sweep gets its table and plot."""

import pytest
import torch
from tiny_models import tiny_model

from benchmarks import fixtures, scaling
from benchmarks.scaling_laws import Law


@pytest.fixture
def tiny(monkeypatch):
    def model(device='cpu', **encoder):
        encoder = dict(vocab_size=fixtures.VOCAB_SIZE, patch_size=32, image_size=64) | encoder
        return tiny_model(answers=[str(number) for number in range(fixtures.NUM_ANSWERS)], **encoder).to(device)

    monkeypatch.setattr(scaling, 'base_model', model)
    monkeypatch.setattr(fixtures, 'base_model', model)
    for name, sizes in dict(SIDES=(2, 3), TEXTS=(5, 9), QUESTIONS=(1, 2), ROWS=(200, 400)).items():
        monkeypatch.setattr(scaling, name, sizes)


def test_every_sweep_has_a_table_and_its_panels(tiny, tmp_path, capsys):
    scaling.main(scaling.parse_args(['--layers', '2', '--rounds', '1', '--plot', str(tmp_path / 'new' / 'plot.png')]))
    printed = capsys.readouterr().out
    for label in scaling.LABELS.values():
        assert printed.count(f'| {label} | ms | by the law | MB | by the law |') == 1
    assert printed.count('| grows with the power |') == len(scaling.LABELS)
    assert (tmp_path / 'new' / 'plot.png').stat().st_size > 10_000


def test_a_law_finds_its_own_numbers():
    law = Law.fit([1, 2, 4, 8], [5, 7, 11, 19])
    assert (law.fixed, law.price) == pytest.approx((3, 2)) and law(10) == pytest.approx(23)
    assert Law.fit([1, 2, 4], [0.5, 1.5, 3.5]).fixed == 0  # the fixed cost is never negative


def stored_bytes(model, batch):
    """What autograd stores of a step for the backward pass, without the parameters."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model.losses(model.data_preprocessor(batch))
    for parameter in model.parameters():
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    assert losses
    return sum(storage.nbytes() for storage in storages.values())


def test_memory_grows_with_the_states_that_are_counted():
    prices = {}
    for encoder in ('ViLT', 'PrefixViLT'):
        sizes = dict(hidden_size=64, num_layers=6, max_text_len=40, patch_size=4, image_size=48)
        model = tiny_model(type=encoder, **sizes).train()
        rng = torch.Generator().manual_seed(0)
        counted, stored = [], []
        for questions in (1, 4, 16, 32):
            lengths = [scaling.TOKENS] * questions
            batch = fixtures.make_batch([(12, 12)], lengths, rng, patch_size=4, vocab_size=20, num_answers=5)
            counted.append(scaling.count_stored_states(model, batch, on_gpu=False))
            stored.append(stored_bytes(model, batch))
        law = Law.fit(counted, stored)
        assert [law(states) for states in counted] == pytest.approx(stored, rel=0.03)
        prices[encoder] = law.price
    assert prices['PrefixViLT'] == pytest.approx(prices['ViLT'], rel=0.1)  # of a state, which both store alike
