"""A training step in float32 and in bfloat16, in turn on the same batches: median seconds and their ratio.

    python benchmarks/training_step.py configs/rooms/pretrain.py

Images are noise and texts random, in the shapes that Rooms has, for METER squares; no data is needed. Every batch has
its own lengths.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # also without installation

from kovilt.errors import KoviltError, run_cli  # noqa: E402

VOCABULARY = 1000
LENGTHS = (8, 26)  # of a text, in tokens
SHAPES = ((1, 1), (3, 4), (4, 3), (2, 3), (5, 9))  # height : width of an image


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config of training')
    parser.add_argument('--texts', type=int, default=64, metavar='N', help='texts, and images, of a batch (64)')
    parser.add_argument('--steps', type=int, default=20, metavar='N', help='steps of each kind (20)')
    parser.add_argument('--debug', action='store_true', help='show the traceback of errors')
    return parser.parse_args()


def random_batch(config, texts: int, generator):
    """A batch in kovilt's contract, with random content."""
    import torch

    encoder = config.model.encoder
    square = encoder.type == 'METER'
    patch_size = encoder.image_encoder.patch_size if square else encoder.patch_size
    side = encoder.image_size // patch_size
    drawn = torch.randint(len(SHAPES), (texts,), generator=generator).tolist()
    shapes = [(1, 1) if square else SHAPES[i] for i in drawn]
    grids = torch.tensor([[max(side, side * h // w), max(side, side * w // h)] for h, w in shapes])
    lengths = torch.randint(*LENGTHS, (texts,), generator=generator).clamp(max=encoder.max_text_len)
    place = torch.arange(int(lengths.max()))
    text_mask = place < lengths[:, None]
    rows = int(grids.prod(1).sum())
    inside = (place > 0) & (place < lengths[:, None] - 1)
    return {
        'patches': torch.randint(256, (rows, 3 * patch_size**2), generator=generator, dtype=torch.uint8),
        'grids': grids,
        'image_id': torch.arange(texts),
        'image_index': torch.arange(texts),
        'input_ids': torch.randint(5, VOCABULARY, text_mask.shape, generator=generator) * text_mask,
        'text_mask': text_mask,
        'word_ids': place.expand_as(text_mask).masked_fill(~inside, -1),
        'sample_seed': torch.randint(1 << 62, (texts,), generator=generator),
        'label': torch.randint(30, (texts,), generator=generator),
    }


def main(args: argparse.Namespace) -> None:
    import torch

    from kovilt.engine.config import load_config
    from kovilt.engine.optim import ViLTOptimWrapperConstructor, mixed_precision
    from kovilt.models.sizes import build_model, complete_model_config

    if args.texts < 2 or args.steps < 1:
        raise KoviltError('--texts must be at least 2 and --steps at least 1')
    config = load_config(args.config, [], {})
    encoder = config.model.encoder
    sizes = {'vocab_size': VOCABULARY, 'mask_token_id': 4, 'special_token_ids': list(range(5)), 'num_answers': 30}
    model_config = complete_model_config(config.model.to_dict(), data_sizes=sizes)
    runs = {}
    for precision in ('float32', 'bfloat16'):
        torch.manual_seed(0)
        model = build_model(model_config).train()
        wrapper = {'type': 'ViLTOptimWrapper', 'optimizer': dict(config.optim_wrapper.optimizer), 'clip_grad': None}
        wrapper = mixed_precision(wrapper, 'bfloat16') if precision == 'bfloat16' else wrapper
        runs[precision] = model, ViLTOptimWrapperConstructor(wrapper)(model), []
    generator = torch.Generator().manual_seed(0)
    for step in range(args.steps + 3):  # the first three are not counted
        batch = random_batch(config, args.texts, generator)
        for model, wrapper, seconds in runs.values():
            start = time.perf_counter()
            model.train_step([batch], wrapper)
            if step >= 3:
                seconds.append(time.perf_counter() - start)
    full, half = (statistics.median(seconds) for _, _, seconds in runs.values())
    print(
        f'{args.config}: {args.texts} texts and images, width {encoder.hidden_size}, {encoder.num_layers} blocks, '
        f'{torch.get_num_threads()} threads: float32 {full * 1e3:.0f} ms, bfloat16 {half * 1e3:.0f} ms a step, '
        f'ratio {full / half:.2f}'
    )


if __name__ == '__main__':
    arguments = parse_args()
    sys.exit(run_cli(lambda: main(arguments), debug=arguments.debug))
