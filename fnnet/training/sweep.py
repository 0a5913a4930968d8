"""Many networks trained by one program."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fnnet import checks
from fnnet.cost import Cost
from fnnet.data.stream import check_batch_size
from fnnet.optimizers import Optimizer
from fnnet.paths import is_weight, map_named
from fnnet.training.chunk import train_epoch
from fnnet.training.data import checked_data
from fnnet.training.evaluate import evaluate
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Loss, Params, Scalar

Settings = Mapping[str, Any]  # by name one number for each run, on the first axis
Trial = tuple[Cost, Optimizer] | tuple[Cost, Optimizer, Scalar]
Make = Callable[..., Trial]
Train = Callable[[Mapping[str, Array], tuple[Batch, Batch | None]], tuple[TrainState, dict[str, Array]]]

RUNS = "runs"
SEED = "seed"
EVERYWHERE = PartitionSpec()


class SweepResult(NamedTuple):
    """Of ``R`` runs, in the order of the settings."""

    settings: dict[str, Array]  # (R,) each
    states: TrainState  # the last ones; R on the first axis of every leaf
    history: dict[str, Array]  # (R, epochs) each
    seconds: float  # training them all, without compiling
    compile_seconds: float


def grid(**values: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Every combination of the values, the last name's changing fastest: settings for ``sweep``.

    ``grid(learning_rate=[0.1, 0.01], seed=range(3))`` are 6 settings.
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
    """Train a network for each of the settings, all in one compiled program. Silent; see ``fit`` for one network.

    ``settings`` maps names to arrays ``(R,)`` of numbers, one for each of ``R`` runs; ``grid`` makes them. For each run
    ``make(**setting)`` gives ``(cost, optimizer)`` or ``(cost, optimizer, scale)``: what it does with the numbers is
    free, as long as the network has the same shapes in all of them. ``scale`` multiplies the first weights::

        def make(learning_rate, decay):
            return Cost(model, losses.softmax_cross_entropy, penalties.l2(decay)), optimizers.adam(learning_rate)

    A run's random numbers, first parameters included, come from ``key``; with a setting ``seed``, an integer that
    ``make`` does not get, from ``fold_in(key, seed)``. A run is what it would be alone, but for rounding:
    ``fit(cost, optimizer, params, data, key=order)`` with ``start, order = jax.random.split(of_run)`` and ``params =
    cost.model.init(start, x)``.

    ``history`` has ``cost`` and the numbers of ``measure``; with ``validation`` data ``validation_cost`` and
    ``validation_NAME`` for each of ``metrics``. A run that diverges goes on with NaN, and none of the others notices.

    The runs are spread over ``devices``, by default those of this process. ``chunk`` bounds the memory: each device
    trains so many at a time, by default all of its own; on a CPU, as many as fit into a core's cache are often faster
    than all. ``options`` are those of ``train_epoch``.
    """
    checks.positive_integer("sweep", "epochs", epochs)
    checks.positive_integer("sweep", "batch_size", batch_size)
    if chunk is not None:
        checks.positive_integer("sweep", "chunk", chunk)
    checks.require(not metrics or validation is not None, "sweep: metrics need validation data; pass validation=(x, y)")
    columns = checked_settings(settings)
    cost, *_ = checked_trials(make, columns)
    params = jax.eval_shape(lambda key: cost.model.init(key, jnp.asarray(data[0])), key)
    data = checked_data("sweep", cost, params, data)
    check_batch_size("sweep", batch_size, len(data[0]))
    if validation is not None:
        validation = checked_data("sweep: validation", cost, params, validation)
    arrays = in_dtype_of(params, columns)
    runs = len(next(iter(arrays.values())))
    chosen = list(devices or jax.local_devices())[:runs]
    inputs = jax.device_put((arrays, (data, validation)), NamedSharding(Mesh(np.asarray(chosen), (RUNS,)), EVERYWHERE))

    train = training(make, key=key, epochs=epochs, batch_size=batch_size, metrics=metrics, **options)
    program = spread(train, runs, chosen, chunk)
    start = time.perf_counter()
    compiled = jax.jit(program).lower(*inputs).compile()
    compile_seconds = time.perf_counter() - start
    start = time.perf_counter()
    states, history = jax.block_until_ready(compiled(*inputs))
    return SweepResult(arrays, states, history, time.perf_counter() - start, compile_seconds)


def training(
    make: Make,
    *,
    key: Array,
    epochs: int,
    batch_size: int,
    metrics: Mapping[str, Loss] | None = None,
    **options: Any,
) -> Train:
    """``train(setting, (data, validation)) -> (state, history)``, a whole run as a pure function of one setting.

    The arguments are those of ``sweep``; ``setting`` has one number for each name.
    """

    def train(setting: Mapping[str, Array], sets: tuple[Batch, Batch | None]) -> tuple[TrainState, dict[str, Array]]:
        data, validation = sets
        numbers = dict(setting)
        seed = numbers.pop(SEED, None)
        start, order = jax.random.split(key if seed is None else jax.random.fold_in(key, seed))
        cost, optimizer, scale = with_scale(make(**numbers))
        state = TrainState.create(scaled(cost.model.init(start, data[0]), scale), optimizer, order)
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
    """``train`` for ``runs`` settings, ``(runs,)`` of each number: an equal share on each device, in chunks.

    Where the runs cannot be shared equally, the last one is made as often as devices are left idle, and left out.
    """
    devices = devices[:runs]
    share = -(-runs // len(devices))
    places = np.minimum(np.arange(share * len(devices)), runs - 1)

    def of_share(settings: Any, sets: Any) -> Any:
        if chunk is None or chunk >= share:
            return jax.vmap(train, (0, None))(settings, sets)
        return jax.lax.map(lambda setting: train(setting, sets), settings, batch_size=chunk)

    def of_all(settings: Any, sets: Any) -> Any:
        if len(devices) == 1:
            return of_share(settings, sets)
        along = PartitionSpec(RUNS)
        # No run knows of another: there is no communication whose kind could be checked.
        split = jax.shard_map(
            of_share,
            mesh=Mesh(np.asarray(devices), (RUNS,)),
            in_specs=(along, EVERYWHERE),
            out_specs=along,
            check_vma=False,
        )
        if len(places) == runs:
            return split(settings, sets)
        results = split(jax.tree.map(lambda values: values[places], settings), sets)
        return jax.tree.map(lambda values: values[:runs], results)

    return of_all


def with_scale(trial: Trial) -> tuple[Cost, Optimizer, Scalar | None]:
    return trial if len(trial) == 3 else (*trial, None)


def scaled(params: Params, scale: Scalar | None) -> Params:
    """The weights times ``scale``, in their own dtype; the biases as they are."""
    if scale is None:
        return params
    return map_named(lambda name, p: p * jnp.asarray(scale).astype(p.dtype) if is_weight(name) else p, params)


def checked_settings(settings: Settings) -> dict[str, np.ndarray[Any, Any]]:
    if not isinstance(settings, Mapping) or not settings:
        raise TypeError(f"sweep: settings are {settings!r}; expected numbers by name, such as grid(seed=range(8))")
    columns = {name: np.asarray(values) for name, values in settings.items()}
    for name, values in columns.items():
        checks.require(
            values.ndim == 1 and len(values) > 0 and values.dtype.kind in "iuf",
            f"sweep: the setting {name} has shape {values.shape} and dtype {values.dtype}; "
            f"expected one number for each run",
        )
        # As integers they are int32 in the program.
        outside = values[values != values.astype(np.int32)] if values.dtype.kind in "iu" else values[:0]
        checks.require(
            len(outside) == 0,
            f"sweep: the setting {name} has {outside[:1].tolist()}, outside the integers of 32 bits; expected at most "
            f"{np.iinfo(np.int32).max} in size, or give fractions ({name} as floats)",
        )
    lengths = {name: len(values) for name, values in columns.items()}
    checks.require(
        len(set(lengths.values())) == 1,
        f"sweep: the settings have {lengths} numbers; expected as many of each, one for each run: "
        f"fnnet.grid makes all combinations",
    )
    if SEED in columns and columns[SEED].dtype.kind == "f":
        raise TypeError(f"sweep: the setting seed has dtype {columns[SEED].dtype}; expected integers")
    return columns


def checked_trials(make: Make, columns: Mapping[str, np.ndarray[Any, Any]]) -> Trial:
    """The first trial. All are made once, of plain numbers: in the program, ranges can no longer be checked."""
    trials = []
    for i in range(len(next(iter(columns.values())))):
        setting = {name: values[i].item() for name, values in columns.items() if name != SEED}
        try:
            trial = make(**setting)
        except (TypeError, ValueError) as error:
            error.add_note(f"sweep: in run {i}, make(**{setting})")
            raise
        if not isinstance(trial, tuple) or len(trial) not in (2, 3) or not isinstance(trial[0], Cost):
            raise TypeError(
                f"sweep: make(**{setting}) gave {type(trial).__name__}; expected (cost, optimizer) or "
                f"(cost, optimizer, scale)"
            )
        trials.append(trial)
    return trials[0]


def in_dtype_of(params: Params, columns: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Array]:
    """The settings as arrays; fractions in the dtype of the parameters, at least float32."""
    floating = [leaf for leaf in jax.tree.leaves(params) if checks.is_float(leaf)]
    dtype = checks.at_least_float32(floating[0]) if floating else jnp.float32
    return {
        name: jnp.asarray(values, dtype if values.dtype.kind == "f" else jnp.int32) for name, values in columns.items()
    }
