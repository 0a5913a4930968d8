"""Train many networks in one program."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fnnet import checks
from fnnet.cost import Cost
from fnnet.data.stream import check_batch_size
from fnnet.optimizers import Optimizer
from fnnet.optimizers.base import kind_of
from fnnet.paths import is_weight
from fnnet.training.chunk import train_epoch
from fnnet.training.data import check_moments, checked_data
from fnnet.training.evaluate import evaluate
from fnnet.training.program import Program
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Loss, Params, Scalar

Settings = Mapping[str, Any]  # by name, an array (R,) with one number for each of R runs
Trial = tuple[Cost, Optimizer] | tuple[Cost, Optimizer, Scalar]
Make = Callable[..., Trial]
Train = Callable[[Mapping[str, Array], tuple[Batch, Batch | None]], tuple[TrainState, dict[str, Array]]]

RUNS = "runs"
SEED = "seed"
EVERYWHERE = PartitionSpec()


class SweepResult(NamedTuple):
    """The results of ``R`` runs, in the order of the settings."""

    settings: dict[str, Array]  # arrays (R,)
    states: TrainState  # after the last epoch, with R on the first axis of every leaf
    history: dict[str, Array]  # arrays (R, epochs)
    seconds: float  # the time to train all of them, without compilation
    compile_seconds: float


def grid(**values: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return every combination of the values as settings for ``sweep``; the values of the last name change fastest.

    ``grid(learning_rate=[0.1, 0.01], seed=range(3))`` returns two arrays of 6 numbers.
    """
    for name, each in values.items():
        checks.require(np.ndim(each) == 1, f"grid: {name} is {each!r}; expected a list of numbers")
    combinations = list(itertools.product(*values.values()))
    return {name: np.asarray(column) for name, column in zip(values, zip(*combinations, strict=True), strict=False)}


def sweep(
    make: Make,
    settings: Settings,
    data: Batch,
    *,
    key: Array,
    epochs: int = 10,
    batch_size: int = 32,
    validation: Batch | None = None,
    metrics: Mapping[str, Loss] | None = None,
    chunk: int | None = None,
    devices: Sequence[Any] | None = None,
    **options: Any,
) -> SweepResult:
    """Train one network for each of the settings, all in one compiled program, and print nothing.

    ``settings`` maps names to arrays ``(R,)`` with one number for each of ``R`` runs; ``grid`` makes them. For each run
    ``make(**setting)`` returns ``(cost, optimizer)`` or ``(cost, optimizer, scale)``. It may use the numbers for
    anything, as long as all networks have the same shapes. ``scale`` multiplies the initial weights, not the biases::

        def make(learning_rate, decay):
            return Cost(model, losses.softmax_cross_entropy, penalties.l2(decay)), optimizers.adam(learning_rate)

    The random numbers of a run come from ``key``. If the settings have an integer ``seed``, which is not passed to
    ``make``, they come from ``fold_in(key, seed)``. Up to rounding, a run gives what it would give alone, which is
    ``fit(cost, optimizer, params, data, key=order)`` with ``start, order = jax.random.split(key_of_the_run)`` and
    ``params = cost.model.init(start, x)``.

    ``history`` has ``cost`` and the numbers of ``measure``, and with ``validation`` data also ``validation_cost`` and
    ``validation_NAME`` for each of ``metrics``. A run that diverges continues with NaN and does not affect the others.

    The runs are divided among ``devices``, by default those of this process. ``chunk`` limits the memory: it is the
    number of runs that a device trains at the same time, by default all of its runs. On a CPU the fastest number is
    often the one whose parameters fit into the cache of a core. ``options`` are those of ``train_epoch``.
    """
    checks.positive_integer("sweep", "epochs", epochs)
    checks.positive_integer("sweep", "batch_size", batch_size)
    if chunk is not None:
        checks.positive_integer("sweep", "chunk", chunk)
    checks.random_key("sweep", key)
    checks.require(not metrics or validation is not None, "sweep: metrics need validation data; pass validation=(x, y)")
    columns = checked_settings(settings)
    costs = checked_costs(make, columns)
    cost = costs[0]
    params = jax.eval_shape(lambda key: cost.model.init(key, jnp.asarray(data[0])), key)
    data = checked_data("sweep", cost, params, data)
    check_batch_size("sweep", batch_size, len(data[0]))
    check_moments("sweep", cost, len(data[0]), batch_size, drop_last=options.get("drop_last", False))
    check_losses(costs, columns, params, data)
    if validation is not None:
        validation = checked_data("sweep: validation", cost, params, validation)
    floating = [leaf for leaf in jax.tree.leaves(params) if checks.is_float(leaf)]
    dtype = checks.at_least_float32(*floating[:1])
    arrays = {name: jnp.asarray(v, dtype if v.dtype.kind == "f" else jnp.int32) for name, v in columns.items()}
    runs = len(next(iter(arrays.values())))
    chosen = list(devices or jax.local_devices())[:runs]
    inputs = jax.device_put((arrays, (data, validation)), NamedSharding(Mesh(np.asarray(chosen), (RUNS,)), EVERYWHERE))

    train = training(make, key=key, epochs=epochs, batch_size=batch_size, metrics=metrics, **options)
    program, start = Program(spread(train, runs, chosen, chunk)), time.perf_counter()
    states, history = jax.block_until_ready(program(*inputs))
    seconds = time.perf_counter() - start - program.seconds
    return SweepResult(arrays, states, history, seconds, program.seconds)


def training(
    make: Make,
    *,
    key: Array,
    epochs: int,
    batch_size: int,
    metrics: Mapping[str, Loss] | None = None,
    **options: Any,
) -> Train:
    """Return ``train(setting, (data, validation)) -> (state, history)``, a whole run as a pure function of its setting.

    The arguments are those of ``sweep``; ``setting`` has one number for each name.
    """

    def train(setting: Mapping[str, Array], sets: tuple[Batch, Batch | None]) -> tuple[TrainState, dict[str, Array]]:
        data, validation = sets
        numbers = dict(setting)
        seed = numbers.pop(SEED, None)
        start, order = jax.random.split(key if seed is None else jax.random.fold_in(key, seed))
        cost, optimizer, *scale = make(**numbers)

        def scaled(p: Array) -> Array:
            return p * jnp.asarray(scale[0]).astype(p.dtype) if scale and is_weight(p) else p

        state = TrainState.create(jax.tree.map(scaled, cost.model.init(start, data[0])), optimizer, order)
        epoch = train_epoch(cost, optimizer, batch_size=batch_size, **options)

        def one(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
            state, record = epoch(state, data)
            del record["step_costs"]
            if validation is not None:
                measured = evaluate(cost, state.params, validation, metrics)
                record |= {f"validation_{name}": value for name, value in measured.items()}
            return state, record

        return jax.lax.scan(one, state, length=epochs)

    return train


def spread(train: Train, runs: int, devices: Sequence[Any], chunk: int | None = None) -> Callable[[Any, Any], Any]:
    """Return ``train`` for arrays ``(runs,)`` of settings, divided equally among the devices and trained in chunks.

    If the number of runs is not a multiple of the number of devices, the last run is repeated, and the results of the
    repetitions are dropped.
    """
    devices = devices[:runs]
    runs_of_one = -(-runs // len(devices))
    rows = np.minimum(np.arange(runs_of_one * len(devices)), runs - 1)

    def on_one_device(settings: Any, sets: Any) -> Any:
        if chunk is None or chunk >= runs_of_one:
            return jax.vmap(train, (0, None))(settings, sets)
        return jax.lax.map(lambda setting: train(setting, sets), settings, batch_size=chunk)

    if len(devices) == 1:
        return on_one_device
    split = jax.shard_map(
        on_one_device,
        mesh=Mesh(np.asarray(devices), (RUNS,)),
        in_specs=(PartitionSpec(RUNS), EVERYWHERE),
        out_specs=PartitionSpec(RUNS),
        check_vma=False,  # the runs do not communicate, so there is nothing to check
    )

    def on_all_devices(settings: Any, sets: Any) -> Any:
        results = split(jax.tree.map(lambda values: values[rows], settings), sets)
        return jax.tree.map(lambda values: values[:runs], results)

    return on_all_devices


def checked_settings(settings: Settings) -> dict[str, np.ndarray[Any, Any]]:
    """Return the settings as NumPy arrays, or raise. There must be one number for each run; integers are int32."""
    if not isinstance(settings, Mapping) or not settings:
        raise TypeError(f"sweep: settings are {settings!r}; expected numbers by name, such as grid(seed=range(8))")
    columns = {name: np.asarray(values) for name, values in settings.items()}
    for name, values in columns.items():
        checks.require(
            values.ndim == 1 and len(values) > 0 and values.dtype.kind in "iuf",
            f"sweep: the setting {name} has shape {values.shape} and dtype {values.dtype}; "
            f"expected one number for each run",
        )
        too_large = values[values != values.astype(np.int32)] if values.dtype.kind in "iu" else values[:0]
        checks.require(
            len(too_large) == 0,
            f"sweep: the setting {name} has {too_large[:1].tolist()}, which does not fit into int32; use smaller "
            f"integers, or floats",
        )
    lengths = {name: len(values) for name, values in columns.items()}
    checks.require(
        len(set(lengths.values())) == 1,
        f"sweep: the settings have {lengths} numbers; expected the same number of each, one for each run: "
        f"fnnet.grid makes all combinations",
    )
    if SEED in columns and columns[SEED].dtype.kind == "f":
        raise TypeError(f"sweep: the setting seed has dtype {columns[SEED].dtype}; expected integers")
    return columns


def checked_costs(make: Make, columns: Mapping[str, np.ndarray[Any, Any]]) -> list[Cost]:
    """Return the costs of all runs, made with plain numbers.

    These calls of ``make`` check the ranges of the numbers, which cannot be checked inside of the program.
    """
    costs = []
    for i in range(len(next(iter(columns.values())))):
        setting = setting_of(columns, i)
        with naming_the_run(columns, i):
            trial = make(**setting)
        if not isinstance(trial, tuple) or len(trial) not in (2, 3) or not isinstance(trial[0], Cost):
            raise TypeError(
                f"sweep: make(**{setting}) returned {trial!r}; expected (cost, optimizer) or (cost, optimizer, scale), "
                f"with a fnnet.Cost and an optimizer"
            )
        kind_of("sweep", trial[1])
        costs.append(trial[0])
    return costs


def check_losses(
    costs: Sequence[Cost], columns: Mapping[str, np.ndarray[Any, Any]], params: Params, data: Batch
) -> None:
    """Let the loss of every run check its options, which it does where it is called, on shapes alone."""
    prediction = jax.eval_shape(lambda p: costs[0].model.apply(p, data[0]), params)
    target = jax.ShapeDtypeStruct(data[1].shape, data[1].dtype)
    # The first run with each loss; options that are arrays have no hash.
    first = {repr(cost.loss): i for i, cost in reversed([*enumerate(costs)])}
    for i in first.values():
        with naming_the_run(columns, i):
            jax.eval_shape(costs[i].loss, prediction, target)


def setting_of(columns: Mapping[str, np.ndarray[Any, Any]], i: int) -> dict[str, Any]:
    return {name: values[i].item() for name, values in columns.items() if name != SEED}


@contextmanager
def naming_the_run(columns: Mapping[str, np.ndarray[Any, Any]], i: int) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        error.add_note(f"sweep: in run {i}, make(**{setting_of(columns, i)})")
        raise
