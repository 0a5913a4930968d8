"""The training loop on the host."""

import re
import signal
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Cost,
    Dense,
    FitInterrupted,
    TrainState,
    accuracy,
    backprop,
    evaluate,
    fit,
    losses,
    penalties,
    train_epoch,
)
from fnnet.data import from_arrays
from fnnet.inspect import update_ratios
from fnnet.optimizers import adam, momentum, sgd
from fnnet.training.callbacks import EarlyStopping
from tests.cases import random_params
from tests.compare import assert_close, assert_identical
from tests.training.problems import COST, DATA, LABELS, NETWORK, PARAMS, X, key

VALIDATION = (X[:7] + 0.1, LABELS[:7])


def network_params() -> Any:
    return random_params(NETWORK.model, X)


def test_fit_is_train_epoch_again_and_again() -> None:
    optimizer = adam(0.05)
    cost = Cost(COST.model, COST.loss, penalties.l2(0.01))
    result = fit(cost, optimizer, PARAMS, DATA, key=key(), epochs=3, batch_size=4)
    epoch = jax.jit(train_epoch(cost, optimizer, batch_size=4))
    state, costs = TrainState.create(PARAMS, optimizer, key()), []
    for _ in range(3):
        state, metrics = epoch(state, DATA)
        costs.append(float(metrics["cost"]))
    assert_identical(result.state, state)
    np.testing.assert_allclose(result.history["cost"], costs, rtol=1e-6)
    assert costs[-1] < costs[0]


def test_history() -> None:
    options = {"validation": VALIDATION, "metrics": {"accuracy": accuracy}}
    state, history = fit(COST, sgd(0.5), PARAMS, DATA, key=key(), epochs=2, batch_size=4, **options)
    assert history["epoch"] == [1, 2]
    assert history["step"] == [3, 6]
    assert history["compile_seconds"][0] > 0
    assert history["compile_seconds"][1] == 0
    assert all(seconds > 0 for seconds in history["seconds"])
    assert set(history) == {
        *("epoch", "step", "cost", "seconds", "compile_seconds", "validation_cost", "validation_accuracy")
    }
    assert {type(value) for values in history.values() for value in values} == {int, float}
    last = evaluate(COST, state.params, VALIDATION, {"accuracy": accuracy})
    assert history["validation_cost"][-1] == pytest.approx(float(last["cost"]), rel=1e-6)
    assert history["validation_accuracy"][-1] == pytest.approx(float(last["accuracy"]), rel=1e-6)


def test_arguments_are_left_as_they_are() -> None:
    """Neither parameters nor state nor data are given up to the compiled epoch."""
    params, data, seed = jax.tree.map(jnp.copy, PARAMS), jax.tree.map(jnp.copy, DATA), key()
    result = fit(COST, adam(0.1), params, data, key=seed, epochs=2, batch_size=5)
    assert_identical((params, data, seed), (PARAMS, DATA, key()))
    before = jax.tree.map(jnp.copy, result.state)
    fit(COST, adam(0.1), result.state, data, epochs=4, batch_size=5)
    assert_identical(result.state, before)


def test_continuing_equals_the_uninterrupted_run_bit_for_bit() -> None:
    """Order of the examples, dropped entries and the optimizer's state included."""
    options = {"batch_size": 4, "epochs": 2}
    half = fit(NETWORK, momentum(0.1), network_params(), DATA, key=key(), **options)
    both = fit(NETWORK, momentum(0.1), half.state, DATA, **options | {"epochs": 4})
    whole = fit(NETWORK, momentum(0.1), network_params(), DATA, key=key(), **options | {"epochs": 4})
    assert_identical(both.state, whole.state)
    assert half.history["cost"] + both.history["cost"] == whole.history["cost"]


def test_engines_agree() -> None:
    engines = (jax.value_and_grad, backprop.value_and_grad)
    results = [
        fit(NETWORK, adam(0.01), network_params(), DATA, key=key(), epochs=3, batch_size=4, value_and_grad=engine)
        for engine in engines
    ]
    assert_close(results[0].state.params, results[1].state.params, 1e-4)
    assert_close(results[0].history["cost"], results[1].history["cost"], 1e-5)


def test_shuffle_and_drop_last_reach_the_epoch() -> None:
    results = [
        fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=1, batch_size=4, **options).state
        for options in ({"shuffle": False}, {"shuffle": False, "drop_last": True}, {})
    ]
    assert [int(state.step) for state in results] == [3, 2, 3]
    assert not np.array_equal(results[0].params["w"], results[2].params["w"])


def test_callback_sees_every_epoch_and_may_keep_and_stop() -> None:
    kept: list[TrainState] = []

    def callback(state: TrainState, record: dict[str, float]) -> bool:
        kept.append(state)
        assert record["epoch"] == len(kept)
        record.clear()  # its own copy
        return len(kept) == 3

    result = fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=10, batch_size=10, callbacks=[callback])
    assert result.history["epoch"] == [1, 2, 3]
    assert_identical(kept[-1], result.state)
    assert [int(state.step) for state in kept] == [1, 2, 3]
    assert all(bool(jnp.isfinite(state.params["w"]).all()) for state in kept)


def test_a_callback_that_returns_something_else_does_not_stop() -> None:
    result = fit(
        COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=2, batch_size=10, callbacks=[lambda state, record: state]
    )
    assert len(result.history["epoch"]) == 2


WORSE_AND_WORSE = {"epochs": 10, "batch_size": 10, "validation": (X, (LABELS + 1) % 3)}


def test_early_stopping_returns_the_best_state() -> None:
    """The validation labels are others than the training labels: its cost falls for no or few epochs, then rises."""
    result = fit(COST, sgd(0.5), PARAMS, DATA, key=key(), callbacks=[EarlyStopping(2)], **WORSE_AND_WORSE)
    costs = result.history["validation_cost"]
    best = int(np.argmin(costs))
    assert len(costs) == best + 1 + 2 < 10
    assert int(result.state.step) == best + 1
    again = float(evaluate(COST, result.state.params, WORSE_AND_WORSE["validation"])["cost"])
    assert again == pytest.approx(min(costs), rel=1e-6)


def test_the_epoch_where_patience_ends_is_told_too() -> None:
    heard: list[float] = []
    history = fit(
        COST,
        sgd(0.0),
        PARAMS,
        DATA,
        key=key(),
        batch_size=5,
        validation=DATA,
        callbacks=[EarlyStopping(1), lambda state, record: heard.append(record["epoch"])],
    ).history
    assert heard == history["epoch"] == [1, 2]


def test_an_improvement_renews_patience() -> None:
    """Training towards the validation data itself, the cost falls in every epoch."""
    result = fit(
        COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=5, batch_size=10, validation=DATA, callbacks=[EarlyStopping(1)]
    )
    assert len(result.history["epoch"]) == 5
    assert int(result.state.step) == 5


def test_early_stopping_when_no_epoch_is_finite() -> None:
    """Diverged from the first epoch: the best state is the initial one, and can be used."""
    cost = Cost(Dense(1), losses.squared_error)
    params, y = {"w": jnp.ones((3, 1)), "b": jnp.zeros(1)}, jnp.ones((10, 1))
    options = {"epochs": 5, "batch_size": 1, "validation": (X, y), "callbacks": [EarlyStopping(2)]}
    with (
        pytest.warns(RuntimeWarning, match="fit: the cost of epoch 1 is .*, training stops; lower the learning rate"),
        pytest.warns(RuntimeWarning, match="no validation cost was finite, so the state before the first epoch is"),
    ):
        result = fit(cost, sgd(1e30), params, (X, y), key=key(), **options)
    assert np.isnan(result.history["validation_cost"]).all()
    assert len(result.history["epoch"]) == 1
    assert_identical(result.state.params, params)


def test_three_programs_are_compiled(caplog: pytest.LogCaptureFixture) -> None:
    """One for whole batches, one for a smaller last batch, one to validate, whatever the number of epochs."""
    compiled: list[list[str]] = []

    def callback(state: TrainState, record: dict[str, float]) -> None:
        compiled.append(re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text))

    options = {"validation": (X[:7], LABELS[:7]), "callbacks": [callback], "measure": update_ratios}
    with jax.log_compiles():
        history = fit(COST, adam(0.1), PARAMS, DATA, key=key(), epochs=4, batch_size=4, **options).history
    assert [compiled[0].count(name) for name in ("run", "over_arrays")] == [2, 1]
    assert compiled[-1] == compiled[0]
    assert history["compile_seconds"][0] > 0


def test_a_second_run_compiles_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The cost is built again, equal to the first; another precision of products is another program."""
    optimizer, options = adam(0.1), {"epochs": 1, "batch_size": 4, "validation": (X[:7], LABELS[:7])}
    first = fit(COST, optimizer, PARAMS, DATA, key=key(), **options)
    with jax.log_compiles():
        second = fit(Cost(Dense(3), losses.softmax_cross_entropy), optimizer, PARAMS, DATA, key=key(), **options)
        assert "Finished XLA compilation" not in caplog.text
        with jax.default_matmul_precision("float32"):
            fit(COST, optimizer, PARAMS, DATA, key=key(), **options)
        assert "Finished XLA compilation of jit(run)" in caplog.text
    assert_identical(first.state, second.state)
    assert second.history["compile_seconds"] == [0]


def test_a_key_of_the_old_kind() -> None:
    """``jax.random.PRNGKey`` is an array of integers; it works as the new one does."""
    old = fit(COST, sgd(0.1), PARAMS, DATA, key=jax.random.PRNGKey(0), epochs=1, batch_size=5)
    new = fit(COST, sgd(0.1), PARAMS, DATA, key=jax.random.key(0), epochs=1, batch_size=5)
    assert_identical(old.state.params, new.state.params)


def test_numpy_data_and_parameters() -> None:
    data, params = jax.tree.map(np.asarray, DATA), jax.tree.map(np.asarray, PARAMS)
    results = [
        fit(COST, sgd(0.1), p, d, key=key(), epochs=1, batch_size=5) for p, d in ((params, data), (PARAMS, DATA))
    ]
    assert_identical(results[0].state, results[1].state)


@pytest.mark.parametrize("stream", [False, True])
def test_an_interrupted_run_keeps_its_result(stream: bool) -> None:
    """As by Ctrl-C in the third epoch: what is kept goes on to the bits of the uninterrupted run."""

    def interrupt(state: TrainState, record: dict[str, float]) -> None:
        if record["epoch"] == 3:
            signal.raise_signal(signal.SIGINT)

    data: Any = from_arrays(*map(np.asarray, DATA), 4) if stream else DATA
    options: dict[str, Any] = {} if stream else {"batch_size": 4}
    with pytest.raises(FitInterrupted, match=r"fit: interrupted after \d updates; the state so far is in") as caught:
        fit(COST, adam(0.1), PARAMS, data, key=key(), epochs=5, callbacks=[interrupt], **options)
    state, history = caught.value.result
    assert history["epoch"] == [1, 2]
    last = fit(COST, adam(0.1), state, data, epochs=5, **options)
    assert_identical(last.state, fit(COST, adam(0.1), PARAMS, data, key=key(), epochs=5, **options).state)


def test_a_model_that_cannot_be_hashed() -> None:
    @dataclass
    class Scaled:
        factors: list[float]

        def init(self, key: Any, x: Any) -> Any:
            return {"w": jnp.ones((3, 3))}

        def apply(self, params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
            return x @ params["w"] * jnp.asarray(self.factors, x.dtype)

    cost = Cost(Scaled([1.0, 2.0, 3.0]), losses.softmax_cross_entropy)
    history = fit(cost, sgd(0.1), {"w": PARAMS["w"]}, DATA, key=key(), epochs=3, batch_size=5).history
    assert history["cost"][-1] < history["cost"][0]
