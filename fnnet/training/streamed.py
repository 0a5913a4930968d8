"""Training on a stream: chunks of batches, made ahead by a thread, go through one program."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.data.chunks import Chunk, batches_per_chunk, chunks, stacked
from fnnet.data.prefetch import Prefetched
from fnnet.data.stream import Stream
from fnnet.layers import BatchNorm
from fnnet.optimizers import Optimizer
from fnnet.training.data import checked_data
from fnnet.training.epoch import scan_as_vectors, widened
from fnnet.training.source import Part, augmented, compile_timed
from fnnet.training.state import TrainState
from fnnet.training.step import Measure, Step, train_step
from fnnet.types import Array, Batch


class Streamed:
    """Examples on the host: an epoch is as many parts as the stream has chunks.

    The order of an epoch comes from the run's key and the step at which the epoch begins, as that of arrays does.
    ``data_seconds`` is how long the epoch has waited for chunks: much of its seconds, and loading is the limit.
    Chunks have no more than ``updates`` batches, if that is given.
    """

    def __init__(
        self,
        cost: Cost,
        optimizer: Optimizer,
        stream: Stream,
        *,
        donate: bool,
        value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
        measure: Measure | None = None,
        augment: Augmentation | None = None,
        updates: int | None = None,
    ) -> None:
        self.padded = check_padding(stream, cost.model)
        self.cost, self.stream, self.augment = cost, stream, augment
        step = train_step(cost, optimizer, value_and_grad, measure, augment)
        function = partial(train_chunk, step, padded=self.padded)
        self.function = jax.jit(function, donate_argnums=(0,) if donate else ())
        self.compiled: Callable[..., Any] = self.function
        self.chunk_size, self.updates, self.donate = 1, updates, donate
        self.data_seconds = 0.0

    @property
    def steps(self) -> int | None:
        return self.stream.steps

    @property
    def description(self) -> dict[str, Any]:
        names = ("examples", "batch_size", "last", "chunk_bytes")
        stream = {name: getattr(self.stream, name) for name in names}
        return stream | {"shuffle": getattr(self.stream, "shuffle", None), "updates": self.updates}

    @property
    def numbers(self) -> dict[str, float]:
        return {"data_seconds": self.data_seconds}

    def compile(self, state: TrainState) -> float:
        """Looks at a first batch of the stream, checked as data in memory is."""
        batch = self.stream.first_batch(state.order_key())
        checked_data("fit: the first batch of the stream", self.cost, state.params, batch, self.augment)
        most = [n for n in (self.steps, self.updates) if n is not None]
        self.chunk_size = batches_per_chunk(batch, self.stream.chunk_bytes, min(most, default=None))
        chunk = next(chunks([batch], self.chunk_size, self.stream.batch_size))
        self.compiled, seconds = compile_timed(self.function, state, jax.device_put(chunk))
        return seconds

    def parts(self, state: TrainState, place: int) -> Generator[Part, None, None]:
        self.data_seconds = 0.0
        done = place
        part: Part | None = None
        with Prefetched(self.chunks(state, place), self.stream.prefetch) as made:
            for chunk, examples, updates in made:
                self.data_seconds, made.waited, ready = self.data_seconds + made.waited, 0.0, part
                # Only now it is known that the epoch does not end with the last part. The next chunk is on its way
                # before that part is waited for, unless it takes its state away.
                if self.donate and ready is not None:
                    yield ready
                state, metrics = self.compiled(state, chunk)
                done += updates
                self.check_steps(done, ended=False)
                part = Part(state, metrics, examples, updates, last=False)
                if not self.donate and ready is not None:
                    yield ready
            self.data_seconds += made.waited
            self.check_steps(done, ended=True)
            if part is not None:
                yield part._replace(last=True)

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

    def chunks(self, state: TrainState, place: int) -> Iterator[tuple[Chunk, int, int]]:
        """Chunks on the device, each with its numbers of examples and of updates."""
        for chunk in self.stream.chunks(epoch_key(state, place), place, self.chunk_size):
            yield jax.device_put(chunk), int(chunk.sizes.sum()), int(chunk.updates)

    def batches(self, state: TrainState, place: int) -> Iterator[Batch]:
        size = self.stream.batch_size
        for i, batch in enumerate(self.stream.batches(epoch_key(state, place), place)):
            # Filled up as in training: random changes are drawn for all of it.
            whole = tuple(jnp.asarray(stacked([part], 1, size)[0]) for part in batch)
            x, y = augmented(self.augment, state, i, (whole[0], whole[1]))
            yield x[: len(batch.x)], y[: len(batch.x)]


def epoch_key(state: TrainState, place: int) -> Array:
    """The key for the order of an epoch of which ``place`` updates are made."""
    return state._replace(step=state.step - place).order_key()


def train_chunk(step: Step, state: TrainState, chunk: Chunk, *, padded: bool) -> tuple[TrainState, dict[str, Array]]:
    """The updates of a chunk's batches, and the means of their metrics, ``cost`` over its examples."""
    size, batch_size = chunk.x.shape[:2]

    def on_batch(state: TrainState, batch: tuple[Array, Array, Array]) -> tuple[TrainState, dict[str, Array]]:
        x, y, examples = batch
        real = jnp.arange(batch_size) < examples
        return step(state, (x, y, real.astype(jnp.float32)) if padded else (x, y))  # type: ignore[arg-type]

    batches = chunk.x, chunk.y, chunk.sizes
    if size == 1:
        state, metrics = on_batch(state, jax.tree.map(lambda a: a[0], batches))
        return state, metrics | {"cost": widened(metrics["cost"])}
    first = partial(scan_first, chunk.updates)
    state, metrics = jax.lax.platform_dependent(
        state,
        batches,
        cpu=lambda state, batches: scan_as_vectors(on_batch, state, batches, first),
        default=lambda state, batches: first(on_batch, state, batches),
    )
    metrics = jax.tree.map(widened, metrics)
    costs = metrics.pop("cost")
    cost = (costs * chunk.sizes.astype(costs.dtype)).sum() / chunk.sizes.sum().astype(costs.dtype)
    return state, {"cost": cost} | {
        name: each.sum(0) / chunk.updates.astype(each.dtype) for name, each in metrics.items()
    }


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


def check_padding(stream: Stream, model: Any) -> bool:
    """Whether batches may be filled up; not allowed where the filling would change what real examples give."""
    padded = stream.last == "pad" and (stream.examples is None or stream.examples % stream.batch_size > 0)
    checks.require(
        not (padded and holds(model, BatchNorm)),
        f"fit: a last batch of fewer than {stream.batch_size} examples would be filled up, and what fills it would "
        f"enter the moments of BatchNorm; use last='drop', or a batch_size that divides the number of examples and "
        f"tell it with examples=",
    )
    return padded


def holds(layer: Any, kind: type) -> bool:
    """Whether a layer is, or is made of, one of this kind."""
    if isinstance(layer, kind):
        return True
    if isinstance(layer, (tuple, list)):
        return any(holds(each, kind) for each in layer)
    return is_dataclass(layer) and any(holds(getattr(layer, field.name), kind) for field in fields(layer))
