"""METER: its published size and cost, the batch contract, its two tasks, and a run of its configs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from kovilt.apis import VQAInferencer
from kovilt.datasets import Patchify
from kovilt.engine.config import load_config
from kovilt.errors import KoviltError
from kovilt.models import METERPreprocessor
from kovilt.models.meter import join_patches
from kovilt.models.sizes import build_model, complete_model_config
from kovilt.registry import MODELS, RUNNERS
from tests.support.tiny_models import ANSWERS, MLM_HEAD
from tests.support.tiny_rooms import CONFIGS

ENCODER = dict(
    type='METER',
    image_size=32,
    vocab_size=40,
    max_text_len=12,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    mlp_ratio=4.0,
    drop_rate=0.1,
    init_std=0.2,
    image_encoder=dict(
        type='mmpretrain.VisionTransformer',
        patch_size=8,
        out_type='raw',
        pre_norm=True,
        arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
    ),
    text_encoder=dict(type='TextEncoder', model_type='bert', hidden_size=16, num_layers=1, num_heads=2, drop_rate=0.1),
)
PREPROCESSOR = dict(type='METERPreprocessor', mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1))
SWIN = dict(
    type='mmpretrain.SwinTransformer',
    patch_size=4,
    window_size=2,
    arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1]),
    out_indices=(1,),
)


def tiny_meter(kind: str = 'METERForVQA', **encoder):
    heads = dict(vqa_head=dict(type='VQAHead', num_answers=len(ANSWERS), loss='cross_entropy'))
    if kind == 'METERForPreTraining':
        heads = dict(
            itm_head=dict(type='ITMHead', loss_weight=1.0),
            mlm_head=MLM_HEAD,
        )
    if kind == 'METERForMultipleChoice':
        heads = dict(choice_head=dict(type='ChoiceHead'))
    torch.manual_seed(0)
    config = dict(type=kind, encoder=ENCODER | encoder, data_preprocessor=PREPROCESSOR, **heads)
    return build_model(config, answers=ANSWERS).eval()


def make_batch(lengths: tuple[int, ...] = (6, 4, 3, 6), side: int = 32) -> dict:
    """Two texts for each image, whose patches come from `Patchify`."""
    generator = torch.Generator().manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, ((len(lengths) + 1) // 2, side, side, 3), dtype=np.uint8)
    cut = [Patchify(patch_size=8)({'img': pixels}) for pixels in images]
    width, pairs = max(lengths), len(lengths)
    text_mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    inside = (torch.arange(width) > 0) & (torch.arange(width) < torch.tensor(lengths)[:, None] - 1)
    return dict(
        pixels=images,
        patches=torch.from_numpy(np.concatenate([one['patches'] for one in cut])),
        grids=torch.tensor([one['grid'] for one in cut]),
        image_id=torch.arange(len(cut)) + 10,
        image_index=torch.arange(pairs) // 2,
        text_mask=text_mask,
        input_ids=torch.randint(5, 40, (pairs, width), generator=generator) * text_mask,
        word_ids=torch.arange(width).expand(pairs, -1).masked_fill(~inside, -1),
        sample_seed=torch.arange(pairs) * 77,
        label=torch.arange(pairs) % len(ANSWERS),
    )


@pytest.fixture(scope='module')
def published():
    """METER as its VQA config builds it, with RoBERTa's vocabulary and VQAv2's answers; no memory is taken."""
    config = load_config(CONFIGS / 'meter_vqa_aihub.py')
    with torch.device('meta'):
        sizes = dict(num_answers=3129, vocab_size=50_265)
        return build_model(complete_model_config(config.model.to_dict(), data_sizes=sizes)).eval()


def test_it_has_the_published_number_of_parameters(published):
    def millions(part) -> float:
        return sum(parameter.numel() for parameter in part.parameters()) / 1e6

    encoder = published.encoder
    blocks = millions(encoder.cross_modal.text_blocks) + millions(encoder.cross_modal.image_blocks)
    found = [millions(encoder.image_encoder), millions(encoder.text_encoder), blocks, millions(published.vqa_head)]
    assert found == pytest.approx([79.6, 124.65, 113.42, 7.17], rel=0.01)
    assert millions(published) == pytest.approx(327.2, rel=0.01)


@torch.no_grad()
def test_it_costs_the_published_number_of_operations(published):
    d, length, states = 768, 50, (576 // 16) ** 2 + 1

    def layer(n: int, other: int) -> int:  # self-attention, cross-attention, MLP
        return 4 * n * d**2 + 2 * n**2 * d + 2 * (n + other) * d**2 + 2 * n * other * d + 8 * n * d**2

    expected = dict(
        image=11 * (12 * states * d**2 + 2 * states**2 * d) + (states - 1) * 3 * 16**2 * d,
        text=12 * (12 * length * d**2 + 2 * length**2 * d),
        fusion=6 * (layer(length, states) + layer(states, length)),
    )
    grids = torch.tensor([[36, 36]])
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        encoder = published.encoder
        published.vqa_head(
            encoder.pool(
                encoder(  # all states, as the published code computes
                    images=encoder.embed_images(torch.zeros(36**2, 3 * 16**2), grids),
                    output='all',
                    input_ids=torch.zeros(1, length, dtype=torch.int64),
                    text_mask=torch.ones(1, length, dtype=torch.bool),
                    image_index=torch.zeros(1, dtype=torch.int64),
                )
            )
        )
    counts = {name: sum(ops.values()) / 2 for name, ops in counter.get_flop_counts().items()}
    parts = dict(
        image=counts['VisionTransformer'], text=counts['METER.text_encoder'], fusion=counts['METER.cross_modal']
    )
    for name, count in expected.items():
        assert parts[name] == pytest.approx(count, rel=0.01), name
    assert counts['Global'] / 1e9 == pytest.approx(228.3, rel=0.01)


def test_patches_become_the_images_they_were_cut_from():
    batch = make_batch()
    patches = METERPreprocessor(mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1))(batch)['patches']
    images = join_patches(patches, rows=4, side=8)
    pixels = torch.from_numpy(batch['pixels']).float() / 255
    expected = (pixels - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.3, 0.2, 0.1])
    torch.testing.assert_close(images, expected.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_an_image_is_encoded_once_and_neither_padding_nor_other_pairs_matter():
    model, batch = tiny_meter(), make_batch()
    shapes = []
    model.encoder.image_encoder.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape))
    together = model.scores(model.data_preprocessor(batch))
    assert shapes == [(2, 3, 32, 32)]
    for row, length in enumerate(batch['text_mask'].sum(dim=1).tolist()):
        image = row // 2
        alone = dict(
            patches=batch['patches'][16 * image : 16 * image + 16],
            grids=batch['grids'][:1],
            image_index=torch.tensor([0]),
            input_ids=batch['input_ids'][row : row + 1, :length],
            text_mask=batch['text_mask'][row : row + 1, :length],
        )
        torch.testing.assert_close(
            model.scores(model.data_preprocessor(alone)), together[row : row + 1], rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_no_text_decides_the_vector_of_an_image():
    model, batch = tiny_meter(), make_batch()
    other = batch | {'input_ids': batch['input_ids'].flip(0), 'text_mask': batch['text_mask'].flip(0)}
    found, again = (model.image_features(model.data_preprocessor(one)) for one in (batch, other))
    assert found.shape == (2, model.encoder.hidden_size) and torch.equal(found, again)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize('kind', ['METERForVQA', 'METERForPreTraining'])
@pytest.mark.parametrize('encoder', [{}, dict(image_encoder=SWIN, image_pooling='mean')], ids=['vit', 'swin'])
def test_every_parameter_learns_also_in_bfloat16(kind, encoder):
    model, batch = tiny_meter(kind, **encoder), make_batch()
    exact = model(batch, mode='loss')
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(batch, mode='loss')
    assert losses.keys() == set(model.loss_names)
    for name in [name for name in losses if 'loss' in name]:
        torch.testing.assert_close(losses[name].float(), exact[name], rtol=0.1, atol=0.1)
    model.parse_losses(losses)[0].backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []  # on which several processes would stop
    idle = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]
    assert [name for name in idle if 'key' not in name] == []  # a key's bias shifts no softmax


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_in_bfloat16_a_cpu_attends_by_plain_matrix_products(precision):
    model, seen = tiny_meter().train(), set()
    model.encoder.cross_modal.text_blocks[0].attn.drop_rate = 0.0  # dropping alone makes torch take them

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.add(str(func).split('.')[1])
            return func(*args, **(kwargs or {}))

    with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16'), Watch():
        model(make_batch(), mode='loss')
    assert ('_scaled_dot_product_flash_attention_for_cpu' in seen) == (precision == 'float32')


def test_a_batch_whose_images_are_all_broken_costs_nothing():
    model, batch = tiny_meter(), make_batch()
    none = {name: value[:0] for name, value in batch.items()}
    losses = model(none, mode='loss')
    assert losses.keys() == set(model.loss_names) and all(value == 0 for value in losses.values())
    assert model.val_step([none]) == []


def test_swin_is_another_image_encoder():
    model = tiny_meter(image_encoder=SWIN, image_pooling='mean')
    assert model.encoder.cross_modal.image_proj.in_features == 16
    assert len(model.val_step([make_batch()])) == 4


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match='hidden_size 16 is not a multiple of num_heads 3'):
        tiny_meter(num_heads=3)
    with pytest.raises(ValueError, match='hidden size .16. is not a multiple of the number of attention heads .3.'):
        tiny_meter(text_encoder=ENCODER['text_encoder'] | dict(num_heads=3))
    with pytest.raises(TypeError, match="METERPreprocessor.* 'mean' and 'std'"):
        MODELS.build(
            dict(
                type='METERForVQA', encoder=ENCODER, vqa_head=dict(type='VQAHead', num_answers=5, loss='cross_entropy')
            )
        )
    model = tiny_meter()
    with pytest.raises(KoviltError, match='images of 40 x 40 pixels, but model.encoder.image_size is 32'):
        model.val_step([make_batch(side=40)])
    mixed = dict(make_batch(), grids=torch.tensor([[4, 4], [2, 8]]))
    with pytest.raises(
        KoviltError, match='images of 32 x 32, 64 x 16 pixels, .* is 32; put CropSquare before Patchify'
    ):
        model.val_step([mixed])
    with pytest.raises(ValueError, match='a text of 13 tokens is longer than max_text_len 12'):
        model.val_step([make_batch((13,))])


def test_the_text_encoder_takes_public_weights_of_its_own_sizes_only(tmp_path):
    sizes = dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, max_position_embeddings=12
    )
    public = BertModel(BertConfig(vocab_size=40, **sizes))
    public.save_pretrained(tmp_path / 'bert')
    BertModel(BertConfig(vocab_size=50, **sizes)).save_pretrained(tmp_path / 'wider')

    def start(folder: Path, **encoder):
        model = tiny_meter(text_encoder=ENCODER['text_encoder'] | dict(pretrained=str(folder)) | encoder)
        model.init_weights()
        return model.encoder.text_encoder.model.state_dict()

    loaded = start(tmp_path / 'bert')
    assert all(torch.equal(loaded[name], public.state_dict()[name]) for name in loaded)
    with pytest.raises(KoviltError, match=r'embeddings.word_embeddings.weight is \(50, 16\) there and \(40, 16\) here'):
        start(tmp_path / 'wider')
    with pytest.raises(KoviltError, match='a bert, but model_type is roberta'):
        start(tmp_path / 'bert', model_type='roberta')
    with pytest.raises(KoviltError, match='neither a folder of transformers nor to be had from the hub'):
        start(tmp_path / 'gone')


def tiny_run(folder: Path, name: str, side: int, more: str = ''):
    """A runner for configs/rooms/`name`.py with a small model, and its work folder."""
    (folder / f'{name}.py').write_text(
        f"""
_base_ = {str(CONFIGS / 'rooms' / f'{name}.py')!r}
images = [dict(type='LoadImage'), dict(type='CropSquare', side={side}), dict(type='Patchify')]
model = dict(encoder=dict(
    image_encoder=dict(arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)),
    text_encoder=dict(hidden_size=16, num_layers=1, num_heads=2),
    image_size={side}, hidden_size=16, num_layers=1, num_heads=2))
train_dataloader = dict(batch_size=4, dataset=dict(image_pipeline=images), collate_fn=dict(micro_batches=2))
val_dataloader = dict(num_workers=0, dataset=dict(image_pipeline=images))
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
{more}
""",
        encoding='utf-8',
    )
    config = load_config(folder / f'{name}.py')
    config.work_dir = str(folder / name)
    return RUNNERS.build(config), folder / name


def test_the_configs_pre_train_and_answer_with_tiny_models(rooms, tmp_path):
    first, work = tiny_run(tmp_path, 'meter_pretrain', side=32)
    first.train()
    records = [json.loads(line) for line in (work / 'metrics.jsonl').read_text().splitlines()]
    watched = next(record for record in records if record['mode'] == 'val')
    assert all(math.isfinite(watched[name]) for name in ('mlm_loss', 'mlm_accuracy', 'itm_loss', 'itm_accuracy'))

    second, work = tiny_run(
        tmp_path,
        'meter_vqa',
        side=48,  # larger images than those of its pre-training
        more=f"""load_from = {str(work / 'iter_2.pth')!r}
train_dataloader['dataset']['answers'] = dict(min_count=1)
optim_wrapper = dict(optimizer=dict(lr=1e-30))""",
    )
    second.train()
    theirs, ours = first.model.state_dict(), second.model.state_dict()
    changed = [name for name in ours if name.startswith('encoder') and not torch.equal(ours[name], theirs[name])]
    assert changed == ['encoder.image_encoder.pos_embed']
    assert ours['encoder.image_encoder.pos_embed'].shape == (1, 10, 16)
    torch.testing.assert_close(ours[changed[0]][:, 0], theirs[changed[0]][:, 0])

    image = next((rooms / 'vqa').rglob('*.jpg'))
    [answer] = VQAInferencer(work / 'iter_2.pth')(str(image), '소파는 무슨 색이에요?', topk=3)
    assert answer['answer'] in second.model.answers and len(answer['topk']) == 3
    with pytest.raises(KoviltError, match='precision int8 is for ViLT and PrefixViLT, not for METER'):
        VQAInferencer(work / 'iter_2.pth', precision='int8')
    half = VQAInferencer(work / 'iter_2.pth', device='cpu', precision='bfloat16')
    [nearly] = half(str(image), '소파는 무슨 색이에요?', topk=3)
    assert abs(nearly['score'] - answer['score']) < 0.05
    unsure = VQAInferencer(work / 'iter_2.pth', threshold=answer['score'] + 1e-3, abstention='글쎄요')
    [abstained] = unsure(str(image), '소파는 무슨 색이에요?', topk=3)
    assert abstained == answer | {'answer': '글쎄요', 'abstained': True}


@torch.no_grad()
def test_without_training_it_scores_each_option_as_it_matches_that_pair():
    pretrained, model = tiny_meter('METERForPreTraining'), tiny_meter('METERForMultipleChoice')
    model.load_state_dict(model.from_matching(pretrained.state_dict()))
    batch = make_batch()
    found = model.scores(model.data_preprocessor(batch))
    preprocessed = pretrained.data_preprocessor(batch)
    images = pretrained.encoder.embed_images(preprocessed['patches'], preprocessed['grids'])
    matching = pretrained.itm_head(pretrained.encoder.pool(pretrained.encode(preprocessed, images, 'cls')))
    torch.testing.assert_close(found, matching[:, 1] - matching[:, 0])
    model.pairs_at_once = 3
    torch.testing.assert_close(model.scores(model.data_preprocessor(batch)), found, atol=1e-5, rtol=1e-5)
    losses = model(batch | dict(option_offsets=torch.tensor([0, 2, 4]), label=torch.tensor([1, 0])), mode='loss')
    assert losses.keys() == {'choice_loss', 'choice_accuracy'} and torch.isfinite(losses['choice_loss'])
