"""The image prefix: states of an image do not depend on the text, and the text attends as in ViLT's blocks."""

import pytest
import torch
from torch import nn

from kovilt.modules import PrefixViLT, ViLT, attention, prefix_attention
from kovilt.modules import vilt as vilt_module
from kovilt.modules.prefix_vilt import PrefixImages
from kovilt.modules.vilt import ViLTStates


@pytest.fixture
def encoder(prefix_vilt) -> PrefixViLT:
    return prefix_vilt


def encode(encoder: ViLT, batch: dict, output: str = 'all', images=None, inner_block=None) -> ViLTStates:
    if images is None:
        images = encoder.embed_images(batch['patches'], batch['grids'])
    return encoder(
        input_ids=batch['input_ids'],
        text_mask=batch['text_mask'],
        images=images,
        grids=batch['grids'],
        image_index=batch['image_index'],
        output=output,
        inner_block=inner_block,
    )


def part(batch: dict, pairs: list[int]) -> dict:
    """The batch of these pairs, with their images and no others."""
    images, index = batch['image_index'][pairs].unique(return_inverse=True)
    patches = batch['patches'].split(batch['grids'].prod(dim=1).tolist())
    return dict(
        patches=torch.cat([patches[image] for image in images]),
        grids=batch['grids'][images],
        image_index=index,
        input_ids=batch['input_ids'][pairs],
        text_mask=batch['text_mask'][pairs],
    )


def dense(vilt: ViLT, batch: dict, pair: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A pair's states after the first block and at the end: nn.MultiheadAttention under the mask of the prefix."""
    alone = part(batch, [pair])
    length = int(alone['text_mask'].sum())
    packing = vilt.make_packing(alone['text_mask'], alone['grids'], alone['image_index'], torch.device('cpu'))
    images = ViLT.embed_images(vilt, alone['patches'], alone['grids'])
    x = torch.cat([vilt.embed_text(alone['input_ids'], packing), images])[None]
    blocked = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
    blocked[length:, :length] = True  # for torch True = may not be attended to
    states = []
    for block in vilt.blocks:
        mha = nn.MultiheadAttention(32, 4, batch_first=True)
        mha.in_proj_weight, mha.in_proj_bias = block.attn.qkv.weight, block.attn.qkv.bias
        mha.out_proj = block.attn.proj
        h = block.norm1(x)
        x = x + mha(h, h, h, attn_mask=blocked, need_weights=False)[0]
        x = x + block.mlp(block.norm2(x))
        states.append(x[0])
    return states[0], vilt.norm(states[-1])


def test_it_has_vilts_parameters_and_computes_something_else(encoder, vilt, batch):
    assert encoder.state_dict().keys() == vilt.state_dict().keys()
    ours, joint = (model.pool(encode(model, batch)) for model in (encoder, vilt))
    assert (ours - joint).abs().max() > 0.01


def test_agrees_with_a_dense_formulation_under_the_mask(encoder, batch):
    states = encode(encoder, batch, inner_block=1)
    for pair in range(6):
        first, last = dense(encoder, batch, pair)
        rows = slice(int(states.packing.starts[pair]), int(states.packing.starts[pair]) + len(last))
        torch.testing.assert_close(states.packed[rows], last, rtol=0, atol=1e-5)
        torch.testing.assert_close(states.inner[rows], nn.functional.layer_norm(first, (32,)), rtol=0, atol=1e-5)


def test_padding_batching_and_sharing_change_nothing(encoder, batch):
    pooled = encoder.pool(encode(encoder, batch, 'cls'))
    for pairs in ([0], [3], [4, 5], [5, 0, 2, 1]):
        torch.testing.assert_close(
            encoder.pool(encode(encoder, part(batch, pairs), 'cls')), pooled[pairs], rtol=0, atol=1e-5
        )
    padded = dict(
        batch,
        input_ids=nn.functional.pad(batch['input_ids'], (0, 3)),
        text_mask=nn.functional.pad(batch['text_mask'], (0, 3)),
    )
    torch.testing.assert_close(encoder.pool(encode(encoder, padded, 'cls')), pooled, rtol=0, atol=1e-5)


@pytest.mark.parametrize('use_buckets', [False, True])
def test_output_and_the_padded_layout_of_bfloat16_change_no_value(encoder, batch, use_buckets, monkeypatch):
    """In float32, so that nothing but the path differs."""
    whole = encode(encoder, batch, inner_block=1)
    monkeypatch.setattr(attention, 'is_cpu_bfloat16', lambda q: True)
    monkeypatch.setattr(vilt_module, 'needs_shape_buckets', lambda device: use_buckets)
    text, text_index = encode(encoder, batch, 'text'), whole.packing.text_index(9)
    for states in (text, encode(encoder, batch, 'cls'), encode(encoder, batch)):
        torch.testing.assert_close(states.cls(), whole.cls(), rtol=0, atol=1e-5)
    expected = whole.packed[whole.packing.output_index('text')]
    torch.testing.assert_close(text.packed[: len(expected)], expected, rtol=0, atol=1e-5)
    again = encode(encoder, batch, inner_block=1)
    for padded, expected in ((again.packed, whole.packed), (again.inner, whole.inner)):
        torch.testing.assert_close(padded[: len(expected)], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(again.text(9), whole.packed[text_index], rtol=0, atol=1e-5)


def test_gradients_of_a_shared_image_are_the_sum_over_its_texts(encoder, batch):
    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        loss.backward()
        found = [parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None]
        encoder.zero_grad()
        return found

    together, *alone = (
        gradients(encoder.pool(encode(encoder, part(batch, pairs), 'cls')).square().sum())
        for pairs in ([*range(6)], [0], [1], [2], [3], [4], [5])
    )
    for shared, *single in zip(together, *alone, strict=True):
        torch.testing.assert_close(shared, sum(single), rtol=1e-4, atol=1e-5)


def test_images_encoded_one_by_one_answer_as_those_of_a_batch(encoder, batch):
    patches = batch['patches'].split(batch['grids'].prod(dim=1).tolist())
    single = [encoder.embed_images(one, grid[None]) for one, grid in zip(patches, batch['grids'], strict=True)]
    images = PrefixImages.concatenate([encoder.encode_images(image).without_inputs() for image in single])
    expected = encode(encoder, batch, 'text').packed
    torch.testing.assert_close(encode(encoder, batch, 'text', images).packed, expected, rtol=0, atol=1e-5)
    for wanted in (dict(output='all'), dict(output='cls', inner_block=1)):
        with pytest.raises(ValueError, match='without their states'):
            encode(encoder, batch, images=images, **wanted)


def test_the_first_pass_encodes_the_images_and_a_later_one_costs_its_own_tokens_alone(encoder, batch):
    images = encoder.embed_images(batch['patches'], batch['grids'])
    counts, num_text = [], int(batch['text_mask'].sum())
    for block in encoder.blocks:
        block.mlp.register_forward_hook(lambda module, inputs, output: counts.append(len(output)))
    passes = [encode(encoder, batch, 'cls', images).packed for _ in range(2)]
    assert counts == [num_text + len(batch['patches']) + 3, 6, num_text, 6]
    torch.testing.assert_close(*passes, rtol=0, atol=1e-5)


@pytest.mark.parametrize('output', ['all', 'text', 'cls'])
def test_every_path_has_the_values_and_gradients_of_the_plain_one(encoder, batch, output, monkeypatch):
    """Plain: images encoded before their texts, and their keys and values copied for each text."""

    def run(images: PrefixImages) -> tuple[ViLTStates, dict[str, torch.Tensor]]:
        states = encode(encoder, batch, output, images, inner_block=1)
        (states.cls().square().sum() + states.inner[states.packing.text_index(3)].sum()).backward()
        gradients = {
            name: parameter.grad.clone() for name, parameter in encoder.named_parameters() if parameter.grad is not None
        }
        encoder.zero_grad()
        return states, gradients

    def embedded() -> PrefixImages:
        return encoder.embed_images(batch['patches'], batch['grids'])

    found = [run(embedded()), run(encoder.encode_images(embedded()))]
    monkeypatch.setattr(prefix_attention, 'MAX_CHUNK', 11)  # 5 + 9 tokens are two chunks, 5 + 7 too, 3 + 5 are one
    found.append(run(embedded()))
    monkeypatch.setattr(prefix_attention.TextAttention, '_attend_chunks', attend_copies)
    expected_states, expected_gradients = run(encoder.encode_images(embedded()))
    for states, gradients in found:
        torch.testing.assert_close(states.packed, expected_states.packed, rtol=0, atol=1e-5)
        torch.testing.assert_close(states.inner, expected_states.inner, rtol=0, atol=1e-5)
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-5, msg=name)


def attend_copies(self, q, kv_text, kv_images, output):
    return attention.attend_segments(q, self.pack(kv_text, kv_images), self._packing, output)


def test_a_text_without_an_image_is_encoded_from_its_tokens(encoder, batch):
    textual = dict(batch, patches=batch['patches'][:0], grids=torch.zeros(3, 2, dtype=torch.int64))
    elsewhere = dict(textual, image_index=torch.tensor([2, 1, 0, 2, 1, 0]))
    torch.testing.assert_close(*(encoder.pool(encode(encoder, b, 'cls')) for b in (textual, elsewhere)))
