"""Faults in the rules of pooling, upsampling, normalization and residual connections.

The healthy rules are: ``MaxPool`` gives ``dy`` to the maximum, and to the first of several equal ones; ``AvgPool``
gives ``dy / n`` to each of the ``n`` entries of a window; ``Upsample`` sums ``dy`` over the copies of an entry.
Normalization has ``dscale = Σ x̂ ⊙ dy``, ``dshift = Σ dy`` and ``dx = r (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂))`` with
``dx̂ = dy ⊙ scale`` and ``r = 1 / √(σ² + ε)``. ``Residual`` adds the ``dx`` of its branches.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments.mutations.layers import after, backward, dx, remembering
from experiments.mutations.mutant import Broken, Draw, Fault, Mutant, Subject, normal
from fnnet import (
    Affine,
    AvgPool,
    BatchNorm,
    Dense,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    LayerNorm,
    MaxPool,
    Residual,
    Upsample,
)
from fnnet.backprop import RULES
from fnnet.layers.normalization import standardized
from fnnet.types import Array, Params


@cache
def ties(*shape: int) -> Draw:
    """Draw from few values, so that a window has equal entries."""
    return lambda rng: rng.integers(0, 3, shape).astype(np.float64)


MAX = Subject("MaxPool", MaxPool(2), normal(3, 4, 6, 2))
TIED = Subject("MaxPool, ties", MaxPool(2), ties(3, 4, 6, 2))
OVERLAPPING = Subject("MaxPool, overlapping", MaxPool(3, 2, "SAME"), normal(2, 6, 6, 2))
AVERAGE = Subject("AvgPool", AvgPool(3, 2, "SAME"), normal(2, 6, 6, 2))
GLOBAL_AVERAGE = Subject("GlobalAvgPool", GlobalAvgPool(), normal(3, 4, 4, 2))
GLOBAL_MAX = Subject("GlobalMaxPool", GlobalMaxPool(), normal(3, 4, 4, 2))
UPSAMPLE = Subject("Upsample", Upsample(2), normal(3, 2, 3, 2))
LINEAR = Subject("Upsample, linear", Upsample(2, "linear"), normal(3, 3, 3, 2))
AFFINE = Subject("Affine", Affine(), normal(6, 5))
LAYER = Subject("LayerNorm", LayerNorm(), normal(6, 5))
GROUP = Subject("GroupNorm", GroupNorm(2), normal(3, 4, 6))
BATCH = Subject("BatchNorm", BatchNorm(), normal(12, 3))
RESIDUAL = Subject("Residual", Residual(Dense(4), Dense(4)), normal(6, 4))


def in_blocks(choose: Broken) -> Fault:
    """Return the fault of max pooling 2×2 that gives ``choose(blocks, maxima) ⊙ dy`` to the entries of a window."""

    def fault(rule: Any) -> Any:
        def forward(layer: Any, params: Params, x: Array, **options: Any) -> tuple[Array, Array]:
            return layer.apply(params, x), x

        def broken(layer: Any, params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
            n, h, w, c = x.shape
            blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
            fraction = choose(blocks, blocks.max((2, 4), keepdims=True))
            return {}, (fraction * dy[:, :, None, :, None]).reshape(x.shape)

        return rule._replace(forward=forward, backward=broken)

    return fault


def split_among_equals(blocks: Array, maxima: Array) -> Array:
    equal = (blocks == maxima).astype(blocks.dtype)
    return equal / equal.sum((2, 4), keepdims=True)


def last_of_equals(blocks: Array, maxima: Array) -> Array:
    n, h, _, w, _, c = blocks.shape
    equal = (blocks == maxima).transpose(0, 1, 3, 5, 2, 4).reshape(n, h, w, c, 4)
    last = jax.nn.one_hot(3 - jnp.argmax(equal[..., ::-1], -1), 4, dtype=blocks.dtype)
    return last.reshape(n, h, w, c, 2, 2).transpose(0, 1, 4, 2, 5, 3)


def normalization(dx_of: Broken, params_of: Broken | None = None) -> Fault:
    """Return the fault of a normalization with ``dx_of(x_hat, dx_hat, r, mean) -> dx`` in its backward pass.

    ``mean`` averages over the axes that are normalized together. ``params_of(dparams, x, dy) -> dparams`` replaces the
    gradients of the parameters.
    """

    def fault(rule: Any) -> Any:
        def broken(layer: Any, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
            dparams, _ = rule.backward(layer, params, residuals, dy)
            x, at = residuals
            groups = layer.groups_of(x.shape)
            x_hat = standardized(x.reshape(groups.shape), at, layer.epsilon)
            dx_hat = (dy * params["scale"]).reshape(groups.shape)
            r = jax.lax.rsqrt(at.variance + layer.epsilon)
            dx = dx_of(x_hat, dx_hat, r, lambda a: a.mean(groups.axes, keepdims=True)).reshape(x.shape)
            return dparams if params_of is None else params_of(dparams, x, dy), dx

        return rule._replace(backward=broken)

    return fault


def healthy_dx(x_hat: Array, dx_hat: Array, r: Array, mean: Any) -> Array:
    return r * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat))


NO_MEAN = normalization(lambda x_hat, d, r, mean: r * (d - x_hat * mean(d * x_hat)))
NO_VARIANCE = normalization(lambda x_hat, d, r, mean: r * (d - mean(d)))
NO_R = normalization(lambda x_hat, d, r, mean: healthy_dx(x_hat, d, jnp.ones_like(r), mean))
R_SQUARED = normalization(lambda x_hat, d, r, mean: healthy_dx(x_hat, d, r * r, mean))
CONSTANT_MOMENTS = normalization(lambda x_hat, d, r, mean: r * d)
SIGN_OF_VARIANCE = normalization(lambda x_hat, d, r, mean: r * (d - mean(d) + x_hat * mean(d * x_hat)))
SCALE_OF_X = normalization(healthy_dx, lambda dparams, x, dy: dparams | {"scale": jnp.einsum("...c,...c->c", x, dy)})
SHIFT_A_MEAN = after(lambda dparams, dx: (dparams | {"shift": dparams["shift"] / 6}, dx))


def average_by_size(dx_of: Broken) -> Fault:
    """Return the fault of ``AvgPool`` that divides by ``dx_of(counts)`` instead of ``counts``."""

    def fault(rule: Any) -> Any:
        def broken(layer: Any, params: Params, outline: Array, dy: Array) -> tuple[Params, Array]:
            windows = layer.windows(jax.ShapeDtypeStruct(outline.shape[:-1], dy.dtype))
            counts = jnp.asarray(layer.counts(windows), dy.dtype)
            return rule.backward(layer, params, outline, dy * counts / dx_of(counts))

        return rule._replace(backward=broken)

    return fault


def places(change: Broken) -> Fault:
    """Return the fault of max pooling that keeps ``change(index)`` as the position of the maximum."""
    return remembering(lambda residuals: (change(residuals[0]), *residuals[1:]))


def mutant(name: str, subject: Subject, fault: Fault) -> Mutant:
    return Mutant(f"{subject.name}: {name}", subject, RULES, type(subject.model), fault)


def nearest_of_means(layer: Any, params: Params, residuals: Any, dy: Array) -> Array:
    n, h, w, c = dy.shape
    return dy.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def without_shortcut(layer: Residual, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
    """Return the gradients of the parameters of both branches, but ``dx`` of the first branch only."""
    (dp, dx), (ds, _) = (
        fnnet.backprop.RULES.look_up(inner).backward(inner, params[name], r, dy)
        for (name, inner), r in zip(layer.children(), residuals, strict=True)
    )
    return {"layer": dp, "shortcut": ds}, dx


def shortcut_zero(dparams: Params, dx: Array) -> tuple[Params, Array]:
    return dparams | {"shortcut": jax.tree.map(jnp.zeros_like, dparams["shortcut"])}, dx


def scale_forgotten(rule: Any) -> Any:
    def broken(layer: Any, params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
        return rule.backward(layer, params, x, dy)[0], dy

    return rule._replace(backward=broken)


MUTANTS = (
    mutant("dy divided among equals", TIED, in_blocks(split_among_equals)),
    mutant("the last of equals", TIED, in_blocks(last_of_equals)),
    mutant("dy to each of equals", TIED, in_blocks(lambda blocks, maxima: (blocks == maxima).astype(blocks.dtype))),
    mutant("no mask", MAX, in_blocks(lambda blocks, maxima: jnp.ones_like(blocks))),
    mutant("mean instead of maximum", MAX, in_blocks(lambda blocks, maxima: jnp.full_like(blocks, 0.25))),
    mutant("position in the window off by one", MAX, places(lambda index: (index + 1) % 4)),
    mutant("rows and columns of a window swapped", MAX, places(lambda index: index % 2 * 2 + index // 2)),
    mutant("position in the next window", OVERLAPPING, places(lambda index: jnp.roll(index, 1, 1))),
    mutant("rows and columns of a window swapped", OVERLAPPING, places(lambda index: index % 3 * 3 + index // 3)),
    mutant("not divided", AVERAGE, average_by_size(jnp.ones_like)),
    mutant("padding counted", AVERAGE, average_by_size(lambda counts: 9)),
    mutant("not divided", GLOBAL_AVERAGE, dx(lambda dx: 16 * dx)),
    mutant("divided by one side", GLOBAL_AVERAGE, dx(lambda dx: 4 * dx)),
    mutant("another position", GLOBAL_MAX, places(lambda index: (index + 1) % 16)),
    mutant("mean instead of sum of the copies", UPSAMPLE, backward(nearest_of_means)),
    mutant("only the first copy", UPSAMPLE, backward(lambda layer, params, _, dy: dy[:, ::2, ::2])),
    mutant("neighbours forgotten", LINEAR, backward(lambda layer, params, r, dy: 4 * nearest_of_means(0, 0, r, dy))),
    mutant("scale forgotten", AFFINE, scale_forgotten),
    mutant("mean of the gradient forgotten", LAYER, NO_MEAN),
    mutant("variance treated as a constant", LAYER, NO_VARIANCE),
    mutant("1 / σ forgotten", LAYER, NO_R),
    mutant("1 / σ² instead of 1 / σ", LAYER, R_SQUARED),
    mutant("sign of the variance's term", LAYER, SIGN_OF_VARIANCE),
    mutant("dscale of x instead of x̂", LAYER, SCALE_OF_X),
    mutant("dshift of a mean instead of a sum", LAYER, SHIFT_A_MEAN),
    mutant("mean of the gradient forgotten", GROUP, NO_MEAN),
    mutant("moments treated as constants", GROUP, CONSTANT_MOMENTS),
    mutant("mean of the gradient forgotten", BATCH, NO_MEAN),
    mutant("variance treated as a constant", BATCH, NO_VARIANCE),
    mutant("moments treated as constants, as in inference", BATCH, CONSTANT_MOMENTS),
    mutant("gradient of the shortcut's parameters zero", RESIDUAL, after(shortcut_zero)),
    mutant("dx halved", RESIDUAL, dx(lambda dx: dx / 2)),
    mutant("shortcut forgotten", RESIDUAL, lambda rule: rule._replace(backward=without_shortcut)),
)
