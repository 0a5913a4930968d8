"""The training loop on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import jax

from fnnet import checks
from fnnet.cost import Cost
from fnnet.data import Stream
from fnnet.data.augment import Augmentation
from fnnet.optimizers import Optimizer
from fnnet.training.checkpoint import Checkpoint, Saver
from fnnet.training.loop import Loop
from fnnet.training.mesh import OnMesh
from fnnet.training.metrics import Metric
from fnnet.training.non_finite import NonFinite, first_non_finite
from fnnet.training.placing import DefaultDevice, Placing
from fnnet.training.progress import Progress, Record
from fnnet.training.record import JsonLines, TensorBoard
from fnnet.training.snapshot import run_of
from fnnet.training.sources import source_of, validation_of
from fnnet.training.state import TrainState
from fnnet.training.step import Measure
from fnnet.types import Array, Batch, Loss, Params


class Fitted(NamedTuple):
    state: TrainState
    history: dict[str, list[float]]


class FitResult(Fitted):
    """``state, history``: the last state (the best one under early stopping), and by name a number per epoch.

    ``non_finite`` tells, where training stopped at a cost that is NaN or infinite, what happened first.
    """

    non_finite: NonFinite | None = None


def fit(
    cost: Cost,
    optimizer: Optimizer,
    params: Params | TrainState,
    data: Batch | Stream,
    *,
    key: Array | None = None,
    epochs: int = 10,
    batch_size: int | None = None,
    validation: Batch | Stream | None = None,
    metrics: Mapping[str, Loss | Metric] | None = None,
    patience: int | None = None,
    callback: Callable[[TrainState, Record], Any] | None = None,
    value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
    shuffle: bool = True,
    drop_last: bool = False,
    measure: Measure | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    record: str | Path | None = None,
    tensorboard: str | Path | None = None,
    validate_on: Callable[[TrainState], Params] | None = None,
    find_non_finite: bool = True,
    augment: Augmentation | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> FitResult:
    """Train for some epochs and return the final state and the history. Silent; the arguments are left as they are.

    ``params`` are initial parameters, with a ``key`` for the order of the examples and the model's random numbers; or
    the ``TrainState`` of an earlier run, to continue it. ``data`` is ``(x, y)`` with examples on the first axis,
    checked once. ``batch_size`` is 32 if not given; ``len(x)`` is whole-batch, ``1`` stochastic gradient descent. Or
    ``data`` is a ``fnnet.data.Stream`` of batches that need not fit into memory, with a batch size of its own.
    ``augment`` changes the batches at random on the device (see ``train_step``).

    With ``validation`` data the history has ``validation_cost`` and, for each of ``metrics`` (such as
    ``{"accuracy": fnnet.accuracy}``), ``validation_NAME``; ``validate_on(state)`` chooses the parameters
    (``fnnet.averaged_params``). ``patience`` stops after that many epochs without a lower validation cost and returns
    the state of the best epoch. ``callback(state, record)`` is called after every epoch with its numbers; training
    stops if it returns True.

    ``history`` has ``epoch``, ``step``, ``cost`` (the mean over the epoch), ``seconds`` (training alone, without
    compiling), ``compile_seconds`` (in the first epoch; else 0; without the program that validates on a stream, which
    is compiled as the first epoch is validated), ``data_seconds`` (of the ``seconds``, how many were spent in waiting
    for a stream; much of them, and loading is the limit), ``reading_seconds`` (how many the thread that reads a stream
    was at it, beside training: on a CPU they share the cores) and the numbers of ``measure``, means over the epoch's
    updates (see ``train_step``; for example ``measure=fnnet.inspect.update_ratios``). Two programs are compiled, to
    train and to evaluate, for any number of epochs. The epoch itself is the pure function ``fnnet.train_epoch``:
    compile, ``vmap`` or shard that for whatever this loop does not do.

    ``checkpoint`` is a directory, or a ``Checkpoint`` that says more: the run is saved there as it goes, and the same
    call, made again after it was interrupted, goes on from the last checkpoint. ``epochs`` counts from the beginning
    of the run. On the same kind of machine the bits are those of the uninterrupted run, all ``seconds`` excepted.
    ``record`` is a file to which every epoch's numbers are appended as a line of JSON (``fnnet.read_record``);
    ``tensorboard`` a directory for TensorBoard's files.

    Training stops, with a RuntimeWarning, at a cost that is NaN or infinite, or at such parameters where they are saved
    or returned. The part of the run since the last finite cost is then made again, step by step;
    ``result.non_finite`` names the step, the direction and the layer and holds the batch. This keeps the state before
    the epoch in memory: ``find_non_finite=False`` does without.

    ``mesh`` spreads the run over devices, also of several processes: batches over its axis ``data``, parameters and
    the optimizer's state over its axis ``model`` if it has one (``fnnet.training.mesh.OnMesh`` tells how). Of several
    processes each gives its part of the arrays; or a stream of its part of every batch, so that a whole batch is as
    many times the stream's ``batch_size`` as there are processes, their parts in the order of the processes. A smaller
    last batch is filled up in each part (``last="pad"``) or left out by all. Streams of other lengths, batch sizes,
    shapes or dtypes are refused, and when one of them ends or breaks down before the others, all processes stop.
    """
    checks.positive_integer("fit", "epochs", epochs)
    if isinstance(checkpoint, (str, Path)):
        checkpoint = Checkpoint(checkpoint)
    placing: Placing = DefaultDevice() if mesh is None else OnMesh.checked(mesh)
    state = placing.state(initial_state(params, optimizer, key))
    source = source_of(
        cost,
        optimizer,
        state,
        data,
        placing,
        {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last},
        # The state that an epoch receives is dead after it, unless it may be kept.
        donate=callback is None and not find_non_finite,
        updates=None if checkpoint is None else checkpoint.updates,
        value_and_grad=value_and_grad,
        measure=measure,
        augment=augment,
    )
    validate = None
    if validation is not None:
        validate = validation_of(cost, metrics, state, validation, placing, validate_on)
    if patience is not None:
        checks.positive_integer("fit", "patience", patience)
    for name, needs in (("patience", patience), ("metrics", metrics or None), ("validate_on", validate_on)):
        verb = "need" if name == "metrics" else "needs"
        checks.require(
            needs is None or validation is not None, f"fit: {name} {verb} validation data; pass validation=(x, y)"
        )

    def search(before: Progress) -> NonFinite | None:
        batches = source.batches(before.state, before.place)
        return first_non_finite(cost, optimizer, value_and_grad, before.state, batches)

    progress = Progress.start(state, source.steps, keep_best=patience is not None)
    last = progress.epoch + epochs
    with ExitStack() as stack:
        stack.enter_context(placing.running())
        saver = None
        if checkpoint is not None:
            run = run_of(cost, source.description | {"early stopping": patience is not None}, state)
            saver = stack.enter_context(Saver(checkpoint, run))
            progress = saver.resumed(progress)
        resumed_at = None if saver is None else int(progress.state.step)
        writers: list[JsonLines | TensorBoard] = []
        if record is not None and jax.process_index() == 0:
            first_line = None if saver is None else saver.first_line
            writers.append(stack.enter_context(closing(JsonLines(record, resumed_at, first_line))))
        if tensorboard is not None and jax.process_index() == 0:
            writers.append(stack.enter_context(closing(TensorBoard(tensorboard, resumed_at))))
        loop = Loop(source, validate, patience, callback, writers, saver, search if find_non_finite else None)
        progress, non_finite = loop.run(progress, last)
    result = FitResult(progress.state if progress.best is None else progress.best, progress.history)
    result.non_finite = non_finite
    return result


def initial_state(params: Params | TrainState, optimizer: Optimizer, key: Array | None) -> TrainState:
    if isinstance(params, TrainState):
        checks.require(key is None, "fit: a TrainState has its own key; leave key= out when continuing from one")
        return params
    if key is None:
        raise ValueError(
            "fit: key is None; pass key=jax.random.key(...) "
            "for the order of the examples and the model's random numbers"
        )
    return TrainState.create(params, optimizer, key)
