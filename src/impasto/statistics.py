"""Moments: the statistics of features that all style losses and operators are computed from.

A feature map ``F`` has ``C`` channels over ``N = H*W`` positions. A style is described by the
following sums over its positions, which ignore where a feature is:

* the weight ``w = N`` (or the sum of a mask),
* the first moment ``sum_n F[:, n]`` (``C``),
* the raw second moment ``sum_n F[:, n] F[:, n]^T`` (``C x C``).

Because they are sums, the moments of tiles, masks, batches and several styles can be added, and
they can be saved. Mean, deviation, covariance and the Gram matrix follow from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import InputError

__all__ = ["Moments", "shares"]


def shares(count: int, weights: Sequence[float] | None = None) -> list[float]:
    """Weights of ``count`` styles, normalised to sum to one; equal if None.

    Raises:
        InputError: for no styles, another number of weights, or weights that sum to zero or are
            not finite.
    """
    if not count:
        raise InputError("no style given: name at least one")
    values = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(values) != count:
        fault = f"{len(values)} weights for {count} styles: give one for each"
        raise InputError(fault, option="weights")
    total = sum(values)
    if not math.isfinite(total) or abs(total) < 1e-12:
        fault = "the weights of the styles sum to zero: give at least one above zero"
        raise InputError(fault, option="weights")
    return [weight / total for weight in values]


class _Sums(torch.autograd.Function):
    """First and second moments of ``(..., C, H, W)``, with the backward pass in one product.

    Autograd alone would compute two products for ``F F^T`` (one for each factor) and another pass
    for the sum; on a small network that is a sixth of an iteration. Rows are positions, as
    channels-last features are laid out in memory.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(features, mask)
        ctx.set_materialize_grads(False)  # a loss of Gram matrices has no gradient for the sums
        wide = torch.promote_types(features.dtype, torch.float32)
        rows = features.flatten(-2).transpose(-1, -2)  # (..., N, C)
        weighted = rows if mask is None else rows * mask
        return weighted.sum(-2, dtype=wide), _product(weighted.transpose(-1, -2), rows).to(wide)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None]:
        features, mask = ctx.saved_tensors
        rows = features.flatten(-2).transpose(-1, -2)
        first, second = grads
        if second is None:
            grad = torch.zeros_like(rows)
        else:
            both = second + second.transpose(-1, -2)
            if rows.dtype != torch.float16:  # small gradients would become zero
                both = both.to(rows.dtype)
            grad = _product(rows, both).to(rows.dtype)
        if first is not None:
            grad = grad + first.to(rows.dtype).unsqueeze(-2)
        if mask is not None:
            grad = grad * mask
        return grad.transpose(-1, -2).reshape(features.shape), None


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right``; float16 in float32, because sums over many positions exceed its range."""
    kind = right.device.type
    half = torch.float16 in (left.dtype, right.dtype)
    if torch.is_autocast_enabled(kind):
        half = half or torch.get_autocast_dtype(kind) == torch.float16
    if not half:
        return left @ right
    with torch.autocast(kind, enabled=False):
        return left.float() @ right.float()


@dataclass(frozen=True)
class Moments:
    """Weighted first and second moments of features, as sums over positions.

    Attributes:
        weight: sum of the weights of the positions, shape ``(...)``.
        first: weighted sum of features, shape ``(..., C)``.
        second: weighted sum of outer products, shape ``(..., C, C)``, symmetric.

    Example:
        >>> features = torch.arange(12.0).reshape(3, 2, 2)
        >>> whole = Moments.of(features)
        >>> halves = Moments.of(features[:, :1]) + Moments.of(features[:, 1:])
        >>> torch.equal(whole.second, halves.second)
        True
    """

    weight: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, features: Tensor, mask: Tensor | None = None) -> Moments:
        """Measure a feature map.

        Args:
            features: ``(..., C, H, W)``; leading dimensions are kept.
            mask: non-negative weights of the positions, ``(..., H, W)``; all ones if None.

        Returns:
            Moments in float32 (float64 for float64 features). The second moments of bfloat16
            features are a bfloat16 matrix product, which is fast, but has only three digits.

        Raises:
            InputError: if a mask selects nothing.
        """
        wide = torch.promote_types(features.dtype, torch.float32)
        if mask is None:
            count = float(features.shape[-1] * features.shape[-2])
            weight = torch.full(features.shape[:-3], count, dtype=wide, device=features.device)
            flat_mask = None
        else:
            flat_mask = mask.flatten(-2).to(wide)
            weight = flat_mask.sum(-1)
            if not bool((weight > 0).all()):
                raise InputError("the mask selects no part of the picture: use a larger region")
            flat_mask = flat_mask.unsqueeze(-1).to(features.dtype)
        first, second = _Sums.apply(features, flat_mask)  # type: ignore[no-untyped-call]
        return cls(weight, first, second)

    @classmethod
    def mix(cls, parts: Sequence[Moments], weights: Sequence[float] | None = None) -> Moments:
        """Average the *normalised* moments of several pictures: this mixes their styles.

        Means and raw second moments are averaged (not covariances, not pictures). The result is the
        moments of a picture that shows each style on its share of the area. Weights are normalised
        to sum to one; a weight outside 0..1 extrapolates.

        Raises:
            InputError: for no parts, another number of weights than parts, or weights that sum
                to zero.
        """
        normalised = [part.normalised() for part in parts]
        shared = list(zip(normalised, shares(len(normalised), weights), strict=True))
        return cls(
            weight=torch.ones_like(normalised[0].weight),
            first=torch.stack([m.first * share for m, share in shared]).sum(0),
            second=torch.stack([m.second * share for m, share in shared]).sum(0),
        )

    @classmethod
    def uncorrelated(cls, mean: Tensor, deviation: Tensor) -> Moments:
        """Normalised moments of uncorrelated channels; both arguments are ``(..., C)``."""
        second = torch.diag_embed(deviation.square()) + mean[..., :, None] * mean[..., None, :]
        return cls(mean.new_ones(mean.shape[:-1]), mean, second)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.weight + other.weight, self.first + other.first, self.second + other.second
        )

    def mapped(self, matrix: Tensor) -> Moments:
        """The moments of ``matrix @ F``, without computing this product.

        Args:
            matrix: ``(D, C)``.
        """
        first = self.first @ matrix.transpose(-1, -2)
        return Moments(self.weight, first, matrix @ self.second @ matrix.transpose(-1, -2))

    def normalised(self) -> Moments:
        """The same moments per unit of weight."""
        return Moments(torch.ones_like(self.weight), self.mean, self.gram)

    @property
    def channels(self) -> int:
        """Number of channels ``C``."""
        return self.first.shape[-1]

    @property
    def mean(self) -> Tensor:
        """Mean of every channel, ``(..., C)``."""
        return self.first / self.weight[..., None]

    @property
    def gram(self) -> Tensor:
        """Gram matrix ``F F^T / N`` (report 5, Eq. 2.1), ``(..., C, C)``."""
        return self.second / self.weight[..., None, None]

    @property
    def covariance(self) -> Tensor:
        """Population covariance ``F F^T / N - mean mean^T``, ``(..., C, C)``."""
        return self.gram - self.mean[..., :, None] * self.mean[..., None, :]

    def deviation(self, eps: float = 1e-5) -> Tensor:
        """Standard deviation of every channel, ``sqrt(var + eps)``, ``(..., C)``.

        ``eps`` keeps the gradient finite where a channel is constant.
        """
        variance = self.gram.diagonal(dim1=-2, dim2=-1) - self.mean.square()
        return (variance.clamp_min(0) + eps).sqrt()

    def to(self, target: torch.device | str | torch.dtype) -> Moments:
        """The same moments on another device, or in another data type."""
        return Moments(self.weight.to(target), self.first.to(target), self.second.to(target))

    def detach(self) -> Moments:
        """The same moments, detached from autograd's graph."""
        return Moments(self.weight.detach(), self.first.detach(), self.second.detach())

    def tensors(self, prefix: str, half: bool = False) -> dict[str, Tensor]:
        """Tensors to save, under ``prefix``; the second moment as its upper triangle.

        Args:
            prefix: prefix of their names.
            half: save as float16, normalised, with the covariance instead of the second moment:
                otherwise a small deviation would be the difference of two rounded numbers.
        """
        rows, columns = torch.triu_indices(self.channels, self.channels, device="cpu")
        if half:
            saved = {"first": self.mean, "covariance": self.covariance.cpu()[rows, columns]}
            return {f"{prefix}.{name}": t.cpu().to(torch.float16) for name, t in saved.items()}
        return {
            f"{prefix}.weight": self.weight.cpu().reshape(1),
            f"{prefix}.first": self.first.cpu().contiguous(),
            f"{prefix}.second": self.second.cpu()[rows, columns].contiguous(),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> Moments:
        """The inverse of :meth:`tensors`, in float32 or more.

        Raises KeyError if no tensors have this prefix.
        """
        first = tensors[f"{prefix}.first"]
        first = first.to(torch.promote_types(first.dtype, torch.float32))
        half = f"{prefix}.covariance" in tensors
        triangle = tensors[f"{prefix}.covariance" if half else f"{prefix}.second"].to(first.dtype)
        rows, columns = torch.triu_indices(len(first), len(first), device=first.device)
        second = first.new_zeros(len(first), len(first))
        second[rows, columns] = triangle
        second[columns, rows] = triangle
        if half:
            return cls(first.new_ones(()), first, second + first[:, None] * first[None])
        return cls(tensors[f"{prefix}.weight"].reshape(()), first, second)
