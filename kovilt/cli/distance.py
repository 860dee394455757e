"""Fit which images a model knows; its answers about others then say that the image is unlike those of training.

kovilt distance work_dirs/quickstart/model data/rooms/captions/train2014
kovilt predict work_dirs/quickstart/model room.jpg "소파는 무슨 색이에요?"

The images are those of its training, or of its validation. The model folder keeps the detector (the Mahalanobis
distance of the image's states); answers stay the same, and get `image_distance` and `unlike_training`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kovilt.cli.arguments import CommandParser, at_least


def add_arguments(parser: CommandParser) -> None:
    parser.add_argument('model', type=Path, help='model folder; it keeps the detector')
    parser.add_argument('images', type=Path, metavar='IMAGES', help='folder of images like those of its training')
    parser.add_argument('--limit', type=at_least(1), default=2000, metavar='N', help='images to take (default: 2000)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')


def run(args: argparse.Namespace) -> None:
    from mmengine.logging import MMLogger

    from kovilt.apis import VQAInferencer
    from kovilt.apis.image_distance import find_images, fit_to_images
    from kovilt.cli.progress import progress_bar
    from kovilt.terminal import show
    from kovilt.weights.calibration import check_calibratable
    from kovilt.weights.image_detector import QUANTILE, store_image_detector

    MMLogger.get_current_instance().setLevel('WARNING')
    check_calibratable(args.model)
    images = find_images(args.images, args.limit)
    inferencer = VQAInferencer(args.model, device=args.device)
    with progress_bar('reading images') as progress:
        detector = fit_to_images(inferencer, images, progress)
    store_image_detector(args.model, detector)
    where = f'{QUANTILE:.0%} of {detector.images:,} images lie within a distance of {detector.threshold:.1f}'
    show(f'{args.model}: {where}; an image beyond it is told to be unlike training')
