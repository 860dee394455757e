"""Models of two layers and forty words that tests of weights, inference and tools share; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from transformers import BertTokenizer, PreTrainedTokenizerBase

from kovilt.models.sizes import build_model

WORDS = '소파 의자 책 ##은 ##는 ##이 ##가 ##를 ##에 무슨 색 ##이에요 있어요 몇 개 위 빨간 파란 ? .'.split()
ANSWERS = ['네', '아니요', '빨간색', '파란색', '두 개']
IMAGE_PIPELINE = [
    dict(type='LoadImage'),
    dict(type='ResizeViLT', short=32, long=53, divisor=8),
    dict(type='Patchify', patch_size=8),
]
MAX_TEXT_LEN = 12
MLM_HEAD = dict(
    type='MLMHead',
    mask_token_id=4,
    special_token_ids=[0, 1, 2, 3, 4],
    mask_ratio=0.15,
    whole_word=True,
    loss_weight=1.0,
)
WPA_HEAD = dict(type='WPAHead', loss_weight=0.5, mismatched='ignore', beta=0.05, iterations=30)


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer that keeps Hangul whole."""
    tokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *WORDS]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=False, strip_accents=False)


def tiny_encoder() -> dict[str, Any]:
    return dict(
        type='ViLT',
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        vocab_size=len(WORDS) + 5,
        max_text_len=MAX_TEXT_LEN,
        patch_size=8,
        image_size=32,
        mlp_ratio=4.0,
        drop_rate=0.1,
        init_std=0.2,
    )


def tiny_config(kind: str = 'ViLTForVQA', *, num_answers: int = len(ANSWERS), **encoder: Any) -> dict[str, Any]:
    """The config of a model of two layers, every size filled in; `encoder` changes arguments of the encoder."""
    if kind == 'ViLTForVQA':
        head = dict(type='VQAHead', num_answers=num_answers, loss='cross_entropy')
        return dict(type=kind, encoder=tiny_encoder() | encoder, vqa_head=head)
    if kind == 'ViLTForMultipleChoice':
        return dict(type=kind, encoder=tiny_encoder() | encoder, choice_head=dict(type='ChoiceHead'))
    return dict(
        type=kind,
        encoder=tiny_encoder() | encoder,
        mlm_head=MLM_HEAD,
        itm_head=dict(type='ITMHead', loss_weight=1.0),
        wpa_head=WPA_HEAD,
    )


def tiny_model(
    kind: str = 'ViLTForVQA', seed: int = 0, *, answers: Sequence[str] = ANSWERS, **encoder: Any
) -> torch.nn.Module:
    """Random weights, also where training starts from zeros and ones, so that no two parameters can be confused."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        config = tiny_config(kind, num_answers=len(answers), **encoder)
        model = build_model(config, answers=answers).eval()
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


def tiny_pairs() -> tuple[dict[str, Any], dict[str, Any]]:
    """Two texts of different length about two images of different grids, for kovilt and for transformers.

    No grid is that of the position table; transformers pads images to a common size.
    """
    grids = [(3, 5), (2, 4)]
    generator = torch.Generator().manual_seed(1)
    images = [
        torch.randint(0, 256, (3, 8 * rows, 8 * columns), generator=generator, dtype=torch.uint8)
        for rows, columns in grids
    ]
    patches = [
        pixels.unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).reshape(-1, 3 * 8 * 8) for pixels in images
    ]
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]])
    ours = dict(
        patches=torch.cat(patches),
        grids=torch.tensor(grids),
        image_index=torch.tensor([0, 1]),
        input_ids=ids,
        text_mask=ids != 0,
    )
    pixel_values, pixel_mask = torch.zeros(2, 3, 24, 40), torch.zeros(2, 24, 40, dtype=torch.int64)
    for number, pixels in enumerate(images):
        rows, columns = pixels.shape[1:]
        pixel_values[number, :, :rows, :columns] = pixels.float() / 127.5 - 1
        pixel_mask[number, :rows, :columns] = 1
    theirs = dict(input_ids=ids, attention_mask=(ids != 0).long(), pixel_values=pixel_values, pixel_mask=pixel_mask)
    return ours, theirs


@torch.no_grad()
def answer_scores(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Scores (B, answers) of a `ViLTForVQA`."""
    return model.vqa_head(model.pooled(model.data_preprocessor(batch)))


@torch.no_grad()
def word_scores(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Scores (B, L, vocabulary) that a `ViLTForPreTraining` gives the words as they stand; of no meaning at pads."""
    batch = model.data_preprocessor(batch)
    images = model.encoder.embed_images(batch['patches'], batch['grids'])
    states = model.encode(batch, images, 'all')
    return model.mlm_head(states.text(batch['input_ids'].shape[1]))


def tiny_checkpoint(out: Path, kind: str = 'ViLTForVQA', seed: int = 0, **meta: Any) -> Path:
    """What `KoviltRunner` leaves of a training: `out`/epoch_1.pth, with its tokenizer in `out`/tokenizer."""
    from kovilt.datasets.transforms.text import tokenizer_sizes
    from kovilt.formats.checkpoint import write_checkpoint

    tokenizer, model = tiny_tokenizer(), tiny_model(kind, seed)
    tokenizer.save_pretrained(out / 'tokenizer')
    text_pipeline = [dict(type='TokenizeKorean', tokenizer=str(out / 'tokenizer'), max_text_len=MAX_TEXT_LEN)]
    config = tiny_config(kind)
    config['encoder']['vocab_size'] = None  # taken from the data, as in configs
    reader = dict(type='AIHubLivingReader', data_root='gone', split='val')
    dataset = dict(type='QuestionDataset', reader=reader, image_pipeline=IMAGE_PIPELINE, text_pipeline=text_pipeline)
    sizes, known = tokenizer_sizes(tokenizer), {}
    if kind == 'ViLTForVQA':
        config['vqa_head']['num_answers'] = None
        sizes['num_answers'], known = len(ANSWERS), dict(answers=ANSWERS, answer_counts=[5, 4, 3, 2, 1])
    meta = (
        dict(
            model_type=kind,
            epoch=1,
            iter=10,
            seed=0,
            data_sizes=sizes,
            dataset_meta=known,
            cfg=Config(dict(model=config, val_dataloader=dict(batch_size=2, dataset=dataset), amp=None)).pretty_text,
        )
        | meta
    )
    write_checkpoint(dict(state_dict=model.state_dict(), meta=meta), out / 'epoch_1.pth')
    return out / 'epoch_1.pth'
