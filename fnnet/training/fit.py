"""The training loop on the host."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnnet import checks
from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.data.stream import ArrayStream, Stream, as_stream
from fnnet.description import checksum, description
from fnnet.optimizers import Optimizer
from fnnet.optimizers.base import kind_of
from fnnet.training.callback import Callback, Memory, Run, as_callback, epoch_key
from fnnet.training.checkpoint import Checkpoint, Saver
from fnnet.training.data import check_moments, check_stream, placed_data
from fnnet.training.evaluate import Metrics, check_cost_and_metrics, validation_record
from fnnet.training.non_finite import NonFinite, StopAtNonFinite
from fnnet.training.placement import Placement, explained_loss_of_a_process
from fnnet.training.processes import agreed, gathered, together
from fnnet.training.program import Program, chunk_program, copied, settings_of_jax
from fnnet.training.snapshot import Record, Snapshot, kinds_of, raw
from fnnet.training.state import TrainState
from fnnet.training.step import PROBED, Measure
from fnnet.trees import all_finite
from fnnet.types import Array, Batch, Params

CHECKED_ROWS = 100  # of the data, where a run goes on from a checkpoint


@dataclass(frozen=True)
class FitResult:
    """What ``fit`` returns; it unpacks into ``state, history``.

    ``state`` is the last state, the best one with ``callbacks.EarlyStopping``. ``history`` has by name a list with one
    number for each epoch. ``non_finite`` says what happened first where training stopped at NaN or infinity.
    """

    state: TrainState
    history: dict[str, list[float]]
    non_finite: NonFinite | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.state, self.history))


def fit(
    cost: Cost,
    optimizer: Optimizer,
    params: Params | TrainState,
    data: Batch | Stream,
    *,
    key: Array | None = None,
    epochs: int = 10,
    batch_size: int | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    validation: Batch | Stream | None = None,
    metrics: Metrics | None = None,
    validate_on: Callable[[TrainState], Params] | None = None,
    value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
    measure: Measure | None = None,
    augment: Augmentation | None = None,
    mesh: jax.sharding.Mesh | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    callbacks: Sequence[Callback | Callable[[TrainState, Record], Any]] = (),
) -> FitResult:
    """Train until ``epochs`` epochs have been made, and return the final state and the history.

    ``params`` are initial parameters, with a ``key`` for the order of the examples and the model's random numbers; or
    the ``TrainState`` of an earlier run, which is continued: ``epochs`` is always the total. ``data`` is ``(x, y)``
    with examples on the first axis, checked once; ``batch_size`` is 32 if not given, ``len(x)`` is whole-batch and
    ``1`` stochastic gradient descent. Or ``data`` is a ``fnnet.data.Stream``, which has a batch size of its own and
    need not fit into memory. ``augment`` changes the batches at random on the device, and ``value_and_grad`` chooses
    the engine of the gradients, as in ``train_step``. Arguments are left as they are.

    With ``validation`` data the history has ``validation_cost`` and, for each of ``metrics`` (such as
    ``{"accuracy": fnnet.accuracy}``), ``validation_NAME``; ``validate_on(state)`` chooses the parameters that are
    validated, such as ``fnnet.averaged_params``.

    ``history`` has ``epoch``, ``step``, ``cost`` (the mean over the epoch, see ``train_epoch``), ``seconds`` (of
    training, without compiling), ``compile_seconds``, and the numbers of ``measure``, means over the epoch's updates;
    for a stream also ``reading_seconds``, how long the batches were read while the device was at work: where it is
    nearly all of ``seconds``, reading is the limit.

    ``callbacks`` are functions ``(state, record) -> stop`` or objects of ``fnnet.callbacks``, called after every epoch
    in their order: to stop early, to write the records to a file, to show progress. Training stops at NaN and infinity
    with a RuntimeWarning that names the first bad step and layer (``callbacks.StopAtNonFinite``).

    ``checkpoint`` is a directory, or a ``Checkpoint`` with options: the run is saved there as it goes, and the same
    call, made again after an interruption, goes on from the last checkpoint. On the same kind of machine the bits are
    those of the uninterrupted run, all ``seconds`` excepted. ``mesh`` spreads the run over devices, also of several
    processes (see ``fnnet.training.placement.Placement``).
    """
    check_arguments(cost, optimizer, epochs, validation, metrics, validate_on)
    if isinstance(callbacks, Callback) or callable(callbacks):
        raise TypeError(f"fit: callbacks is {callbacks!r}; expected a list of them: callbacks=[...]")
    called = [as_callback(each) for each in callbacks]
    guard = next((each for each in called if isinstance(each, StopAtNonFinite)), StopAtNonFinite())
    called = called if guard in called else [guard, *called]
    if isinstance(checkpoint, (str, Path)):
        checkpoint = Checkpoint(checkpoint)

    state = initial_state(params, optimizer, key)
    placement = Placement.of(mesh, state.params)
    engines = {"cost": cost, "optimizer": optimizer.update, "value_and_grad": value_and_grad, "augment": augment}
    facts = facts_of(state, engines)
    sizes = {"epochs": epochs, "jax": jax.__version__, "params and state": kinds_of(state)}
    agreed("fit", placement.processes, lambda: (None, facts | sizes))
    state = placement.state(state)
    if isinstance(data, Stream):
        check_stream("fit", cost, placement, data, state.order_key(), state.params, augment)
    else:
        data = placed_data("fit", cost, placement, state.params, data, augment)
    stream = as_stream(data, batch_size, shuffle=shuffle, drop_last=drop_last)
    if data is not stream:
        placement.check_batch_size("fit", stream.batch_size)
    check_moments("fit", cost, stream.examples or 0, stream.batch_size, drop_last=stream.drop_last)
    validate = None
    if validation is not None:
        chosen = validate_on or (lambda state: state.params)
        record_of = validation_record(cost, metrics, validation, placement, chosen(state), state.order_key())
        validate = lambda state: record_of(chosen(state))  # noqa: E731

    made_of = cost, optimizer, value_and_grad, measure, augment, placement, settings_of_jax()
    run_chunk = chunk_program(*made_of, *(each.step_probe for each in called if each.step_probe is not None))
    snapshot = Snapshot(state, epoch=epochs_made(state, stream))
    began_finite = bool(all_finite(state.params))
    with ExitStack() as stack:
        stack.enter_context(explained_loss_of_a_process())
        saver = None
        if checkpoint is not None:
            saver = stack.enter_context(
                Saver(checkpoint, lambda s: not began_finite or bool(all_finite(s.state.params)))
            )
        complete = snapshot._replace(state=copied(state))
        run = Run(cost, optimizer, value_and_grad, augment, stream, placement, validation, saver, complete)
        for callback in called:
            stack.callback(callback.close)
            callback.start(run)
        if saver is not None:
            snapshot = resumed(saver, snapshot, run, called, facts)
            run.before = complete = snapshot._replace(state=copied(snapshot.state))
        stop = any(callback.done for callback in called)
        try:
            while snapshot.epoch < epochs and not stop:
                snapshot, record = run_epoch(run, run_chunk, snapshot, called, keep=guard.search)
                if validate is not None:
                    record |= validate(snapshot.state)
                for callback in called:
                    record |= callback.to_record(snapshot.state)
                snapshot = snapshot.after_epoch(record)
                kept = copied(snapshot.state)
                for callback in called:
                    stop = bool(callback(kept, dict(record))) or stop
                if saver is not None and math.isfinite(record["cost"]):
                    saver.after_epoch(snapshot, memories_of(called), last=stop or snapshot.epoch == epochs)
                run.before = complete = snapshot._replace(state=kept)
        except KeyboardInterrupt as error:
            raise FitInterrupted(FitResult(complete.state, complete.history())) from error
    state = snapshot.state
    for callback in called:
        state = callback.result(state)
    return FitResult(state, snapshot.history(), guard.found)


class FitInterrupted(KeyboardInterrupt):
    """Raised by ``fit`` where it is interrupted, as by Ctrl-C; ``result`` is the ``FitResult`` after the last epoch.

    ``except fnnet.FitInterrupted as stopped: state, history = stopped.result``. A run goes on from that state with
    ``fit(cost, optimizer, state, data, epochs=...)``, to the bits of the run that was not interrupted.
    """

    def __init__(self, result: FitResult) -> None:
        super().__init__(
            f"fit: interrupted after {int(result.state.step)} updates; the state so far is in FitInterrupted.result"
        )
        self.result = result


def run_epoch(
    run: Run, run_chunk: Program, snapshot: Snapshot, callbacks: Sequence[Callback], *, keep: bool
) -> tuple[Snapshot, Record]:
    """Make the rest of an epoch, up to a cost that is not finite; return the snapshot after it and its record."""
    stream, placement, saver = run.stream, run.placement, run.saver
    most = None if saver is None else saver.checkpoint.updates
    watching = [each for each in callbacks if each.step_probe is not None]
    chunks = (
        placement.batch(chunk, stream.batch_size)
        for chunk in stream.chunks(epoch_key(snapshot), snapshot.updates, most)
    )
    ready = together("fit", placement.processes, chunks)
    with closing(chunks):
        compiled_before, compiled, began = run_chunk.seconds, run_chunk.seconds, time.perf_counter()
        chunk, reading = next(ready, None), time.perf_counter() - began
        while chunk is not None:
            before = snapshot.updates
            if keep and (run.before.epoch, run.before.updates) != (snapshot.epoch, snapshot.updates):
                run.before = snapshot._replace(state=copied(snapshot.state))
            made = run_chunk(snapshot.state, chunk)
            start = time.perf_counter()
            chunk = next(ready, None)  # is read while the device is at work
            reading += time.perf_counter() - start
            state, numbers = jax.block_until_ready(made)
            seconds = time.perf_counter() - began - (run_chunk.seconds - compiled)
            for callback, probed in zip(watching, numbers.pop(PROBED, ()), strict=True):
                callback.after_chunk(jax.device_get(probed))
            snapshot = snapshot.after(state, numbers, seconds)
            check_steps(stream, snapshot.updates, ended=False)
            if not math.isfinite(snapshot.sums["cost"][0]):
                break
            if saver is not None and snapshot.updates != stream.steps:  # the end of an epoch is saved with its record
                saver.after_chunk(before, snapshot, memories_of(callbacks))
            compiled, began = run_chunk.seconds, time.perf_counter()
        else:
            check_steps(stream, snapshot.updates, ended=True)
    record = snapshot.record()
    if not stream.on_device:
        record["reading_seconds"] = reading
    return snapshot, record | {"compile_seconds": run_chunk.seconds - compiled_before}


def check_steps(stream: Stream, updates: int, *, ended: bool) -> None:
    """Refuse an epoch that ends early or goes on for ever."""
    steps = stream.steps
    right = updates > 0 if steps is None else (updates == steps if ended else updates <= steps)
    checks.require(
        right,
        f"fit: the stream gave {updates} batches {'' if ended else 'or more '}in this epoch; expected "
        f"{steps or 'at least one'}: pass examples=, the number per epoch, or drop_last=True if the loader drops a "
        f"smaller last batch",
    )


def memories_of(callbacks: Sequence[Callback]) -> dict[str, Memory]:
    """Return what checkpoints keep of the callbacks, by the names of their classes."""
    return {type(each).__name__: each.memory for each in callbacks if each.memory is not None}


def resumed(
    saver: Saver, snapshot: Snapshot, run: Run, callbacks: Sequence[Callback], facts: Mapping[str, Any]
) -> Snapshot:
    """Return the snapshot in the last checkpoint, if there is one, after giving the callbacks their memories."""
    memories = memories_of(callbacks)
    data = run.stream.description | {"updates": saver.checkpoint.updates}
    if run.placement.processes > 1 and not run.stream.on_device:  # each process has its part: the run may go on in one
        parts = gathered({"examples": run.stream.examples, "batch_size": run.stream.batch_size})
        data |= {name: sum(part[name] for part in parts) for name in parts[0]}
    elif isinstance(run.stream, ArrayStream):
        data |= checksums_of_rows(run.stream.arrays)
    facts = {**facts, "callbacks": sorted(memories), **{f"data.{name}": value for name, value in data.items()}}
    snapshot, found = saver.resumed(snapshot, memories, facts)
    for callback in callbacks:
        if callback.memory is not None:
            callback.memory = found[type(callback).__name__]
    run.resumed_at = int(snapshot.state.step)
    return snapshot


def checksums_of_rows(arrays: tuple[Any, Any]) -> dict[str, str]:
    """Return checksums of some examples, by which other data of the same shape are known."""
    rows = np.unique(np.linspace(0, arrays[0].shape[0] - 1, CHECKED_ROWS).astype(int))
    return {name: checksum(np.asarray(array[rows])) for name, array in zip(("x", "y"), arrays, strict=True)}


def facts_of(state: TrainState, functions: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the processes of a run, and a run and its checkpoint, must have in common."""
    described = [description(function, name) for name, function in functions.items()]
    facts = {name: entry for each in described for name, entry in each.items()}
    config: Any = jax.config  # whose settings have no types
    precision = str(config.jax_default_matmul_precision)
    return facts | {"key": np.asarray(raw(state.key)).tolist(), "precision": precision}


def check_arguments(cost: Any, optimizer: Any, epochs: Any, validation: Any, metrics: Any, validate_on: Any) -> None:
    """Refuse what is easily confused: a model for its cost, an optimizer that was not called, a list of metrics."""
    check_cost_and_metrics("fit", cost, metrics)
    kind_of("fit", optimizer)
    checks.positive_integer("fit", "epochs", epochs)
    for name, needs in (("metrics", metrics or None), ("validate_on", validate_on)):
        checks.require(
            needs is None or validation is not None,
            f"fit: {name} given without validation data; pass validation=(x, y)",
        )


def initial_state(params: Params | TrainState, optimizer: Optimizer, key: Array | None) -> TrainState:
    if isinstance(params, TrainState):
        checks.require(key is None, "fit: a TrainState has its own key; leave key= out when continuing from one")
        return params
    checks.random_key("fit", key)
    assert key is not None
    return TrainState.create(params, optimizer, key)


def epochs_made(state: TrainState, stream: Stream) -> int:
    """Return how many epochs an earlier run has made."""
    step = int(state.step)
    checks.require(
        step == 0 or stream.steps is not None,
        f"fit: the state has made {step} updates, but the stream does not tell how many make an epoch; pass examples= "
        f"to fnnet.data.from_batches",
    )
    return step // stream.steps if stream.steps else 0
