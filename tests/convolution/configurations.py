"""Random small convolutions: their sizes, strides, padding, dilation and groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.convolution.geometry import Geometry, geometry_of


@dataclass(frozen=True)
class Configuration:
    examples: int
    channels: int
    filters: int
    geometry: Geometry

    def operands(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return normally distributed ``x``, ``w`` and ``dy``."""
        generator, g = np.random.default_rng(self.channels), self.geometry
        x = (self.examples, *g.image, self.channels)
        w = (*g.kernel, self.channels // g.groups, self.filters)
        dy = (self.examples, *g.output, self.filters)
        return tuple(jnp.asarray(generator.standard_normal(shape)) for shape in (x, w, dy))

    @property
    def sizes(self) -> dict[str, Any]:
        g = self.geometry
        return {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}


def lax_convolution(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    spatial = "DHW"[3 - geometry.rank :]
    return jax.lax.conv_general_dilated(
        x,
        w,
        geometry.stride,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
    )


def random_configurations(count: int, seed: int = 0) -> Iterator[Configuration]:
    """Yield random configurations with one and two axes.

    Every fifth has a kernel as large as the padded image, every seventh a kernel of 1 × 1, every third has groups,
    every ninth is depthwise; one example and one channel are frequent.
    """
    generator = np.random.default_rng(seed)

    def draw(low: int, high: int, size: int) -> tuple[int, ...]:
        return tuple(int(n) for n in generator.integers(low, high + 1, size))

    for number in range(count):
        rank = 1 + number % 2
        kernel = (1,) * rank if number % 7 == 0 else draw(1, 3, rank)
        stride, dilation = draw(1, 3, rank), draw(1, 2, rank)
        padding = tuple(draw(0, 2, 2) for _ in range(rank)) if number % 4 else ((0, 0),) * rank
        spans = [(a - 1) * d + 1 for a, d in zip(kernel, dilation, strict=True)]
        room = (0,) * rank if number % 5 == 0 else draw(0, 4, rank)
        image = tuple(max(s + r - sum(p), 1) for s, r, p in zip(spans, room, padding, strict=True))
        groups, each, filters = (1, 1, 1) if number % 3 else draw(2, 3, 3)
        (examples,) = draw(1, 4, 1)
        each, filters = (1, 1) if number % 9 == 0 else draw(1, 3, 2)
        geometry = geometry_of(
            "random", image, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        yield Configuration(examples, groups * each, groups * filters, geometry)
