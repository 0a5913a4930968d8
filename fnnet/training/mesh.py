"""One run on many devices: what of it lies where, and the constraints that keep it there.

XLA splits the same pure functions over the mesh and adds the communication; nothing here computes. Letters: ``N``
examples of a batch or of a set, ``d`` devices on the axis ``data``, ``m`` on the axis ``model``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fnnet import checks
from fnnet.data.batches import HostBatch, NumpyArray
from fnnet.data.chunks import Chunk
from fnnet.data.stream import Stream
from fnnet.training.placing import Fed, fed_alone, filled
from fnnet.training.processes import agreed, tellings, whole_batches
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Params, Shape

DATA, MODEL = "data", "model"
EXAMPLE = 'jax.make_mesh((8,), ("data",)), or jax.make_mesh((4, 2), ("data", "model"))'


@dataclass(frozen=True)
class OnMesh:
    """Examples split over ``data`` (and ``model``), parameters and the optimizer's state over ``model``.

    **Examples.** Each device has ``N / (d m)`` of a batch if that is an integer, else ``N / d``; of the few that are
    left over at the end of an epoch every device has all. A set lies in the same way.

    **Parameters.** Without an axis ``model`` every device has all. With one, an array is split along its longest axis
    that ``m`` divides, and gathered where it is used (fully sharded data parallelism: Rajbhandari et al. 2020, ZeRO
    stage 3); what ``m`` does not divide every device has. Moments have the shapes of their parameters, and so the
    places.

    The order of the examples and all random numbers are those of a single device: results differ by rounding alone.

    With several processes (``jax.distributed``) each gives its own part of the data, all parts of one length; the set
    is the parts in the order of the processes. State and key must be the same in each.

    **Streams.** A process's stream gives its part of every batch: batch ``k`` of the run is batch ``k`` of the stream
    of process 0, then that of process 1, and so on. Of ``P`` processes with batches of ``B`` examples, a whole batch
    has ``P B``: a multiple of ``d``, with several processes of ``d m``. All streams are alike in ``examples``,
    ``batch_size``, ``last``, ``shuffle``, ``chunk_bytes`` (of the whole chunks), and in the shapes and dtypes of their
    examples; they get the same key for the order of an epoch and have as many batches in it. In a smaller last batch
    each part is filled up by itself, or left out: how many of its examples are real may differ.

    With every chunk the processes tell one another whether another follows. Where one's stream ends before the others',
    or breaks down, all of them stop with an error.
    """

    mesh: Mesh

    @classmethod
    def checked(cls, mesh: Any, place: str = "fit") -> OnMesh:
        """On the given mesh, if it has the axes that are needed."""
        if not isinstance(mesh, Mesh):
            raise TypeError(f"{place}: mesh is {mesh!r}; expected a jax.sharding.Mesh: {EXAMPLE}")
        checks.require(
            DATA in mesh.axis_names and set(mesh.axis_names) <= {DATA, MODEL},
            f"{place}: mesh has the axes {mesh.axis_names}; expected 'data', over which batches are split, and if "
            f"wanted 'model', over which parameters are: {EXAMPLE}",
        )
        # XLA shall choose the shardings in between, whatever kind of mesh make_mesh gives.
        return cls(Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names)))

    def check_batch_size(self, batch_size: int) -> None:
        devices = self.mesh.shape[DATA]
        checks.require(
            batch_size % devices == 0,
            f"fit: batch_size is {batch_size}, but the axis 'data' of the mesh has {devices} devices; expected a "
            f"multiple of {devices}, such as {-(-batch_size // devices) * devices}",
        )

    def state(self, state: TrainState) -> TrainState:
        """The state, of which all processes have the same, in new buffers on the devices of the mesh."""
        return jax.tree.map(self.placed, state, self.of_state(state))

    def placed(self, array: Any, sharding: NamedSharding) -> jax.Array:
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            data = self.placed(jax.random.key_data(array), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
        if isinstance(array, jax.Array) and not array.is_fully_addressable:  # from an earlier run on several processes
            return jax.jit(lambda a: a.copy(), out_shardings=sharding)(array)
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index].copy())

    def checking(self) -> AbstractContextManager[Any]:
        """On the host: the first device need not have room for the set that all of them share."""
        try:
            return jax.default_device(jax.local_devices(backend="cpu")[0])
        except RuntimeError:  # JAX was told to start no CPU
            return nullcontext()

    def batch(self, batch: Batch, place: str = "fit") -> Batch:
        """This process's part of a batch or a set as a part of the whole one."""
        if self.processes > 1:
            self.check_parts(batch, self.processes, place)
        examples = len(batch[0]) * self.processes
        sharding = self.sharding(self.rows(examples))
        x, y = (jax.make_array_from_process_local_data(sharding, np.asarray(part)) for part in batch)
        return x, y

    def check_parts(self, batch: Batch, processes: int, place: str = "fit") -> None:
        lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(batch[0])))).tolist()
        checks.require(
            len(set(lengths)) == 1,
            f"{place}: the processes have {lengths} examples, in their order; expected as many in each: give all "
            f"{min(lengths)}, or divide the examples anew",
        )
        examples = lengths[0] * processes
        checks.require(
            examples % self.mesh.size == 0,
            f"{place}: each process has {lengths[0]} examples, {examples} in all, which {self.mesh.size} devices "
            f"cannot share evenly; leave out {examples % self.mesh.size} of them or add {-examples % self.mesh.size}",
        )

    def first_batch(self, place: str, stream: Stream, key: Array, check: Callable[[Any], Any]) -> HostBatch:
        def first() -> HostBatch:
            batch = stream.first_batch(self.key(key))
            with self.checking():
                check(batch)
            return batch

        batch = first() if self.processes == 1 else agreed(place, stream, first)
        self.check_stream(place, stream.batch_size, self.processes)
        return batch

    def check_stream(self, place: str, batch_size: int, processes: int) -> None:
        devices = self.mesh.shape[DATA] if processes == 1 else self.mesh.size
        unit = devices // math.gcd(devices, processes)
        whole = "" if processes == 1 else f" in each of {processes} processes, {batch_size * processes} in all"
        checks.require(
            batch_size % unit == 0,
            f"{place}: the stream's batch_size is {batch_size}{whole}, which {devices} devices cannot share evenly; "
            f"expected a multiple of {unit}, such as {-(-batch_size // unit) * unit}",
        )

    def key(self, key: Array) -> Array:
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(self.key(jax.random.key_data(key)), impl=jax.random.key_impl(key))
        return jnp.asarray(np.asarray(key))

    def chunk(self, chunk: Chunk) -> Chunk:
        """``x (K, P B, ...)`` and ``y`` split as a batch is, into ``D`` parts; ``sizes (K, D)``, ``updates (D,)``."""
        own = chunk.x.shape[1]
        rows = self.rows(own * self.processes)
        across = self.sharding(PartitionSpec(None, *rows))
        size = self.sharding(rows).shard_shape((own * self.processes,))[0]  # of a part
        parts = own // size
        sizes = np.clip(chunk.sizes[:, None] - size * np.arange(parts), 0, size).astype(np.int32)
        updates = np.full(parts, chunk.updates, np.int32)
        x, y, sizes = (self.joined(part, across, 1) for part in (chunk.x, chunk.y, sizes))
        return Chunk(x, y, sizes, self.joined(updates, self.sharding(rows), 0))

    def fed(self, chunks: Iterator[Chunk], empty: Chunk) -> Generator[Fed, None, None]:
        return fed_alone(chunks, self.chunk) if self.processes == 1 else self.fed_together(chunks, empty)

    def fed_together(self, chunks: Iterator[Chunk], empty: Chunk) -> Generator[Fed, None, None]:
        each_device = self.sharding(PartitionSpec(self.mesh.axis_names))
        with closing(tellings(chunks, empty)) as all_told:
            for chunk, numbers, fault in all_told:
                told = self.joined(np.tile(numbers, (len(self.mesh.local_devices), 1)), each_device, 0)
                yield Fed((self.chunk(chunk), told), int(chunk.sizes.sum()), int(chunk.updates), fault)

    def joined(self, part: NumpyArray, sharding: NamedSharding, axis: int) -> jax.Array:
        """The parts of the processes, one behind the other along an axis."""
        shape = tuple(n * self.processes if i == axis else n for i, n in enumerate(part.shape))
        return jax.make_array_from_process_local_data(sharding, part, shape)

    def params(self, params: Params) -> Params:
        devices = set(self.mesh.devices.flat)

        def placed(leaf: Any, sharding: NamedSharding) -> jax.Array:
            there = isinstance(leaf, jax.Array) and leaf.sharding.device_set == devices
            return leaf if there else self.placed(leaf, sharding)

        return jax.tree.map(placed, params, self.of_arrays(params))

    def everywhere(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: self.placed(leaf, self.results), tree)

    @property
    def results(self) -> NamedSharding:
        return self.sharding(PartitionSpec())

    def whole_batches(self, batches: Iterable[HostBatch], size: int) -> Iterator[tuple[Batch, NumpyArray]]:
        whole = filled if self.processes == 1 else whole_batches
        for batch, real in whole(batches, size):
            x, y = (self.placed(part, self.sharding(self.rows(len(part)))) for part in batch)
            yield (x, y), real

    def program(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function(state, ...) -> (state, metrics)`` with the new state where the old one was; numbers everywhere."""

        def placed(state: TrainState, *arguments: Any) -> tuple[TrainState, Any]:
            state, metrics = function(state, *arguments)
            everywhere = jax.tree.map(lambda _: self.results, metrics)
            return jax.lax.with_sharding_constraint((state, metrics), (self.of_state(state), everywhere))

        return placed

    def engine(self, value_and_grad: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], Callable[..., Any]]:
        """The engine of the gradients, given its batch split over the mesh, its gradients placed as parameters."""

        def placed(cost: Any) -> Callable[..., Any]:
            function = value_and_grad(cost)

            def of_batch(params: Any, batch: Batch, **options: Any) -> Any:
                rows = self.sharding(self.rows(len(batch[0])))
                batch = jax.lax.with_sharding_constraint(batch, (rows,) * len(batch))
                value, grads = function(params, batch, **options)
                return value, jax.lax.with_sharding_constraint(grads, self.of_arrays(grads))

            return of_batch

        return placed

    @contextmanager
    def running(self) -> Iterator[None]:
        """A process that ends takes the others' communication with it: their errors then say so."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if jax.process_count() > 1:
                error.add_note(
                    "fit: another process of this run has probably ended, see what it said; start all of them again: "
                    "with checkpoint= the run goes on from its last checkpoint, also on another number of devices"
                )
            raise

    def rows(self, examples: int) -> PartitionSpec:
        """How so many examples are split."""
        for axes in ((DATA, MODEL) if self.has_model else (DATA,), (DATA,)):
            if examples % int(np.prod([self.mesh.shape[axis] for axis in axes])) == 0:
                return PartitionSpec(axes)
        return PartitionSpec()

    def of_state(self, state: TrainState) -> Any:
        """Of each array of a train state, where it lies."""
        everywhere: Any = self.sharding(PartitionSpec())
        return TrainState(self.of_arrays(state.params), self.of_arrays(state.opt_state), everywhere, everywhere)

    def of_arrays(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: self.sharding(self.split(leaf.shape)), tree)

    def split(self, shape: Shape) -> PartitionSpec:
        """How an array of the parameters or the optimizer's state is split."""
        size = self.mesh.shape[MODEL] if self.has_model else 1
        divisible = [axis for axis, length in enumerate(shape) if length % size == 0]
        if size == 1 or not divisible:
            return PartitionSpec()
        longest = max(divisible, key=lambda axis: shape[axis])
        return PartitionSpec(*(MODEL if axis == longest else None for axis in range(len(shape))))

    @property
    def processes(self) -> int:
        return len({device.process_index for device in self.mesh.devices.flat})

    @property
    def has_model(self) -> bool:
        return MODEL in self.mesh.axis_names

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)
