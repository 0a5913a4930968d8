"""Every network of a sweep is the one that ``fit`` trains alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, Dropout, Residual, accuracy, bind, fit, grid, losses, penalties, sequential, sweep, tanh
from fnnet.cpu import narrow
from fnnet.optimizers import adam, sgd
from fnnet.training.sweep import training
from tests.compare import assert_close
from tests.training.problems import COST, DATA, LABELS, PARAMS, X, key

MODEL = sequential(Dense(4), tanh, Dropout(0.3), Dense(3))
SETTINGS = grid(learning_rate=[0.01, 0.1], decay=[1e-3, 1e-2], seed=[3])
SETTINGS["scale"] = np.array([1.0, 0.5, 2.0, 0.1])
VALIDATION = (X[:7] + 0.1, LABELS[:7])
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 4, "metrics": {"accuracy": accuracy}}


def make(learning_rate: Any, decay: Any, scale: Any) -> Any:
    return Cost(MODEL, losses.softmax_cross_entropy, penalties.l2(decay)), adam(learning_rate), scale


def alone(i: int, data: Any, validation: Any) -> Any:
    """Return the result of run ``i`` by ``fit``, from the initial weights that the docstring of ``sweep`` defines."""
    setting = {name: values[i].item() for name, values in SETTINGS.items()}
    start, order = jax.random.split(jax.random.fold_in(key(7), setting.pop("seed")))
    cost, optimizer, scale = make(**setting)
    params = [
        {name: p * scale if name == "w" else p for name, p in layer.items()} for layer in MODEL.init(start, data[0])
    ]
    return fit(cost, optimizer, tuple(params), data, key=order, validation=validation, **OPTIONS)


@pytest.mark.usefixtures("x64")
def test_a_run_is_what_fit_gives() -> None:
    """In float64 rounding is negligible, and every number of the setting has an effect."""
    data, validation = ((x.astype("float64"), y) for x, y in (DATA, VALIDATION))
    together = sweep(make, SETTINGS, data, key=key(7), validation=validation, **OPTIONS)
    assert together.history.keys() == {"cost", "validation_cost", "validation_accuracy"}
    state, history = alone(3, data, validation)
    found = jax.tree.map(lambda leaf: leaf[3], together.states)
    assert_close((found.params, found.opt_state), (state.params, state.opt_state), 1e-10)
    assert int(found.step) == 9
    for name, values in together.history.items():
        np.testing.assert_allclose(values[3], history[name], rtol=1e-10)


def test_a_run_in_float32_is_the_one_alone() -> None:
    """Both use the same gradients, because different rounding would separate the two within hundreds of updates."""

    def tanh_network(learning_rate: Any) -> Any:
        return Cost(sequential(Dense(16), tanh, Dense(2)), losses.softmax_cross_entropy), adam(learning_rate)

    points = jax.random.normal(key(1), (64, 2)), jnp.arange(64) % 2
    settings = {"learning_rate": jnp.geomspace(1e-3, 3e-2, 8), "seed": jnp.arange(8)}
    train = training(tanh_network, key=key(2), epochs=50, batch_size=32, value_and_grad=narrow.value_and_grad)
    together, _ = jax.jit(jax.vmap(train, (0, None)))(settings, (points, None))
    alone, _ = jax.jit(train)({name: values[7] for name, values in settings.items()}, (points, None))
    found = jax.tree.map(lambda leaf: leaf[7], together.params)
    assert_close(found, alone.params, 1e-6)


def plain(learning_rate: Any) -> Any:
    return COST, sgd(learning_rate)


def test_without_a_seed_all_runs_start_alike_and_one_that_diverges_is_alone() -> None:
    def linear(learning_rate: Any) -> Any:
        return Cost(Dense(3), losses.squared_error), sgd(learning_rate)

    result = sweep(linear, {"learning_rate": [0.0, 1e30, 0.0]}, (X, X), key=key(), epochs=2, batch_size=5)
    costs = np.asarray(result.history["cost"])
    assert not np.isfinite(costs[1, -1])
    np.testing.assert_array_equal(costs[0], costs[2])
    assert np.isfinite(costs[0]).all()
    seeds = sweep(plain, grid(learning_rate=[0.0], seed=[0, 1]), DATA, key=key(), epochs=1, batch_size=5)
    assert seeds.history["cost"][0] != seeds.history["cost"][1]


def test_options_reach_the_epoch() -> None:
    def measure(params: Any, grads: Any, updates: Any) -> dict[str, jax.Array]:
        return {"bias": jnp.abs(grads["b"]).max()}

    result = sweep(
        plain, {"learning_rate": [0.1]}, DATA, key=key(), epochs=2, batch_size=4, drop_last=True, measure=measure
    )
    assert result.states.step.tolist() == [4]
    assert result.history["bias"].shape == (1, 2)


def test_narrow_layers_have_the_gradients_of_autodiff() -> None:
    """Test products of fewer and of more than ``THIN`` terms, in combinators and under ``vmap``."""
    inner = Residual(sequential(Dense(3), tanh))
    cost = Cost(sequential(inner, Dense(6, use_bias=False), tanh, Dense(3)), losses.softmax_cross_entropy)
    changed = narrow.narrowed(cost.model)
    assert repr(changed).count("Narrow(") == 3
    assert narrow.narrowed(tanh) is tanh
    keys = jax.random.split(key(), 2)
    params = jax.vmap(lambda each: cost.model.init(each, X))(keys)
    together, expected = (
        jax.jit(jax.vmap(engine(cost), (0, None)))(params, DATA)
        for engine in (narrow.value_and_grad, jax.value_and_grad)
    )
    assert_close(together, expected, 1e-5)
    with pytest.raises(ValueError, match=r"x has shape .* but w has shape"):
        narrow.value_and_grad(COST)(PARAMS, (X[:, :2], LABELS))


def test_grid() -> None:
    settings = grid(learning_rate=[0.1, 0.01], seed=range(3))
    np.testing.assert_array_equal(settings["learning_rate"], [0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    np.testing.assert_array_equal(settings["seed"], [0, 1, 2, 0, 1, 2])
    with pytest.raises(ValueError, match="grid: seed is 3; expected a list of numbers"):
        grid(seed=3)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"settings": {}}, TypeError, "sweep: settings are {}; expected numbers by name"),
    ({"settings": {"learning_rate": 0.1}}, ValueError, r"learning_rate has shape \(\) and dtype float64; expected one"),
    ({"settings": {"learning_rate": ["a"]}}, ValueError, r"learning_rate has shape \(1,\) and dtype <U1"),
    ({"settings": {"learning_rate": [0.1, 0.2], "seed": [1]}}, ValueError, "'learning_rate': 2, 'seed': 1} numbers"),
    ({"settings": {"learning_rate": [0.1], "seed": [1.5]}}, TypeError, "seed has dtype float64; expected integers"),
    ({"settings": {"learning_rate": [0.1, -1.0]}}, ValueError, "optimizers.sgd: learning_rate is -1.0; expected"),
    (
        {
            "make": lambda delta: (Cost(MODEL, bind(losses.huber, delta=delta)), sgd(0.1)),
            "settings": {"delta": [1, -1]},
            "data": (X, X),
        },
        ValueError,
        "losses.huber: delta is -1; expected a number above 0",
    ),
    (
        {"settings": {"learning_rate": [0.1], "seed": [2**31]}},
        ValueError,
        r"setting seed has \[2147483648\], which does not fit",
    ),
    ({"settings": {"rate": [0.1]}}, TypeError, "unexpected keyword argument 'rate'"),
    ({"make": lambda learning_rate: COST}, TypeError, r"returned Cost\(.*\); expected \(cost, optimizer\)"),
    ({"data": (X[:0], LABELS[:0])}, ValueError, r"sweep: x has shape \(0, 3\)"),
    ({"data": (X, LABELS.at[3].set(9))}, ValueError, r"label 9 \(first at \(3,\)\)"),
    ({"batch_size": 11}, ValueError, "sweep: batch_size is 11 but there are only 10 examples"),
    ({"epochs": 0}, ValueError, "sweep: epochs is 0"),
    ({"chunk": 0}, ValueError, "sweep: chunk is 0"),
    ({"metrics": {"accuracy": accuracy}}, ValueError, "sweep: metrics need validation data"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_what_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    options = {"make": plain, "settings": {"learning_rate": [0.1]}, "data": DATA, "batch_size": 5} | arguments
    with pytest.raises(error, match=message) as caught:
        sweep(options.pop("make"), options.pop("settings"), options.pop("data"), key=key(), **options)
    if "is -1" in message:
        assert any(note.startswith("sweep: in run 1, make(**{") for note in caught.value.__notes__)


def test_a_sweep_that_is_debugged() -> None:
    """Without ``jit``, values can be printed and looked at."""
    settings, options = grid(learning_rate=[0.1, 0.2]), {"key": key(), "epochs": 1, "batch_size": 5}
    with jax.disable_jit():
        result = sweep(lambda learning_rate: (COST, sgd(learning_rate)), settings, DATA, **options)
    compiled = sweep(lambda learning_rate: (COST, sgd(learning_rate)), settings, DATA, **options)
    np.testing.assert_allclose(result.history["cost"], compiled.history["cost"], rtol=1e-6)
