"""Training on a stream: chunks of batches, made ahead by a thread, go through one program."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.data.batches import HostBatch
from fnnet.data.chunks import Chunk, Reused, batches_per_chunk, chunks
from fnnet.data.prefetch import Prefetched
from fnnet.data.stream import Stream
from fnnet.layers import BatchNorm
from fnnet.optimizers import Optimizer
from fnnet.training.data import checked_data
from fnnet.training.epoch import scan_as_vectors, widened
from fnnet.training.placing import DEFAULT_DEVICE, Fed, Placing
from fnnet.training.processes import heard, telling
from fnnet.training.source import Part, augmented, compile_timed
from fnnet.training.state import TrainState
from fnnet.training.step import Measure, Step, train_step
from fnnet.types import Array, Batch


class Streamed:
    """Examples on the host: an epoch is as many parts as the stream has chunks.

    The order of an epoch comes from the run's key and the step at which the epoch begins, as that of arrays does.
    ``data_seconds`` is how long the epoch has waited for chunks: much of its seconds, and loading is the limit.
    Chunks have no more than ``updates`` batches, if that is given. Of several processes each has a stream of its parts
    of the batches.
    """

    def __init__(
        self,
        cost: Cost,
        optimizer: Optimizer,
        stream: Stream,
        placing: Placing = DEFAULT_DEVICE,
        *,
        donate: bool,
        value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
        measure: Measure | None = None,
        augment: Augmentation | None = None,
        updates: int | None = None,
    ) -> None:
        self.padded = is_padded(stream)
        self.cost, self.stream, self.placing, self.augment = cost, stream, placing, augment
        step = train_step(cost, optimizer, placing.engine(value_and_grad), measure, augment)
        function: Callable[..., Any] = partial(train_chunk, step, padded=self.padded)
        function = placing.program(function if placing.processes == 1 else telling(function))
        self.function = jax.jit(function, donate_argnums=(0,) if donate else ())
        self.compiled: Callable[..., Any] = self.function
        self.like: Chunk | None = None
        self.chunk_size, self.updates, self.donate = 1, updates, donate
        self.data_seconds = self.reading_seconds = 0.0
        self.memory = Reused()

    @property
    def steps(self) -> int | None:
        return self.stream.steps

    @property
    def description(self) -> dict[str, Any]:
        names = ("examples", "batch_size", "last", "chunk_bytes")
        stream = {name: getattr(self.stream, name) for name in names}
        for name in ("examples", "batch_size"):  # of the whole, however many processes give it
            stream[name] = stream[name] and stream[name] * self.placing.processes
        return stream | {"shuffle": getattr(self.stream, "shuffle", None), "updates": self.updates}

    @property
    def numbers(self) -> dict[str, float]:
        return {"data_seconds": self.data_seconds, "reading_seconds": self.reading_seconds}

    def look(self, state: TrainState) -> Chunk:
        """At a first batch of the stream, checked as data in memory is: a chunk as all will be, of no batches."""

        def check(batch: Any) -> None:
            check_padding(self.stream, self.cost.model)
            checked_data("fit: the first batch of the stream", self.cost, state.params, batch, self.augment)

        batch = self.placing.first_batch("fit", self.stream, state.order_key(), check)
        most = [n for n in (self.steps, self.updates) if n is not None]
        self.chunk_size = chunk_size(batch, self.stream, self.placing, min(most, default=None))
        self.like = empty_chunk(batch, self.chunk_size, self.stream.batch_size)
        return self.like

    def compile(self, state: TrainState) -> float:
        chunk = self.look(state) if self.like is None else self.like
        fed = next(self.placing.fed(iter([chunk]), chunk))
        self.compiled, seconds = compile_timed(self.function, state, *fed.arguments)
        return seconds

    def parts(self, state: TrainState, place: int) -> Generator[Part, None, None]:
        key = self.placing.key(epoch_key(state, place))
        if self.placing.processes > 1:
            yield from self.parts_together(state, key, place)
            return
        self.data_seconds = 0.0
        done = place
        part: Part | None = None
        with Prefetched(self.chunks(key, place), self.stream.prefetch) as made:
            for arguments, examples, updates, _ in made:
                self.data_seconds, made.waited, ready = self.data_seconds + made.waited, 0.0, part
                # Only now it is known that the epoch does not end with the last part. The next chunk is on its way
                # before that part is waited for, unless it takes its state away.
                if self.donate and ready is not None:
                    yield ready
                state, metrics = self.compiled(state, *arguments)
                done += updates
                self.check_steps(done, ended=False)
                part = Part(state, metrics, examples, updates, last=False)
                if not self.donate and ready is not None:
                    yield ready
            self.data_seconds += made.waited
            self.reading_seconds = made.worked
            self.check_steps(done, ended=True)
            if part is not None:
                yield part._replace(last=True)

    def parts_together(self, state: TrainState, key: Array, place: int) -> Generator[Part, None, None]:
        """Where each process has a part of every chunk: one at a time, for the others may have no more of them."""
        self.data_seconds, done = 0.0, place
        with Prefetched(self.chunks(key, place), self.stream.prefetch) as made:
            for chunk in made:
                self.data_seconds, made.waited = self.data_seconds + made.waited, 0.0
                state, metrics = self.compiled(state, *chunk.arguments)
                self.reading_seconds = made.worked
                common = heard("fit", metrics.pop("told"), chunk.fault, done)
                done += common.updates
                self.check_steps(done, ended=common.last)
                yield Part(state, metrics, common.examples, common.updates, common.last)

    def check_steps(self, done: int, *, ended: bool) -> None:
        """An epoch may not end early, nor go on for ever."""
        expected = self.steps
        right = done > 0 if expected is None else (done == expected if ended else done <= expected)
        checks.require(
            right,
            f"fit: the stream gave {done} batches {'' if ended else 'or more '}in this epoch; "
            f"expected {expected or 'at least one'}: tell examples=, the number per epoch, or last='drop' if the "
            f"loader drops a smaller last batch",
        )

    def chunks(self, key: Array, place: int) -> Generator[Fed, None, None]:
        """Chunks on the device."""
        assert self.like is not None, "compile first"
        return self.placing.fed(self.stream.chunks(key, place, self.chunk_size, self.memory), self.like)

    def batches(self, state: TrainState, place: int) -> Iterator[Batch]:
        batches = self.stream.batches(self.placing.key(epoch_key(state, place)), place)
        for i, (batch, real) in enumerate(self.placing.whole_batches(batches, self.stream.batch_size)):
            # Filled up as in training: random changes are drawn for all of it.
            x, y = augmented(self.augment, state, i, batch)
            yield (x, y) if real.all() else (x[real], y[real])


def epoch_key(state: TrainState, place: int) -> Array:
    """The key for the order of an epoch of which ``place`` updates are made."""
    return state._replace(step=state.step - place).order_key()


def train_chunk(step: Step, state: TrainState, chunk: Chunk, *, padded: bool) -> tuple[TrainState, dict[str, Array]]:
    """The updates of a chunk's batches, and the means of their metrics, ``cost`` over its examples."""
    size, batch_size = chunk.x.shape[:2]

    def on_batch(state: TrainState, batch: tuple[Array, Array, Array]) -> tuple[TrainState, dict[str, Array]]:
        x, y, sizes = batch
        return step(state, (x, y, real_ones(sizes, batch_size)) if padded else (x, y))  # type: ignore[arg-type]

    batches = chunk.x, chunk.y, chunk.sizes
    if size == 1:
        state, metrics = on_batch(state, jax.tree.map(lambda a: a[0], batches))
        return state, metrics | {"cost": widened(metrics["cost"])}
    first = partial(scan_first, chunk.updates.min())
    state, metrics = jax.lax.platform_dependent(
        state,
        batches,
        cpu=lambda state, batches: scan_as_vectors(on_batch, state, batches, first),
        default=lambda state, batches: first(on_batch, state, batches),
    )
    metrics = jax.tree.map(widened, metrics)
    costs = metrics.pop("cost")
    sizes = chunk.sizes.reshape(size, -1).sum(1).astype(costs.dtype)
    cost = (costs * sizes).sum() / sizes.sum()
    updates = chunk.updates.min()
    return state, {"cost": cost} | {name: each.sum(0) / updates.astype(each.dtype) for name, each in metrics.items()}


def real_ones(sizes: Array, batch_size: int) -> Array:
    """Weights ``(B,)``, 1 for real examples and else 0: of each part of the batch the first ``sizes`` are real."""
    parts = sizes.size
    return (
        (jnp.arange(batch_size // parts, dtype=sizes.dtype) < sizes.reshape(parts, 1))
        .reshape(batch_size)
        .astype(jnp.float32)
    )


def chunk_size(batch: HostBatch, stream: Stream, placing: Placing, steps: int | None) -> int:
    """Batches per chunk: as many as are of ``chunk_bytes`` in all processes together, if all are whole."""
    whole = stream.batch_size * placing.processes
    return batches_per_chunk(batch, stream.chunk_bytes * len(batch.x) // whole, steps)


def empty_chunk(batch: HostBatch, size: int, batch_size: int) -> Chunk:
    chunk = next(chunks([batch], size, batch_size))
    return jax.tree.map(np.zeros_like, chunk)


def scan_first(count: Array, step: Callable[[Any, Any], tuple[Any, Any]], state: Any, steps: Any) -> tuple[Any, Any]:
    """``jax.lax.scan(step, state, steps)`` over the first ``count`` steps; the results of the others are 0."""

    def at(i: Any) -> Any:
        return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), steps)

    def body(i: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        state, results = carry
        state, result = step(state, at(i))
        return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), results, result)

    length = len(jax.tree.leaves(steps)[0])
    shapes = jax.eval_shape(step, state, at(0))[1]
    results = jax.tree.map(lambda s: jnp.zeros((length, *s.shape), s.dtype), shapes)
    return jax.lax.fori_loop(0, count, body, (state, results))


def is_padded(stream: Stream) -> bool:
    """Whether batches may be filled up."""
    return stream.last == "pad" and (stream.examples is None or stream.examples % stream.batch_size > 0)


def check_padding(stream: Stream, model: Any) -> None:
    """Refuses to fill batches up where that would change what real examples give."""
    checks.require(
        not (is_padded(stream) and holds(model, BatchNorm)),
        f"fit: a last batch of fewer than {stream.batch_size} examples would be filled up, and what fills it would "
        f"enter the moments of BatchNorm; use last='drop', or a batch_size that divides the number of examples and "
        f"tell it with examples=",
    )


def holds(layer: Any, kind: type) -> bool:
    """Whether a layer is, or is made of, one of this kind."""
    if isinstance(layer, kind):
        return True
    if isinstance(layer, (tuple, list)):
        return any(holds(each, kind) for each in layer)
    return is_dataclass(layer) and any(holds(getattr(layer, field.name), kind) for field in fields(layer))
