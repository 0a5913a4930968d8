"""Cost and metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import Cost, split_batch
from fnnet.types import Array, Batch, Loss, Params

Evaluation = Callable[[Params, Batch], dict[str, Array]]


def evaluate(cost: Cost, metrics: Mapping[str, Loss] | None = None, *, batch_size: int = 1024) -> Evaluation:
    """``evaluation(params, (x, y)) -> {"cost": ..., and one number per metric}``, a pure function.

    Means over all examples, exact for any number of them: at most ``batch_size`` at a time go through the
    deterministic network (``train=False``), the last batch as small as it comes. ``metrics`` are functions
    ``(prediction, target) -> (N,)``, such as ``fnnet.accuracy``; the cost includes the penalty.
    """
    checks.positive_integer("evaluate", "batch_size", batch_size)
    measures = {"cost": cost.loss, **(metrics or {})}

    def sums(params: Params, x: Array, y: Array) -> dict[str, Array]:
        prediction = cost.model.apply(params, x)
        return {name: per_example(name, measure(prediction, y), len(x)) for name, measure in measures.items()}

    def evaluation(params: Params, data: Batch) -> dict[str, Array]:
        x, y = split_batch("evaluate", data)
        full, left = divmod(len(x), batch_size)
        whole = [a[: full * batch_size].reshape(full, batch_size, *a.shape[1:]) for a in (x, y)]
        totals = []
        if full:
            batches = jax.lax.map(lambda batch: sums(params, *batch), tuple(whole))
            totals.append(jax.tree.map(lambda a: a.sum(0), batches))
        if left:
            totals.append(sums(params, x[full * batch_size :], y[full * batch_size :]))
        result = jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]) / len(x), *totals)
        if cost.penalty is not None:
            result["cost"] = result["cost"] + cost.penalty(params).astype(result["cost"].dtype)
        return result

    return evaluation


def per_example(name: str, values: Array, examples: int) -> Array:
    """The sum over the examples of a measure's mean over all that it says of an example."""
    checks.require(
        values.shape[:1] == (examples,),
        f"evaluate: {name} gave shape {values.shape} for {examples} examples; expected one number per example",
    )
    return jnp.sum(values) * (examples / values.size)
