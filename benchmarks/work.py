"""The work that the benchmarks of models share: base-size models, batches of realistic shapes, and what they cost.

Images have the grids that ViLT's resizing gives the sizes of COCO, in assumed shares: 199 patches on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from kovilt.batch import Batch
    from kovilt.models.vqa import ViLTForVQA

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY, ANSWERS = 8000, 3129
# 640x480 and 500x375, 640x427, 480x640, 427x640, square, 16:9, as rows and columns of patches: percent of the images
GRIDS = {(12, 16): 42, (12, 18): 25, (16, 12): 15, (18, 12): 9, (12, 12): 4, (11, 19): 5}
LENGTHS = (5, 20)  # of a question in tokens, [CLS] and [SEP] included


def base_model(device: str = 'cpu', **encoder: Any) -> ViLTForVQA:
    """The model of configs/kovilt_vqa_aihub.py with new weights, in evaluation; `encoder` changes its encoder."""
    import torch

    from kovilt.engine.config import load_config
    from kovilt.models.sizes import build_model

    config = load_config(ROOT / 'configs' / 'kovilt_vqa_aihub.py').model.to_dict()
    config['encoder'].update(vocab_size=VOCABULARY, **encoder)
    config['vqa_head']['num_answers'] = ANSWERS
    torch.manual_seed(0)
    with torch.device(device):
        model = build_model(config, answers=[str(number) for number in range(ANSWERS)])
    return model.to(device).eval()


def same_weights(model: ViLTForVQA, kind: str) -> ViLTForVQA:
    """A model with an encoder of another kind, on the very parameters of `model`."""
    import torch

    with torch.device('meta'):
        other = base_model('meta', type=kind, max_text_len=model.encoder.max_text_len)
    other.load_state_dict(model.state_dict(), assign=True)
    other.data_preprocessor.to(next(model.parameters()).device)
    return other.eval()


def save_folder(model: ViLTForVQA, place: Path) -> Path:
    """The model as a model folder, with the tokenizer of Rooms, which knows fewer words than it."""
    from kovilt.datasets.transforms.text import load_tokenizer
    from kovilt.weights import save_model_folder

    encoder = model.encoder
    sizes = ('hidden_size', 'vocab_size', 'max_text_len', 'patch_size', 'image_size')
    config = dict(
        type='ViLTForVQA',
        vqa_head=dict(type='VQAHead', num_answers=model.vqa_head.num_answers),
        encoder=dict(
            {name: getattr(encoder, name) for name in sizes},
            type=type(encoder).__name__,
            num_layers=len(encoder.blocks),
            num_heads=encoder.blocks[0].attn.num_heads,
        ),
    )
    return save_model_folder(
        model,
        load_tokenizer(str(ROOT / 'kovilt' / 'assets' / 'rooms_encoder')),
        place,
        model_cfg=config,
        max_text_len=encoder.max_text_len,
        image_pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeViLT', short=384, long=639, divisor=32),
            dict(type='Patchify', patch_size=32),
        ],
    )


def draw_grids(count: int, chance: torch.Generator) -> list[tuple[int, int]]:
    """Grids of images, by their shares."""
    import torch

    shares = torch.tensor(list(GRIDS.values()), dtype=torch.float32)
    return [list(GRIDS)[i] for i in torch.multinomial(shares, count, replacement=True, generator=chance).tolist()]


def draw_lengths(count: int, chance: torch.Generator) -> list[int]:
    """Lengths of questions in tokens."""
    import torch

    return torch.randint(LENGTHS[0], LENGTHS[1] + 1, (count,), generator=chance).tolist()


def make_batch(
    grids: Sequence[tuple[int, int]],
    lengths: Sequence[int],
    chance: torch.Generator,
    *,
    pixels: int = 3 * 32 * 32,
    vocabulary: int = VOCABULARY,
    answers: int = ANSWERS,
) -> Batch:
    """A batch in kovilt's contract with random content: questions of these lengths, as many for each image.

    Raises:
        ValueError: the questions cannot be shared out evenly.
    """
    import torch

    if not grids or len(lengths) % len(grids):
        raise ValueError(f'{len(lengths)} questions about {len(grids)} images')
    text_mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    counts = sum(rows * columns for rows, columns in grids)
    return dict(
        patches=torch.randint(256, (counts, pixels), generator=chance, dtype=torch.uint8),
        grids=torch.tensor(grids),
        image_id=torch.arange(len(grids)),
        image_index=torch.arange(len(grids)).repeat_interleave(len(lengths) // len(grids)),
        input_ids=torch.randint(5, vocabulary, text_mask.shape, generator=chance) * text_mask,
        text_mask=text_mask,
        label=torch.randint(answers, (len(lengths),), generator=chance),
    )


def forward_flops(model: ViLTForVQA, batch: Batch) -> float:
    """Operations of all matrix products that answering a batch takes, an addition and a multiplication each counted.

    A training step takes three times as many. For rows x of width D and an MLP of width M a block's linear layers take
    2 x (4 D^2 + 2 D M), attention of x rows to y rows 4 x y D; the last block computes keys and values of all rows, and
    the rest of the text's [CLS] alone.
    """
    from kovilt.modules import PrefixViLT

    encoder = model.encoder
    width, blocks = encoder.hidden_size, len(encoder.blocks)
    mlp = encoder.blocks[0].mlp.fc1.out_features
    words = batch['text_mask'].sum(dim=1).tolist()
    images = [count + 1 for count in batch['grids'].prod(dim=1).tolist()]  # with their CLS
    known = [words[i] + images[j] for i, j in enumerate(batch['image_index'].tolist())]

    def linear(rows: int) -> int:
        return 2 * rows * (4 * width**2 + 2 * width * mlp)

    def attention(asking: int, known: int) -> int:
        return 4 * asking * known * width

    prefix = isinstance(encoder, PrefixViLT)
    asking = words if prefix else known
    total = sum(linear(rows) + attention(rows, seen) for rows, seen in zip(asking, known, strict=True)) * (blocks - 1)
    total += sum(4 * rows * width**2 + attention(1, seen) for rows, seen in zip(asking, known, strict=True))
    total += len(words) * (linear(1) - 4 * width**2)  # its keys and values are among those of all
    if prefix:
        total += sum(linear(rows) + attention(rows, rows) for rows in images) * (blocks - 1)
        total += sum(4 * rows * width**2 for rows in images)
    total += 2 * len(batch['patches']) * batch['patches'].shape[1] * width  # pixels
    head = 2 * width * width + 2 * width * model.vqa_head.num_answers  # its two layers
    return total + 2 * len(words) * (width**2 + head)  # the pooler before it
