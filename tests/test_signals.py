"""Signals of every layer: against loops over NumPy, for any nested model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Activation,
    Bidirectional,
    Cost,
    Dense,
    GRUCell,
    LowPrecision,
    Recurrent,
    Rematerialized,
    Residual,
    gelu,
    losses,
    penalties,
    relu,
    sequential,
    sigmoid,
    softmax,
    tanh,
)
from fnnet.backprop import as_custom_vjp
from fnnet.inspect import leaf_layers, signals
from tests.cases import random_params

X = np.random.default_rng(0).standard_normal((12, 4)).astype("float32")
Y = np.random.default_rng(1).standard_normal((12, 2)).astype("float32")
MODEL = sequential(Dense(5), tanh, Residual(sequential(Dense(5), relu)), Dense(2))
COST = Cost(MODEL, losses.squared_error, penalties.l2(1.0))
compiled = jax.jit(signals, static_argnums=0)


def rms(a: Any) -> float:
    return float(np.sqrt(np.square(np.asarray(a, np.float64)).mean()))


def test_every_number_of_a_network() -> None:
    params = random_params(MODEL, jnp.asarray(X))
    found = compiled(COST, params, (X, Y))
    assert list(leaf_layers(MODEL)) == ["0", "1", "2.layer.0", "2.layer.1", "3"]
    assert set(found) == set(leaf_layers(MODEL))

    w = {name: np.asarray(a, np.float64) for name, a in (("0", params[0]["w"]), ("2", params[2]["layer"][0]["w"]))}
    z0 = X @ w["0"] + np.asarray(params[0]["b"])
    h0 = np.tanh(z0)
    z1 = h0 @ w["2"] + np.asarray(params[2]["layer"][0]["b"])
    h1 = np.maximum(z1, 0)
    y = (h0 + h1) @ np.asarray(params[3]["w"]) + np.asarray(params[3]["b"])
    dy = 2 * (y - Y) / Y.size
    dh = dy @ np.asarray(params[3]["w"]).T
    dz1 = dh * (z1 > 0)
    dh0 = dh + dz1 @ w["2"].T
    dz0 = dh0 * (1 - h0**2)
    layers = {
        "0": (X, z0, dz0),
        "1": (z0, h0, dh0),
        "2.layer.0": (h0, z1, dz1),
        "2.layer.1": (z1, h1, dh),
        "3": (h0 + h1, y, dy),
    }
    for path, (before, h, dh) in layers.items():
        unit = h / np.linalg.norm(h, axis=1, keepdims=True)
        pairs = ~np.eye(len(X), dtype=bool)
        expected = {
            "rms": rms(h),
            "gain": rms(h) / rms(before),
            "vary": np.sqrt(h.var(0).mean() / np.square(h).mean()),
            "cosine": (unit @ unit.T)[pairs].mean(),
            "dead": (h == 0).all(0).mean(),
            "gradient": rms(dh),
        }
        for name, value in expected.items():
            assert float(getattr(found[path], name)) == pytest.approx(value, rel=1e-4, abs=1e-6), (path, name)

    dw = {"0": (X.T @ dz0, dz0.sum(0)), "2.layer.0": (h0.T @ dz1, dz1.sum(0)), "3": ((h0 + h1).T @ dy, dy.sum(0))}
    sizes = {"0": params[0], "2.layer.0": params[2]["layer"][0], "3": params[3]}
    ratio = {
        path: np.sqrt(sum(np.square(a).sum() for a in grads))
        / np.sqrt(sum(float(jnp.square(a).sum()) for a in sizes[path].values()))
        for path, grads in dw.items()
    }
    for path, value in ratio.items():
        assert float(found[path].reach) == pytest.approx(value / max(ratio.values()), rel=1e-4)
    assert np.isnan(found["1"].reach)
    assert np.isnan(found["0"].saturated)


@pytest.mark.parametrize(
    ("activation", "z", "share"),
    [
        (tanh, [[0.0, 3.0], [0.1, -3.0], [1.0, 4.0]], 0.5),
        (sigmoid, [[0.0, 6.0], [0.0, 6.0], [0.0, 0.0]], 0.0),
        (relu, [[-1.0, 1.0], [-2.0, -1.0], [0.0, 2.0]], 0.5),
        (gelu, [[0.0, 0.0]] * 3, 0.0),
        (softmax, [[0.0, 100.0]] * 3, np.nan),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_saturated_units(activation: Any, z: Any, share: float) -> None:
    cost = Cost(Activation(activation), losses.squared_error)
    found = compiled(cost, {}, (jnp.asarray(z), jnp.zeros((3, 2))))
    np.testing.assert_equal(float(found[""].saturated), share)


def test_a_layer_of_zeros_has_no_reach_and_does_not_hide_that_of_the_others() -> None:
    params = random_params(MODEL, jnp.asarray(X))
    zero = (*params[:3], jax.tree.map(jnp.zeros_like, params[3]))
    found = compiled(COST, zero, (X, Y))
    assert np.isnan(found["3"].reach)
    assert float(found["0"].reach) == float(found["2.layer.0"].reach) == 0


@pytest.mark.parametrize(
    ("model", "paths", "groups"),
    [
        (LowPrecision(sequential(Dense(4), relu, Dense(2))), ["0", "1", "2"], []),
        (as_custom_vjp(sequential(Dense(4), relu, Dense(2))), ["0", "1", "2"], []),
        (
            sequential(Bidirectional(GRUCell(3), return_sequences=False), Dense(2)),
            ["0", "1"],
            ["0.forward", "0.backward"],
        ),
        (sequential(Rematerialized(Recurrent(GRUCell(3), return_sequences=False)), Dense(2)), ["0", "1"], []),
    ],
    ids=["low precision", "rules", "two directions", "rematerialized"],
)
def test_layers_of_wrappers(model: Any, paths: list[str], groups: list[str]) -> None:
    x = jnp.asarray(X if "0" in paths and len(paths) == 3 else X.reshape(12, 2, 2))
    params = model.init(jax.random.key(0), x)
    found = compiled(Cost(model, losses.squared_error), params, (x, Y))
    assert list(leaf_layers(model)) == paths
    assert set(found) == {*paths, *groups}
    for path in [*groups, *(p for p in paths if not groups or p != "0")]:
        assert (path == "1" and len(paths) == 3) or float(found[path].reach) > 0
    assert all(float(found[path].gradient) > 0 for path in paths)


def test_a_model_whose_layers_cannot_be_seen_has_the_reach_of_its_parameters() -> None:
    class Closed:
        def init(self, key: Any, x: Any) -> Any:
            return {"first": {"w": jnp.ones((4, 3))}, "second": {"w": jnp.ones((3, 2))}}

        def apply(self, params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
            return jnp.tanh(x @ params["first"]["w"]) @ params["second"]["w"]

    model = Closed()
    found = compiled(Cost(model, losses.squared_error), model.init(None, None), (X, Y))
    assert set(found) == {"", "first", "second"}
    assert max(float(found[path].reach) for path in ("first", "second")) == 1
    assert np.isnan(found["first"].rms)
    assert float(found[""].rms) > 0
