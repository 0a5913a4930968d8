"""What a loss can be at best: for a constant prediction, for any prediction, and after a given last activation.

They make losses comparable: ``λ = (L − L*) / (H₀ − L*)`` is 1 for a network that knows nothing of its inputs and 0 for
one that knows everything, whatever the units of the targets, the number of classes and the weighting of the loss.

All of them are computed numerically, so any loss will do, also a function of the user.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import activations, checks, losses
from fnnet.binding import unbind
from fnnet.cost import Cost, split_weighted
from fnnet.types import Array, Batch, Loss, Params, Shape

STEPS = 250  # of the minimization; the steps grow by 1.2¹²⁰ ≈ 3e9 within the first half
LAST = 50  # steps within which a minimum that exists stands still
FALLING = 0.02  # a loss that falls by this part of its whole descent in the last steps has no minimum

Map = Callable[[Array], Array]


def constant_baseline(cost: Cost, batch: Batch, shape: Shape, through: Map | None = None) -> Array:
    """Return ``H₀ = min_c 1/N Σ_n loss(c, y_n)``, the cost of the best constant prediction ``c``, without the penalty.

    ``shape`` is that of the prediction for the batch, and ``c`` has its last axis. Softmax cross-entropy has the
    entropy of the label frequencies, the squared error the variance. Weights and ignored labels are those of the cost.

    The minimum is over the predictions that the loss is made for: probabilities for a loss of probabilities of
    ``fnnet.losses``, all numbers for any other loss. ``through`` is a map of all numbers onto those of a loss of your
    own, such as ``softmax``; ``shape`` is then that of its input. The result is −∞ if there is no minimum.
    """
    through = through or domain(cost.loss)
    _, target, _ = batch_of(batch)
    scale = scale_of(target) if through is activations.identity else jnp.ones((), jnp.float32)

    def value(c: Array) -> Array:
        return cost_of(cost, batch, through(jnp.broadcast_to(c, shape)))

    return minimum(value, scale * jnp.full(shape[-1:], 0.5, scale.dtype), 0.2 * scale)


def least_loss(cost: Cost, batch: Batch, shape: Shape, through: Map | None = None) -> Array:
    """Return ``L* = 1/N Σ_n min_z loss(z, y_n)``, the least cost that any prediction has, without the penalty.

    It is 0 for hard labels, above 0 with smoothed labels, and −∞ for a likelihood whose variance is free. The arguments
    are those of ``constant_baseline``.
    """
    through = through or domain(cost.loss)
    _, target, _ = batch_of(batch)
    scale = scale_of(target) if through is activations.identity else jnp.ones((), jnp.float32)
    return minimum(lambda z: cost_of(cost, batch, through(z)), scale * jnp.full(shape, 0.5, scale.dtype), 0.2 * scale)


def loss_bounds(cost: Cost, shape: Shape, batch: Batch) -> tuple[Array, Array]:
    """Return ``(H₀, L*)``, what ``constant_baseline`` and ``least_loss`` return."""
    return constant_baseline(cost, batch, shape), least_loss(cost, batch, shape)


def floor(cost: Cost, batch: Batch, shape: Shape, activation: Map) -> Array:
    """Return ``F = 1/N Σ_n min_v loss(a(v_n), y_n)``, the least cost that a network with the last activation ``a`` has.

    ``shape`` is that of ``v``, the input of the activation, for the batch. ``(F − L*) / (H₀ − L*)`` is the part of the
    task that the activation cannot express. Softmax before softmax cross-entropy with ``C`` classes has
    ``F = log(1 + (C − 1)/e)``, because the output for the right class is at most 1 and the others are at least 0.
    """
    return least_loss(cost, batch, shape, activation)


def normalized_loss(loss: Array | float, constant: Array | float, least: Array | float) -> Array:
    """Return ``λ = (L − L*) / (H₀ − L*)``, or ``L − H₀`` in the units of the loss where ``L*`` is −∞.

    It is NaN where a constant prediction is as good as any, so that there is nothing to learn.
    """
    loss, constant, least = (jnp.asarray(value, jnp.float32) for value in (loss, constant, least))
    span = constant - least
    ratio = jnp.where(span > 0, (loss - least) / jnp.where(span > 0, span, 1), jnp.nan)
    return jnp.where(jnp.isneginf(least), loss - constant, ratio)


def example_losses(cost: Cost, params: Params, batch: Batch, nothing: float = jnp.nan) -> Array:
    """Return the loss of each example ``(N,)``, the mean of those of its labels that count, without the penalty.

    ``nothing`` stands for an example none of whose labels counts. The network is the deterministic one.
    """
    x, target = batch
    each = cost.loss(cost.model.apply(params, x), cost.known_labels(target))
    each = each.astype(checks.at_least_float32(each))
    weights = cost.loss_weights(target, None, each.shape)
    axes = tuple(range(1, each.ndim))
    if weights is None:
        return each.mean(axes)
    counts = (weights != 0).astype(each.dtype)
    total = counts.sum(axes)
    return jnp.where(total > 0, jnp.where(counts == 0, 0, each).sum(axes) / jnp.maximum(total, 1), nothing)


def domain(loss: Loss) -> Map:
    """Return a map from all numbers onto the predictions that a loss is made for."""
    domains: dict[Loss, Map] = {
        losses.cross_entropy: activations.softmax,
        losses.kl_divergence: activations.softmax,
        losses.binary_cross_entropy: activations.sigmoid,
    }
    return domains.get(unbind(loss)[0], activations.identity)


def batch_of(batch: Batch) -> tuple[Array, Array, Array | None]:
    return split_weighted("inspect.baselines", batch)


def cost_of(cost: Cost, batch: Batch, prediction: Array) -> Array:
    _, target, weights = batch_of(batch)
    return cost.mean_loss(prediction, target, weights)


def scale_of(target: Array) -> Array:
    """Return ``√mean(y²)`` of real targets, the scale of the predictions to look among, and 1 for labels."""
    if not checks.is_float(target):
        return jnp.ones((), jnp.float32)
    y = target.astype(checks.at_least_float32(target))
    y = jnp.where(jnp.isfinite(y), y, 0)
    scale = jnp.sqrt(jnp.square(y).mean())
    return jnp.where(scale > 0, scale, 1)


def minimum(value: Map, start: Array, step: Array) -> Array:
    """Return the least value that is found from ``start``, −∞ if it goes on falling, NaN if it is NaN at the start.

    Every coordinate has a step of its own, which grows by 1.2 while the sign of its derivative stays and is halved when
    the sign changes. Only signs matter, so flat tails are crossed as quickly as steep ones, whatever the units are.
    Source: Igel and Hüsken 2000, "Improving the Rprop learning algorithm", iRprop−.
    """

    def advance(state: Any, _: None) -> tuple[Any, Array]:
        z, steps, before, best = state
        now, slope = jax.value_and_grad(value)(z)
        sign = jnp.where(jnp.isnan(slope), 0, jnp.sign(slope))
        turned = sign * before
        steps = steps * jnp.where(turned > 0, 1.2, jnp.where(turned < 0, 0.5, 1.0)).astype(steps.dtype)
        sign = jnp.where(turned < 0, 0, sign)
        best = jnp.fmin(best, now)
        return (z - sign * steps, steps, sign, best), best

    start = jax.lax.optimization_barrier(start)  # XLA would compute the first step while it compiles
    nothing = jnp.full((), jnp.nan, jax.eval_shape(value, start).dtype)
    state = start, jnp.broadcast_to(step, start.shape), jnp.zeros_like(start), nothing
    _, bests = jax.lax.scan(advance, state, None, length=STEPS)
    first, earlier, last = bests[0], bests[-LAST], bests[-1]
    falling = (last == -jnp.inf) | (earlier - last > FALLING * (first - earlier))
    return jnp.where(falling, -jnp.inf, last)
