"""Where a run stopped being finite: step, direction and layer, and the batch to replay it."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Cost,
    Dense,
    Dropout,
    Embedding,
    FitResult,
    LowPrecision,
    NonFinite,
    Optimizer,
    TrainState,
    backprop,
    fit,
    load_weights,
    losses,
    sequential,
)
from fnnet.optimizers import sgd, skip_non_finite
from fnnet.training.callbacks import StopAtNonFinite
from fnnet.training.non_finite import forward_fault
from tests.compare import assert_identical
from tests.training.problems import key

BAD = 13.0  # an input that the networks below fall over
INPUTS = jnp.arange(1.0, 21.0)[:, None]
DATA = (INPUTS, jnp.zeros((20, 1)))


@jax.custom_vjp
def breaks_backward(x: jax.Array) -> jax.Array:
    return x


breaks_backward.defvjp(
    lambda x: (x, x), lambda x, dy: (jnp.where((jnp.abs(x) == BAD).any(), jnp.full_like(dy, jnp.inf), dy),)
)


def breaks_forward(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) == BAD, jnp.nan, x)


def loss_breaks(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(prediction) == BAD, jnp.inf, prediction)[:, 0]


def breaking_update(rate: float) -> Optimizer:
    """Infinite at the 7th update."""

    def update(grads: Any, state: jax.Array, params: Any = None) -> tuple[Any, jax.Array]:
        return jax.tree.map(lambda g: jnp.where(state == 6, jnp.inf, -rate * g), grads), state + 1

    return Optimizer(lambda params: jnp.zeros((), jnp.int32), update)


STILL = sgd(0.0)


def run(layers: tuple[Any, ...], loss: Any = losses.squared_error, optimizer: Any = STILL, **options: Any) -> FitResult:
    model = sequential(*layers)
    params = jax.tree.map(lambda p: jnp.full_like(p, p.ndim == 2), model.init(key(), INPUTS))  # identities
    options = {"epochs": 3, "batch_size": 2, "key": key()} | options
    return fit(Cost(model, loss), optimizer, params, DATA, **options)


NESTED = sequential(Dense(1), breaks_forward)
FAULTS: list[tuple[tuple[Any, ...], dict[str, Any], str, str]] = [
    ((Dense(1), breaks_forward, Dense(1)), {}, "forward", "layer 1, Activation"),
    ((Dropout(0.0), NESTED, Dense(1)), {}, "forward", "layer 1.1, Activation"),
    ((Dense(1),), {"loss": loss_breaks}, "forward", "the loss"),
    ((Dense(1), breaks_backward, Dense(1), breaks_backward, Dense(1)), {}, "backward", "layer 3, Activation"),
    ((Dense(1),), {"optimizer": breaking_update(0.0)}, "update", "the optimizer"),
]


@pytest.mark.parametrize(("layers", "options", "direction", "where"), FAULTS, ids=[f"{d} {w}" for _, _, d, w in FAULTS])
def test_the_first_bad_step_and_layer(layers: Any, options: dict[str, Any], direction: str, where: str) -> None:
    with pytest.warns(RuntimeWarning, match=f"training stops; .*after .* updates, {direction}, in {where}"):
        result = run(layers, **options)
    found = result.non_finite
    assert found is not None
    assert (found.direction, found.where[: len(where)]) == (direction, where)
    assert found.step == int(found.state.step) < 10
    assert len(result.history["epoch"]) == 1
    if direction == "update":
        assert found.step == 6
    else:
        assert BAD in np.asarray(found.batch[0])


def test_backward_by_hand() -> None:
    """The rule's own pullback is looked at: its fault is not autodiff's."""
    from fnnet.backprop import RULES, Rule

    class Broken(Dense):
        pass

    RULES[Broken] = Rule(
        lambda layer, params, x, *, key, train: (layer.apply(params, x), x),
        lambda layer, params, x, dy: (jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), params), dy),
    )
    try:
        with pytest.warns(RuntimeWarning, match="after 0 updates, backward, in layer 1, Broken"):
            run((Dense(1), Broken(1), Dense(1)), value_and_grad=backprop.value_and_grad)
    finally:
        del RULES[Broken]


def test_the_step_can_be_made_again(tmp_path: Path) -> None:
    """Order and dropout are those of the run: from the report alone, and from its file, the cost is the bad one."""
    layers = (Dropout(0.875), lambda x: jnp.where(x == 8 * BAD, jnp.nan, x), Dense(1))  # 13, if it is not dropped
    with pytest.warns(RuntimeWarning):
        result = run(layers, epochs=100)
    found, cost = result.non_finite, Cost(sequential(*layers), losses.squared_error)
    assert found is not None
    assert found.where.startswith("layer 1, Activation")
    again = cost(found.state.params, found.batch, key=found.state.network_key(), train=True)
    assert not np.isfinite(float(again))
    found.save(tmp_path / "bad")
    like = {"params": found.state.params, "x": found.batch[0], "y": found.batch[1], "step": found.state.step}
    saved = load_weights(tmp_path / "bad", {**like, "key": jax.random.key_data(key())})
    assert_identical(saved, {**like, "key": jax.random.key_data(found.state.key)})


@pytest.mark.parametrize("engine", [jax.value_and_grad, backprop.value_and_grad], ids=["autodiff", "by hand"])
def test_inside_a_model_of_low_precision(engine: Any) -> None:
    """A layer of it overflows in float16, forward; backward one does that multiplies a large gradient."""
    params = {"w": jnp.full((1, 1), 300.0), "b": jnp.zeros(1)}
    for inputs, direction in ((1.0, "forward"), (0.5, "backward")):
        model = sequential(LowPrecision(sequential(Dense(1), Dense(1)), "float16"), Dense(1))
        data = jnp.full((4, 1), inputs), jnp.full((4, 1), 0.0)
        with pytest.warns(RuntimeWarning, match=f"after 0 updates, {direction}, in layer 0.1, D"):
            fit(
                Cost(model, losses.squared_error),
                STILL,
                ((params, params), {"w": jnp.ones((1, 1)), "b": jnp.zeros(1)}),
                data,
                key=key(),
                batch_size=4,
                epochs=1,
                value_and_grad=engine,
            )


def test_without_a_penalty_it_is_not_blamed() -> None:
    """Alone every part is finite; only together, as when compiled, the cost is not."""
    state = TrainState.create({"w": jnp.ones((1, 1)), "b": jnp.zeros(1)}, STILL, key())
    where = forward_fault(Cost(Dense(1), losses.squared_error), state, DATA)
    assert where == "the cost, when compiled"


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = TrainState.create({"w": jnp.ones((1, 1))}, STILL, key())
    found = NonFinite(0, "forward", "the loss", state, DATA)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    found.save(tmp_path / "bad")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    found.save(tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_updates_that_were_skipped_are_not_the_fault() -> None:
    """Gradients that were not finite did no harm; the loss that was not, later, did."""
    with pytest.warns(RuntimeWarning, match="forward, in the loss"):
        run(
            (Dense(1), breaks_backward),
            loss=lambda p, t: jnp.where(p == 20, jnp.inf, p)[:, 0],
            optimizer=skip_non_finite(STILL),
        )
    assert run((Dense(1), breaks_backward), optimizer=skip_non_finite(STILL)).non_finite is None


def test_what_was_saved_before_stays(tmp_path: Path) -> None:
    """The state that is not finite is no checkpoint; the bad batch lies beside them."""
    with pytest.warns(RuntimeWarning):
        run((Dense(1),), optimizer=breaking_update(0.0), batch_size=5, checkpoint=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "lock.json", "non_finite_6.safetensors"]


def test_the_last_update_of_all(tmp_path: Path) -> None:
    """No cost comes after it: the parameters themselves are looked at, and are no checkpoint."""
    with pytest.warns(RuntimeWarning, match="the parameters after epoch 1 are NaN .* after 6 updates, update, in"):
        result = run((Dense(1),), optimizer=breaking_update(0.0), batch_size=3, epochs=1, checkpoint=tmp_path)
    assert result.non_finite is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock.json", "non_finite_6.safetensors"]


def test_parameters_that_no_cost_showed() -> None:
    """Every row of an embedding is used once in an epoch: no cost of the epoch sees what made one of them NaN."""
    model, tokens = sequential(Embedding(20, 2), breaks_backward, Dense(1)), jnp.arange(20)
    params = jax.tree.map(lambda p: jnp.full_like(p, BAD), model.init(key(), tokens))
    with pytest.warns(
        RuntimeWarning, match="parameters after epoch 1 are NaN .* after 0 updates, backward, in layer 1"
    ):
        fit(Cost(model, losses.squared_error), STILL, params, (tokens, DATA[1]), key=key(), batch_size=2)


def test_without_the_search() -> None:
    with pytest.warns(RuntimeWarning, match="with fnnet.evaluate$"):
        result = run((Dense(1), breaks_forward), callbacks=[StopAtNonFinite(search=False)])
    assert result.non_finite is None
