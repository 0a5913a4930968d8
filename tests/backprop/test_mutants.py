"""Broken rules, each of which the checker must catch in exactly the rows that are wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Activation, Cost, Dense, Dropout, Flatten, check_gradients, losses, penalties, sequential
from fnnet import activations as f
from fnnet.backprop import ACTIVATION_RULES, FUSED_GRADIENTS, LOSS_GRADIENTS, PENALTY_GRADIENTS, RULES
from fnnet.backprop import cost as cost_module
from fnnet.layers import Sequential
from tests.cases import random_params

X = jnp.asarray(np.random.default_rng(1).standard_normal((4, 3)))
LABELS = jnp.array([0, 2, 1, 2])
Patch = pytest.MonkeyPatch
Install = Callable[[Patch], None]


@dataclass(frozen=True)
class Mutant:
    """A broken rule, a network or a cost in which it matters, and the rows that it makes wrong."""

    name: str
    install: Install
    subject: Any
    spoils: set[str]
    train: bool = False

    def __str__(self) -> str:
        return self.name


def layer_rule(kind: type, change: Callable[..., Any]) -> Install:
    """Install a rule with the gradients changed by ``change(dparams, dx, params, residuals, dy)``."""

    def install(patch: Patch) -> None:
        backward = RULES[kind].backward

        def broken(layer: Any, params: Any, residuals: Any, dy: jax.Array) -> Any:
            return change(*backward(layer, params, residuals, dy), params, residuals, dy)

        patch.setitem(RULES, kind, RULES[kind]._replace(backward=broken))

    return install


def dense_weight(change: Callable[[jax.Array], jax.Array]) -> Install:
    return layer_rule(Dense, lambda dp, dx, *_: (dp | {"w": change(dp["w"])}, dx))


def dense_bias(change: Callable[[jax.Array], jax.Array]) -> Install:
    return layer_rule(Dense, lambda dp, dx, *_: (dp | {"b": change(dp["b"])}, dx))


def dense_input(change: Callable[..., jax.Array]) -> Install:
    return layer_rule(Dense, lambda dp, dx, params, x, dy: (dp, change(dx, params["w"], dy)))


def activation_rule(function: Callable[..., Any], backward: Callable[..., jax.Array]) -> Install:
    rule = ACTIVATION_RULES[function]._replace(backward=backward)
    return lambda patch: patch.setitem(ACTIVATION_RULES, function, rule)


def of_activation(name: str, function: Callable[..., Any], backward: Callable[..., jax.Array]) -> Mutant:
    return Mutant(name, activation_rule(function, backward), Activation(function), {"x"})


def loss_rule(loss: Callable[..., Any], change: Callable[..., jax.Array]) -> Install:
    gradient = LOSS_GRADIENTS[loss]
    return lambda patch: patch.setitem(LOSS_GRADIENTS, loss, lambda p, y: change(gradient(p, y), p, y))


def forgotten_bias(dparams: Any, dx: jax.Array, *_: Any) -> Any:
    return {"w": dparams["w"]}, dx


def wrong_value(patch: Patch) -> None:
    forward = RULES[Dense].forward
    patch.setitem(RULES, Dense, RULES[Dense]._replace(forward=lambda *a, **k: (forward(*a, **k)[0] * 1.001, a[2])))


def dropout_with_another_mask(patch: Patch) -> None:
    rule = RULES[Dropout]
    patch.setitem(RULES, Dropout, rule._replace(backward=lambda layer, p, mask, dy: rule.backward(layer, p, ~mask, dy)))


def layers_in_forward_order(dparams: Any, dx: jax.Array, *_: Any) -> Any:
    return dparams[::-1], dx


def penalty_rule(gradient: Callable[..., jax.Array]) -> Install:
    return lambda patch: patch.setitem(PENALTY_GRADIENTS, penalties.L2, gradient)


def penalty_on_the_bias(patch: Patch) -> None:
    everywhere = lambda penalty, params: jax.tree.map(lambda w: penalty.strength * w, params)  # noqa: E731
    patch.setattr(cost_module, "penalty_gradient", everywhere)


def sum_for_a_mean(patch: Patch) -> None:
    patch.setattr(cost_module, "of_mean", lambda cost, gradients, *rest: gradients)


def fused_without_the_target(patch: Patch) -> None:
    patch.setitem(FUSED_GRADIENTS, (f.softmax, losses.cross_entropy), lambda p, y: p)


DENSE = Dense(3)
DEEP = sequential(Dense(3), f.tanh, Dense(3))
DROPOUT = sequential(Dropout(0.5))
COST = Cost(DEEP, losses.softmax_cross_entropy, penalties.l2(0.1))
FUSED = Cost(sequential(Dense(3), f.softmax), losses.cross_entropy)
REGRESSION = Cost(Dense(3), losses.squared_error)
WEIGHTS, BIASES = {"0.w", "2.w"}, {"0.b", "2.b"}

MUTANTS = [
    Mutant("dw off by a thousandth", dense_weight(lambda w: w * 0.999), DENSE, {"w"}),
    Mutant("dw with the wrong sign", dense_weight(jnp.negative), DENSE, {"w"}),
    Mutant("dw transposed", dense_weight(jnp.transpose), DENSE, {"w"}),
    Mutant("dw with one entry zeroed", dense_weight(lambda w: w.at[1, 2].set(0)), DENSE, {"w"}),
    Mutant("dw with one entry off by 1e-8", dense_weight(lambda w: w.at[0, 0].multiply(1 + 1e-8)), DENSE, {"w"}),
    Mutant("dw in float32", dense_weight(lambda w: w.astype("float32").astype("float64")), DENSE, {"w"}),
    Mutant("dw NaN", dense_weight(lambda w: w.at[0, 0].set(jnp.nan)), DENSE, {"w"}),
    Mutant("dw divided by N", dense_weight(lambda w: w / 4), DENSE, {"w"}),
    Mutant("db missing", layer_rule(Dense, forgotten_bias), DENSE, {"b"}),
    Mutant("db zero", dense_bias(jnp.zeros_like), DENSE, {"b"}),
    Mutant("db a mean", dense_bias(lambda b: b / 4), DENSE, {"b"}),
    Mutant("db of one row", layer_rule(Dense, lambda dp, dx, p, x, dy: (dp | {"b": dy[0]}, dx)), DENSE, {"b"}),
    Mutant("db not summed", layer_rule(Dense, lambda dp, dx, p, x, dy: (dp | {"b": dy}, dx)), DENSE, {"b"}),
    Mutant("dx by w instead of wᵀ", dense_input(lambda dx, w, dy: dy @ w), DENSE, {"x"}),
    Mutant("dx in a network", dense_input(lambda dx, w, dy: dy @ w), DEEP, {"0.w", "0.b", "x"}),
    Mutant("wrong value", wrong_value, DENSE, {"y"}),
    Mutant("f' forgotten in a network", activation_rule(f.tanh, lambda a, da: da), DEEP, {"0.w", "0.b", "x"}),
    of_activation("f' forgotten", f.tanh, lambda a, da: da),
    of_activation("tanh' with a plus", f.tanh, lambda a, da: da * (1 + a**2)),
    of_activation("σ' without 1 − a", f.sigmoid, lambda a, da: da * a),
    of_activation("relu' leaks", f.relu, lambda side, da: jnp.where(side == 1, da, 0.01 * da)),
    of_activation("relu' inverted", f.relu, lambda side, da: jnp.where(side == 1, 0, da)),
    of_activation("softmax as if elementwise", f.softmax, lambda a, da: da * a * (1 - a)),
    of_activation("softmax right for ones", f.softmax, lambda a, da: a * (da - da.mean(-1, keepdims=True))),
    of_activation("log_softmax without the sum", f.log_softmax, lambda r, da: da - r[0] / (1 + r[1]) * da),
    Mutant("flatten in another order", layer_rule(Flatten, lambda dp, dx, *_: (dp, dx[:, ::-1])), Flatten(), {"x"}),
    Mutant("dropout not scaled", layer_rule(Dropout, lambda dp, dx, *_: (dp, dx / 2)), DROPOUT, {"x"}, train=True),
    Mutant("dropout with another mask", dropout_with_another_mask, DROPOUT, {"x"}, train=True),
    Mutant("layers in the wrong order", layer_rule(Sequential, layers_in_forward_order), DEEP, WEIGHTS | BIASES),
    Mutant("1/N forgotten", sum_for_a_mean, REGRESSION, {"b", "w"}),
    Mutant("loss off by a factor", loss_rule(losses.squared_error, lambda g, p, y: g / 2), REGRESSION, {"b", "w"}),
    Mutant("loss reversed", loss_rule(losses.squared_error, lambda g, p, y: -g), REGRESSION, {"b", "w"}),
    Mutant("p without − y", loss_rule(COST.loss, lambda g, p, y: f.softmax(p)), COST, WEIGHTS | BIASES),
    Mutant("fused without − y", fused_without_the_target, FUSED, {"0.b", "0.w"}),
    Mutant("penalty left out", penalty_rule(lambda p, w: 0 * w), COST, WEIGHTS),
    Mutant("penalty twice", penalty_rule(lambda p, w: 2 * p.strength * w), COST, WEIGHTS),
    Mutant("penalty on the bias", penalty_on_the_bias, COST, BIASES),
]


def spoiled(subject: Any, train: bool) -> set[str]:
    """Return the rows that differ from autodiff."""
    x = X
    if isinstance(subject, Flatten):
        x = X.reshape(2, 3, 2)
    model = subject.model if isinstance(subject, Cost) else subject
    data = (x, X + 1 if subject is REGRESSION else LABELS) if isinstance(subject, Cost) else x
    key = jax.random.key(3) if train else None
    report = check_gradients(subject, random_params(model, x), data, key=key, train=train, differences=False)
    return {row.path for row in report.rows if not row.ok}


spoiled_before = cache(spoiled)  # computed before anything is broken, once for each subject


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_broken_rule_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spoiled_before(mutant.subject, mutant.train) == set(), "the rule is broken before it was broken"
    mutant.install(monkeypatch)
    assert spoiled(mutant.subject, mutant.train) == mutant.spoils
