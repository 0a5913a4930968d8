"""Cost and metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import Cost, split_batch
from fnnet.optimizers.leaves import moment_dtype
from fnnet.types import Array, Batch, Loss, Params

Evaluation = Callable[[Params, Batch], dict[str, Array]]


def evaluate(cost: Cost, metrics: Mapping[str, Loss] | None = None, *, batch_size: int = 1024) -> Evaluation:
    """``evaluation(params, (x, y)) -> {"cost": ..., and one number per metric}``, a pure function.

    Means over all examples, added up in at least float32, exact for any number of them: at most ``batch_size`` at a
    time go through the deterministic network (``train=False``), the last batch as small as it comes. ``metrics`` are
    functions ``(prediction, target) -> (N,)``, such as ``fnnet.accuracy``; the cost includes the penalty.
    """
    checks.positive_integer("evaluate", "batch_size", batch_size)
    checks.require("cost" not in (metrics or {}), 'evaluate: a metric is named "cost", the name of the cost; rename it')
    measures = {"cost": cost.loss, **(metrics or {})}

    def sums(params: Params, x: Array, y: Array) -> dict[str, tuple[Array, Array]]:
        """Of each measure, the total over a batch and how many numbers are in it."""
        prediction = cost.model.apply(params, x)
        totals = {}
        for name, measure in measures.items():
            values = measure(prediction, y)
            checks.require(
                values.shape[:1] == x.shape[:1],
                f"evaluate: {name} gave shape {values.shape} for {len(x)} examples; expected one number per example",
            )
            counted = cost.counted(y) if name == "cost" else None
            totals[name] = (
                values.sum(dtype=moment_dtype(values)),
                jnp.asarray(values.size if counted is None else counted),
            )
        return totals

    def evaluation(params: Params, data: Batch) -> dict[str, Array]:
        x, y = split_batch("evaluate", data)
        full, left = divmod(len(x), batch_size)
        parts = []
        if full:
            batches = [a[: full * batch_size].reshape(full, batch_size, *a.shape[1:]) for a in (x, y)]
            totals = jax.lax.map(lambda batch: sums(params, *batch), tuple(batches))
            parts.append(jax.tree.map(lambda a: a.sum(0), totals))
        if left:
            parts.append(sums(params, x[full * batch_size :], y[full * batch_size :]))
        totals = jax.tree.map(lambda *terms: sum(terms[1:], start=terms[0]), *parts)
        result = {name: total / jnp.maximum(count, 1).astype(total.dtype) for name, (total, count) in totals.items()}
        if cost.penalty is not None:
            result["cost"] = result["cost"] + jnp.asarray(cost.penalty(params)).astype(result["cost"].dtype)
        return result

    return evaluation
