"""What `model_figures` draws: the packaged encoder, and scenes of Rooms as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kovilt.errors import KoviltError

if TYPE_CHECKING:
    from PIL import Image

    from kovilt.apis.pair_transforms import PairTransforms
    from kovilt.batch import Batch
    from kovilt.models.pretraining import ViLTForPreTraining


@dataclass(frozen=True)
class Example:
    """The encoder, its transforms, and the font of the labels."""

    model: ViLTForPreTraining
    transforms: PairTransforms
    font: Any  # matplotlib's FontProperties

    def token_texts(self, input_ids: Sequence[int]) -> list[str]:
        return self.transforms.token_texts(input_ids)


def load_example() -> Example:
    """Load `rooms_encoder`; KoviltError without a font that has Hangul."""
    from matplotlib.font_manager import FontProperties

    from kovilt.apis.loading import build_pipelines
    from kovilt.apis.pair_transforms import PairTransforms
    from kovilt.model_names import packaged_models
    from kovilt.visualization import MISSING_FONT_HINT, korean_font
    from kovilt.weights import load_model_folder

    font = korean_font()
    if font is None:
        raise KoviltError(MISSING_FONT_HINT)
    trained = load_model_folder(packaged_models()['rooms_encoder'])
    return Example(trained.model, PairTransforms(*build_pipelines(trained)), FontProperties(fname=str(font)))


def read_pairs(
    example: Example, pairs: Sequence[tuple[int, int]], seed: int = 0
) -> tuple[list[Image.Image], list[str], Batch]:
    """The image and the caption of each pair, and their batch. A pair is (number of an image, number of a caption)."""
    from kovilt.datasets.collate import pack
    from kovilt.rooms.captions import write_captions
    from kovilt.rooms.draw_scene import draw_scene
    from kovilt.rooms.scene import sample_scene

    images, captions, samples = [], [], []
    for place, (number, caption) in enumerate(pairs):
        scene = sample_scene(0, 'val', number)
        images.append(draw_scene(scene, 0, 'val', number)[0])
        captions.append(write_captions(scene, 0, 'val', number)[0][caption])
        tokens = example.transforms.read_question(captions[-1]).tokens
        image = example.transforms.read_image(images[-1])
        samples.append(dict(tokens, image=image, image_id=number, sample_seed=seed * 7919 + place))
    return images, captions, pack(samples)
