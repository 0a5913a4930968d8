"""Runs on the devices of this process, or of several: what they end with, as an NPZ file.

``python -m tests.training.on_devices FOLDER MESH-DTYPE ... [--process I --processes P --port N]``.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import fnnet
from fnnet import Checkpoint, Cost, Dense, losses, optimizers, relu, sequential
from fnnet.data import Stream, from_arrays, from_batches
from fnnet.paths import named_leaves
from fnnet.training.placement import Placement
from tests.training.streams_on_devices import changed, find_non_finite, fit_uneven, stop_in_the_middle, tell_refusals

MESHES: dict[str, Callable[[], Any]] = {
    "one": lambda: None,
    "data": lambda: jax.make_mesh((jax.device_count(),), ("data",)),
    "model": lambda: jax.make_mesh((jax.device_count() // 2, 2), ("data", "model")),
}
N, D, BATCH = 240, 6, 16  # 15 updates in an epoch
EPOCHS = 7
MODEL = sequential(Dense(16), fnnet.tanh, fnnet.Dropout(0.1), fnnet.BatchNorm(), Dense(10), relu, Dense(3))
COST = Cost(MODEL, losses.softmax_cross_entropy, fnnet.penalties.l2(1e-3))


def data(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((N, D)).astype(dtype)
    return x, (x[:, 0] > 0).astype(np.int32) + (x[:, 1] > 0.5)


def part_of_stream(x: np.ndarray, y: np.ndarray) -> Stream:
    """This process's part of every batch: in the order of arrays on one device, four batches in a chunk."""
    own = BATCH // jax.process_count()

    def batches(key: jax.Array) -> Any:
        order = np.asarray(jax.random.permutation(key, N)).reshape(-1, jax.process_count(), own)
        for rows in order[:, jax.process_index()]:
            yield x[rows], y[rows]

    each = x[0].nbytes + y[0].nbytes
    return from_batches(batches, own, examples=N // jax.process_count(), chunk_bytes=4 * BATCH * each)


def train(mesh: Any, dtype: str, *, stream: bool = False, **options: Any) -> fnnet.FitResult:
    x, y = data(dtype)
    rows = slice(None)
    if mesh is not None:
        part = N // jax.process_count()
        rows = slice(jax.process_index() * part, (jax.process_index() + 1) * part)
    params = MODEL.init(jax.random.key(0), jnp.asarray(x[:BATCH]))
    given: Any = (x[rows], y[rows]), (x[rows], y[rows])
    if stream:
        given = part_of_stream(x, y), from_arrays(x[rows], y[rows], N // jax.process_count(), shuffle=False)
        options["batch_size"] = None
    result = fnnet.fit(
        COST,
        optimizers.adam(0.01),
        params,
        given[0],
        **{"key": jax.random.key(1), "epochs": EPOCHS, "batch_size": BATCH, "mesh": mesh, "augment": changed} | options,
        validation=given[1],
        metrics={"accuracy": fnnet.accuracy},
    )
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params)), "fit took the caller's parameters over"
    return result


def sweep(folder: Path) -> None:
    """Ten runs on one device and on all of them, which are not a divisor of ten."""
    settings = fnnet.grid(learning_rate=[0.01, 0.1], seed=range(5))

    def make(learning_rate: Any) -> Any:
        return COST, optimizers.adam(learning_rate)

    for name, devices, chunk in (("one", jax.devices()[3:4], None), ("all", None, 1)):
        result = fnnet.sweep(
            make,
            settings,
            jax.device_put(data("float32"), jax.devices()[2]),  # committed, and yet to go where the runs are
            key=jax.random.key(0),
            epochs=1,
            batch_size=16,
            devices=devices,
            chunk=chunk,
        )
        if name == "one":
            assert result.states.step.devices() == {jax.devices()[3]}
        np.savez(folder / f"sweep-{name}.npz", **dict(named_leaves(result.states.params)), **result.history)


def check_places(mesh: str, state: fnnet.TrainState) -> None:
    """That the numbers are not all everywhere, which would give the same ones."""
    if mesh == "one":
        return
    x, y = data("float32")
    part = x[: N // jax.process_count()], y[: N // jax.process_count()]
    x, _ = Placement.of(MESHES[mesh](), state.params).batch(part)
    assert x.addressable_shards[0].data.shape == (N // jax.device_count(), D)
    w, moment = state.params[0]["w"], state.opt_state.m[0]["w"]
    for array in (w, moment):
        assert array.addressable_shards[0].data.shape == (D, 16 if mesh == "data" else 8), array.sharding


def tell(state: fnnet.TrainState, record: dict[str, float]) -> None:
    print("epoch", record["epoch"], flush=True)


def tell_saved(step: int) -> None:
    print("saved", step, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--process", type=int)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", options.names[0] in ("endless", "saving", "resumed", "breaking"))
    if options.processes:
        address = f"localhost:{options.port}"
        seconds = (
            10 if options.names[0] in ("endless", "saving", "breaking") else 100
        )  # those end early, and are waited for
        jax.distributed.initialize(address, options.processes, options.process, heartbeat_timeout_seconds=seconds)
    saved = options.folder / "saved"
    if options.names == ["endless"]:
        train(MESHES["data"](), "float64", epochs=10**9, callbacks=[tell])
        return
    if options.names == ["breaking"]:
        stop_in_the_middle(options.folder, MESHES["data"]())
        return
    if options.names == ["saving"]:
        train(MESHES["data"](), "float64", epochs=10**9, checkpoint=Checkpoint(saved, on_saved=tell_saved))
        return
    if options.names == ["resumed"]:
        epochs = max(int(path.name) for path in saved.iterdir() if path.name.isdigit()) // (N // BATCH) + 1
        write(options.folder / "one-float64.npz", train(None, "float64", epochs=epochs))
        write(
            options.folder / "model-float64.npz", train(MESHES["model"](), "float64", epochs=epochs, checkpoint=saved)
        )
        return
    for name in options.names:
        mesh, dtype, *kind = name.split("-")
        if mesh == "sweep":
            sweep(options.folder)
            continue
        if kind == ["refusals"]:
            tell_refusals(options.folder, MESHES[mesh]())
            find_non_finite(options.folder, MESHES[mesh]())
            continue
        with jax.enable_x64(dtype == "float64"):
            if kind == ["uneven"]:
                result = fit_uneven(options.folder, MESHES[mesh]())
            else:
                result = train(MESHES[mesh](), dtype, stream=kind == ["stream"])
                check_places(mesh, result.state)
            write(options.folder / f"{name}.npz", result)


def write(path: Path, result: fnnet.FitResult) -> None:
    everywhere = jax.tree.map(whole, result.state.params)
    if jax.process_index() == 0:
        found = {leaf: np.asarray(value) for leaf, value in named_leaves(everywhere)}
        costs = {which: np.array(result.history[which]) for which in ("cost", "validation_cost")}
        np.savez(path, **found, **costs)


def whole(array: jax.Array) -> jax.Array:
    """The same on every device, so that any process can read it."""
    if isinstance(array.sharding, NamedSharding):
        return jax.jit(lambda a: a, out_shardings=NamedSharding(array.sharding.mesh, PartitionSpec()))(array)
    return array


if __name__ == "__main__":
    main()
