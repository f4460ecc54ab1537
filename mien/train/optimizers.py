"""The recipe's optimiser, and Muon: momentum whose direction is made orthogonal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mien.train.recipe import OptimizerConfig, Recipe

#: Coefficients of the quintic iteration (Jordan et al. 2024, "Muon: an optimizer for hidden
#: layers"): steep at 0, so that five rounds bring every singular value near 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalise(matrices: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Bring the singular values of each matrix near 1 (about 0.7 to 1.2) by Newton–Schulz rounds.

    Args:
        matrices: float (B, rows, columns).

    Returns:
        float32, the same shape. On a GPU the products run in bfloat16.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    # Where float32 products are not exact, small singular values need every round's own product.
    rough = x.is_cuda or torch.get_float32_matmul_precision() != "highest"
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = _round_by_round(x, rounds) if rough else _by_gram(x, rounds)
    return (x.mT if tall else x).float()


def _round_by_round(x: Tensor, rounds: int) -> Tensor:
    a, b, c = QUINTIC
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _by_gram(x: Tensor, rounds: int) -> Tensor:
    """The same: every round multiplies ``x`` by a polynomial of its Gram matrix, and so changes
    that matrix; the wide ``x`` itself is needed twice (2.7 times as fast for convolutions)."""
    a, b, c = QUINTIC
    gram = x @ x.mT
    constant = a * torch.eye(gram.shape[1], device=x.device)
    product: Tensor | None = None
    for left in reversed(range(rounds)):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + constant
        product = factor if product is None else factor @ product
        if left:
            gram = factor @ (factor @ gram)
    return x if product is None else product @ x


class Muon(torch.optim.Optimizer):
    """Muon for the groups with ``muon=True``, SGD with Nesterov momentum for the others.

    Written from Jordan's published description: the Nesterov momentum of a weight, as a matrix
    (outputs, everything else), is orthogonalised and scaled by max(1, rows / columns) ** .5.

    Args:
        params: parameter groups; ``muon`` groups hold tensors of two or more dimensions.
        lr, momentum, weight_decay: as in SGD; the decay is decoupled in muon groups.
        renormalise: muon groups keep the norm of every weight at its first value instead: under
            batch norm only the direction matters, and the step then turns it by a known angle.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        renormalise: bool = False,
    ) -> None:
        rates = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**rates, "renormalise": renormalise, "muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` computes the loss anew, as in every torch optimiser."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["muon"]:
                self._turn(parameters, group)
            elif parameters:
                self._descend(parameters, group)
        return loss

    def _momentum(self, p: Tensor, factor: float) -> Tensor:
        """Add the gradient to the momentum; returns Nesterov's look ahead."""
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        buffer: Tensor = state["momentum_buffer"].mul_(factor).add_(p.grad)
        return p.grad.add(buffer, alpha=factor)  # type: ignore[union-attr]

    def _turn(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, ...], list[Tensor]] = {}
        for p in parameters:
            by_shape.setdefault(tuple(p.shape), []).append(p)
        for shape, alike in by_shape.items():
            ahead = torch.stack([self._momentum(p, group["momentum"]) for p in alike])
            turned = orthogonalise(ahead.reshape(len(alike), shape[0], -1))
            scale = max(1.0, shape[0] / turned.shape[2]) ** 0.5
            for p, update in zip(alike, turned, strict=True):
                state = self.state[p]
                if group["renormalise"]:
                    state.setdefault("norm", p.norm())
                else:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view(shape).to(p.dtype), alpha=-group["lr"] * scale)
                if group["renormalise"]:
                    p.mul_(state["norm"] / p.norm().clamp(min=1e-12))

    def _descend(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            grads = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_add_(grads, parameters, alpha=group["weight_decay"])
        steps = [self._momentum(p, group["momentum"]) for p in parameters]
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser; weight decay acts on weights, not on biases and batch norm.

    A group's ``lr_scale``, where it has one, is what the schedule's rate is multiplied by.
    """
    c = recipe.optimizer
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    other = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": c.weight_decay},
        {"params": other, "weight_decay": 0.0},
    ]
    if c.name == "muon":
        return _muon(c, decayed, other)
    if c.bias_scale != 1:
        groups[1]["lr_scale"] = c.bias_scale
    betas = (c.beta1, c.beta2)
    if c.name == "sgd":
        nesterov = c.momentum > 0
        return torch.optim.SGD(groups, lr=c.lr, momentum=c.momentum, nesterov=nesterov, fused=True)
    if c.name == "nadam":  # torch has no fused one
        return torch.optim.NAdam(groups, lr=c.lr, betas=betas, eps=c.eps)
    kind = torch.optim.Adam if c.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=c.lr, betas=betas, eps=c.eps, fused=True)


def _muon(c: OptimizerConfig, decayed: Sequence[Tensor], other: Sequence[Tensor]) -> Muon:
    """Convolutions by Muon; dense layers and vectors by SGD."""
    convolutions = [p for p in decayed if p.ndim == 4]
    dense = [p for p in decayed if p.ndim != 4]
    groups = [
        {"params": convolutions, "muon": True, "weight_decay": c.weight_decay},
        {"params": dense, "weight_decay": c.weight_decay, "lr_scale": c.rest_scale},
        {"params": other, "weight_decay": 0.0, "lr_scale": c.rest_scale * c.bias_scale},
    ]
    return Muon(groups, lr=c.lr, momentum=c.momentum, renormalise=c.renormalise)
