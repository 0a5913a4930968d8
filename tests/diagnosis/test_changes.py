"""Changes of one thing in a run: each does what its line of code says, and nothing else."""

from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnnet
from fnnet import Cost, Dense, Dropout, losses, optimizers, penalties
from fnnet.diagnosis import Change, Setup
from fnnet.diagnosis.changes import ACTIONS, apply, layer_at, scaled_updates, with_layer
from fnnet.paths import named_leaves

BLOCK = fnnet.sequential(fnnet.LayerNorm(), fnnet.relu, Dense(4))
MODEL = fnnet.sequential(Dense(4), fnnet.Residual(BLOCK), Dropout(0.5), Dense(1))


def setup(**changes: Any) -> Setup:
    rng = np.random.default_rng(0)
    x = (3 + 5 * rng.standard_normal((16, 3))).astype(np.float32)
    y = 7 * x[:, :1] + 1
    cost = Cost(MODEL, losses.squared_error, penalties.l2(0.1))
    params = MODEL.init(jax.random.key(0), jnp.asarray(x))
    made = Setup(cost, optimizers.adam(0.1), params, (x, y), jax.random.key(1), (x[:4], y[:4]), batch_size=4)
    return replace(made, **changes)


def leaves(setup: Setup) -> dict[str, Any]:
    return dict(named_leaves(setup.params))


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b))


# A change, its line of code, the fields that it changes, and what holds of the setup before and after it.
CHANGES: list[tuple[Change, str, set[str], Any]] = [
    (Change("learning_rate", "scale", 0.1), "learning_rate = 0.1 * learning_rate", {"optimizer"}, None),
    (Change("optimizer", "replace", optimizers.sgd(0.1)), "optimizer = sgd", {"optimizer"}, None),
    (
        Change("gradients", "clip", 1.0),
        "optimizer = chain(clip_by_global_norm(1), optimizer)",
        {"optimizer"},
        lambda a, b: a.optimizer.init is b.optimizer.init,
    ),
    (
        Change("penalty", "scale", 0.5),
        "strength = 0.5 * strength",
        {"cost"},
        lambda a, b: float(b.cost.penalty(b.params)) == 0.5 * float(a.cost.penalty(a.params)),
    ),
    (
        Change("penalty", "replace", penalties.l2(1e-3)),
        "cost = Cost(model, loss, L2(strength=0.001))",
        {"cost"},
        lambda a, b: b.cost.penalty == penalties.l2(1e-3),
    ),
    (
        Change("loss", "replace", losses.huber),
        "cost = Cost(model, losses.huber)",
        {"cost"},
        lambda a, b: b.cost.loss is losses.huber and b.cost.model == a.cost.model,
    ),
    (
        Change("params", "scale", 0.5),
        "params = 0.5 * params  # the weights",
        {"params"},
        lambda a, b: same(leaves(b)["0.w"], 0.5 * leaves(a)["0.w"]) and same(leaves(b)["1.layer.0.scale"], np.ones(4)),
    ),
    (
        Change("params", "draw"),
        "w_init = he_normal",
        {"params"},
        lambda a, b: not same(leaves(a)["0.w"], leaves(b)["0.w"]) and same(leaves(b)["1.layer.0.scale"], np.ones(4)),
    ),
    (
        Change("params", "cast", "bfloat16"),
        "x, params = x.astype('bfloat16'), params.astype('bfloat16')",
        {"params", "data", "validation"},
        lambda a, b: {p.dtype.name for p in jax.tree.leaves((b.params, b.data))} == {"bfloat16"},
    ),
    (
        Change("inputs", "standardize"),
        "x = (x - x.mean(0)) / x.std(0)",
        {"data", "validation"},
        lambda a, b: (
            np.abs(b.data[0].mean(0)).max() < 1e-6
            and np.abs(b.data[0].std(0) - 1).max() < 1e-6
            and same(b.data[0][:4], b.validation[0])
            and b.data[1] is a.data[1]
        ),
    ),
    (
        Change("targets", "standardize"),
        "y = (y - y.mean(0)) / y.std(0)",
        {"data", "validation"},
        lambda a, b: abs(b.data[1].std() - 1) < 1e-6 and b.data[0] is a.data[0],
    ),
    (Change("data", "replace", (np.ones((2, 3)),) * 2), "data = (x, y)  # other examples", {"data"}, None),
    (Change("validation", "replace", None), "validation = (x, y)  # other examples", {"validation"}, None),
    (
        Change("model.2", "remove"),
        "del layers[2]",
        {"cost", "params"},
        lambda a, b: len(b.params) == 3 and b.params[2]["w"] is a.params[3]["w"],
    ),
    (
        Change("model.0", "insert", fnnet.LayerNorm()),
        "layers.insert(0, LayerNorm())",
        {"cost", "params"},
        lambda a, b: b.params[1]["w"] is a.params[0]["w"] and b.params[0]["scale"].shape == (3,),
    ),
    (
        Change("model.1.layer.1", "replace", fnnet.Activation(fnnet.tanh)),
        "layers[1.layer.1] = Activation(tanh)",
        {"cost", "params"},
        lambda a, b: b.cost.model.layers[1].layer.layers[1].function is fnnet.tanh and same_leaves(a, b),
    ),
    (
        Change("model", "replace", fnnet.sequential(Dense(2), Dense(1))),
        "model = Sequential(layers=(Dense(features=2), Dense(features=1)))",
        {"cost", "params"},
        lambda a, b: b.params[0]["w"].shape == (3, 2),
    ),
    (
        Change("model", "widen", 2.0),
        "features = 2 * features  # of the hidden layers",
        {"cost", "params"},
        lambda a, b: [b.params[i]["w"].shape for i in (0, 3)] == [(3, 8), (8, 1)],
    ),
    (
        Change("dropout", "set", 0.1),
        "Dropout(0.1)",
        {"cost", "params"},
        lambda a, b: b.cost.model.layers[2] == Dropout(0.1) and same_leaves(a, b),
    ),
    (Change("epochs", "set", 3), "epochs = 3", {"epochs"}, lambda a, b: b.epochs == 3),
    (Change("epochs", "scale", 1.25), "epochs = 1.25 * epochs", {"epochs"}, lambda a, b: b.epochs == 12),
    (Change("batch_size", "set", 2), "batch_size = 2", {"batch_size"}, lambda a, b: b.steps_of_epoch == 8),
    (Change("batch_size", "scale", 8), "batch_size = 8 * batch_size", {"batch_size"}, lambda a, b: b.batch_size == 16),
    (Change("shuffle", "set", False), "shuffle = False", {"shuffle"}, lambda a, b: not b.shuffle),
    (Change("key", "fold", 1), "key = jax.random.fold_in(key, 1)", {"key"}, None),
    (Change("augment", "remove"), "augment = None", {"augment"}, None),
]


def same_leaves(a: Setup, b: Setup) -> bool:
    return all(p is q for p, q in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True))


def test_every_action_is_in_the_table() -> None:
    assert {(change.kind, change.action) for change, *_ in CHANGES} == set(ACTIONS)


@pytest.mark.parametrize(("change", "line", "changed", "holds"), CHANGES, ids=[row[1] for row in CHANGES])
def test_a_change_does_what_its_line_says(change: Change, line: str, changed: set[str], holds: Any) -> None:
    before = setup(augment=lambda key, batch: batch)
    after = apply(change, before)
    assert str(change) == line
    assert {f.name for f in fields(Setup) if getattr(before, f.name) is not getattr(after, f.name)} == changed
    assert holds is None or holds(before, after)
    if change.target not in ("data", "params"):  # of other shapes and dtypes
        x, y = after.data
        assert np.isfinite(after.cost(after.params, (jnp.asarray(x), jnp.asarray(y))))


@pytest.mark.parametrize("optimizer", [optimizers.momentum(0.1), optimizers.adamw(0.1), optax.sgd(0.1, momentum=0.9)])
def test_a_scaled_rate_is_another_rate_of_any_optimizer(optimizer: Any) -> None:
    params, grads = {"w": jnp.ones((2, 2))}, {"w": jnp.full((2, 2), 3.0)}
    scaled = scaled_updates(optimizer, jnp.float32(0.25))
    (one, state), (other, other_state) = (each.update(grads, each.init(params), params) for each in (optimizer, scaled))
    np.testing.assert_array_equal(other["w"], 0.25 * one["w"])
    assert jax.tree.structure(state) == jax.tree.structure(other_state)


def test_layers_are_found_and_put_by_their_path() -> None:
    assert layer_at(MODEL, "1.layer.2") == Dense(4)
    wrapped = fnnet.LowPrecision(MODEL)
    changed = with_layer(wrapped, "1.layer.2", Dense(4, use_bias=False))
    assert layer_at(changed, "1.layer.2") == Dense(4, use_bias=False)
    assert with_layer(changed, "1.layer.2", Dense(4)) == wrapped
    with pytest.raises(KeyError, match=r"has no layer '7'"):
        layer_at(MODEL, "7")


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no action 'double' on 'learning_rate'; expected one of"):
        Change("learning_rate", "double")
