"""Runs from streams on many devices, to be compared with others, or to be refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from fnnet import Checkpoint, Cost, Dense, losses, sequential
from fnnet.data import Stream, from_arrays, from_batches
from fnnet.optimizers import adam, sgd
from fnnet.training.placement import local

EXAMPLES, BATCH = 54, 16  # three whole batches, and one of six: four in process 0, two in process 1
X = np.random.default_rng(5).standard_normal((EXAMPLES, 3))
Y = (X[:, 0] > 0).astype(np.int32) + (X[:, 1] > 0.5)
CLASSES = Cost(sequential(Dense(8), fnnet.tanh, Dense(3)), losses.softmax_cross_entropy, fnnet.penalties.l2(1e-2))


def uneven(y: Any = Y, *, fails: Any = None) -> Stream:
    """This process's part of every batch, a batch in each chunk; ``fails(epoch, batch)`` when it does."""
    epoch = -1

    def batches() -> Iterator[Any]:
        nonlocal epoch
        epoch += 1
        for number, at in enumerate(range(0, EXAMPLES, BATCH)):
            whole = np.arange(at, min(at + BATCH, EXAMPLES))
            parts = np.split(whole, [8 if len(whole) == BATCH else 4]) if jax.process_count() > 1 else [whole]
            if fails is not None and fails(epoch, number):
                raise OSError("the disk is gone")
            yield X[parts[jax.process_index()]], y[parts[jax.process_index()]]

    examples = EXAMPLES if jax.process_count() == 1 else 28 if jax.process_index() == 0 else 26
    return from_batches(batches, BATCH // jax.process_count(), examples=examples, chunk_bytes=1)


def fit_classes(data: Any, **options: Any) -> fnnet.FitResult:
    params = CLASSES.model.init(jax.random.key(0), jnp.asarray(X))
    return fnnet.fit(CLASSES, adam(0.05), params, data, key=jax.random.key(1), **options)


def fit_uneven(folder: Path, mesh: Any) -> fnnet.FitResult:
    """Two epochs, with what ``evaluate`` says of the result; on one device those of arrays."""
    if mesh is None:
        options: Any = {"batch_size": BATCH, "shuffle": False}
        return fit_classes((X, Y), epochs=2, validation=(X, Y), metrics={"r": fnnet.accuracy}, **options)
    result = fit_classes(uneven(), epochs=2, validation=uneven(), metrics={"r": fnnet.accuracy}, mesh=mesh)
    found = fnnet.evaluate(CLASSES, on_host(result.state.params), uneven(), {"r": fnnet.accuracy}, mesh=mesh)
    for name, number in found.items():
        np.testing.assert_allclose(number, result.history[f"validation_{name}"][-1], rtol=1e-12)
    return result


def stop_in_the_middle(folder: Path, mesh: Any) -> None:
    """The last process breaks down in the second epoch of a run that is saved after every update."""
    last = jax.process_index() == jax.process_count() - 1
    stream = uneven(fails=lambda epoch, batch: last and epoch == 2 and batch == 3)  # epoch 0 is a look at it
    fit_classes(stream, epochs=2, mesh=mesh, checkpoint=Checkpoint(folder / "run", updates=1))


def on_host(tree: Any) -> Any:
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.tree.map(np.asarray, jax.jit(lambda tree: tree, out_shardings=everywhere)(tree))


def error_of(run: Any) -> str:
    try:
        run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def tell_refusals(folder: Path, mesh: Any) -> None:
    """Write down what this process raises where its stream is not like the other's."""
    i = jax.process_index()
    x, y = X.astype("float32"), Y

    def of(count: int, **options: Any) -> Stream:
        """Return a stream of this many batches."""
        return from_batches([(x[:4], y[:4])] * count, 4, chunk_bytes=1, **options)

    streams = {
        "batches": lambda: from_arrays(x[: 16 + 8 * i], y[: 16 + 8 * i], 8),
        "batch size": lambda: from_arrays(x[:48], y[:48], 8 + 8 * i),
        "drop_last": lambda: of(3, examples=12, drop_last=bool(i)),
        "smaller": lambda: from_arrays(x[: 16 - i], y[: 16 - i], 8),
        "dtype": lambda: from_arrays(x, y.astype(("int32", "int8")[i]), 8),
        "shape": lambda: from_arrays(x, (y, np.eye(3, dtype="float32")[y])[i], 8),
        "label": lambda: from_arrays(x, y + 7 * i, 8),
        "devices": lambda: from_arrays(x, y, 3),
        "unknown": lambda: of(3),
        "none": lambda: from_batches([(x[:4], y[:4])] * 3 * (1 - i), 4, examples=12),
        "end": lambda: of(3 - i, examples=12),
        "too few": lambda: of(2, examples=12),
        "too many": lambda: of(4, examples=12),
    }

    cost = Cost(Dense(3), losses.softmax_cross_entropy)
    normalized = replace(cost, model=sequential(fnnet.BatchNorm(), Dense(3)))

    def fit(data: Any, cost: Cost = cost, rate: float = 0.1, seed: int = 1, **options: Any) -> Any:
        params, options = cost.model.init(jax.random.key(0), x), {"epochs": 1, "mesh": mesh} | options
        return fnnet.fit(cost, sgd(rate), params, data, key=jax.random.key(seed), **options)

    said = {name: error_of(lambda stream=stream: fit(stream())) for name, stream in streams.items()}
    said["filled up"] = error_of(lambda: fit(from_arrays(x[:18], y[:18], 8), normalized))
    good = of(3, examples=12)
    said["validation"] = error_of(lambda: fit(good, validation=from_arrays(x[:48], y[:48], 8 + 8 * i)))
    said["loss"] = error_of(lambda: fit(good, replace(cost, loss=(cost.loss, losses.focal)[i])))
    said["width"] = error_of(lambda: fit(good, replace(cost, model=Dense(3 + i))))
    said["optimizer"] = error_of(lambda: fit(good, rate=0.1 + i))
    said["key"] = error_of(lambda: fit(good, seed=i))
    said["epochs"] = error_of(lambda: fit(good, epochs=1 + i))
    (folder / f"said-{i}.json").write_text(json.dumps(said))


def find_non_finite(folder: Path, mesh: Any) -> None:
    """The square of the targets of the last batch, of which each process has a part, is no float32."""
    y = np.where(np.arange(EXAMPLES) < 48, 1, 1e30).astype("float32")[:, None]
    cost = Cost(Dense(1), losses.squared_error)
    params = cost.model.init(jax.random.key(0), X.astype("float32"))
    stream = uneven(y)
    result = fnnet.fit(cost, sgd(1e-3), params, stream, key=jax.random.key(1), mesh=mesh, augment=changed)
    found = result.non_finite
    assert found is not None
    x, targets, _ = jax.tree.map(local, found.batch)
    if jax.process_index() == 0:
        np.savez(folder / "non-finite.npz", said=str(found), x=x, y=targets)


def changed(key: jax.Array, batch: Any) -> Any:
    x, y = batch
    return x + jax.random.normal(key, x.shape, x.dtype) / 10, y
