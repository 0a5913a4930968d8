"""Cost and metrics over a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.cost import Cost
from fnnet.data.chunks import Chunk, batches_per_chunk
from fnnet.data.prefetch import Prefetched
from fnnet.data.stream import Stream
from fnnet.training.evaluate import measures_of
from fnnet.training.metrics import Metric
from fnnet.training.streamed import check_padding, scan_first
from fnnet.types import Array, Loss, Params


def evaluate_stream(
    cost: Cost, metrics: Mapping[str, Loss | Metric] | None = None
) -> Callable[[Params, Stream], dict[str, Array]]:
    """``evaluation(params, stream) -> {"cost": ..., and one entry per metric}``: ``evaluate`` for a ``Stream``.

    A loop on the host over one compiled program; exact over a last batch of fewer examples. The order of the examples
    does not matter.
    """
    measures = measures_of("evaluate_stream", cost, metrics)

    def of_chunk(params: Params, so_far: dict[str, Any], chunk: Chunk) -> dict[str, Any]:
        def on_batch(so_far: dict[str, Any], batch: tuple[Array, Array, Array]) -> tuple[dict[str, Any], None]:
            x, y, examples = batch
            real = (jnp.arange(len(x)) < examples).astype(jnp.float32)
            return measures.merge(so_far, measures.statistics(params, x, y, real)), None

        return scan_first(chunk.updates, on_batch, so_far, (chunk.x, chunk.y, chunk.sizes))[0]

    def nothing(params: Params, chunk: Chunk) -> dict[str, Any]:
        weights = jax.ShapeDtypeStruct(chunk.x.shape[1:2], jnp.float32)
        shapes = jax.eval_shape(measures.statistics, params, chunk.x[0], chunk.y[0], weights)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    # One program for the first chunk and the others: what there is before the first is given by the host.
    compiled = jax.jit(of_chunk)

    def evaluation(params: Params, stream: Stream) -> dict[str, Array]:
        check_padding(stream, cost.model)
        size = batches_per_chunk(stream.first_batch(jax.random.key(0)), stream.chunk_bytes, stream.steps)
        statistics = None
        made = (jax.device_put(chunk) for chunk in stream.chunks(jax.random.key(0), 0, size))
        with Prefetched(made, stream.prefetch) as prefetched:
            for chunk in prefetched:
                statistics = nothing(params, chunk) if statistics is None else statistics
                before, statistics = statistics, compiled(params, statistics, chunk)
                jax.block_until_ready(before)  # at most two chunks wait for the device, however fast they are made
        return measures.result(params, statistics or {})

    return evaluation
