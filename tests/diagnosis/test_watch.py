"""What ``Watch`` measures: against closed forms and NumPy in float64, and without a trace in the run itself."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Checkpoint, Cost, Dense, Dropout, FitResult, data, fit, grid, losses, relu, sequential, sweep
from fnnet.diagnosis import Watch, diagnose, diagnose_sweep
from fnnet.diagnosis.watch import StepProbe
from fnnet.optimizers import Optimizer, accumulate, adam, dynamic_loss_scale, momentum, sgd
from fnnet.paths import named_leaves
from fnnet.training import train_step
from fnnet.training.callbacks import JsonLines
from fnnet.training.state import TrainState
from tests.cases import random_params

NUMBERS = np.random.default_rng(0)
X = jnp.asarray(NUMBERS.standard_normal((42, 3)), "float32")
Y = jnp.asarray(np.asarray(X)[:, 0] > 0, "int32")
DATA, VALIDATION = (X[:32], Y[:32]), (X[32:], Y[32:])
NETWORK = Cost(sequential(Dense(4), relu, Dropout(0.3), Dense(2)), losses.softmax_cross_entropy)
PLAIN = Cost(Dense(2), losses.softmax_cross_entropy)
LINE = Cost(Dense(1), losses.half_squared_error)
SGD, ADAM = sgd(0.1), adam(0.01)
OPTIONS: dict[str, Any] = {"batch_size": 8, "validation": VALIDATION}


def train(optimizer: Optimizer, *callbacks: Any, cost: Cost = NETWORK, epochs: int = 4, **options: Any) -> FitResult:
    params = random_params(cost.model, X)
    arguments = {"data": DATA, "key": jax.random.key(0), **OPTIONS, **options}
    return fit(cost, optimizer, params, epochs=epochs, callbacks=callbacks, **arguments)


def bits(result: FitResult) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((result.state.params, result.state.opt_state))]


def plain(history: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: values for name, values in history.items() if "seconds" not in name}


def test_the_ratio_on_a_quadratic_is_its_closed_form() -> None:
    """The cost is quadratic in the parameters, so ``ρ = 1 − η/2 · gᵀHg / gᵀg`` for gradient descent."""
    x, target = np.asarray(X, np.float64), np.asarray(NUMBERS.standard_normal((42, 1)))
    params = random_params(LINE.model, X)
    w, b = (np.asarray(params[name], np.float64) for name in ("w", "b"))
    state, batch = TrainState.create(params, sgd(0.3), jax.random.key(0)), (X, jnp.asarray(target, "float32"))
    _, metrics = train_step(LINE, sgd(0.3), probes=[StepProbe(10)])(state, batch)

    rows = np.concatenate([x, np.ones((42, 1))], 1)
    g = rows.T @ (x @ w + b - target) / 42
    rho = 1 - 0.15 * (g.T @ (rows.T @ rows / 42) @ g).item() / (g.T @ g).item()
    (probed,) = metrics["probed"]
    np.testing.assert_allclose(probed["change"] / probed["predicted"], rho, rtol=1e-5)
    norms = {"b": np.abs(g[-1]).item(), "w": np.linalg.norm(g[:-1])}
    expected = [norms[name] for name, _ in named_leaves(params)]
    np.testing.assert_allclose(probed["gradient_norm"], expected, rtol=1e-5)
    np.testing.assert_allclose(probed["update_norm"], np.multiply(0.3, expected), rtol=1e-5)
    lengths = [np.linalg.norm(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(params)]
    np.testing.assert_allclose(probed["parameter_norm"], lengths, rtol=1e-5)


def test_a_watched_run_has_the_bits_of_one_that_nobody_watches() -> None:
    """The programs are those without XLA's optimizations, which may fuse a watched step in another way."""
    alone, watched = train(ADAM, epochs=2), train(ADAM, Watch(every=3), epochs=2)
    assert bits(alone) == bits(watched)
    for name, values in plain(alone.history).items():
        assert watched.history[name] == values, name


def test_the_steps_that_are_probed_and_what_the_looks_see() -> None:
    watch = Watch(every=3)
    result = train(SGD, watch, epochs=12)
    numbers = watch.numbers
    blocks = [3 * number + number % 3 for number in range(16)]
    assert numbers["step"].tolist() == [step for step in range(48) if step < 20 or step in blocks]
    assert numbers["look_step"].tolist() == list(range(0, 52, 4))
    assert numbers["gradient_norm"].shape == (len(numbers["step"]), 4)

    first, last = result.state.params[0], result.state.params[3]
    hidden = np.maximum(np.asarray(VALIDATION[0], np.float64) @ np.asarray(first["w"]) + np.asarray(first["b"]), 0)
    logits = hidden @ np.asarray(last["w"]) + np.asarray(last["b"])
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(10), np.asarray(VALIDATION[1])]
    np.testing.assert_allclose(numbers["last_losses"], each, rtol=1e-5)
    np.testing.assert_allclose(numbers["look_loss"][-1], each.mean(), rtol=1e-5)
    np.testing.assert_allclose(numbers["look_error"][-1], each.std(ddof=1) / 10**0.5, rtol=1e-5)
    relus = watch.watched.facts["layers"].index("1")  # type: ignore[union-attr]
    assert numbers["look_dead"][-1, relus] == (hidden.max(0) == 0).mean()
    shares = np.bincount(np.asarray(VALIDATION[1])) / 10
    entropy = -(shares * np.log(shares)).sum()
    np.testing.assert_allclose(result.history["lambda"][-1], each.mean() / entropy, rtol=1e-3)


def test_nothing_else_is_compiled_than_the_program_of_the_run(caplog: pytest.LogCaptureFixture) -> None:
    """A run has as many programs with a watch as without, and a run without has those that it had."""
    x, y = DATA[0][:12], DATA[1][:12]  # a whole batch, and a smaller last one
    train(SGD, Watch(), epochs=1, data=(x, y))  # the programs of keys and of looks
    compiled = []
    for callbacks in ([], [Watch()], []):
        caplog.clear()
        with jax.log_compiles():
            train(momentum(0.1) if callbacks else ADAM, *callbacks, epochs=2, data=(x, y))
        compiled.append(re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text))
    assert [programs.count("run") for programs in compiled] == [2, 2, 0]
    assert compiled[-1] == []


def test_a_run_that_goes_on_from_a_checkpoint_has_the_same_report(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed(step: int) -> None:
        if step == 6:  # in the middle of the second epoch
            raise Killed

    def run(directory: str, on_saved: Any = None) -> tuple[FitResult, Watch]:
        watch = Watch(every=3)
        checkpoint = Checkpoint(tmp_path / directory, updates=2, on_saved=on_saved)
        record = JsonLines(tmp_path / f"{directory}.jsonl")
        return train(ADAM, watch, record, checkpoint=checkpoint), watch

    whole, watch = run("whole")
    with pytest.raises(Killed):
        run("killed", killed)
    resumed, again = run("killed")
    assert json.dumps(again.memory.numbers) == json.dumps(watch.memory.numbers)  # type: ignore[union-attr]
    given = {"data": DATA, "validation": VALIDATION, "optimizer": ADAM}
    reports = [diagnose(result, NETWORK, watch=w, **given) for result, w in ((whole, watch), (resumed, again))]
    assert str(reports[0]) == str(reports[1])
    assert reports[0].ok, reports[0]
    from_file = diagnose(tmp_path / "killed.jsonl", NETWORK)
    assert from_file.ok, from_file
    assert "learning rate too high" in from_file.fine
    assert "watch" in from_file.not_looked_at["gradients vanish"]


@pytest.mark.parametrize("kind", ["stream", "batches", "probe", "disable_jit", "accumulate", "loss scale", "alone"])
def test_it_works_with_all_that_fit_does(kind: str) -> None:
    optimizer, options, watch = SGD, dict[str, Any](), Watch(every=3)
    if kind == "stream":
        options = {"data": data.from_arrays(*map(np.asarray, DATA), 8), "batch_size": None}
    elif kind == "batches":
        batches = [(np.asarray(X[k : k + 8]), np.asarray(Y[k : k + 8])) for k in (0, 8, 16)]
        options = {"data": data.from_batches(batches, 8), "batch_size": None}
        options["validation"] = data.from_arrays(*map(np.asarray, VALIDATION), 5)
    elif kind == "probe":
        watch, options = Watch(VALIDATION, examples=4), {"validation": None}
    elif kind == "accumulate":
        optimizer = accumulate(sgd(0.1), 2)
    elif kind == "loss scale":
        optimizer = dynamic_loss_scale(sgd(0.1))
    elif kind == "disable_jit":
        options = {"data": (X[:8], Y[:8]), "validation": None}
    elif kind == "alone":
        options = {"validation": None}
    with jax.disable_jit(kind == "disable_jit"):
        train(optimizer, watch, cost=PLAIN, epochs=1, **options)
    numbers = watch.numbers
    assert len(numbers["rho"]) == {"batches": 3, "disable_jit": 1}.get(kind, 4)
    assert len(numbers["look_step"]) == 2
    assert np.isfinite(numbers["look_loss"]).all()
    unmoved = numbers["update_norm"].sum(1) == 0
    assert (np.isnan(numbers["rho"]) >= unmoved).all()
    assert unmoved.mean() == (0.5 if kind == "accumulate" else 0)


def test_a_model_of_the_users_own_is_watched_by_its_parameters() -> None:
    class Own:
        __hash__ = None  # type: ignore[assignment]

        def init(self, key: Any, x: Any) -> Any:
            return {"inner": {"w": jnp.ones((3, 2)) / 3}}

        def apply(self, params: Any, x: Any, *, key: Any = None, train: bool = False) -> Any:
            return x @ params["inner"]["w"]

    cost = Cost(Own(), losses.softmax_cross_entropy)
    watch = Watch()
    result = fit(cost, sgd(0.1), Own().init(None, X), DATA, key=jax.random.key(0), epochs=2, callbacks=[watch])
    assert watch.watched is not None
    assert watch.watched.facts["parameters"] == ["inner.w"]
    report = diagnose(result, cost, watch=watch)
    assert "no Activation" in report.not_looked_at["ReLUs die"]
    assert report.ok


def test_a_sweep_gives_a_report_for_each_run() -> None:
    watch = Watch()
    make = lambda rate: (Cost(PLAIN.model, PLAIN.loss), sgd(rate))  # noqa: E731
    result = sweep(
        make,
        grid(rate=[1e-6, 0.3]),
        DATA,
        key=jax.random.key(1),
        epochs=8,
        batch_size=8,
        validation=VALIDATION,
        watch=watch,
    )
    low, good = diagnose_sweep(result, make, DATA, watch=watch, validation=VALIDATION, batch_size=8)
    assert "learning rate too low" in [row.name for row in low.rows], low
    assert "learning rate too low" in good.fine, good
    with pytest.raises(ValueError, match="was not watched"):
        diagnose_sweep(result._replace(watched=None), make, DATA, watch=watch)


def test_bad_input_is_refused_by_name() -> None:
    for arguments, message in (
        ({"every": 0}, "every"),
        ({"examples": 0}, "examples"),
        ({"probe": (X[:0], Y[:0])}, "probe"),
    ):
        with pytest.raises(ValueError, match=message):
            Watch(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="probe set"):
        train(SGD, Watch((X, Y + 5)))
