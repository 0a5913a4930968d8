"""Cost and metrics over a data set, in memory or in a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import Cost, above_zero, broadcast_weights, split_batch
from fnnet.data.chunks import Chunk
from fnnet.data.stream import Stream
from fnnet.layers import BatchNorm
from fnnet.layers.nesting import holds
from fnnet.metrics import Metric, added
from fnnet.training.data import check_stream, placed_data
from fnnet.training.placement import Placement
from fnnet.training.processes import together
from fnnet.types import Array, Batch, Loss, Params

Metrics = Mapping[str, Loss | Metric]
BATCH_SIZE = 1024


def evaluate(
    cost: Cost,
    params: Params,
    data: Batch | Stream,
    metrics: Metrics | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, Array]:
    """Return ``{"cost": ..., and one entry per metric}`` over a data set, for the deterministic network.

    ``data`` is ``(x, y)``, of which at most ``batch_size`` examples at a time go through the network, or a ``Stream``,
    which has a batch size of its own. The numbers are exact for any number of examples. With ``BatchNorm``, whose
    output depends on the batch, a set in memory is one batch, and a stream must be one. For arrays this is a pure
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
        return measures.over_stream("evaluate", placement, placement.state(params, copy=False), data)
    checks.positive_integer("evaluate", "batch_size", batch_size)
    checks.require(mesh is None, "evaluate: mesh is for a stream; arrays are evaluated where they lie")
    return measures.over_arrays(params, split_batch("evaluate", data), batch_size)


def check_cost_and_metrics(place: str, cost: Any, metrics: Any) -> None:
    """Refuse a model in place of its cost, and a list of metrics, which have names."""
    if not isinstance(cost, Cost):
        raise TypeError(f"{place}: cost is {cost!r}; expected a fnnet.Cost, such as Cost(model, losses.squared_error)")
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f'{place}: metrics are {metrics!r}; expected a mapping, such as {{"accuracy": fnnet.accuracy}}')


def validation_record(
    cost: Cost, metrics: Metrics | None, data: Batch | Stream, placement: Placement, params: Params, key: Array
) -> Callable[[Params], dict[str, float]]:
    """Return the function that gives the record of a validation set, which is checked here once, for parameters."""
    place = "fit: validation"
    measures = Measures.of(place, cost, metrics)
    if isinstance(data, Stream):
        check_stream(place, cost, placement, data, key, params)
    else:
        data = placed_data(place, cost, placement, params, data)

    def record(params: Params) -> dict[str, float]:
        if isinstance(data, Stream):
            numbers = measures.over_stream(place, placement, params, data)
        else:
            numbers = compiled_over_arrays(measures, params, data, BATCH_SIZE)
        for name, number in numbers.items():
            checks.require(
                number.ndim == 0,
                f"fit: the metric {name!r} gives an array of shape {number.shape}; a history has single numbers: leave "
                f"it out here and use fnnet.evaluate after training",
            )
        return {f"validation_{name}": float(number) for name, number in numbers.items()}

    return record


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
        check_cost_and_metrics(place, cost, metrics)
        chosen = dict(metrics or {})
        checks.require("cost" not in chosen, f'{place}: a metric is named "cost", the name of the cost; rename it')
        means = {name: m if isinstance(m, Metric) else Mean(place, name, m) for name, m in chosen.items()}
        return cls(cost, (("cost", Mean(place, "cost", cost.loss)), *means.items()))

    def over_arrays(self, params: Params, data: Batch, batch_size: int) -> dict[str, Array]:
        """Return the numbers over a set in memory, a pure function.

        A model whose output depends on the batch sees the whole set at once.
        """
        x, y = data
        size = len(x) if holds(self.cost.model, BatchNorm) else min(batch_size, len(x))
        full = len(x) // size
        total = self.statistics(params, Chunk(*(a[: full * size].reshape(full, size, *a.shape[1:]) for a in (x, y))))
        if len(x) % size:
            rest = self.statistics(params, Chunk(x[None, full * size :], y[None, full * size :]))
            total = self.merge(total, rest)
        return self.result(params, total)

    def over_stream(self, place: str, placement: Placement, params: Params, stream: Stream) -> dict[str, Array]:
        """Return the numbers over a stream, by a program for each shape of a chunk."""
        checks.require(
            stream.steps == 1 or not holds(self.cost.model, BatchNorm),
            f"{place}: the model has BatchNorm, so the numbers of a stream would depend on how it is divided into "
            f"batches; evaluate fnnet.fold_batch_norm(model, params, x), or a set in memory, which is one batch",
        )
        chunks = (placement.batch(chunk, stream.batch_size) for chunk in stream.chunks(jax.random.key(0)))
        total: Any = None
        for chunk in together(place, placement.processes, chunks):
            each = compiled_statistics(self, params, chunk)
            total = each if total is None else compiled_merge(self, total, each)
            jax.block_until_ready(total)  # a fast reader would fill the memory
        return self.result(params, total)

    def result(self, params: Params, total: Any) -> dict[str, Array]:
        result = {name: metric.result(total[name]) for name, metric in self.metrics}
        return result | {"cost": self.cost.total(result["cost"], params)}

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


compiled_over_arrays = jax.jit(Measures.over_arrays, static_argnums=(0, 3))
compiled_statistics = jax.jit(Measures.statistics, static_argnums=0)
compiled_merge = jax.jit(Measures.merge, static_argnums=0)
