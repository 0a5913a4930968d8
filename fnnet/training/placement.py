"""The places of the state and the data of a run: on one device, or split over the devices of a mesh.

XLA splits the same pure functions over the mesh and adds the communication; nothing here computes. Letters: ``N``
examples of a batch or of a set, ``d`` devices on the axis ``data``, ``m`` on the axis ``model``, ``P`` processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fnnet import checks
from fnnet.data.chunks import Chunk
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Params, Shape

DATA, MODEL = "data", "model"
EXAMPLE = 'jax.make_mesh((8,), ("data",)), or jax.make_mesh((4, 2), ("data", "model"))'


@dataclass(frozen=True)
class Placement:
    """Examples split over ``data`` (and ``model``), parameters and the optimizer's state over ``model``.

    **Examples.** Each device has ``N / (d m)`` of a batch if that is an integer, else ``N / d``; every device has all
    of the few that are left over at the end of an epoch. A set lies in the same way.

    **Parameters.** Without an axis ``model`` every device has all of them. With one, an array is split along its
    longest axis that ``m`` divides, and gathered where it is used (fully sharded data parallelism: Rajbhandari et al.
    2020, ZeRO stage 3); every device has all of an array that ``m`` does not divide. Moments lie as their parameters
    do.

    The order of the examples and all random numbers are those of a single device: results differ by rounding alone.

    **Processes.** With several processes (``jax.distributed``) each gives its own part of the data, all of one length;
    the set consists of the parts in the order of the processes. State and key must be the same in each. A stream gives
    the process's part of every batch: batch ``k`` of the run consists of the batches ``k`` of the streams of process 0,
    process 1 and so on, ``P B`` examples in all, which the devices must be able to share evenly. The streams must agree
    in the number of their batches; the last batch may be smaller by different amounts, and is filled up in every
    process with examples of weight 0.
    """

    mesh: Mesh

    @classmethod
    def of(cls, mesh: Any, params: Params, place: str = "fit") -> Placement:
        """Return the placement on a mesh with the axes that are needed; without a mesh, on one device.

        That is the device of the parameters if they are on one, else JAX's default device.
        """
        if mesh is None:
            leaf = next((leaf for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array)), None)
            devices = jnp.zeros(()).devices() if leaf is None or len(leaf.devices()) != 1 else leaf.devices()
            return cls(Mesh(np.array(list(devices)), (DATA,)))
        if not isinstance(mesh, Mesh):
            raise TypeError(f"{place}: mesh is {mesh!r}; expected a jax.sharding.Mesh: {EXAMPLE}")
        checks.require(
            DATA in mesh.axis_names and set(mesh.axis_names) <= {DATA, MODEL},
            f"{place}: mesh has the axes {mesh.axis_names}; expected 'data', over which batches are split, and if "
            f"wanted 'model', over which parameters are split: {EXAMPLE}",
        )
        # XLA shall choose the shardings in between, whatever kind of mesh make_mesh returns.
        return cls(Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names)))

    # The three methods that training needs.

    def state(self, tree: Any, *, copy: bool = True) -> Any:
        """Return a state or parameters where they belong, in new buffers if they are to be donated."""
        return jax.tree.map(lambda a, sharding: self.placed(a, sharding, copy=copy), tree, self.of_state(tree))

    def batch(self, batch: Batch | Chunk, batch_size: int | None = None) -> Any:
        """Return a set ``(x, y)`` or a chunk where it belongs; each of several processes gives its part.

        With several processes, a batch of fewer than ``batch_size`` examples is filled up with examples of weight 0.
        """
        if not isinstance(batch, Chunk):
            return tuple(self.joined(np.asarray(part) if self.processes > 1 else part, 0) for part in batch)
        if batch.rows is not None:  # of a set that lies where it belongs
            return batch._replace(rows=self.placed(batch.rows, self.replicated, copy=False))
        if self.processes > 1 and batch_size is not None and batch.x.shape[1] < batch_size:
            batch = filled(batch, batch_size)
        return jax.tree.map(lambda part: self.joined(part, 1), batch)

    def engine(self, value_and_grad: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], Callable[..., Any]]:
        """Return the engine of the gradients, its batch split over the mesh and its gradients as the parameters are."""
        if self.mesh.size == 1:
            return value_and_grad

        def placed(cost: Any) -> Callable[..., Any]:
            function = value_and_grad(cost)

            def of_batch(params: Any, batch: Batch, **options: Any) -> Any:
                rows = self.sharding(self.rows(len(batch[0])))
                batch = jax.lax.with_sharding_constraint(batch, (rows,) * len(batch))
                value, grads = function(params, batch, **options)
                return value, jax.lax.with_sharding_constraint(grads, self.of_arrays(grads))

            return of_batch

        return placed

    # How they are split.

    def of_state(self, tree: Any) -> Any:
        """Return the sharding of each array of a train state, or of parameters."""
        if not isinstance(tree, TrainState):
            return self.of_arrays(tree)
        return TrainState(self.of_arrays(tree.params), self.of_arrays(tree.opt_state), self.replicated, self.replicated)  # type: ignore[arg-type]

    def of_arrays(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: self.sharding(self.split(jnp.shape(leaf))), tree)

    def split(self, shape: Shape) -> PartitionSpec:
        """Return how an array of the parameters or of the optimizer's state is split."""
        size = self.mesh.shape[MODEL] if self.has_model else 1
        divisible = [axis for axis, length in enumerate(shape) if length % size == 0]
        if size == 1 or not divisible:
            return PartitionSpec()
        longest = max(divisible, key=lambda axis: shape[axis])
        return PartitionSpec(*(MODEL if axis == longest else None for axis in range(len(shape))))

    def rows(self, examples: int) -> PartitionSpec:
        """Return how an axis of this many examples is split."""
        for axes in ((DATA, MODEL) if self.has_model else (DATA,), (DATA,)):
            if examples % math.prod(self.mesh.shape[axis] for axis in axes) == 0:
                return PartitionSpec(axes)
        return PartitionSpec()

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that every device has all of."""
        return self.sharding(PartitionSpec())

    @property
    def has_model(self) -> bool:
        return MODEL in self.mesh.axis_names

    @property
    def processes(self) -> int:
        return len({device.process_index for device in self.mesh.devices.flat})

    # How they get there.

    def placed(self, array: Any, sharding: NamedSharding, *, copy: bool) -> Array:
        """Return an array that all processes have the same of, with this sharding."""
        if self.processes == 1:
            array = array if isinstance(array, jax.Array) and array.is_fully_addressable else local(array)
            # ``may_alias=False`` copies to all devices but the one where the array lies.
            return jax.device_put(jnp.copy(array) if copy else array, sharding, may_alias=True)
        if is_key(array):
            data = self.placed(jax.random.key_data(array), sharding, copy=copy)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
        if isinstance(array, jax.Array) and not array.is_fully_addressable:  # from an earlier run on several processes
            return jax.jit(lambda a: a.copy(), out_shardings=sharding)(array)
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index].copy())

    def joined(self, part: Any, axis: int) -> Array:
        """Return the array whose parts, one behind the other along an axis of examples, the processes give."""
        examples = part.shape[axis] * self.processes
        sharding = self.sharding(PartitionSpec(*(None,) * axis, *self.rows(examples)))
        if self.processes == 1:
            return jax.device_put(part, sharding)
        shape = tuple(examples if i == axis else length for i, length in enumerate(part.shape))
        return jax.make_array_from_process_local_data(sharding, part, shape)

    # What they must be.

    def check_batch_size(self, place: str, batch_size: int, processes: int = 1) -> None:
        """Refuse batches that the devices cannot share evenly, of which each process has ``batch_size`` examples."""
        devices = self.mesh.shape[DATA] if processes == 1 else self.mesh.size
        unit = devices // math.gcd(devices, processes)
        whole = "" if processes == 1 else f" in each of {processes} processes, {batch_size * processes} in all"
        checks.require(
            batch_size % unit == 0,
            f"{place}: batch_size is {batch_size}{whole}, which {devices} devices cannot share evenly; expected a "
            f"multiple of {unit}, such as {-(-batch_size // unit) * unit}",
        )

    def check_parts(self, place: str, lengths: list[int]) -> None:
        """Refuse parts of a set, one of each process, that the devices cannot share evenly."""
        checks.require(
            len(set(lengths)) == 1,
            f"{place}: the processes have {lengths} examples, in their order; expected as many in each: give all "
            f"{min(lengths)}, or divide the examples anew",
        )
        examples = sum(lengths)
        checks.require(
            examples % self.mesh.size == 0,
            f"{place}: each process has {lengths[0]} examples, {examples} in all, which {self.mesh.size} devices "
            f"cannot share evenly; leave out {examples % self.mesh.size} of them or add {-examples % self.mesh.size}",
        )


def filled(chunk: Chunk, batch_size: int) -> Chunk:
    """Return the chunk with its batch filled up by repetitions of its examples, of weight 0."""
    real = chunk.x.shape[1]
    rows = np.arange(batch_size) % real
    weights = np.broadcast_to(np.arange(batch_size) < real, (len(chunk.x), batch_size)).astype(np.float32)
    return Chunk(chunk.x[:, rows], chunk.y[:, rows], weights=weights)


def local(array: Any) -> Any:
    """Return an array of several processes, or of none, as one of this process."""
    if isinstance(array, jax.Array) and not array.is_fully_replicated:
        return multihost_utils.process_allgather(array, tiled=True)
    return array if is_key(array) else np.asarray(array)


def is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


@contextmanager
def explained_loss_of_a_process() -> Iterator[None]:
    """Add to JAX's error that another process has probably ended."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() > 1:
            error.add_note(
                "fit: another process of this run has probably ended, see what it printed; start all of them again: "
                "with checkpoint= the run goes on from its last checkpoint, also on another number of devices"
            )
        raise
