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
from fnnet.training.non_finite import gathered

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

    return from_batches(batches, BATCH // jax.process_count(), chunk_bytes=1)


def fit_classes(data: Any, **options: Any) -> fnnet.FitResult:
    params = CLASSES.model.init(jax.random.key(0), jnp.asarray(X))
    return fnnet.fit(CLASSES, adam(0.05), params, data, key=jax.random.key(1), **options)


def fit_uneven(folder: Path, mesh: Any) -> fnnet.FitResult:
    """Two epochs, with what ``evaluate_stream`` says of the result; on one device those of arrays.

    Of several processes the last breaks down in the second epoch of a run that is saved after every update.
    """
    if mesh is None:
        options: Any = {"batch_size": BATCH, "shuffle": False}
        return fit_classes((X, Y), epochs=2, validation=(X, Y), metrics={"r": fnnet.accuracy}, **options)
    result = fit_classes(uneven(), epochs=2, validation=uneven(), metrics={"r": fnnet.accuracy}, mesh=mesh)
    found = fnnet.evaluate_stream(CLASSES, {"r": fnnet.accuracy}, mesh=mesh)(on_host(result.state.params), uneven())
    for name, number in found.items():
        np.testing.assert_allclose(number, result.history[f"validation_{name}"][-1], rtol=1e-12)
    if jax.process_count() > 1:
        last = jax.process_index() == jax.process_count() - 1
        stream = uneven(fails=lambda epoch, batch: last and epoch == 2 and batch == 3)  # epoch 0 is a look at it
        checkpoint = Checkpoint(folder / "run", updates=1)
        said = error_of(lambda: fit_classes(stream, epochs=2, mesh=mesh, checkpoint=checkpoint))
        (folder / f"broken-{jax.process_index()}").write_text(said)
    return result


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
    """What this process says where its stream is not like the other's, or ends or breaks down before it."""
    i = jax.process_index()
    x, y = X.astype("float32"), Y

    def of(*counts: int, fails: bool = False, **options: Any) -> Stream:
        """This process's number of batches; a batch in each chunk."""

        def batches() -> Iterator[Any]:
            for _ in range(counts[i]):
                yield x[:4], y[:4]
            if fails and i == 1:
                raise OSError("the disk is gone")

        return from_batches(batches, 4, chunk_bytes=1, **options)

    streams = {
        "examples": lambda: from_arrays(x[: 16 + 8 * i], y[: 16 + 8 * i], 8),
        "batch size": lambda: from_arrays(x, y, 8 + 8 * i),
        "last": lambda: of(3, 3, last=("pad", "drop")[i]),
        "dtype": lambda: from_arrays(x, y.astype(("int32", "int8")[i]), 8),
        "shape": lambda: from_arrays(x, (y, np.eye(3, dtype="float32")[y])[i], 8),
        "label": lambda: from_arrays(x, y + 7 * i, 8),
        "devices": lambda: from_arrays(x, y, 3),
        "end": lambda: of(3, 2),
        "none": lambda: of(3, 0),
        "fault": lambda: of(3, 2, fails=True),
        "too few": lambda: of(2, 2, examples=12),
        "too many": lambda: of(4, 4, examples=12),
    }

    cost = Cost(Dense(3), losses.softmax_cross_entropy)
    normalized = replace(cost, model=sequential(fnnet.BatchNorm(), Dense(3)))

    def fit(data: Any, cost: Cost = cost, **options: Any) -> Any:
        params = cost.model.init(jax.random.key(0), x)
        return fnnet.fit(cost, sgd(0.1), params, data, key=jax.random.key(1), epochs=1, mesh=mesh, **options)

    said = {name: error_of(lambda stream=stream: fit(stream())) for name, stream in streams.items()}
    said["filled up"] = error_of(lambda: fit(from_arrays(x[: 16 + 2 * i], y[: 16 + 2 * i], 8), normalized))
    said["validation"] = error_of(lambda: fit(of(3, 3), validation=from_arrays(x, y, 8 + 8 * i)))
    said["end of validation"] = error_of(lambda: fit(of(3, 3), validation=of(2, 3)))
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
    x, targets = jax.tree.map(gathered, found.batch)
    if jax.process_index() == 0:
        np.savez(folder / "non-finite.npz", said=str(found), x=x, y=targets)


def changed(key: jax.Array, batch: Any) -> Any:
    x, y = batch
    return x + jax.random.normal(key, x.shape, x.dtype) / 10, y
