"""The batch contract: what the data loader hands to the models. `datasets` and `models` meet here and nowhere else.

An image is the list of its patches; a pair is a text and the index of its image. A batch therefore holds an image once,
however many texts belong to it, and images of different sizes follow one another without padding.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from torch import Tensor


class Batch(TypedDict):
    """B pairs of a text and one of I images. A new key is added here, with who writes it and who reads it.

    `PairCollate` (datasets/collate.py) writes every key but the last. The model's preprocessor moves `patches`,
    `label` and `teacher_log_probs` to the device; the other tensors stay on the host, where the packed layout is
    computed without waiting for the device.

    Shapes: B pairs, I images, L tokens of the longest text, P patches of an image (differs from image to image),
    p side of a patch in pixels, C answers of the vocabulary, Q questions of multiple choice.
    """

    # Every model reads these.
    input_ids: Tensor  # int64 (B, L): WordPiece ids, padded on the right
    text_mask: Tensor  # bool (B, L): True = a token of the text, False = padding
    image_index: Tensor  # int64 (B,): which of the I images belongs to each text
    grids: Tensor  # int64 (I, 2): rows and columns of patches of each image; (0, 0) = no image was given
    # uint8 (sum of P, 3*p*p), all images one after another; float32, normalised, after the preprocessor. Absent where
    # `encoded_images` takes its place.
    patches: NotRequired[Tensor]

    # Pre-training reads these; a batch that is only to be answered may leave them out.
    word_ids: NotRequired[Tensor]  # int64 (B, L): number of each token's word (eojeol), -1 = special token or padding
    image_id: NotRequired[Tensor]  # int64 (I,): identity of each image; an image is never its own negative
    sample_seed: NotRequired[Tensor]  # int64 (B,): from (seed, epoch, sample); seeds the masking and the negatives

    # Fine-tuning and evaluation read these, where the samples have them.
    label: NotRequired[Tensor]  # int64 (B,), -1 = out of vocabulary (OOV), or soft float32 (B, C)
    # float32 (B, C): a teacher's log-probabilities, which `VQAHead` reads in training (distillation); -inf = an answer
    # that the teacher does not list, a row of -inf = it has no scores for the pair.
    teacher_log_probs: NotRequired[Tensor]
    records: NotRequired[list[dict[str, Any]]]  # B rows of the table; predictions carry them to the metric

    # Multiple choice: the pairs are each question with its options, one question after another, and `label` int64 (Q,),
    # the number of the right option, and `records` belong to questions. ViLTForMultipleChoice reads it.
    option_offsets: NotRequired[Tensor]  # int64 (Q + 1,): pairs option_offsets[q] to option_offsets[q + 1] are of q

    # A PrefixImages (kovilt.modules.prefix_vilt). VQAInferencer writes it in place of `patches`; ViLTForVQA reads it.
    encoded_images: NotRequired[Any]


def count_samples(batch: Batch) -> int:
    """How many samples a batch holds: questions in multiple choice, else pairs."""
    offsets = batch.get('option_offsets')
    return len(batch['input_ids']) if offsets is None else len(offsets) - 1
