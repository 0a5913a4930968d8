"""Training and evaluating on a stream."""

import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    BatchNorm,
    Checkpoint,
    Cost,
    Dense,
    Dropout,
    TrainState,
    accuracy,
    backprop,
    evaluate,
    fit,
    losses,
    metrics,
    penalties,
    read_record,
    sequential,
    train_chunk,
)
from fnnet.data import from_arrays, from_batches
from fnnet.inspect import gradient_norms
from fnnet.optimizers import adam, sgd
from fnnet.training.callbacks import EarlyStopping, JsonLines, StopAtNonFinite
from tests.cases import random_params
from tests.compare import assert_close, assert_identical
from tests.training.problems import COST, DATA, HOST, LABELS, NETWORK, PARAMS, X, key
from tests.training.saving import steps_in

EACH = 3 * 4 + 4  # bytes of an example
# Batch size and batches per chunk: a last batch of 3 of 7, alone in its chunk or not, and a chunk that is not full.
DIVISIONS = pytest.mark.parametrize(("batch_size", "per_chunk"), [(7, 1), (7, 64), (4, 2)])
CLASSES = Cost(Dense(3), losses.softmax_cross_entropy, penalties.l2(0.1))


@pytest.mark.parametrize("engine", [jax.value_and_grad, backprop.value_and_grad], ids=["autodiff", "by hand"])
@DIVISIONS
def test_a_stream_teaches_what_arrays_teach(engine: Any, batch_size: int, per_chunk: int) -> None:
    options = {"key": key(), "epochs": 3, "value_and_grad": engine, "measure": gradient_norms}
    stream = from_arrays(*HOST, batch_size, chunk_bytes=per_chunk * batch_size * EACH)
    streamed, arrays = (
        fit(CLASSES, adam(0.05), PARAMS, data, **options, **more)
        for data, more in ((stream, {}), (DATA, {"batch_size": batch_size}))
    )
    assert_close(streamed.state.params, arrays.state.params, 1e-5)
    for name in ("cost", "gradient_norm w"):
        np.testing.assert_allclose(streamed.history[name], arrays.history[name], rtol=1e-5)
    assert streamed.history["step"] == arrays.history["step"]
    assert set(streamed.history) - set(arrays.history) == {"reading_seconds"}


def test_with_dropout_and_whole_batches_it_draws_the_same() -> None:
    params = random_params(NETWORK.model, X)
    stream = from_arrays(*HOST, 5)
    streamed = fit(NETWORK, sgd(0.1), params, stream, key=key(), epochs=2).state
    arrays = fit(NETWORK, sgd(0.1), params, DATA, key=key(), epochs=2, batch_size=5).state
    assert_close(streamed.params, arrays.params, 1e-6)


def test_going_on_in_the_middle_of_an_epoch() -> None:
    """The rest of an epoch, from the state after two of its batches, is what it was."""
    stream = from_arrays(*HOST, 3, chunk_bytes=1)
    run = jax.jit(train_chunk(NETWORK, adam(0.1)))
    states = [TrainState.create(random_params(NETWORK.model, X), adam(0.1), key())]
    for chunk in stream.chunks(key()):
        states.append(run(states[-1], chunk)[0])
    assert [int(state.step) for state in states] == [0, 1, 2, 3, 4]
    state = states[2]
    for chunk in stream.chunks(key(), 2):
        state, _ = run(state, chunk)
    assert_identical(state, states[4])


def test_a_run_goes_on_from_a_checkpoint_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """The loader breaks down in the second epoch; the same call again ends with the bits of the uninterrupted run."""

    class Failing:
        shape, dtype, left = HOST[0].shape, HOST[0].dtype, 7

        def __getitem__(self, rows: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise OSError("the disk is gone")
            return HOST[0][rows]

    params = random_params(NETWORK.model, X)

    def run(x: Any, **options: Any) -> Any:
        stream = from_arrays(x, HOST[1], 3, chunk_bytes=1)
        return fit(NETWORK, adam(0.1), params, stream, key=key(), epochs=3, **options)

    checkpoint = Checkpoint(tmp_path / "run", updates=1)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        run(Failing(), checkpoint=checkpoint)
    resumed, whole = run(HOST[0], checkpoint=checkpoint), run(HOST[0])
    assert_identical(resumed.state, whole.state)
    assert resumed.history["cost"] == whole.history["cost"]


@pytest.mark.parametrize("search", [False, True], ids=["donated", "kept"])
def test_an_epoch_of_unknown_length_is_saved_with_its_record(tmp_path: Path, search: bool) -> None:
    """Every second update and the epoch's end, which nobody knows before the loader ends; and it is made once."""

    def batches() -> Iterator[Any]:
        for i in range(5):
            yield HOST[0][2 * i : 2 * i + 2], HOST[1][2 * i : 2 * i + 2]

    def run(epochs: int, **options: Any) -> Any:
        stream = from_batches(batches, 2, chunk_bytes=1)
        options |= {"callbacks": [StopAtNonFinite(search=search), JsonLines(tmp_path / "record")], "validation": DATA}
        return fit(COST, adam(0.1), PARAMS, stream, key=key(), epochs=epochs, **options)

    checkpoint = Checkpoint(tmp_path / "run", updates=2, keep=9)
    run(1, checkpoint=checkpoint)
    assert steps_in(tmp_path / "run") == [2, 4, 5]
    history = run(2, checkpoint=checkpoint).history
    assert steps_in(tmp_path / "run") == [2, 4, 5, 7, 9, 10]
    assert history["step"] == [5, 10] == [line["step"] for line in read_record(tmp_path / "record")]


def test_numbers_of_the_other_byte_order() -> None:
    """As a memory-mapped IDX file has them."""
    big = HOST[0].astype(">f4"), HOST[1].astype(">i4")
    run = partial(fit, COST, sgd(0.1), PARAMS, key=key(), epochs=1)
    expected = run(from_arrays(*HOST, 5)).state.params
    assert_identical(run(from_arrays(*big, 5)).state.params, expected)
    assert_identical(run(big, batch_size=10).state.params, run(HOST, batch_size=10).state.params)
    batches = [(big[0][:5], big[1][:5]), (big[0][5:], big[1][5:])]
    assert_identical(run(from_batches(batches, 5)).state.params, run(from_arrays(*HOST, 5, shuffle=False)).state.params)


def test_three_programs_whatever_the_batches(caplog: pytest.LogCaptureFixture) -> None:
    """For a whole chunk, for a batch that is left over, and for the smaller last batch; to train and to validate."""
    x, y = np.tile(HOST[0], (3, 1)), np.tile(HOST[1], 3)
    stream = from_arrays(x, y, 4, chunk_bytes=3 * 4 * EACH)  # 30 examples: two chunks of 3 batches, one batch, and 2
    fit(CLASSES, sgd(0.1), PARAMS, stream, key=key(), epochs=1)  # small programs, of keys and such, are known now
    with jax.log_compiles(), caplog.at_level("WARNING"):
        fit(CLASSES, sgd(0.2), PARAMS, stream, key=key(), epochs=3, validation=stream)
    compiled = [r.getMessage().split()[4] for r in caplog.records if "Finished XLA compilation" in r.getMessage()]
    assert [sum(f"({name})" in each for each in compiled) for name in ("run", "statistics")] == [3, 3], compiled


def test_drop_leaves_the_last_batch_out() -> None:
    stream = from_arrays(*HOST, 4, shuffle=False, drop_last=True)
    streamed = fit(COST, sgd(0.1), PARAMS, stream, key=key(), epochs=2)
    arrays = fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=2, batch_size=4, shuffle=False, drop_last=True)
    assert_close(streamed.state.params, arrays.state.params, 1e-6)
    assert streamed.state.step == arrays.state.step == 4


def test_a_smaller_last_batch_has_its_own_moments() -> None:
    """Batch normalization and dropout in the smaller batch: a stream gives what arrays give."""
    cost = Cost(sequential(BatchNorm(), Dense(3), Dropout(0.3)), losses.softmax_cross_entropy)
    params = cost.model.init(key(), X)
    streamed = fit(cost, sgd(0.1), params, from_arrays(*HOST, 4), key=key(), epochs=2).state
    arrays = fit(cost, sgd(0.1), params, DATA, batch_size=4, key=key(), epochs=2).state
    assert_close(streamed.params, arrays.params, 1e-5)


def test_bad_batches_stop_fit() -> None:
    def ragged() -> Iterator[Any]:
        yield HOST[0][:4], HOST[1][:4]
        yield HOST[0][4:7], HOST[1][4:7]
        yield HOST[0][:4], HOST[1][:4]

    with pytest.raises(ValueError, match="batch 1 has fewer than 4 examples but batch 2 comes after it"):
        fit(COST, sgd(0.1), PARAMS, from_batches(ragged, 4, chunk_bytes=1), key=key())
    with pytest.raises(ValueError, match=r"fit: the first batch of the stream: .*label 7"):
        fit(COST, sgd(0.1), PARAMS, from_arrays(HOST[0], np.full(10, 7), 4), key=key())
    with pytest.raises(ValueError, match="fit: the stream gave 1 batches in this epoch; expected 3"):
        fit(COST, sgd(0.1), PARAMS, from_batches([(HOST[0][:4], HOST[1][:4])], 4, examples=12), key=key())
    endless = from_batches(lambda: itertools.repeat((HOST[0][:4], HOST[1][:4])), 4, examples=12, chunk_bytes=1)
    with pytest.raises(ValueError, match="fit: the stream gave 4 batches or more in this epoch; expected 3"):
        fit(COST, sgd(0.1), PARAMS, endless, key=key())
    with pytest.raises(
        ValueError, match="fit: data is a stream, which has a batch_size, shuffle and drop_last of its own"
    ):
        fit(COST, sgd(0.1), PARAMS, from_arrays(*HOST, 4), key=key(), batch_size=5)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("where", ["fit", "validation", "evaluate"])
def test_an_interruption_does_not_wait_for_a_loader_that_hangs(where: str) -> None:
    """It comes back while the loader is at its second batch, closes the loader, and leaves no thread behind."""
    before, hang, closed = set(threading.enumerate()), threading.Event(), []

    def hanging() -> Iterator[Any]:
        try:
            yield HOST[0][:4], HOST[1][:4]
            yield HOST[0][:4], HOST[1][:4]
            os.kill(os.getpid(), signal.SIGINT)
            hang.wait(100)
        finally:
            closed.append(hang.is_set())

    stream = from_batches(hanging, 4, chunk_bytes=1)
    run = partial(fit, COST, sgd(0.1), PARAMS, key=key(), epochs=1)
    calls = {
        "fit": lambda: run(stream),
        "validation": lambda: run(DATA, batch_size=5, validation=stream),
        "evaluate": lambda: evaluate(COST, PARAMS, stream),
    }
    try:
        with pytest.raises(KeyboardInterrupt):
            calls[where]()
        assert closed[-1:] == [False]
        assert {t for t in threading.enumerate() if t.name != "MainThread"} <= before
    finally:
        hang.set()


def test_a_callback_or_a_loader_that_interrupts() -> None:
    def stop(state: TrainState, record: dict[str, float]) -> None:
        raise KeyboardInterrupt

    def interrupted() -> Iterator[Any]:
        yield HOST[0][:4], HOST[1][:4]
        raise KeyboardInterrupt

    for stream, callbacks in ((from_arrays(*HOST, 4), [stop]), (from_batches(interrupted, 4), [])):
        with pytest.raises(KeyboardInterrupt):
            fit(COST, sgd(0.1), PARAMS, stream, key=key(), callbacks=callbacks)


def test_the_record_says_how_long_reading_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the loader moves; the two batches of the check before training are not counted."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def slow() -> Iterator[Any]:
        for _ in range(4):
            now[0] += 1.0
            yield HOST[0][:5], HOST[1][:5]

    history = fit(COST, sgd(0.1), PARAMS, from_batches(slow, 5, chunk_bytes=1), key=key(), epochs=1).history
    assert history["reading_seconds"] == [4.0]
    assert history["seconds"] == [4.0]


@DIVISIONS
def test_evaluation_on_a_stream(batch_size: int, per_chunk: int) -> None:
    chosen = {"accuracy": accuracy, "confusion": metrics.confusion_matrix}
    stream = from_arrays(*HOST, batch_size, chunk_bytes=per_chunk * batch_size * EACH)
    streamed = evaluate(CLASSES, PARAMS, stream, chosen)
    arrays = evaluate(CLASSES, PARAMS, DATA, chosen)
    assert_close(streamed, arrays, 1e-6)
    assert int(streamed["confusion"].sum()) == 10


def test_evaluation_does_not_run_ahead_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks in memory are bounded: when one goes to the device, the one before the last is done with."""
    waited: list[Any] = []
    monkeypatch.setattr(jax, "block_until_ready", waited.append)
    evaluate(CLASSES, PARAMS, from_arrays(*HOST, 2, chunk_bytes=1))
    assert len(waited) == 5


def test_validation_on_a_stream_and_early_stopping() -> None:
    options = {"key": key(), "epochs": 4, "metrics": {"accuracy": accuracy}}
    stream = from_arrays(*HOST, 4)
    histories = [
        fit(CLASSES, sgd(0.1), PARAMS, stream, validation=validation, callbacks=[EarlyStopping(2)], **options).history
        for validation in (stream, DATA)
    ]
    for name in ("validation_cost", "validation_accuracy"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-5)


def test_a_history_has_single_numbers() -> None:
    chosen = {"c": metrics.confusion_matrix}
    with pytest.raises(ValueError, match=r"fit: the metric 'c' gives an array of shape \(3, 3\)"):
        fit(COST, sgd(0.1), PARAMS, DATA, key=key(), batch_size=5, validation=DATA, metrics=chosen)


def test_jax_arrays_and_old_keys() -> None:
    stream = from_arrays(X, jnp.asarray(LABELS), 4)
    result = fit(COST, sgd(0.1), PARAMS, stream, key=jax.random.PRNGKey(0), epochs=1)
    expected = fit(COST, sgd(0.1), PARAMS, from_arrays(*HOST, 4), key=key(), epochs=1)
    assert_identical(result.state.params, expected.state.params)
