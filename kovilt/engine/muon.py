"""Muon for the matrices of the transformer and AdamW for all other parameters, as one optimizer.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a weight matrix by the
nearest matrix whose singular values are all equal. A small ViLT trained from random weights needs fewer steps than
with AdamW before it uses the image (docs/en/benchmarks.md, Rooms). Updates are scaled to the size of AdamW's (Liu et
al. 2025, arXiv 2502.16982, eq. 4), so one learning rate and one schedule serve both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from kovilt.ranges import NotNegative, Positive, Rate, check_arguments
from kovilt.registry import OPTIMIZERS

# a, b, c of p(x) = a + b x^2 + c x^4, by which a step multiplies a singular value x: the four that together bring
# 0.003 to 1 nearest to 1 (Amsel et al. 2025, arXiv 2505.16932, algorithm 1), with the paper's guards for bfloat16.
_POLYNOMIALS = (
    (8.1377, -22.7137, 16.3254),
    (3.9652, -2.8364, 0.5225),
    (3.4887, -2.5622, 0.5016),
    (2.5115, -1.8524, 0.4388),
)


@OPTIMIZERS.register_module()
class MuonAdamW(Optimizer):
    """AdamW, except that parameter groups with `matrices` > 0 take Muon's step.

    `matrices` = n: each weight of the group is n matrices, stacked along its rows.
    `ViLTOptimWrapperConstructor` makes such groups of the weights in the encoder's blocks: 3 for `qkv`, which stacks
    queries, keys and values, 1 for all others. (Each head apart, as in Zhang et al. 2026, arXiv 2605.08933, takes less
    time and learns less: docs/en/benchmarks.md, Mixed precision on a CPU, which also compares the times.)

    Differences from torch.optim.Muon: queries, keys and values are orthogonalized apart, in four steps where torch
    takes five, products are computed in float32 where bfloat16 is slow, and one optimizer holds all parameters.
    Matrices of one shape are computed in one batch.

    Attributes:
        found_inf: float (), on the device of the parameters: 1 = the next step changes nothing, as with torch's fused
            AdamW; None = every step counts.

    Args:
        params: parameter groups.
        lr: learning rate.
        betas, eps: of AdamW.
        weight_decay: decoupled, as in AdamW.
        momentum: of Muon, in Nesterov's form.
        precision: of Muon's matrix products; `--amp` sets it.
    """

    found_inf: Tensor | None = None

    @check_arguments
    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: Positive = 1e-3,
        betas: tuple[Rate, Rate] = (0.9, 0.98),
        eps: Positive = 1e-8,
        weight_decay: NotNegative = 0.01,
        momentum: Rate = 0.95,
        precision: Literal['float32', 'bfloat16'] = 'float32',
    ) -> None:
        self.product_dtype: torch.dtype = getattr(torch, precision)
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum=momentum, matrices=0)
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # two overloads
        """Update all parameters that have a gradient; `closure` computes the loss anew, as torch's optimizers do."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group['params'] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters]
            if group['matrices']:
                self._muon_step(group, parameters, gradients)
            else:
                self._adamw_step(group, parameters, gradients)
        return loss

    def _muon_step(self, group: dict[str, Any], parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            by_shape[parameter.shape].append((parameter, gradient))
        for shape, pairs in by_shape.items():
            directions = pairs[0][0].new_empty((len(pairs), *shape), dtype=self.product_dtype)
            for (parameter, gradient), direction in zip(pairs, directions, strict=True):
                state = self.state[parameter]
                if not state:
                    state['momentum'] = torch.zeros_like(parameter)
                momentum = state['momentum']
                if self.found_inf is not None:
                    gradient = torch.where(self.found_inf.bool(), momentum, gradient)
                momentum.lerp_(gradient, 1 - group['momentum'])
                direction.copy_(gradient.lerp(momentum, group['momentum']))
            matrices = directions.view(len(pairs) * group['matrices'], -1, shape[1])
            updates = orthogonalize(matrices).view_as(directions)
            scale = 0.2 * max(matrices.shape[1:]) ** 0.5  # entries of about 0.2, as those of AdamW
            for (parameter, _), update in zip(pairs, updates, strict=True):
                decay = group['lr'] * group['weight_decay']
                if self.found_inf is not None:
                    keep = 1 - self.found_inf
                    update, decay = update * keep, decay * keep
                parameter.mul_(1 - decay)
                parameter.add_(update, alpha=-group['lr'] * scale)

    def _adamw_step(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = dict(
                    step=torch.zeros((), device=parameter.device),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            gradients,
            [state['exp_avg'] for state in states],
            [state['exp_avg_sq'] for state in states],
            [],
            [state['step'] for state in states],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=group['betas'][0],
            beta2=group['betas'][1],
            lr=group['lr'],
            weight_decay=group['weight_decay'],
            eps=group['eps'],
            found_inf=self.found_inf,
        )


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring all singular values of matrices (n, rows, columns) near 1: those above 0.003 of the norm to 0.79 to 1.21.

    Four steps x <- p(x x') x of Newton and Schulz with the polynomials of `_POLYNOMIALS`. Where a matrix is far from
    square, its longer side takes part in every second step only: the product of two steps is computed from
    g = x x' alone, since the second step sees p(g) g p(g) ("Gram Newton-Schulz",
    https://dao-lab.ai/blog/2026/gram-newton-schulz). Over more than two steps, rounding to bfloat16 would make
    eigenvalues of g negative, and those grow.
    """
    rows, columns = matrices.shape[1:]
    is_tall = rows > columns
    is_long = max(rows, columns) >= 1.5 * min(rows, columns)  # then the second way takes fewer operations

    def gram(x: Tensor) -> Tensor:
        return x.mT @ x if is_tall else x @ x.mT

    def apply(p: Tensor, x: Tensor) -> Tensor:
        return x @ p if is_tall else p @ x

    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for first, second in zip(_POLYNOMIALS[::2], _POLYNOMIALS[1::2], strict=True):
        g = gram(x)
        p = _polynomial(g, first)
        if is_long:
            x = apply(_polynomial(p @ (g @ p), second) @ p, x)
        else:
            x = apply(p, x)
            x = apply(_polynomial(gram(x), second), x)
    return x


def _polynomial(g: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """a + b g + c g^2 of symmetric matrices g (n, m, m)."""
    a, b, c = coefficients
    p = torch.baddbmm(g, g, g, beta=b, alpha=c)
    p.diagonal(dim1=1, dim2=2).add_(a)
    return p
