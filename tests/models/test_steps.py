"""A step over micro-batches is the step over the batch, and a rank without images still takes part."""

import pytest
import torch
from mmengine.optim import OptimWrapper

from tests.support.tiny_models import tiny_model

LENGTH = 6


def make_batch(pairs: int, seed: int = 0) -> dict:
    """`pairs` texts of equal length, two for each image of 4 x 5 patches."""
    generator = torch.Generator().manual_seed(seed)
    images = (pairs + 1) // 2
    word_ids = torch.tensor([-1, 0, 0, 1, 2, -1]).repeat(pairs, 1)
    return dict(
        patches=torch.randint(0, 256, (20 * images, 3 * 64), generator=generator, dtype=torch.uint8),
        grids=torch.tensor([[4, 5]] * images).reshape(-1, 2),
        image_index=torch.arange(pairs) // 2,
        image_id=torch.arange(images) + 10,
        input_ids=torch.randint(5, 20, (pairs, LENGTH), generator=generator),
        word_ids=word_ids,
        text_mask=torch.ones(pairs, LENGTH, dtype=torch.bool),
        sample_seed=torch.arange(pairs) * 77,
        label=torch.randint(-1, 5, (pairs,), generator=generator),
    )


def cut(batch: dict, parts: int) -> list[dict]:
    """The same pairs as `parts` batches, each with its own images."""
    pairs, images = len(batch['input_ids']) // parts, len(batch['grids']) // parts
    per_pair = ('input_ids', 'word_ids', 'text_mask', 'sample_seed', 'label')
    return [
        dict(
            {key: batch[key][i * pairs : (i + 1) * pairs] for key in per_pair},
            patches=batch['patches'][i * images * 20 : (i + 1) * images * 20],
            grids=batch['grids'][:images],
            image_index=torch.arange(pairs) // 2,
            image_id=batch['image_id'][i * images : (i + 1) * images],
        )
        for i in range(parts)
    ]


def train(parts: int, steps: int = 3) -> tuple[list[torch.Tensor], list[dict]]:
    torch.manual_seed(0)
    model = tiny_model()  # in evaluation mode: no dropout
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), clip_grad=dict(max_norm=1.0))
    logs = [model.train_step(cut(make_batch(16, seed=step), parts), optim_wrapper) for step in range(steps)]
    return [parameter.detach() for parameter in model.parameters()], logs


@pytest.mark.parametrize('parts', [2, 4])
def test_one_batch_of_16_and_micro_batches_train_the_same_model(parts):
    whole, whole_logs = train(1)
    cut_up, cut_up_logs = train(parts)
    for a, b in zip(whole, cut_up, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(whole_logs, cut_up_logs, strict=True):
        torch.testing.assert_close(a['loss'], b['loss'])
        torch.testing.assert_close(a['vqa_accuracy'], b['vqa_accuracy'])


@pytest.mark.parametrize('kind', ['ViLTForVQA', 'ViLTForPreTraining'])
def test_a_batch_whose_images_are_all_broken_costs_nothing_and_names_every_loss(kind):
    model = tiny_model(kind)
    full, none = model(make_batch(4), mode='loss'), model(make_batch(0), mode='loss')
    assert full.keys() == none.keys() == set(model.loss_names)
    assert all(value == 0 for value in none.values())
    sum(value for name, value in none.items() if 'loss' in name).backward()
    assert all((parameter.grad == 0).all() for parameter in model.parameters())
    assert model.val_step([make_batch(0)]) == []
