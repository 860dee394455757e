"""The encoder: the size of the paper, and states that no other pair of the batch can change."""

import copy

import pytest
import torch
from torch import nn

from kovilt.modules import PrefixViLT, ViLT, attention
from kovilt.modules import vilt as vilt_module
from kovilt.modules.vilt import ViLTStates


def encode(vilt: ViLT, batch: dict, output: str = 'all') -> ViLTStates:
    images = vilt.embed_images(batch['patches'], batch['grids'])
    return vilt(
        input_ids=batch['input_ids'],
        text_mask=batch['text_mask'],
        images=images,
        grids=batch['grids'],
        image_index=batch['image_index'],
        output=output,
    )


def alone(batch: dict, pair: int) -> dict:
    """The batch that holds this pair only."""
    image, length = int(batch['image_index'][pair]), int(batch['text_mask'][pair].sum())
    counts = batch['grids'].prod(dim=1)
    start = int(counts[:image].sum())
    return dict(
        patches=batch['patches'][start : start + counts[image]],
        grids=batch['grids'][image : image + 1],
        image_index=torch.tensor([0]),
        input_ids=batch['input_ids'][pair : pair + 1, :length],
        text_mask=batch['text_mask'][pair : pair + 1, :length],
    )


@pytest.mark.parametrize('vocab_size', [1000, 42_000])
def test_base_size_has_the_parameters_of_the_paper(vocab_size):
    with torch.device('meta'):
        vilt = ViLT(
            hidden_size=768,
            num_layers=12,
            num_heads=12,
            vocab_size=vocab_size,
            max_text_len=40,
            patch_size=32,
            image_size=384,
            mlp_ratio=4.0,
            drop_rate=0.1,
        )
    assert sum(parameter.numel() for parameter in vilt.parameters()) == 88_154_112 + 768 * vocab_size


def test_a_pair_alone_and_in_a_batch_have_the_same_states(vilt, batch):
    together = encode(vilt, batch)
    for pair in range(6):
        single = encode(vilt, alone(batch, pair))
        start = int(together.packing.starts[pair])
        torch.testing.assert_close(
            together.packed[start : start + len(single.packed)], single.packed, rtol=0, atol=1e-5
        )
        torch.testing.assert_close(vilt.pool(together)[pair], vilt.pool(single)[0], rtol=0, atol=1e-5)


def test_more_padding_and_another_order_change_nothing(vilt, batch):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    padded = dict(
        batch,
        image_index=batch['image_index'][order],
        input_ids=nn.functional.pad(batch['input_ids'][order], (0, 3)),
        text_mask=nn.functional.pad(batch['text_mask'][order], (0, 3)),
    )
    expected = vilt.pool(encode(vilt, batch))[order]
    torch.testing.assert_close(vilt.pool(encode(vilt, padded)), expected, rtol=0, atol=1e-5)


def test_output_changes_what_is_returned_and_no_value(vilt, batch):
    states = encode(vilt, batch)
    text = encode(vilt, batch, 'text')
    torch.testing.assert_close(encode(vilt, batch, 'cls').cls(), states.cls())
    torch.testing.assert_close(text.cls(), states.cls())
    torch.testing.assert_close(text.packed, states.packed[states.packing.output_index('text')])


@pytest.mark.parametrize('output', ['all', 'text', 'cls'])
def test_the_padded_layout_of_bfloat16_is_the_same_attention(vilt, batch, output, monkeypatch):
    """States and gradients in float32, with and without buckets, so that nothing but the path differs."""

    def states_and_gradients() -> list[torch.Tensor]:
        states = encode(vilt, batch, output)
        found = states.packed[: len(states.packing.token_pair)] if output == 'text' else states.cls()
        return [found, *torch.autograd.grad(found.square().sum(), list(vilt.blocks.parameters()))]

    expected = states_and_gradients()
    monkeypatch.setattr(attention, 'is_cpu_bfloat16', lambda q: True)
    for use_buckets in (False, True):
        monkeypatch.setattr(vilt_module, 'needs_shape_buckets', lambda device, use_buckets=use_buckets: use_buckets)
        for ours, theirs in zip(states_and_gradients(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_bfloat16_on_a_cpu_differs_by_rounding_alone(vilt, batch):
    expected = encode(vilt, batch)
    with torch.autocast('cpu', torch.bfloat16):
        states = encode(vilt, batch)
    rows = len(expected.packed)
    assert len(states.packed) % 32 == 0 and len(states.packed) > rows
    assert torch.cosine_similarity(states.packed[:rows].float(), expected.packed, dim=1).min() > 0.999


def test_output_changes_no_gradient(vilt, batch):
    gradients = []
    for output in ('all', 'cls'):
        vilt.zero_grad()
        vilt.pool(encode(vilt, batch, output)).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in vilt.parameters() if parameter.grad is not None])
    for whole, less in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, less, rtol=1e-4, atol=1e-6)


def trained(vilt: ViLT, batch: dict) -> list[torch.Tensor]:
    """The pooled states of a training pass, and the gradients of what came to them."""
    torch.manual_seed(0)  # of dropout
    vilt.train().zero_grad(set_to_none=True)
    pooled = vilt.pool(encode(vilt, batch, 'cls'))
    pooled.square().sum().backward()
    return [pooled.detach()] + [parameter.grad for parameter in vilt.parameters() if parameter.grad is not None]


def of_kind(kind: type[ViLT], vilt: ViLT) -> ViLT:
    """An encoder of another kind with the same weights."""
    sizes = dict(hidden_size=32, num_layers=2, num_heads=4, vocab_size=40, max_text_len=12, patch_size=8, image_size=32)
    other = kind(**sizes, mlp_ratio=4.0, drop_rate=0.1)
    other.load_state_dict(vilt.state_dict())
    return other


@pytest.mark.parametrize('kind', [ViLT, PrefixViLT])
def test_gradient_checkpointing_changes_memory_alone(kind, vilt, batch):
    vilt, saved = of_kind(kind, vilt), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        plain, whole = trained(vilt, batch), sum(saved)
        saved.clear()
        vilt.with_cp = True
        again = trained(vilt, batch)
    assert all(map(torch.equal, plain, again)) and len(plain) == len(again)
    assert sum(saved) < 0.7 * whole


@pytest.mark.parametrize('kind', [ViLT, PrefixViLT])
def test_compiled_blocks_are_the_same_also_in_a_copy(kind, vilt, batch):
    vilt = of_kind(kind, vilt)
    for block in vilt.blocks:
        block.dropout.p = block.mlp.dropout.p = 0.0  # sampled in another order when compiled
    plain = trained(vilt, batch)
    vilt.compile_blocks({'backend': 'eager'})
    compiled = trained(vilt, batch)
    other = copy.deepcopy(vilt)
    with torch.no_grad():
        for parameter in vilt.parameters():
            parameter.zero_()  # the copy computes with its own
    for ours in (compiled, trained(other, batch)):
        for a, b in zip(plain, ours, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_agrees_with_a_plain_padded_formulation(vilt, batch):
    """nn.MultiheadAttention with a key padding mask, one pair per row, written from eq. 1 to 5."""
    states = encode(vilt, batch)
    pair, image = 2, 1
    length = int(batch['text_mask'][pair].sum())
    counts = batch['grids'].prod(dim=1)
    patches = batch['patches'].split(counts.tolist())[image]
    text = vilt.text
    tokens = text.word_embed(batch['input_ids'][pair]) + text.pos_embed.weight[:9] + text.segment_embed.weight[0]
    table = vilt.image.pos_embed[1:].T.reshape(1, 32, 4, 4)
    grid = tuple(batch['grids'][image].tolist())
    positions = nn.functional.interpolate(table, size=grid, mode='bilinear', align_corners=True)
    image_states = vilt.image.proj(patches) + positions.flatten(2)[0].T
    image_states = torch.cat([vilt.image.cls_token + vilt.image.pos_embed[:1], image_states])
    x = torch.cat([text.norm(tokens) + vilt.modality_embed.weight[0], image_states + vilt.modality_embed.weight[1]])[
        None
    ]
    padding = torch.zeros(1, x.shape[1], dtype=torch.bool)
    padding[0, length:9] = True  # text padded to 9: masked as keys
    for block in vilt.blocks:
        attention = nn.MultiheadAttention(32, 4, batch_first=True)
        attention.in_proj_weight, attention.in_proj_bias = block.attn.qkv.weight, block.attn.qkv.bias
        attention.out_proj = block.attn.proj
        h = block.norm1(x)
        x = x + attention(h, h, h, key_padding_mask=padding, need_weights=False)[0]
        x = x + block.mlp.fc2(nn.functional.gelu(block.mlp.fc1(block.norm2(x))))
    expected = vilt.norm(x)[0, ~padding[0]]
    start = int(states.packing.starts[pair])
    torch.testing.assert_close(states.packed[start : start + len(expected)], expected, rtol=0, atol=1e-5)


def test_positions_are_interpolated_as_torch_does(vilt):
    table = vilt.image.pos_embed[1:].T.reshape(1, 32, 4, 4)
    for grid in [(4, 4), (3, 7), (1, 5), (9, 1)]:
        expected = nn.functional.interpolate(table, size=grid, mode='bilinear', align_corners=True).flatten(2)[0].T
        torch.testing.assert_close(vilt.image.positions(*grid), expected, rtol=0, atol=1e-6)


def test_inference_mode_before_training_does_not_spoil_gradients(vilt, batch):
    with torch.inference_mode():
        encode(vilt, batch)
    encode(vilt, batch).packed.sum().backward()


def test_a_text_without_an_image_is_encoded_from_its_tokens(vilt, batch):
    textual = dict(batch, patches=batch['patches'][:0], grids=torch.zeros(3, 2, dtype=torch.int64))
    pooled = vilt.pool(encode(vilt, textual))
    assert pooled.isfinite().all()
    elsewhere = dict(textual, image_index=torch.tensor([2, 1, 0, 2, 1, 0]))
    torch.testing.assert_close(pooled, vilt.pool(encode(vilt, elsewhere)))


def test_evaluation_gives_the_same_states_twice_and_training_samples_dropout(vilt, batch):
    assert torch.equal(encode(vilt, batch).packed, encode(vilt, batch).packed)
    vilt.train()
    assert not torch.equal(encode(vilt, batch).packed, encode(vilt, batch).packed)


def test_a_text_that_is_too_long_is_refused_with_its_length(vilt, batch):
    longer = dict(batch, input_ids=batch['input_ids'].repeat(1, 2), text_mask=torch.ones(6, 18, dtype=torch.bool))
    with pytest.raises(ValueError, match='18 tokens is longer than max_text_len 12'):
        encode(vilt, longer)


@pytest.mark.parametrize(
    'sizes, message',
    [
        (dict(hidden_size=30), 'hidden_size 30 is not a multiple of num_heads 4'),
        (dict(image_size=33), 'image_size 33 is not a multiple of patch_size 8'),
        (dict(activation='tanh'), "activation is 'tanh'; it must be one of"),
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes, message):
    fitting = dict(
        hidden_size=32, num_layers=1, num_heads=4, vocab_size=40, max_text_len=12, patch_size=8, image_size=32
    )
    fitting |= dict(mlp_ratio=4.0, drop_rate=0.1)
    with pytest.raises(ValueError, match=message):
        ViLT(**(fitting | sizes))
