"""Models of base size with new weights, and batches of realistic shapes with random content.

Images have the grids that ViLT's resizing gives the sizes of COCO's images in assumed shares: 199 patches on average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kovilt.batch import Batch
    from kovilt.datasets import ResizeViLT
    from kovilt.models.vqa import ViLTForVQA

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER = ROOT / 'kovilt' / 'assets' / 'rooms_encoder'
PATCH_SIZE, VOCAB_SIZE, NUM_ANSWERS = 32, 8000, 3129
FIRST_TOKEN = 5  # smaller ids are special tokens
RESIZE = {'short': 384, 'long': 639, 'divisor': 32}
TEXT_LENGTHS = (5, 20)  # tokens of a question, [CLS] and [SEP] included
# Width and height in pixels, and their share in percent: an assumption, after COCO.
IMAGE_SIZES = {
    (640, 480): 38,
    (500, 375): 4,
    (640, 427): 25,
    (480, 640): 15,
    (427, 640): 9,
    (640, 640): 4,
    (640, 360): 5,
}


# Models


def base_model(device: str = 'cpu', **encoder: Any) -> ViLTForVQA:
    """The model of configs/kovilt_vqa_aihub.py with new weights in evaluation mode; `encoder` overrides its encoder."""
    import torch

    from kovilt.engine.config import load_config
    from kovilt.models.sizes import build_model

    config = load_config(ROOT / 'configs' / 'kovilt_vqa_aihub.py').model.to_dict()
    config['encoder'].update(vocab_size=VOCAB_SIZE, **encoder)
    config['vqa_head']['num_answers'] = NUM_ANSWERS
    torch.manual_seed(0)
    with torch.device(device):
        model = build_model(config, answers=[str(number) for number in range(NUM_ANSWERS)])
    return model.to(device).eval()


def with_encoder(model: ViLTForVQA, encoder_type: str) -> ViLTForVQA:
    """A model with another type of encoder that shares the parameters of `model`."""
    import torch

    with torch.device('meta'):
        sizes = dict(max_text_len=model.encoder.max_text_len, num_layers=len(model.encoder.blocks))
        other = base_model('meta', type=encoder_type, **sizes)
    other.load_state_dict(model.state_dict(), assign=True)
    other.data_preprocessor.to(next(model.parameters()).device)
    return other.eval()


def save_folder(model: ViLTForVQA, folder: Path) -> Path:
    """Save the model as a model folder, with the tokenizer of Rooms, whose vocabulary is smaller than the model's."""
    from kovilt.datasets.transforms.text import load_tokenizer
    from kovilt.weights import save_model_folder

    encoder = model.encoder
    sizes = ('hidden_size', 'vocab_size', 'max_text_len', 'patch_size', 'image_size')
    config = dict(
        type='ViLTForVQA',
        vqa_head=dict(type='VQAHead', num_answers=model.num_answers, loss=model.vqa_head.loss_type),
        encoder=dict(
            {name: getattr(encoder, name) for name in sizes},
            type=type(encoder).__name__,
            num_layers=len(encoder.blocks),
            num_heads=encoder.blocks[0].attn.num_heads,
            mlp_ratio=encoder.blocks[0].mlp.fc1.out_features / encoder.hidden_size,
            drop_rate=encoder.text.dropout.p,
        ),
    )
    return save_model_folder(
        model,
        load_tokenizer(str(TOKENIZER)),
        folder,
        model_cfg=config,
        max_text_len=encoder.max_text_len,
        image_pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeViLT', **RESIZE),
            dict(type='Patchify', patch_size=PATCH_SIZE),
        ],
    )


# Batches


def grid_shares(resize: ResizeViLT | None = None, patch_size: int = PATCH_SIZE) -> dict[tuple[int, int], int]:
    """Rows and columns of patches of IMAGE_SIZES after a resizing (None = RESIZE), with their shares in percent."""
    from kovilt.datasets import ResizeViLT

    resize = resize or ResizeViLT(**RESIZE)
    shares: Counter[tuple[int, int]] = Counter()
    for size, share in IMAGE_SIZES.items():
        width, height = resize.target(*size)
        shares[height // patch_size, width // patch_size] += share
    return dict(shares)


def sample_grids(
    count: int, rng: torch.Generator, shares: Mapping[tuple[int, int], int] | None = None
) -> list[tuple[int, int]]:
    """Grids of `count` images, sampled by their shares (None = `grid_shares()`)."""
    import torch

    shares = shares or grid_shares()
    grids, weights = list(shares), torch.tensor(list(shares.values()), dtype=torch.float32)
    return [grids[i] for i in torch.multinomial(weights, count, replacement=True, generator=rng).tolist()]


def sample_lengths(count: int, rng: torch.Generator, lengths: tuple[int, int] = TEXT_LENGTHS) -> list[int]:
    """Lengths in tokens of `count` texts, all equally likely."""
    import torch

    return torch.randint(lengths[0], lengths[1] + 1, (count,), generator=rng).tolist()


def make_batch(
    grids: Sequence[tuple[int, int]],
    lengths: Sequence[int],
    rng: torch.Generator,
    *,
    patch_size: int = PATCH_SIZE,
    vocab_size: int = VOCAB_SIZE,
    num_answers: int = NUM_ANSWERS,
    pixels: Tensor | None = None,
) -> Batch:
    """A batch of kovilt's contract with random content; the images share the texts evenly.

    Args:
        grids: rows and columns of patches of each image.
        lengths: tokens of each text, [CLS] and [SEP] included.
        rng: for pixels, token ids and labels.
        patch_size: side of a patch in pixels.
        vocab_size: number of tokens.
        num_answers: number of labels.
        pixels: uint8 (N,) to cut the patches from, N large enough; None = random ones.

    Raises:
        ValueError: the texts leave an image without one.
    """
    import torch

    each = -(-len(lengths) // max(1, len(grids)))  # texts of an image; the last image may have fewer
    if not each or -(-len(lengths) // each) != len(grids):
        raise ValueError(f'{len(lengths)} texts cannot be shared among {len(grids)} images')
    rows, width = sum(rows * columns for rows, columns in grids), 3 * patch_size**2
    if pixels is None:
        pixels = torch.randint(256, (rows * width,), generator=rng, dtype=torch.uint8)
    position, ends = torch.arange(max(lengths)), torch.tensor(lengths)[:, None]
    text_mask = position < ends
    inside = (position > 0) & (position < ends - 1)  # neither [CLS] nor [SEP]: every token is a word of its own
    return {
        'patches': pixels[: rows * width].view(rows, width),
        'grids': torch.tensor(grids),
        'image_id': torch.arange(len(grids)),
        'image_index': torch.arange(len(lengths)) // each,
        'input_ids': torch.randint(FIRST_TOKEN, vocab_size, text_mask.shape, generator=rng) * text_mask,
        'text_mask': text_mask,
        'word_ids': position.expand_as(text_mask).masked_fill(~inside, -1),
        'sample_seed': torch.arange(len(lengths)) * 7919,
        'label': torch.randint(num_answers, (len(lengths),), generator=rng),
    }


def transformers_inputs(batch: Batch) -> dict[str, Tensor]:
    """The batch as transformers' ViLT takes it: an image for every text, padded to the largest of the batch.

    Returns `input_ids`, `attention_mask` (B, L), `pixel_values` float32 (B, 3, H, W) in [-1, 1] and `pixel_mask`
    int64 (B, H, W).
    """
    import torch

    grids = batch['grids'].tolist()
    side = round((batch['patches'].shape[1] / 3) ** 0.5)
    height, width = (side * max(sizes) for sizes in zip(*grids, strict=True))
    pixels, mask = torch.zeros(len(grids), 3, height, width), torch.zeros(len(grids), height, width, dtype=torch.int64)
    images = batch['patches'].split([rows * columns for rows, columns in grids])
    for number, ((rows, columns), patches) in enumerate(zip(grids, images, strict=True)):
        image = patches.view(rows, columns, 3, side, side).permute(2, 0, 3, 1, 4).reshape(3, rows * side, -1)
        pixels[number, :, : rows * side, : columns * side] = image.float() / 127.5 - 1
        mask[number, : rows * side, : columns * side] = 1
    return {
        'input_ids': batch['input_ids'],
        'attention_mask': batch['text_mask'].long(),
        'pixel_values': pixels[batch['image_index']],
        'pixel_mask': mask[batch['image_index']],
    }
