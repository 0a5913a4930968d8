"""What lies where on a mesh, and what a mesh cannot take: seen on one device, or on devices that need not be there."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from fnnet import evaluate, fit
from fnnet.data import from_arrays, from_batches
from fnnet.optimizers import sgd
from fnnet.training.data import checked_data
from fnnet.training.placement import Placement
from tests.training.problems import COST, DATA, PARAMS, key


def mesh_of(*axes: str) -> Any:
    return jax.make_mesh((1,) * len(axes), axes)


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (("model",), ValueError, r"fit: mesh has the axes \('model',\); expected 'data', over which batches are split"),
    (("data", "other"), ValueError, r"fit: mesh has the axes \('data', 'other'\)"),
    (8, TypeError, r"fit: mesh is 8; expected a jax.sharding.Mesh: jax.make_mesh\(\(8,\), \(\"data\",\)\)"),
]


@pytest.mark.parametrize(("axes", "error", "message"), REFUSED)
def test_meshes_that_are_refused(axes: Any, error: type[Exception], message: str) -> None:
    mesh = mesh_of(*axes) if isinstance(axes, tuple) else axes
    with pytest.raises(error, match=message):
        fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=1, batch_size=5, mesh=mesh)


def abstract(**axes: int) -> Placement:
    """A mesh of devices that need not be there."""
    return Placement(jax.sharding.AbstractMesh(tuple(axes.values()), tuple(axes)))  # type: ignore[arg-type]


def test_a_batch_that_the_devices_cannot_share_is_refused() -> None:
    abstract(data=8).check_batch_size("fit", 16)
    with pytest.raises(ValueError, match=r"fit: batch_size is 12, which 8 devices cannot share evenly; .* such as 16"):
        abstract(data=8).check_batch_size("fit", 12)


def test_a_stream_that_the_devices_cannot_share_is_refused() -> None:
    mesh = abstract(data=4, model=2)
    mesh.check_batch_size("fit", 12)
    mesh.check_batch_size("fit", 4, 2)
    with pytest.raises(ValueError, match=r"fit: batch_size is 6, which 4 devices cannot .* such as 8"):
        mesh.check_batch_size("fit", 6, 1)
    with pytest.raises(ValueError, match=r"is 6 in each of 2 processes, 12 in all, which 8 devices .* such as 8"):
        mesh.check_batch_size("fit", 6, 2)
    with pytest.raises(TypeError, match=r"evaluate: mesh is 8; expected a jax.sharding.Mesh"):
        evaluate(COST, PARAMS, from_arrays(*(np.asarray(part) for part in DATA), 4), mesh=8)  # type: ignore[arg-type]


def test_a_stream_that_breaks_down_on_a_mesh_of_one_process() -> None:
    x, y = (np.asarray(part) for part in DATA)

    def batches() -> Iterator[Any]:
        yield x[:5], y[:5]
        yield x[5:], y[5:].astype("float32")

    mesh = mesh_of("data")
    with pytest.raises(ValueError, match=r"data.Stream: batch 1 has y of shape"):
        fit(COST, sgd(0.1), PARAMS, from_batches(batches, 5, chunk_bytes=1), key=key(), epochs=1, mesh=mesh)


def test_evaluation_of_a_stream_on_a_mesh() -> None:
    """Parameters of NumPy, and a smaller last batch."""
    stream = from_arrays(*(np.asarray(part) for part in DATA), 4)
    params = jax.tree.map(np.asarray, PARAMS)
    found = evaluate(COST, params, stream, mesh=mesh_of("data", "model"))
    np.testing.assert_allclose(found["cost"], evaluate(COST, PARAMS, DATA)["cost"], rtol=1e-6)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5, 6], r"fit: the processes have \[5, 6\] examples, in their order; expected as many in each: give all 5"),
        (
            [5, 5],
            r"fit: each process has 5 examples, 10 in all, which 4 devices cannot share evenly; leave out 2 of them",
        ),
    ],
)
def test_parts_of_the_data_that_do_not_fit_are_refused(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        abstract(data=4).check_parts("fit", lengths)


def test_the_set_is_checked_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the first device, which need not have room for all of it."""
    devices: list[Any] = []

    def recorded(*arguments: Any) -> Any:
        devices.append(jax.config.jax_default_device)
        return checked_data(*arguments)

    monkeypatch.setattr("fnnet.training.data.checked_data", recorded)
    host = tuple(np.asarray(part) for part in DATA)
    fit(COST, sgd(0.1), PARAMS, host, key=key(), epochs=1, batch_size=5, validation=host)
    assert devices == [jax.local_devices(backend="cpu")[0]] * 2


def test_what_is_split_along_which_axis() -> None:
    pair = abstract(data=4, model=2)
    assert pair.split((6, 8)) == jax.P(None, "model")
    assert pair.split((6, 5)) == jax.P("model", None)
    assert pair.split((4, 4)) == jax.P("model", None)
    assert pair.split((5,)) == pair.split(()) == jax.P()
    assert pair.rows(16) == jax.P(("data", "model"))
    assert pair.rows(12) == jax.P(("data",))
    assert pair.rows(3) == jax.P()
    assert abstract(data=8).split((8, 8)) == jax.P()
