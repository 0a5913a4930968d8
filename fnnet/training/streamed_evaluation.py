"""Cost and metrics over a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.cost import Cost
from fnnet.data.chunks import Chunk
from fnnet.data.prefetch import Prefetched
from fnnet.data.stream import Stream
from fnnet.training.evaluate import measures_of
from fnnet.training.mesh import OnMesh
from fnnet.training.metrics import Metric
from fnnet.training.placing import DEFAULT_DEVICE, Placing
from fnnet.training.processes import heard
from fnnet.training.streamed import check_padding, chunk_size, empty_chunk, real_ones, scan_first
from fnnet.types import Array, Loss, Params


def evaluate_stream(
    cost: Cost, metrics: Mapping[str, Loss | Metric] | None = None, *, mesh: jax.sharding.Mesh | None = None
) -> Callable[[Params, Stream], dict[str, Array]]:
    """``evaluation(params, stream) -> {"cost": ..., and one entry per metric}``: ``evaluate`` for a ``Stream``.

    A loop on the host over one compiled program; exact over a last batch of fewer examples. The order of the examples
    does not matter. ``mesh`` spreads it over devices as ``fit`` does, each process with a stream of its part.
    """
    placing = DEFAULT_DEVICE if mesh is None else OnMesh.checked(mesh, "evaluate_stream")
    return streamed_evaluation("evaluate_stream", cost, metrics, placing)


def streamed_evaluation(
    place: str, cost: Cost, metrics: Mapping[str, Loss | Metric] | None, placing: Placing
) -> Callable[[Params, Stream], dict[str, Array]]:
    """``evaluate_stream`` on the devices of a placing; ``place`` is for the messages."""
    measures = measures_of("evaluate_stream", cost, metrics)

    def of_chunk(
        params: Params, so_far: dict[str, Any], chunk: Chunk, told: Array | None = None
    ) -> tuple[dict[str, Any], Array | None]:
        def on_batch(so_far: dict[str, Any], batch: tuple[Array, Array, Array]) -> tuple[dict[str, Any], None]:
            x, y, sizes = batch
            return measures.merge(so_far, measures.statistics(params, x, y, real_ones(sizes, len(x)))), None

        return scan_first(chunk.updates.min(), on_batch, so_far, (chunk.x, chunk.y, chunk.sizes))[0], told

    def nothing(params: Params, chunk: Chunk) -> dict[str, Any]:
        weights = jax.ShapeDtypeStruct(chunk.x.shape[1:2], jnp.float32)
        shapes = jax.eval_shape(measures.statistics, params, chunk.x[0], chunk.y[0], weights)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    # One program for the first chunk and the others: what there is before the first is given by the host.
    compiled = jax.jit(of_chunk, out_shardings=placing.results)

    def evaluation(params: Params, stream: Stream) -> dict[str, Array]:
        params = placing.params(params)
        batch = placing.first_batch(place, stream, jax.random.key(0), lambda batch: check_padding(stream, cost.model))
        size = chunk_size(batch, stream, placing, stream.steps)
        empty = empty_chunk(batch, size, stream.batch_size)
        statistics, done = placing.everywhere(nothing(params, empty)), 0
        with Prefetched(placing.fed(stream.chunks(jax.random.key(0), 0, size), empty), stream.prefetch) as made:
            for chunk in made:
                before, (statistics, told) = statistics, compiled(params, statistics, *chunk.arguments)
                if told is None:
                    jax.block_until_ready(before)  # at most two chunks wait for the device, however fast they are made
                else:
                    done += heard(place, told, chunk.fault, done).updates
        return measures.result(params, statistics)

    return evaluation
