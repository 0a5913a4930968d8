"""How a convolution is computed on CPU: over patches or by XLA, by its shapes.

Rules of thumb measured on 2 cores (AMD EPYC with AVX-512, 2 × 1 MiB of L2, 32 MiB of L3; jax 0.10, float32), as
milliseconds of XLA / of patches. Patches are chosen where they are clearly quicker: XLA's time is the one to be beaten.
Letters: ``N`` images ``L``, ``C → O`` channels, kernel.
"""

from __future__ import annotations

import math
from typing import Literal

from fnnet.convolution.geometry import Geometry
from fnnet.convolution.patches import Blocks, is_pointwise
from fnnet.types import Shape

MANY_TAPS = 121  # a program has a piece for each: compiling it would take long

Choice = Literal["patches", "xla"]


def on_cpu(name: str, first: Shape, second: Shape, geometry: Geometry) -> Choice:
    """The choice for the operation ``name`` of ``operators`` with operands of these shapes."""
    if geometry.taps > MANY_TAPS:
        return "xla"
    channels = second[-2] * geometry.groups if name == "input_gradient" else first[-1]
    rule = {"convolution": of_convolution, "input_gradient": of_input_gradient, "kernel_gradient": of_kernel_gradient}
    if is_pointwise(geometry):
        return "patches"  # nothing is copied: 64 16² 64→128 1²: forward 1.9 / 1.7, dx 1.8 / 1.7, dw 11.7 / 2.8
    return "patches" if rule[name](geometry, first[0], channels, second[-1]) else "xla"


def of_convolution(geometry: Geometry, examples: int, channels: int, filters: int) -> bool:
    """XLA's cost rises by jumps with the numbers in all patches together, and the sooner the fewer filters there are.

    Many:     128 32² 32→64 3²: 85 / 35;  64 16² 64→128 3²: 12 / 6.5;  128 32² 3→32 3²: 8.6 / 5.0;
              8 112² 3→32 7²: 7.1 / 3.6;  128 12² 20→40 5²: 3.7 / 1.7;  32 32² in depth 3²: 22 / 6.6;
              64 12² 20→40 5²: 1.6 / 1.6 on a busy machine; on an idle one patches have both cores, XLA has one.
    Not many: 64 32² 32→64 3², stride 2: 3.4 / 5.3;  64 28² 1→20 5²: 0.57 / 1.8;  1 32² 32→64 3²: 0.22 / 0.41.
    Bands:    8 56² 64→64 3²: 8.8 / 15.  Groups: 32 16² 64→64 3² in 4 groups: 4.7 / 6.4.
    """
    numbers = numbers_of_patches(geometry, examples, channels)
    if in_bands(geometry, examples, channels, filters):
        return numbers > 15e6
    return numbers > (2e6 if filters < 64 else 6e6) and not has_wide_groups(geometry, channels)


def of_input_gradient(geometry: Geometry, examples: int, channels: int, filters: int) -> bool:
    """Patches, but for very few examples, for kernels that fill the cache by themselves, and as above.

    Patches: 128 12² 20→40 5²: 7.9 / 3.0;  128 32² 32→64 3²: 34 / 26;  64 28² 1→20 5²: 2.9 / 0.90.
    XLA:     1 32² 32→64 3²: 0.22 / 0.26;  2 32²: 0.32 / 0.40;  8 7² 512→512 3²: 16 / 28;  8 56² 64→64 3²: 9.0 / 11;
             64 256 32→64 5: 0.94 / 1.24;  64 14² 16→32 3²: 0.74 / 1.1.
    """
    if examples <= 2 or has_wide_groups(geometry, channels):
        return False
    if channels % 16 == 0 and numbers_of_patches(geometry, examples, channels) < 3e6:
        return False
    if in_bands(geometry, examples, channels, filters):
        return numbers_of_patches(geometry, examples, channels) > 15e6
    return geometry.taps * channels * filters // geometry.groups < 1e6


def of_kernel_gradient(geometry: Geometry, examples: int, channels: int, filters: int) -> bool:
    """XLA brings channels and examples into each other's place, which costs little for few numbers.

    Patches: 128 32² 32→64 3²: 153 / 38;  64 16² 64→128 3²: 28 / 15;  128 12² 20→40 5²: 4.5 / 3.7;
             64 32² 32→64 3², stride 2: 9.5 / 6.4;  64 16² 64→128 1², stride 2: 2.3 / 0.7;  in 4 groups: 243 / 6.1.
    XLA:     64 28² 1→20 5²: 1.2 / 1.7;  64 256 32→64 5: 2.6 / 3.2;  8 7² 512→512 3²: 12 / 69;
             8 112² 3→32 7², stride 2: 2.4 / 4.4;  32 32² in depth 3²: 6.9 / 12.
    """
    each = channels // geometry.groups
    if each == 1 or (each <= 4 and geometry.taps > 9):
        return False
    many = 3e6 if geometry.rank == 1 else 2e6
    return geometry.groups > 1 or geometry.taps == 1 or numbers_of_patches(geometry, examples, channels) > many


def numbers_of_patches(geometry: Geometry, examples: int, channels: int) -> int:
    return examples * math.prod(geometry.output) * geometry.taps * channels


def in_bands(geometry: Geometry, examples: int, channels: int, filters: int) -> bool:
    """Whether the patches of one image alone are too many for the cache."""
    return Blocks.of(geometry, examples, channels, filters, itemsize=4).bands > 1


def has_wide_groups(geometry: Geometry, channels: int) -> bool:
    return geometry.groups > 1 and channels // geometry.groups >= 8
