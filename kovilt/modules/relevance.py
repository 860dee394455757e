"""How relevant each token and each patch is for a score: attention, weighted by its gradients, through all layers.

The rules are those of Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and
Encoder-Decoder Transformers" (ICCV 2021, arXiv 2103.15679). A relevance is 0 or more: only what speaks for the score
counts, not what speaks against it.

Shapes: B pairs, h heads, Q queries, K keys, N tokens of a sequence, L tokens of the text, S states of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class ObservedAttention(TorchFunctionMode):
    """In this context torch's `scaled_dot_product_attention` keeps its probabilities, from which gradients flow.

    The fused kernels never hold the probabilities; here they are computed by a softmax, with the same output. Every
    module that calls torch's function is observed, those of other libraries too, and none has to be changed.

    Args:
        mask: bool (Q, K), True = the key takes part, of every call, beside the call's own mask.

    Attributes:
        probabilities: of each call, in their order, (B, h, Q, K).
    """

    def __init__(self, mask: Tensor | None = None) -> None:
        super().__init__()
        self.mask = mask
        self.probabilities: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        attends = func is F.scaled_dot_product_attention
        return (self._attend if attends else func)(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        if dropout_p or is_causal:
            raise ValueError('attention with dropout, or of a causal model, is not observed')
        scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        for mask in (self.mask, attn_mask):
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        probabilities = scores.softmax(dim=-1)
        if not probabilities.requires_grad:  # the parameters are frozen
            probabilities.requires_grad_()
        self.probabilities.append(probabilities)
        return probabilities @ value


def attention_weights(score: Tensor, probabilities: Sequence[Tensor]) -> list[Tensor]:
    """The mean over the heads of the positive part of gradient * attention (eq. 5) of one pair, each (Q, K).

    `probabilities` (1, h, Q, K) were observed while the score, a scalar, was computed. No gradient of a parameter is
    computed or stored.
    """
    gradients = torch.autograd.grad(score, probabilities, allow_unused=True, materialize_grads=True)
    return [
        (gradient * attention.detach()).clamp(min=0).mean(dim=1)[0]
        for gradient, attention in zip(gradients, probabilities, strict=True)
    ]


def single_stream_relevance(weights: Sequence[Tensor]) -> Tensor:
    """The relevance of N tokens for a score that is computed from the first one, (N,).

    `weights` (N, N) are those of each layer, in order. Every layer updates R = R + A R, where R begins as the identity
    (eq. 6). The first row of the result, without the identity, is what is asked for; it is computed alone, from the
    last layer to the first.
    """
    start = torch.zeros(len(weights[0]), dtype=weights[0].dtype, device=weights[0].device)
    start[0] = 1
    row = start
    for weight in reversed(weights):
        row = row + row @ weight
    return row - start


class BiModalRelevance:
    """The relevance of a text's and an image's tokens for each other's states in two streams with cross-attention.

    Args:
        num_text, num_image: L and S.

    Attributes:
        text_text, text_image, image_text, image_image: (L, L), (L, S), (S, L) and (S, S): of the tokens named second
            for the states of those named first.
    """

    def __init__(self, num_text: int, num_image: int, device: torch.device) -> None:
        self.text_text, self.image_image = torch.eye(num_text, device=device), torch.eye(num_image, device=device)
        self.text_image = torch.zeros(num_text, num_image, device=device)
        self.image_text = torch.zeros(num_image, num_text, device=device)

    def attend_text(self, weight: Tensor) -> None:
        """Self-attention of the text, `weight` (L, L) (eq. 6 and 7)."""
        self.text_text = self.text_text + weight @ self.text_text
        self.text_image = self.text_image + weight @ self.text_image

    def attend_image(self, weight: Tensor) -> None:
        """Self-attention of the image, `weight` (S, S) (eq. 6 and 7)."""
        self.image_image = self.image_image + weight @ self.image_image
        self.image_text = self.image_text + weight @ self.image_text

    def co_attend(self, text: Tensor, text_to_image: Tensor, image: Tensor, image_to_text: Tensor) -> None:
        """A layer of METER: self-attention, then cross-attention to the other stream's states before the layer.

        text (L, L), text_to_image (L, S), image (S, S), image_to_text (S, L) are the weights of the four attentions.
        Cross-attention follows eq. 8 to 11.
        """
        text_text, text_image, image_text, image_image = (
            self.text_text,
            self.text_image,
            self.image_text,
            self.image_image,
        )
        self.attend_text(text)
        self.attend_image(image)
        self.text_image = self.text_image + _normalized(self.text_text).T @ text_to_image @ _normalized(image_image)
        self.image_text = self.image_text + _normalized(self.image_image).T @ image_to_text @ _normalized(text_text)
        self.text_text = self.text_text + text_to_image @ image_text
        self.image_image = self.image_image + image_to_text @ text_image


def _normalized(relevance: Tensor) -> Tensor:
    """Rows of R - I divided by their sums, plus I (eq. 8 and 9); a row of zeros stays one, plus I."""
    identity = torch.eye(len(relevance), dtype=relevance.dtype, device=relevance.device)
    rest = relevance - identity
    return rest / rest.sum(dim=1, keepdim=True).clamp(min=torch.finfo(rest.dtype).tiny) + identity
