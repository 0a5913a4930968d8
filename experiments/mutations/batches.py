"""Faults of gradients with respect to the arrays of a batch: inputs, targets and weights.

The gradient with respect to the inputs of a cost is that of its rules. For targets and weights there is no rule in
``fnnet``, so ``ByHand`` is a function with its own ``jax.custom_vjp``, as a user would write it. The right formulas
stand in ``OF_TARGET``, the gradient of each example's loss, and in ``OF_WEIGHTS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import fnnet
from experiments.mutations import layers
from experiments.mutations.activations import remembering_input
from experiments.mutations.losses import HALF_AS_WIDE, LINEAR, OUTPUTS, REAL, SIGMOID, SOFTMAX, distributions, times
from experiments.mutations.mutant import EXAMPLES, Broken, Draw, Fault, Mutant, Subject, formula, labels, normal
from fnnet import Cost, Dense, backprop, losses
from fnnet import activations as f
from fnnet.backprop import ACTIVATION_RULES, LOSS_GRADIENTS, RULES
from fnnet.backprop.cost import input_gradient
from fnnet.binding import name_of
from fnnet.types import Array, Params


@dataclass(frozen=True)
class ByHand:
    """A weighted cost, ``Σ_n w_n ℓ_n / Σ_n w_n``, with the derivative with respect to all its arrays by hand."""

    cost: Cost

    def __call__(self, params: Params, batch: tuple[Array, Array, Array]) -> Array:
        return differentiated(self.cost, params, *batch)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def differentiated(cost: Cost, params: Params, x: Array, target: Array, weights: Array) -> Array:
    batch: Any = (x, target, weights)
    return cost(params, batch)


def forward(cost: Cost, *arrays: Any) -> tuple[Array, Any]:
    return differentiated(cost, *arrays), arrays


def backward(cost: Cost, saved: Any, dy: Array) -> tuple[Params, Array, Array, Array]:
    """With ``m_n = w_n / Σ w``: ``∂/∂y_n = m_n ∂ℓ/∂y_n`` and ``∂/∂w_n = (ℓ_n − Σ m ℓ) / Σ w``."""
    params, *batch = saved
    x, target, weights = batch
    prediction = cost.model.apply(params, x)
    _, dparams = backprop.value_and_grad(cost)(params, tuple(batch))
    dx = input_gradient(cost, params, tuple(batch))
    dtarget = OF_TARGET[cost.loss](prediction, target) * (weights / weights.sum())[:, None]
    dweights = OF_WEIGHTS[Cost](cost.loss(prediction, target), weights)
    gradients: Any = jax.tree.map(lambda g: dy * g, (dparams, dx, dtarget, dweights))
    return gradients


differentiated.defvjp(forward, backward)


def cosine(p: Array, y: Array) -> Array:
    """``ℓ = 1 − u·v`` with ``u = ŷ/‖ŷ‖, v = y/‖y‖  ⇒  ∂ℓ/∂y = ((u·v) v − u) / ‖y‖``."""
    (u, v), length = (a / jnp.linalg.norm(a, axis=-1, keepdims=True) for a in (p, y)), jnp.linalg.norm(y, axis=-1)
    return ((u * v).sum(-1, keepdims=True) * v - u) / length[:, None]


def gaussian(p: Array, y: Array) -> Array:
    mean, log_variance = jnp.split(p, 2, -1)
    return (y - mean) * jnp.exp(-log_variance)


OF_TARGET: dict[Any, Callable[[Array, Array], Array]] = {
    losses.squared_error: lambda p, y: 2 / OUTPUTS * (y - p),
    losses.log_cosh: lambda p, y: jnp.tanh(y - p) / OUTPUTS,
    losses.cosine: cosine,
    losses.softmax_cross_entropy: lambda z, y: -f.log_softmax(z),
    losses.cross_entropy: lambda p, y: -jnp.log(p),
    losses.sigmoid_cross_entropy: lambda z, y: -z,
    losses.binary_cross_entropy: lambda p, y: jnp.log1p(-p) - jnp.log(p),
    losses.kl_divergence: lambda p, y: jnp.log(y / p) + 1,
    losses.gaussian_negative_log_likelihood: gaussian,
}
OF_WEIGHTS: dict[Any, Callable[[Array, Array], Array]] = {
    Cost: lambda each, w: (each - (w * each).sum() / w.sum()) / w.sum()
}


def between(low: float, high: float, *shape: int) -> Draw:
    return lambda rng: rng.uniform(low, high, shape)


def smoothed(rng: Any) -> Any:
    """Draw distributions far from 0 and 1."""
    return 0.8 * distributions(rng) + 0.2 / OUTPUTS


WEIGHTS = between(0.5, 2.0, EXAMPLES)
FRACTIONS = between(0.1, 0.9, EXAMPLES, OUTPUTS)


def target(name: str, loss: Any, drawn: Draw, fault: Fault, model: Any = LINEAR) -> Mutant:
    """Return a fault of the gradient with respect to the target."""
    subject = Subject(
        f"{name_of(loss)}: target", ByHand(Cost(model, loss)), normal(EXAMPLES, 5), drawn, WEIGHTS, wrt=("target",)
    )
    return Mutant(f"target of {name_of(loss)}: {name}", subject, OF_TARGET, loss, fault)


WEIGHTED = Subject(
    "weights",
    ByHand(Cost(LINEAR, losses.squared_error)),
    normal(EXAMPLES, 5),
    REAL,
    WEIGHTS,
    wrt=("params", "x", "target", "weights"),
)
CLASSIFIER = Subject(
    "16-16-16, tanh: inputs",
    Cost(fnnet.sequential(Dense(16), f.tanh, Dense(16)), losses.softmax_cross_entropy),
    normal(EXAMPLES, 16),
    labels(16),
    wrt=("x",),
)
ATTACKED = Subject(
    "convolution: inputs",
    Cost(fnnet.sequential(fnnet.Conv(3, 3), f.relu, fnnet.Flatten(), Dense(4)), losses.softmax_cross_entropy),
    normal(EXAMPLES, 5, 5, 2),
    labels(4),
    WEIGHTS,
    wrt=("params", "x"),
)


def weights(name: str, broken: Broken) -> Mutant:
    return Mutant(f"weights: {name}", WEIGHTED, OF_WEIGHTS, Cost, formula(broken))


def inputs(name: str, table: dict[Any, Any], entry: Any, fault: Fault, subject: Subject = CLASSIFIER) -> Mutant:
    return Mutant(f"inputs: {name}", subject, table, entry, fault)


def shifted(by: float) -> Fault:
    return lambda healthy: lambda p, y: healthy(p, y) + by


def of_prediction(healthy: Any) -> Broken:
    return lambda p, y: healthy(y, p)


def of_next_example(healthy: Any) -> Broken:
    return lambda p, y: healthy(jnp.roll(p, 1, 0), y)


def no_term_of_no(p: Array, y: Array) -> Array:
    """``−log p`` for ``log(1 − p) − log p``."""
    return -jnp.log(p)


def variance_forgotten(p: Array, y: Array) -> Array:
    return y - p[:, : OUTPUTS // 2]


MUTANTS = (
    target("sign", losses.squared_error, REAL, times(-1)),
    target("taken as a constant", losses.squared_error, REAL, times(0)),
    target("times 0.999", losses.squared_error, REAL, times(0.999)),
    target("one entry zero", losses.log_cosh, REAL, lambda healthy: lambda p, y: healthy(p, y).at[2, 1].set(0)),
    target("that of the prediction", losses.cosine, REAL, of_prediction),
    target("logits for log p", losses.softmax_cross_entropy, smoothed, formula(lambda z, y: -z)),
    target("1 - log p", losses.cross_entropy, smoothed, shifted(1), SOFTMAX),
    target("softplus for z", losses.sigmoid_cross_entropy, FRACTIONS, formula(lambda z, y: f.softplus(-z))),
    target("term of 1 - y forgotten", losses.binary_cross_entropy, FRACTIONS, formula(no_term_of_no), SIGMOID),
    target("1 forgotten", losses.kl_divergence, smoothed, shifted(-1), SOFTMAX),
    target("of the next example", losses.kl_divergence, smoothed, of_next_example, SOFTMAX),
    target("variance forgotten", losses.gaussian_negative_log_likelihood, HALF_AS_WIDE, formula(variance_forgotten)),
    weights("sign", lambda each, w: ((w * each).sum() / w.sum() - each) / w.sum()),
    weights("denominator taken as a constant", lambda each, w: each / w.sum()),
    weights("taken as constants", lambda each, w: jnp.zeros_like(w)),
    weights("N for their sum", lambda each, w: (each - (w * each).sum() / w.sum()) / EXAMPLES),
    weights("mean without weights", lambda each, w: (each - each.mean()) / w.sum()),
    weights("the last one forgotten", lambda each, w: ((each - (w * each).sum() / w.sum()) / w.sum()).at[-1].set(0)),
    inputs("sign", RULES, fnnet.Conv, layers.dx(lambda dx: -dx), ATTACKED),
    inputs("w for its transpose", RULES, Dense, layers.rule_with_dx(lambda w, dy: dy @ w)),
    inputs("times 0.999", RULES, Dense, layers.dx(lambda dx: 0.999 * dx)),
    inputs("examples in another order", RULES, Dense, layers.dx(lambda dx: dx[::-1])),
    inputs("derivative of tanh forgotten", ACTIVATION_RULES, f.tanh, remembering_input(lambda z, da: da)),
    inputs("y forgotten in the loss", LOSS_GRADIENTS, losses.softmax_cross_entropy, formula(lambda z, y: f.softmax(z))),
    inputs("one channel zero", RULES, fnnet.Conv, layers.dx(lambda dx: dx.at[..., 1].set(0)), ATTACKED),
    inputs("kernel not flipped back", RULES, fnnet.Conv, layers.dx(lambda dx: dx[:, ::-1, ::-1]), ATTACKED),
)
