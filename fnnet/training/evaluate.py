"""Cost and metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import Cost, above_zero, broadcast_weights, split_batch
from fnnet.optimizers.leaves import moment_dtype
from fnnet.training.metrics import Metric, added
from fnnet.types import Array, Batch, Loss, Params

Evaluation = Callable[[Params, Batch], dict[str, Array]]


def evaluate(cost: Cost, metrics: Mapping[str, Loss | Metric] | None = None, *, batch_size: int = 1024) -> Evaluation:
    """``evaluation(params, (x, y)) -> {"cost": ..., and one entry per metric}``, a pure function.

    Exact for any number of examples: at most ``batch_size`` at a time go through the deterministic network
    (``train=False``), the last batch as small as it comes. ``metrics`` are functions ``(prediction, target) -> (N,)``,
    such as ``fnnet.accuracy``, whose means are taken over all examples, added up in at least float32; or a
    ``fnnet.metrics.Metric``, such as ``fnnet.metrics.confusion_matrix``. The cost includes the penalty.
    """
    checks.positive_integer("evaluate", "batch_size", batch_size)
    measures = measures_of("evaluate", cost, metrics)

    def evaluation(params: Params, data: Batch) -> dict[str, Array]:
        x, y = split_batch("evaluate", data)
        full, left = divmod(len(x), batch_size)
        parts = []
        if full:
            batches = [a[: full * batch_size].reshape(full, batch_size, *a.shape[1:]) for a in (x, y)]
            each = jax.lax.map(lambda batch: measures.statistics(params, *batch), tuple(batches))
            parts.append(measures.merged_all(each))
        if left:
            parts.append(measures.statistics(params, x[full * batch_size :], y[full * batch_size :]))
        return measures.result(params, parts[0] if len(parts) == 1 else measures.merge(*parts))

    return evaluation


class Measures(NamedTuple):
    """The cost and the metrics, each as a ``Metric``."""

    cost: Cost
    metrics: Mapping[str, Metric]

    def statistics(self, params: Params, x: Array, y: Array, weights: Array | None = None) -> dict[str, Any]:
        """Of a batch."""
        prediction = self.cost.model.apply(params, x)
        ones = jnp.ones(len(x)) if weights is None else weights
        return {name: metric.statistics(prediction, y, ones) for name, metric in self.metrics.items()}

    def merge(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        """Of two batches together."""
        return {name: metric.merge(a[name], b[name]) for name, metric in self.metrics.items()}

    def merged_all(self, each: dict[str, Any]) -> dict[str, Any]:
        """Of many batches together, stacked on the first axis."""
        totals = {}
        for name, metric in self.metrics.items():
            if metric.merge is added:
                totals[name] = jax.tree.map(lambda a: a.sum(0), each[name])
            else:
                first, rest = jax.tree.map(lambda a: a[0], each[name]), jax.tree.map(lambda a: a[1:], each[name])
                totals[name] = jax.lax.scan(lambda a, b, m=metric: (m.merge(a, b), None), first, rest)[0]  # type: ignore[misc]
        return totals

    def result(self, params: Params, statistics: dict[str, Any]) -> dict[str, Array]:
        result = {name: metric.result(statistics[name]) for name, metric in self.metrics.items()}
        if self.cost.penalty is not None:
            result["cost"] = result["cost"] + jnp.asarray(self.cost.penalty(params)).astype(result["cost"].dtype)
        return result


def measures_of(place: str, cost: Cost, metrics: Mapping[str, Loss | Metric] | None) -> Measures:
    checks.require("cost" not in (metrics or {}), f'{place}: a metric is named "cost", the name of the cost; rename it')
    measures = {"cost": mean_of(place, "cost", cost.loss, cost.counted)}
    for name, metric in (metrics or {}).items():
        measures[name] = metric if isinstance(metric, Metric) else mean_of(place, name, metric)
    return Measures(cost, measures)


def mean_of(
    place: str, name: str, function: Loss, counted: Callable[[Array, Array, Any], Array | None] | None = None
) -> Metric:
    """The mean of ``function``'s numbers as a metric: their sum, and how many there are."""

    def statistics(prediction: Array, target: Array, weights: Array) -> tuple[Array, Array]:
        values = function(prediction, target)
        checks.require(
            values.shape[:1] == prediction.shape[:1] and values.ndim > 0,
            f"{place}: {name} gave shape {values.shape} for {len(prediction)} examples; "
            f"expected one number per example",
        )
        dtype = moment_dtype(values)
        each = broadcast_weights("weights", weights, values.shape).astype(dtype)
        count = each.sum() if counted is None else counted(target, each, values.shape)
        return (values.astype(dtype) * each).sum(), jnp.asarray(count)

    def mean(totals: tuple[Array, Array]) -> Array:
        total, count = totals
        return total / above_zero(count).astype(total.dtype)

    return Metric(statistics, mean)
