"""Products of curvature matrices with vectors, without the matrices.

All are functions of ``(cost, params, batch, v)``: ``v`` is a tree like ``params``, and so is the product. Fix the first
three, ``functools.partial(hvp, cost, params, batch)``, to get the operator that ``eigenvalues``, ``trace``,
``diagonal`` and ``spectral_density`` take. The network is the deterministic one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.checks import at_least_float32, is_float
from fnnet.cost import Cost, above_zero
from fnnet.types import Array, Batch, Params

Objective = Callable[[Params, Batch], Array]  # a Cost, or any scalar function of parameters and a batch


def hvp(cost: Objective, params: Params, batch: Batch, v: Params) -> Params:
    """Return ``H v`` with the Hessian ``H = ∂²cost/∂θ²``, penalty included.

    It is the derivative of the gradient along ``v`` (forward over reverse mode), which takes the time of two to three
    gradients. ``cost`` is a ``Cost`` or any function ``(params, batch) -> scalar``.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
    """
    return jax.jvp(jax.grad(lambda theta: cost(theta, batch)), (params,), (v,))[1]


def ggn_vp(cost: Cost, params: Params, batch: Batch, v: Params) -> Params:
    """Return ``G v`` with the generalized Gauss-Newton matrix ``G = Jᵀ H_ℓ J``, plus the Hessian of the penalty.

    ``J`` is the Jacobian of the predictions with respect to the parameters and ``H_ℓ`` the Hessian of the mean loss
    with respect to the predictions. ``G`` is what is left of the Hessian if the model is replaced by its tangent. It is
    positive semi-definite for a convex loss, and it is the Hessian if the model is linear or the loss has the gradient
    zero at every example.

    Source: Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient descent", section 3.
    """
    x, target, weights = cost.counted_batch("curvature.ggn_vp", batch)
    predict = lambda theta: cost.model.apply(theta, x)  # noqa: E731
    prediction, along = jax.jvp(predict, (params,), (v,))
    curved = jax.jvp(jax.grad(lambda z: cost.mean_loss(z, target, weights)), (prediction,), (along,))[1]
    (product,) = jax.vjp(predict, params)[1](curved)
    if cost.penalty is None:
        return product
    of_penalty = jax.jvp(jax.grad(cost.penalty), (params,), (v,))[1]
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), product, of_penalty)


def fisher_vp(cost: Cost, params: Params, batch: Batch, v: Params, *, empirical: bool = False) -> Params:
    """Return ``F v`` with the Fisher information ``F = 1/N Σ_n E_y [g_n(y) g_n(y)ᵀ]``, ``g_n(y) = ∂ℓ(f(x_n), y)/∂θ``.

    The mean ``E_y`` is over the classes with the model's own probabilities ``exp(−ℓ(f(x_n), y))``: the loss must be the
    negative logarithm of a probability, such as ``softmax_cross_entropy``, and the targets integer labels. For softmax
    cross-entropy of logits, as for squared errors and other likelihoods in their natural parameters, ``F`` is the
    generalized Gauss-Newton matrix ``ggn_vp``; unlike that, it does not change if the softmax moves from the loss into
    the model.

    With ``empirical``, the targets of the batch take the place of the mean over ``y``, for any loss and any targets:
    ``F = 1/N Σ_n g_n g_nᵀ``. That is a matrix of gradients, and no approximation of the Hessian unless the model has
    learned the distribution of the targets. The penalty is left out of both.

    Source: Amari 1998, "Natural gradient works efficiently in learning"; Kunstner et al. 2019, eq. 3.
    """
    caller = "curvature.fisher_vp"
    x, target, weights = cost.counted_batch(caller, batch)
    predict = lambda theta: cost.model.apply(theta, x)  # noqa: E731
    prediction, along = jax.jvp(predict, (params,), (v,))
    known = cost.known_labels(target)

    def of_targets(y: Array) -> Array:
        """Return ``p ∂ℓ (∂ℓ · u)`` for ``u = J v``: the part of the targets ``y``, with their probability ``p``."""
        (losses, pullback) = jax.vjp(lambda z: cost.loss(z, y), prediction)
        each = cost.loss_weights(target, weights, losses.shape)
        scale = jnp.ones_like(losses) if each is None else each.astype(losses.dtype)
        scale = scale / above_zero(scale.sum())
        if not empirical:
            scale = scale * jnp.exp(-losses)
        (slopes,) = pullback(jnp.ones_like(losses))
        inner = (slopes * along).sum(tuple(range(losses.ndim, prediction.ndim)))
        (product,) = pullback(jnp.where(scale == 0, 0, scale * inner))
        return product

    if empirical:
        (product,) = jax.vjp(predict, params)[1](of_targets(known))
        return product
    checks.require(
        checks.is_integer(target),
        f"{caller}: target has dtype {target.dtype}; expected integer labels: for squared errors and other likelihoods "
        f"in their natural parameters the Fisher information is ggn_vp, and empirical=True takes any targets",
    )
    classes = jnp.arange(prediction.shape[-1], dtype=target.dtype)
    (product,) = jax.vjp(predict, params)[1](jax.vmap(lambda c: of_targets(jnp.full_like(known, c)))(classes).sum(0))
    return product


def over_batches(function: Callable[..., Any], batch_size: int = 1024) -> Callable[..., Any]:
    """Return ``function(cost, params, data, *args)`` over a whole data set, ``batch_size`` examples at a time.

    ``function(cost, params, batch, *args)`` is a mean over the examples of a batch, such as ``hvp``, ``ggn_vp`` or
    ``fisher_vp``; the result is the mean over all examples, by a scan in the memory of one batch. A batch weighs as
    much as the cost counts in it: its examples, the labels that are not ignored, or the sum of its weights. So the
    last, smaller batch does not count too much, and the result is that of one large batch up to rounding, except for
    layers that mix the examples of a batch. Sums are in at least float32.
    """
    checks.positive_integer("curvature.over_batches", "batch_size", batch_size)

    def over_data(cost: Objective, params: Params, data: Batch, *args: Any) -> Any:
        arrays = tuple(jnp.asarray(a) for a in data)
        lengths = {len(a) for a in arrays}
        checks.require(
            len(lengths) == 1 and lengths != {0},
            f"curvature.over_batches: the arrays of data have {[len(a) for a in arrays]} examples; expected the same "
            f"number of each, at least one",
        )
        if len(arrays[0]) <= batch_size:
            return function(cost, params, data, *args)
        full, left = divmod(len(arrays[0]), batch_size)

        def weighted(batch: Any) -> Any:
            count = counted(cost, batch)
            results = function(cost, params, batch, *args)
            return jax.tree.map(
                lambda a: count.astype(at_least_float32(a)) * a.astype(at_least_float32(a)), results
            ), count

        def add(total: Any, batch: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, weighted(batch)), None

        batches = tuple(a[: full * batch_size].reshape(full, batch_size, *a.shape[1:]) for a in arrays)
        rest = tuple(a[full * batch_size :] for a in arrays)
        one = tuple(a[:batch_size] for a in arrays)
        total = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(weighted, one))
        total, _ = jax.lax.scan(add, total, batches)
        sums, count = add(total, rest)[0] if left else total
        kinds = jax.eval_shape(lambda batch: function(cost, params, batch, *args), one)
        return jax.tree.map(lambda a, kind: (a / above_zero(count).astype(a.dtype)).astype(kind.dtype), sums, kinds)

    return over_data


def counted(cost: Objective, batch: Any) -> Array:
    """Return the number of examples of a batch, or of labels that are not ignored, or the sum of the weights."""
    count = None
    if isinstance(cost, Cost):
        target, weights = batch[1], batch[2] if len(batch) == 3 else None
        count = cost.counted(target, weights, target.shape if weights is None else weights.shape)
    if count is None:
        return jnp.float32(len(batch[0]))
    return count if is_float(count) else count.astype(jnp.float32)
