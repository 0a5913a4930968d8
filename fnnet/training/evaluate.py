"""Cost and metrics over a data set, in memory or in a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import Cost, above_zero, broadcast_weights, split_batch
from fnnet.data.chunks import Chunk
from fnnet.data.prefetch import Prefetched
from fnnet.data.stream import Stream
from fnnet.metrics import Metric, added
from fnnet.training.data import check_stream
from fnnet.training.placement import Placement
from fnnet.training.processes import together
from fnnet.types import Array, Batch, Loss, Params

Metrics = Mapping[str, Loss | Metric]


def evaluate(
    cost: Cost,
    params: Params,
    data: Batch | Stream,
    metrics: Metrics | None = None,
    *,
    batch_size: int = 1024,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, Array]:
    """Return ``{"cost": ..., and one entry per metric}`` over a data set, for the deterministic network.

    ``data`` is ``(x, y)``, of which at most ``batch_size`` examples at a time go through the network, or a ``Stream``,
    which has a batch size of its own. The numbers are exact for any number of examples. For arrays this is a pure
    function, to be compiled: ``jax.jit(lambda params: fnnet.evaluate(cost, params, data))``; for a stream it is a loop
    on the host around one compiled program.

    ``metrics`` are functions ``(prediction, target) -> (N,)``, such as ``fnnet.accuracy``, whose means are taken over
    all examples, added up in at least float32; or a ``fnnet.metrics.Metric``, such as
    ``fnnet.metrics.confusion_matrix``. The cost includes the penalty. ``mesh`` spreads a stream over devices as ``fit``
    does, where each process gives a stream of its part.
    """
    measures = Measures.of("evaluate", cost, metrics)
    if isinstance(data, Stream):
        placement = Placement.of(mesh, params, "evaluate")
        check_stream("evaluate", cost, placement, data, jax.random.key(0))
        return measures.over(
            placement.state(params, copy=False), host_chunks("evaluate", placement, data), compiled=True
        )
    checks.positive_integer("evaluate", "batch_size", batch_size)
    checks.require(mesh is None, "evaluate: mesh is for a stream; arrays are evaluated where they lie")
    return measures.over(params, array_chunks(*split_batch("evaluate", data), batch_size))


def array_chunks(x: Array, y: Array, batch_size: int) -> Iterator[Chunk]:
    """Yield the whole batches as one chunk, and the examples that are left over as another."""
    full, left = divmod(len(x), batch_size)
    if full:
        yield Chunk(*(a[: full * batch_size].reshape(full, batch_size, *a.shape[1:]) for a in (x, y)))
    if left:
        yield Chunk(x[None, full * batch_size :], y[None, full * batch_size :])


def host_chunks(place: str, placement: Placement, stream: Stream) -> Iterator[Chunk]:
    """Yield the chunks of a stream on the devices; the order of the examples does not matter."""
    chunks = (placement.batch(chunk, stream.batch_size) for chunk in stream.chunks(jax.random.key(0)))
    with Prefetched(chunks, stream.prefetch) as ready:
        yield from together(place, placement.processes, ready)


@dataclass(frozen=True)
class Mean:
    """The mean of a function's numbers over the counted examples, as a ``Metric``: their sum and their count."""

    place: str
    name: str
    function: Loss
    merge = staticmethod(added)

    def statistics(self, prediction: Array, target: Array, weights: Array) -> tuple[Array, Array]:
        values = self.function(prediction, target)
        checks.require(
            values.shape[:1] == prediction.shape[:1] and values.ndim > 0,
            f"{self.place}: {self.name} gave shape {values.shape} for {len(prediction)} examples; "
            f"expected one number per example",
        )
        values = values.astype(checks.at_least_float32(values))
        each = broadcast_weights("weights", weights, values.shape)
        return jnp.where(each == 0, 0, values * each.astype(values.dtype)).sum(), each.sum()

    def result(self, totals: tuple[Array, Array]) -> Array:
        total, count = totals
        return total / above_zero(count).astype(total.dtype)


@dataclass(frozen=True)
class Measures:
    """The cost and the metrics. Compares by value, so that its compiled programs are used again."""

    cost: Cost
    metrics: tuple[tuple[str, Metric | Mean], ...]

    @classmethod
    def of(cls, place: str, cost: Cost, metrics: Metrics | None) -> Measures:
        chosen = dict(metrics or {})
        checks.require("cost" not in chosen, f'{place}: a metric is named "cost", the name of the cost; rename it')
        means = {name: m if isinstance(m, Metric) else Mean(place, name, m) for name, m in chosen.items()}
        return cls(cost, (("cost", Mean(place, "cost", cost.loss)), *means.items()))

    def over(self, params: Params, chunks: Iterable[Chunk], *, compiled: bool = False) -> dict[str, Array]:
        """Return the numbers over all chunks; ``compiled``, on the host, by a program for each shape of a chunk."""
        statistics, merge = (compiled_statistics, compiled_merge) if compiled else (Measures.statistics, Measures.merge)
        total: Any = None
        for chunk in chunks:
            each = statistics(self, params, chunk)
            total = each if total is None else merge(self, total, each)
            if compiled:
                jax.block_until_ready(total)  # a fast reader would fill the memory
        result = {name: metric.result(total[name]) for name, metric in self.metrics}
        if self.cost.penalty is not None:
            result["cost"] = result["cost"] + jnp.asarray(self.cost.penalty(params)).astype(result["cost"].dtype)
        return result

    def statistics(self, params: Params, chunk: Chunk) -> dict[str, Any]:
        """Return the statistics of all batches of a chunk together."""

        def of_batch(batch: tuple[Array, ...]) -> dict[str, Any]:
            x, y, *weights = batch
            prediction = self.cost.model.apply(params, x)
            counts: Any = weights[0] if weights else jnp.ones(len(x))
            if self.cost.ignore_label is not None:  # what the cost does not count, no metric counts
                counts = self.cost.loss_weights(y, counts, y.shape)
            labels = self.cost.known_labels(y)
            return {name: metric.statistics(prediction, labels, counts) for name, metric in self.metrics}

        each = jax.lax.map(of_batch, chunk.scanned)
        totals: dict[str, Any] = {}
        for name, metric in self.metrics:
            if metric.merge is added:
                totals[name] = jax.tree.map(lambda a: a.sum(0), each[name])
            else:
                first, rest = jax.tree.map(lambda a: a[0], each[name]), jax.tree.map(lambda a: a[1:], each[name])
                totals[name] = jax.lax.scan(lambda a, b, m=metric: (m.merge(a, b), None), first, rest)[0]  # type: ignore[misc]
        return totals

    def merge(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        """Return the statistics of two sets of examples together."""
        return {name: metric.merge(a[name], b[name]) for name, metric in self.metrics}


compiled_statistics = jax.jit(Measures.statistics, static_argnums=0)
compiled_merge = jax.jit(Measures.merge, static_argnums=0)
