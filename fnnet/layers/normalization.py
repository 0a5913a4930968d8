"""Normalization: a mean of 0 and a variance of 1 over some of the axes, then a scale and a shift for each feature.

    x̂ = (x − μ) / √(σ² + ε),   y = x̂ ⊙ scale + shift

with the mean ``μ`` and the variance ``σ²`` (divided by ``n``, not ``n − 1``) over

- ``LayerNorm``: the features of each position,
- ``GroupNorm``: the positions of each example and a group of its features,
- ``BatchNorm``: the examples and positions of each feature.

Shapes: ``x (N, ..., C)``, ``scale (C,)``, ``shift (C,)``, ``y`` as ``x``; ``scale`` starts at one, ``shift`` at zero.
Moments of low-precision inputs are taken in float32. Features that are constant give ``x̂ = 0``. A single number has no
variance and is refused.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.initializers import ones, zeros
from fnnet.layers.affine import check_features, scale_and_shift
from fnnet.types import Array, Initializer, Params, Shape, Shaped

EPSILON = 1e-5


@configuration
class LayerNorm:
    """Normalizes the features of each position alone; the moments are over the last axis.

    Source: Ba, Kiros and Hinton 2016, "Layer normalization", eq. 3 and 4.
    """

    epsilon: float = EPSILON
    scale_init: Initializer = ones
    shift_init: Initializer = zeros

    def __post_init__(self) -> None:
        check_epsilon("LayerNorm", self)

    def init(self, key: Array, x: Shaped) -> Params:
        return scale_and_shift(repr(self), self, key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return with_moments(self, params, x)[0]

    def groups_of(self, shape: Shape) -> Groups:
        groups = Groups(shape, (len(shape) - 1,))
        groups.check(repr(self))
        return groups


@configuration
class GroupNorm:
    """Normalizes ``groups`` equal groups of neighbouring features, each over all positions of its example.

    ``groups=1`` takes all features together; as many groups as features is instance normalization. Source: Wu and He
    2018, "Group normalization", eq. 3 and 7.
    """

    groups: int
    epsilon: float = EPSILON
    scale_init: Initializer = ones
    shift_init: Initializer = zeros

    def __post_init__(self) -> None:
        checks.positive_integer("GroupNorm", "groups", self.groups)
        check_epsilon("GroupNorm", self)

    def init(self, key: Array, x: Shaped) -> Params:
        self.groups_of(x.shape)
        return scale_and_shift(repr(self), self, key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return with_moments(self, params, x)[0]

    def groups_of(self, shape: Shape) -> Groups:
        checks.require(
            len(shape) >= 2 and shape[-1] % self.groups == 0,
            f"{self!r}: x has shape {shape}; expected (N, ..., C) with C a multiple of the {self.groups} groups",
        )
        groups = Groups((*shape[:-1], self.groups, shape[-1] // self.groups), (*range(1, len(shape) - 1), len(shape)))
        groups.check(repr(self))
        return groups


@configuration
class BatchNorm:
    """Normalizes each feature over the batch: all examples and positions.

    One pure function, with ``train=True`` as without: the moments are always those of the batch at hand, nothing is
    remembered between calls, and no mode quietly takes other numbers. What an example gives depends therefore on the
    others in its batch, in validation as in training. The network for inference, where it must not, is *another model*:
    ``fnnet.fold_batch_norm(model, params, x)`` takes the training data and returns it with its parameters. A batch with
    a single number for each feature, which would give ``shift`` whatever the input, is refused.

    Source: Ioffe and Szegedy 2015, "Batch normalization", algorithm 1.
    """

    epsilon: float = EPSILON
    scale_init: Initializer = ones
    shift_init: Initializer = zeros

    def __post_init__(self) -> None:
        check_epsilon("BatchNorm", self)

    def init(self, key: Array, x: Shaped) -> Params:
        return scale_and_shift(repr(self), self, key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return with_moments(self, params, x)[0]

    def groups_of(self, shape: Shape) -> Groups:
        groups = Groups(shape, tuple(range(len(shape) - 1)))
        groups.check(repr(self), "; for inference on single examples use fnnet.fold_batch_norm")
        return groups


class Groups(NamedTuple):
    """Which numbers are normalized together: those along ``axes`` of the input reshaped to ``shape``."""

    shape: Shape
    axes: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers are normalized together."""
        return prod(self.shape[axis] for axis in self.axes)

    def check(self, place: str, hint: str = "") -> None:
        checks.require(
            self.size > 1,
            f"{place}: x has {self.size} numbers in each group that is normalized; a mean and a variance need at "
            f"least 2{hint}",
        )


class Moments(NamedTuple):
    """``center`` is the mean less a small ``rest``, see ``moments``; ``variance`` is divided by the count."""

    center: Array
    rest: Array
    variance: Array

    @property
    def mean(self) -> Array:
        return self.center + self.rest


def moments(x: Array, axes: tuple[int, ...]) -> Moments:
    """The mean and the variance along ``axes``, which are kept with length one.

    Two passes: ``c = x − mean(x)`` before anything is squared. The mean of many large numbers is itself rounded (of 1e5
    numbers near 1e4, in the first decimal), so it is corrected, ``δ = mean(c)``, and ``σ² = mean((c − δ)²)``: no
    difference of large numbers, never below 0. ``center`` is the first mean and ``rest`` is ``δ``: ``(x − center) − δ``
    keeps the digits that their sum has not. Any constant near the mean would do for ``center``, no result depends on
    it, so nothing is differentiated through it. Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the
    sample variance", section 1, whose correction is here subtracted before squaring.
    """
    x = x.astype(checks.at_least_float32(x))
    center = jax.lax.stop_gradient(jnp.mean(x, axes, keepdims=True))
    centered = x - center
    rest = jnp.mean(centered, axes, keepdims=True)
    return Moments(center, rest, jnp.mean(jnp.square(centered - rest), axes, keepdims=True))


def standardized(x: Array, at: Moments, epsilon: float) -> Array:
    """``x̂ = (x − μ) / √(σ² + ε)``, in the dtype of the moments."""
    return (x.astype(at.center.dtype) - at.center - at.rest) * jax.lax.rsqrt(at.variance + epsilon)


def with_moments(layer: LayerNorm | GroupNorm | BatchNorm, params: Params, x: Any) -> tuple[Array, Moments]:
    """``y`` and the moments that it was normalized by."""
    check_features(repr(layer), params, x)
    groups = layer.groups_of(x.shape)
    grouped = jnp.reshape(x, groups.shape)
    at = moments(grouped, groups.axes)
    x_hat = standardized(grouped, at, layer.epsilon).reshape(x.shape).astype(x.dtype)
    return x_hat * params["scale"] + params["shift"], at


def check_epsilon(place: str, layer: LayerNorm | GroupNorm | BatchNorm) -> None:
    checks.in_range(place, "epsilon", layer.epsilon, 0, float("inf"), open_high=True)
    checks.require(
        layer.epsilon > 0, f"{place}: epsilon is {layer.epsilon}; expected more than 0, for features that are constant"
    )
    object.__setattr__(layer, "epsilon", float(layer.epsilon))  # np.float64 would promote what it is added to
