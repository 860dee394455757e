"""Public weights in METER's image encoder give the states of their own code; files that do not fit are refused."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from mmpretrain.models.utils import resize_pos_embed
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel

from kovilt.engine.config import load_config
from kovilt.errors import KoviltError
from kovilt.formats.image_encoder import load_image_encoder, resize_positions
from kovilt.registry import MODELS
from tests.support.tiny_rooms import CONFIGS

SIZES = dict(
    hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
)


def vit(layers: int = 3, side: int = 32, **changes) -> nn.Module:
    """The image encoder of the published config, but small."""
    config = load_config(CONFIGS / 'meter_vqa_aihub.py').model.encoder.image_encoder.to_dict()
    arch = dict(embed_dims=16, num_layers=layers, num_heads=2, feedforward_channels=32)
    return build(config | dict(arch=arch, patch_size=8, img_size=side) | changes)


def build(config: dict) -> nn.Module:
    model = MODELS.build(config)
    model.eval()  # mmpretrain's returns nothing
    return model


def randomised(model: nn.Module) -> nn.Module:
    """Random everywhere, also where a model starts from zeros and ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3 + (parameter.ndim == 1))
    model.eval()
    return model


@pytest.fixture(scope='module')
def images() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 32, 32)


@pytest.fixture(scope='module')
def clip() -> CLIPVisionModel:
    return randomised(CLIPVisionModel(CLIPVisionConfig(**SIZES)))


@pytest.fixture(scope='module')
def folder(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp('clip') / 'clip-tiny'
    clip.save_pretrained(folder)
    return folder


@torch.no_grad()
@pytest.mark.parametrize('layers', [3, 2])
def test_clip_gives_the_states_of_its_own_code_also_without_its_last_block(clip, folder, images, layers):
    ours = vit(layers)
    report = load_image_encoder(ours, folder)
    states = clip(images, output_hidden_states=True).hidden_states[layers]
    norm = dict(clip.named_modules())[next(name for name, _ in clip.named_modules() if 'post_layernorm' in name)]
    torch.testing.assert_close(ours(images)[-1], norm(states), rtol=1e-4, atol=1e-4)
    assert report.encoder_coverage == 1
    assert report.details.get('dropped') == (None if layers == 3 else 'blocks from number 3 on (16 tensors)')


@torch.no_grad()
def test_a_full_clip_open_clips_names_and_pickles_of_tensors_load_as_well(clip, images, tmp_path):
    whole = CLIPModel(CLIPConfig(vision_config=SIZES, text_config=dict(SIZES, vocab_size=30, eos_token_id=2)))
    state = {f'vision_model.{key.removeprefix("vision_model.")}': value for key, value in clip.state_dict().items()}
    whole.load_state_dict(state, strict=False)
    whole.save_pretrained(tmp_path / 'whole')
    openai = {'logit_scale': torch.ones(()), 'transformer.resblocks.0.ln_1.weight': torch.ones(16)}
    names = {
        'embeddings.class_embedding': 'class_embedding',
        'embeddings.patch_embedding.weight': 'conv1.weight',
        'embeddings.position_embedding.weight': 'positional_embedding',
        'pre_layrnorm': 'ln_pre',
        'post_layernorm': 'ln_post',
        'encoder.layers': 'transformer.resblocks',
        'layer_norm': 'ln_',
        'mlp.fc1': 'mlp.c_fc',
        'mlp.fc2': 'mlp.c_proj',
        'self_attn.': 'attn.',
    }
    for key, value in state.items():
        key = key.removeprefix('vision_model.')
        for old, new in names.items():
            key = key.replace(old, new)
        openai[f'visual.{key}'] = value
    for block in range(3):
        for end in ('weight', 'bias'):
            start = f'visual.transformer.resblocks.{block}.attn.'
            openai[f'{start}in_proj_{end}'] = torch.cat([openai.pop(f'{start}{part}_proj.{end}') for part in 'qkv'])
    torch.save(openai, tmp_path / 'open_clip.pt')
    first, second = vit(), vit()
    reports = load_image_encoder(first, tmp_path / 'whole'), load_image_encoder(second, tmp_path / 'open_clip.pt')
    assert all('text encoder' in report.details['dropped'] for report in reports)
    torch.testing.assert_close(first(images)[-1], second(images)[-1])
    alone = vit()
    (tmp_path / 'alone').mkdir()
    clip.save_pretrained(tmp_path / 'alone')
    load_image_encoder(alone, tmp_path / 'alone' / 'model.safetensors')
    torch.testing.assert_close(first(images)[-1], alone(images)[-1])


@torch.no_grad()
def test_a_plain_vit_of_huggingface_and_of_timm(images, tmp_path):
    theirs = randomised(ViTModel(ViTConfig(**SIZES, layer_norm_eps=1e-6), add_pooling_layer=False))
    theirs.save_pretrained(tmp_path / 'vit')
    plain = dict(pre_norm=False, norm_cfg=dict(type='LN', eps=1e-6), layer_cfgs=dict(act_cfg=dict(type='GELU')))
    ours = vit(**plain)
    load_image_encoder(ours, tmp_path / 'vit')
    torch.testing.assert_close(ours(images)[-1], theirs(images).last_hidden_state, rtol=1e-4, atol=1e-4)
    with pytest.raises(KoviltError, match='no norm before its blocks.*pre_norm=False'):
        load_image_encoder(vit(), tmp_path / 'vit')
    names = {
        'patch_embed.projection': 'patch_embed.proj',
        'layers.0.0': 'fc1',
        'layers.1': 'fc2',
        'ln1': 'norm1',
        'ln2': 'norm2',
        'ffn': 'mlp',
        'layers.': 'blocks.',
    }
    timm = {'head.weight': torch.ones(5, 16)}
    for key, value in ours.state_dict().items():
        start, *rest = key.split('.')
        if start == 'layers':
            key = '.'.join(rest)
            for old, new in names.items():
                key = key.replace(old, new)
            key = f'blocks.{key}'
        timm[key.replace('patch_embed.projection', 'patch_embed.proj').replace('ln1', 'norm')] = value
    save_file(timm, tmp_path / 'timm.safetensors')
    again = vit(**plain)
    report = load_image_encoder(again, tmp_path / 'timm.safetensors')
    assert report.details['dropped'] == 'ImageNet head (1 tensors)' and 'no config.json' in report.details['notes']
    assert torch.equal(again(images)[-1], ours(images)[-1])


def test_positions_are_resized_as_mmpretrain_does(folder):
    larger = vit(side=64)
    report = load_image_encoder(larger, folder)
    table = load_file(folder / 'model.safetensors')
    table = next(value for key, value in table.items() if key.endswith('position_embedding.weight'))[None]
    expected = resize_pos_embed(table, (4, 4), (8, 8), 'bicubic', 1)
    torch.testing.assert_close(larger.pos_embed.data, expected)
    assert report.details['resized'] == 'pos_embed (1, 17, 16) to (1, 65, 16)'
    assert resize_positions(table[:, :-1], larger.pos_embed) is not larger.pos_embed  # no grid: left as it is


@torch.no_grad()
def test_mmpretrains_own_files_load_into_every_backbone(tmp_path):
    swin = dict(
        type='mmpretrain.SwinTransformer',
        patch_size=4,
        img_size=32,
        out_indices=(1,),
        arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1]),
    )
    theirs = randomised(build(dict(swin, window_size=4)))
    content = {f'backbone.{key}': value for key, value in theirs.state_dict().items()} | {'head.fc.bias': torch.ones(3)}
    torch.save(dict(state_dict=content, meta=dict(dataset_meta={})), tmp_path / 'swin.pth')
    same, smaller = build(dict(swin, window_size=4)), build(dict(swin, window_size=2))
    image = torch.randn(1, 3, 32, 32)
    report = load_image_encoder(same, tmp_path / 'swin.pth')
    assert report.encoder_coverage == 1 and 'head of its training (1 tensors)' in report.details['dropped']
    assert torch.equal(same(image)[-1], theirs(image)[-1])
    with pytest.raises(KoviltError, match=r'relative_position_bias_table is \(49, 1\) there, \(9, 1\) here'):
        load_image_encoder(smaller, tmp_path / 'swin.pth')


def test_weights_that_do_not_fit_are_refused_by_name(folder, tmp_path):
    swin = build(
        dict(
            type='mmpretrain.SwinTransformer',
            img_size=32,
            arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1]),
            out_indices=(1,),
        )
    )
    gelu = json.loads((folder / 'config.json').read_text()) | dict(hidden_act='gelu')
    state = load_file(folder / 'model.safetensors')
    (tmp_path / 'gelu').mkdir()
    save_file(state, tmp_path / 'gelu' / 'model.safetensors')
    (tmp_path / 'gelu' / 'config.json').write_text(json.dumps(gelu))
    few = {key: value for key, value in state.items() if 'layers.1' not in key}
    save_file(few, tmp_path / 'few.safetensors')
    save_file(few | {'embeddings.extra': torch.ones(1)}, tmp_path / 'other.safetensors')
    save_file({'roi_head.weight': torch.ones(1)}, tmp_path / 'detector.safetensors')
    arch = dict(embed_dims=16, num_layers=3, num_heads=4, feedforward_channels=32)
    cases = [
        (swin, folder, 'a HuggingFace CLIP, but model.encoder.image_encoder is a SwinTransformer'),
        (vit(), tmp_path / 'gelu', r"is gelu, but here QuickGELU; .*act_cfg=dict\(type='GELU'\)"),
        (vit(arch=arch), folder, 'num_heads=2'),
        (vit(patch_size=16), folder, r'patch_embed.projection.weight is \(16, 3, 8, 8\) there,'),
        (vit(), tmp_path / 'few.safetensors', r'gives 7\d.\d% of the encoder, less than 95%; missing: layers.1'),
        (vit(4), folder, r'of the encoder, less than 95%; missing: layers.3'),
        (vit(), tmp_path / 'other.safetensors', 'embeddings.extra is no parameter of a ViT'),
        (vit(), tmp_path / 'detector.safetensors', 'neither a CLIP, a ViT nor a backbone of mmpretrain'),
        (vit(), tmp_path / 'gone.pth', 'no such checkpoint file'),
        (vit(), 'nobody/clip', 'neither a file or folder nor to be had from the hub'),
    ]
    for model, source, message in cases:
        with pytest.raises(KoviltError, match=message):
            load_image_encoder(model, source)


class Harm:
    """Unpickling it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


def test_a_file_that_would_run_code_is_refused_and_so_is_mmengines_loader(tmp_path):
    with open(tmp_path / 'bad.pth', 'wb') as file:
        pickle.dump(dict(state_dict=Harm(str(tmp_path / 'harm'))), file)
    torch.save(dict(state_dict=Harm(str(tmp_path / 'harm'))), tmp_path / 'worse.pth')
    for name in ('bad.pth', 'worse.pth'):
        with pytest.raises(KoviltError, match=f'{name}: '):
            load_image_encoder(vit(), tmp_path / name)
    assert not (tmp_path / 'harm').exists()
    for place in ('model.encoder.image_encoder.init_cfg', 'model.encoder.init_cfg', 'model.init_cfg'):
        option = f"{place}={{'type': 'Pretrained', 'checkpoint': 'clip.pth'}}"
        with pytest.raises(KoviltError, match=f'{place}: .*can run code; .*model.encoder.image_encoder_weights'):
            load_config(CONFIGS / 'meter_vqa_aihub.py', [option])
