"""Normalization: a mean of 0 and a variance of 1 over some of the axes, then a scale and a shift for each feature.

    x̂ = (x − μ) / √(σ² + ε),   y = x̂ ⊙ scale + shift

The mean ``μ`` and the variance ``σ²`` (divided by ``n``, not ``n − 1``) are taken

- by ``LayerNorm`` over the features of each position,
- by ``GroupNorm`` over the positions of each example and a group of its features,
- by ``BatchNorm`` over the examples and positions of each feature.

Shapes: ``x (N, ..., C)``, ``scale (C,)``, ``shift (C,)``, ``y`` as ``x``. ``scale`` starts at one, ``shift`` at zero.
Mean and variance of low-precision inputs are computed in float32. Features that are constant give ``x̂ = 0``. A single
number has no variance, so it raises.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.initializers import ones, zeros
from fnnet.layers.affine import check_scale_and_shift, scale_and_shift
from fnnet.types import Array, Initializer, Params, Scalar, Shape, Shaped

EPSILON = 1e-5


class Normalization:
    """The methods that all normalizations share; they differ in which numbers they normalize together."""

    epsilon: Scalar

    def __post_init__(self) -> None:
        name = type(self).__name__
        checks.above_zero(name, "epsilon", self.epsilon)  # features may be constant
        object.__setattr__(self, "epsilon", checks.python_number(self.epsilon))

    def init(self, key: Array, x: Shaped) -> Params:
        return scale_and_shift(self, key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return normalized(self, params, x)[0]

    def groups_of(self, shape: Shape) -> Groups:
        """Return which numbers of an input of this shape are normalized together."""
        raise NotImplementedError


@configuration
class LayerNorm(Normalization):
    """Layer normalization, of the features of each position: mean and variance are taken over the last axis.

    Source: Ba, Kiros and Hinton 2016, "Layer normalization", eq. 3 and 4.
    """

    epsilon: Scalar = EPSILON
    scale_init: Initializer = ones
    shift_init: Initializer = zeros

    def groups_of(self, shape: Shape) -> Groups:
        groups = Groups(shape, (len(shape) - 1,))
        groups.check(repr(self))
        return groups


@configuration
class GroupNorm(Normalization):
    """Group normalization, of ``groups`` equal groups of neighbouring features over all positions of an example.

    ``groups=1`` takes all features together; one group for each feature is instance normalization. Source: Wu and He
    2018, "Group normalization", eq. 3 and 7.
    """

    groups: int
    epsilon: Scalar = EPSILON
    scale_init: Initializer = ones
    shift_init: Initializer = zeros

    def __post_init__(self) -> None:
        checks.positive_integer("GroupNorm", "groups", self.groups)
        super().__post_init__()

    def init(self, key: Array, x: Shaped) -> Params:
        params = super().init(key, x)
        self.groups_of(x.shape)
        return params

    def groups_of(self, shape: Shape) -> Groups:
        checks.require(
            len(shape) >= 2 and shape[-1] % self.groups == 0,
            f"{self!r}: x has shape {shape}; expected (N, ..., C) with C a multiple of the {self.groups} groups",
        )
        groups = Groups((*shape[:-1], self.groups, shape[-1] // self.groups), (*range(1, len(shape) - 1), len(shape)))
        groups.check(repr(self))
        return groups


@configuration
class BatchNorm(Normalization):
    """Batch normalization, of each feature over all examples and positions of the batch.

    It is one pure function, the same with ``train=True`` and without: mean and variance are always those of the batch,
    nothing is remembered between calls, and no mode takes other numbers. So the output for an example depends on the
    other examples of its batch, in validation as in training. For inference, where it must not, there is *another
    model*: ``fnnet.fold_batch_norm(model, params, x)`` computes it and its parameters from the training data. A batch
    with a single number for each feature raises, because it would give ``shift`` for every input.

    Source: Ioffe and Szegedy 2015, "Batch normalization", algorithm 1.
    """

    epsilon: Scalar = EPSILON
    scale_init: Initializer = ones
    shift_init: Initializer = zeros

    def groups_of(self, shape: Shape) -> Groups:
        groups = Groups(shape, tuple(range(len(shape) - 1)))
        groups.check(repr(self), "; for inference on single examples use fnnet.fold_batch_norm")
        return groups


class Groups(NamedTuple):
    """Which numbers are normalized together: those along ``axes`` of the input in the shape ``shape``."""

    shape: Shape
    axes: tuple[int, ...]

    @property
    def size(self) -> int:
        """The count of numbers that are normalized together."""
        return prod(self.shape[axis] for axis in self.axes)

    def check(self, place: str, hint: str = "") -> None:
        checks.require(
            checks.is_symbolic(self.size) or self.size > 1,
            f"{place}: x has {self.size} numbers in each group that is normalized; a mean and a variance need at "
            f"least 2{hint}",
        )


class MeanVariance(NamedTuple):
    """A mean in two parts, ``center + rest`` with a small ``rest``, and a variance. See ``mean_variance``."""

    center: Array
    rest: Array
    variance: Array

    @property
    def mean(self) -> Array:
        return self.center + self.rest

    def inverse_deviation(self, epsilon: Scalar) -> Array:
        """Return ``1 / √(σ² + ε)``."""
        return jax.lax.rsqrt(self.variance + checks.in_dtype(epsilon, self.variance.dtype))


def mean_variance(x: Array, axes: tuple[int, ...]) -> MeanVariance:
    """Compute the mean and the variance along ``axes``, which are kept with length one.

    There are two passes, so that nothing is squared before ``c = x − mean(x)``. The mean of many large numbers is
    itself rounded (that of 1e5 numbers near 1e4 in the first decimal), so it is corrected by ``δ = mean(c)``, and
    ``σ² = mean((c − δ)²)``, which is no difference of large numbers and never below 0. ``center`` is the first mean and
    ``rest`` is ``δ``; ``(x − center) − δ`` keeps the digits that ``center + δ`` loses. Any constant near the mean would
    serve as ``center``, and no result depends on it, so nothing is differentiated through it. Source: Chan, Golub and
    LeVeque 1983, "Algorithms for computing the sample variance", section 1, whose correction is here subtracted before
    squaring.
    """
    x = x.astype(checks.at_least_float32(x))
    center = jax.lax.stop_gradient(jnp.mean(x, axes, keepdims=True))
    centered = x - center
    rest = jnp.mean(centered, axes, keepdims=True)
    return MeanVariance(center, rest, jnp.mean(jnp.square(centered - rest), axes, keepdims=True))


def standardized(x: Array, at: MeanVariance, epsilon: Scalar) -> Array:
    """Compute ``x̂ = (x − μ) / √(σ² + ε)``, in the dtype of mean and variance."""
    return (x.astype(at.center.dtype) - at.center - at.rest) * at.inverse_deviation(epsilon)


def normalized(layer: Normalization, params: Params, x: Any) -> tuple[Array, MeanVariance]:
    """Return ``y``, and the mean and variance that it was normalized with."""
    check_scale_and_shift(layer, params, x)
    groups = layer.groups_of(x.shape)
    grouped = jnp.reshape(x, groups.shape)
    at = mean_variance(grouped, groups.axes)
    x_hat = standardized(grouped, at, layer.epsilon).reshape(x.shape).astype(x.dtype)
    return x_hat * params["scale"] + params["shift"], at
