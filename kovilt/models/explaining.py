"""Where a model that answers questions looks: relevance of patches and tokens for an answer, and word-patch alignment.

Shapes: L tokens of the question, P patches of the image in rows and columns, N tokens of the packed sequence, S states
of METER's image encoder, C answers, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kovilt.batch import Batch
from kovilt.errors import KoviltError
from kovilt.models.meter import METER, METERStates
from kovilt.models.vqa import ViLTForVQA
from kovilt.modules.heads.wpa import WPAHead
from kovilt.modules.packing import to_device
from kovilt.modules.prefix_vilt import PrefixViLT
from kovilt.modules.relevance import (
    BiModalRelevance,
    ObservedAttention,
    attention_weights,
    single_stream_relevance,
)
from kovilt.modules.vilt import ViLT, ViLTStates

# ViLT's settings. On Rooms plans nearer to the exact one, or of centered states, lead to the named objects less often.
_ALIGNMENT = WPAHead(loss_weight=0.0, mismatched='ignore', beta=0.5, iterations=50)


Objective = Callable[[Tensor, int], Tensor]


class PairRelevance(NamedTuple):
    """What speaks for an answer to a question about an image; detached float32 tensors.

    Attributes:
        scores: (C,), of all answers, before the softmax.
        label: of the answer that is explained.
        tokens: (L,), relevance of each token, with [CLS] and [SEP].
        patches: (rows, columns), relevance of each patch, on the same scale.
        attention: (rows, columns), the attention of the text [CLS] to each patch in the last block, mean over heads.
            It is no explanation, but what one is compared with.
        plan: (L, rows, columns), the mass that each token sends to each patch, 0 for [CLS] and [SEP]; None for METER,
            whose streams no objective aligns.
    """

    scores: Tensor
    label: int
    tokens: Tensor
    patches: Tensor
    attention: Tensor
    plan: Tensor | None


def log_odds(scores: Tensor, label: int) -> Tensor:
    """log(p / (1 - p)) of an answer's softmax probability p, from scores (C,); unlike log p it does not saturate."""
    others = torch.cat([scores[:label], scores[label + 1 :]])
    return scores[label] - others.logsumexp(dim=0) if len(others) else scores[label]


def explain_pair(
    model: ViLTForVQA, batch: Batch, label: int | None = None, *, objective: Objective = log_odds
) -> PairRelevance:
    """Explain one answer about the only pair of a batch; relevance follows `kovilt.modules.relevance`.

    Computed in float32, in evaluation mode. Parameters, their gradients, and the mode of the model stay as they are.

    Args:
        model: of ViLT, PrefixViLT, or METER with a VisionTransformer as image encoder.
        batch: of `PairCollate`, not preprocessed.
        label: of the answer; None = the one with the highest score.
        objective: what is differentiated, of the scores (C,) and the label. The paper takes the score of the answer.
            We take its log odds, as what raises the scores of all answers alike speaks for none of them.

    Raises:
        KoviltError: for this encoder no rule is known, or the model reads no image.
    """
    explain = next((rule for kind, rule in _RULES if isinstance(model.encoder, kind)), None)
    if explain is None:
        raise _no_rule(type(model.encoder).__name__)
    if not int(batch['grids'].prod()):
        raise KoviltError('the model reads no image, so nothing shows where it looks; explain a model that does')
    device = next(model.parameters()).device
    with _plain_forward(model), torch.autocast(device.type, enabled=False):
        return explain(model, model.data_preprocessor(batch), label, objective)


def _no_rule(kind: str) -> KoviltError:
    return KoviltError(
        f'no rule of relevance is known for {kind}; ViLT, PrefixViLT, and METER with a VisionTransformer have one'
    )


@contextmanager
def _plain_forward(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients and without gradient checkpointing, which would compute the attention twice."""
    modules = list(model.modules())
    modes = [(module, module.training, getattr(module, 'with_cp', None)) for module in modules]
    model.eval()
    try:
        for module, _, with_cp in modes:
            if with_cp:
                module.with_cp = False  # type: ignore[assignment]  # a flag, not a parameter
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training, with_cp in modes:
            module.training = training
            if with_cp:
                module.with_cp = with_cp


def _explain_vilt(model: ViLTForVQA, batch: Batch, label: int | None, objective: Objective) -> PairRelevance:
    """`PrefixViLT` is computed as the ViLT that it is, under a mask that hides the text from the patches."""
    encoder: ViLT = model.encoder
    device, depth = encoder.norm.weight.device, len(encoder.blocks)
    rows, columns = batch['grids'][0].tolist()
    length, mask = int(batch['text_mask'].sum()), None
    if isinstance(encoder, PrefixViLT):
        place = torch.arange(length + 1 + rows * columns, device=device)
        mask = (place[:, None] < length) | (place >= length)
    with ObservedAttention(mask) as observed:
        packing = encoder.make_packing(batch['text_mask'], batch['grids'], batch['image_index'], device)
        text = encoder.embed_text(batch['input_ids'], packing)
        images = ViLT.embed_images(encoder, batch['patches'], batch['grids'])
        # 'all' though [CLS] is enough: then the last block attends like the others.
        x, inner = ViLT.run_blocks(encoder, text, images, packing, 'all', depth - 1 or None)
        states = ViLTStates(encoder.norm(x), packing, 'all')
        scores = model.vqa_head(encoder.pool(states)).float()[0]
    if len(observed.probabilities) != depth:
        raise _no_rule(type(encoder).__name__)
    label = int(scores.argmax()) if label is None else label
    relevance = single_stream_relevance(attention_weights(objective(scores, label), observed.probabilities))
    # The plan is of the states before the last block: the last ones of patches take no part in the answer.
    aligned = (states.packed if inner is None else inner).detach()[None]
    tokens, patches = aligned.split([length, 1 + rows * columns], dim=1)
    attention = observed.probabilities[-1].detach()[0, :, 0].mean(dim=0)  # (N,)
    token_mask, patch_mask = to_device(batch['word_ids'] >= 0, device), torch.ones(1, rows * columns, device=device) > 0
    _, plan = _ALIGNMENT(tokens, token_mask, patches[:, 1:], patch_mask)
    return PairRelevance(
        scores.detach(),
        label,
        tokens=relevance[:length],
        patches=relevance[length + 1 :].view(rows, columns),
        attention=attention[length + 1 :].view(rows, columns),
        plan=plan[0].view(-1, rows, columns),
    )


def _explain_meter(model: ViLTForVQA, batch: Batch, label: int | None, objective: Objective) -> PairRelevance:
    """The paper's rules for two streams, after the self-attention of both encoders.

    The answer is computed from the first states of both streams, or the mean of the image's; the paper has a model with
    one, so we add up the relevance for both.
    """
    from mmpretrain.models import VisionTransformer

    encoder: METER = model.encoder
    image_encoder, fusion = encoder.image_encoder, encoder.cross_modal
    if not isinstance(image_encoder, VisionTransformer):
        raise _no_rule(f'METER with a {type(image_encoder).__name__}')
    with ObservedAttention() as of_image:
        images = encoder.embed_images(batch['patches'], batch['grids'])
    input_ids, text_mask = (to_device(batch[key], images.device) for key in ('input_ids', 'text_mask'))
    with ObservedAttention() as of_text:
        text = encoder.text_encoder(input_ids, text_mask)
    with ObservedAttention() as of_fusion:
        states = METERStates(*fusion(text, text_mask, images, output='all'))
    scores = model.vqa_head(encoder.pool(states)).float()[0]
    label = int(scores.argmax()) if label is None else label
    numbers = [len(image_encoder.layers), encoder.text_encoder.num_layers, 4 * len(fusion.text_blocks)]
    if [len(observed.probabilities) for observed in (of_image, of_text, of_fusion)] != numbers:
        raise _no_rule('METER with attention of another kind')
    probabilities = [*of_image.probabilities, *of_text.probabilities, *of_fusion.probabilities]
    weights = iter(attention_weights(objective(scores, label), probabilities))
    relevance = BiModalRelevance(text.shape[1], images.shape[1], images.device)
    for weight in islice(weights, numbers[0]):
        relevance.attend_image(weight)
    for weight in islice(weights, numbers[1]):
        relevance.attend_text(weight)
    for layer in zip(weights, weights, weights, weights, strict=True):
        relevance.co_attend(*layer)
    pooled = slice(0, 1) if fusion.image_pooling == 'first' else slice(None)
    tokens = relevance.text_text[0] + relevance.image_text[pooled].mean(dim=0)
    patches = relevance.text_image[0] + relevance.image_image[pooled].mean(dim=0)
    tokens[0] -= 1  # the identity that relevance begins with
    patches[pooled] -= 1 / len(patches[pooled])
    rows, columns = image_encoder.patch_resolution
    extra = images.shape[1] - rows * columns  # a CLS, or none
    attention = of_fusion.probabilities[-3].detach()[0, :, 0].mean(dim=0)  # (S,), of the text [CLS] in the last layer
    return PairRelevance(
        scores.detach(),
        label,
        tokens=tokens,
        patches=patches[extra:].view(rows, columns),
        attention=attention[extra:].view(rows, columns),
        plan=None,
    )


_Rule = Callable[[ViLTForVQA, Batch, int | None, Objective], PairRelevance]
_RULES: tuple[tuple[type[nn.Module], _Rule], ...] = ((ViLT, _explain_vilt), (METER, _explain_meter))
