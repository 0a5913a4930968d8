"""The sizes of a convolution along its spatial axes: stride, padding, dilation, and the shapes that follow from them.

The index letters of this package are ``n`` for one of ``N`` examples, ``c`` for one of ``C`` input channels, ``o`` for
one of ``O`` filters and ``g`` for one of ``G`` groups. ``i`` is one of ``L`` positions of the image, ``p`` one of ``P``
positions of the output and ``a`` one of ``A`` taps of the kernel; these three are tuples over the spatial axes.
Images are ``x (N, *L, C)``, kernels are ``w (*A, C/G, O)``, and outputs are ``y (N, *P, O)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.types import Shape, Shaped

Pairs: TypeAlias = tuple[tuple[int, int], ...]
Sizes: TypeAlias = int | Sequence[int]  # one number for every spatial axis, or one for each
Padding: TypeAlias = str | int | Sequence[int | tuple[int, int]]


@configuration
class Geometry:
    """The sizes of a convolution: tap ``a`` of output ``p`` reads position ``p · stride + a · dilation − low``.

    Every field except ``groups`` has one entry for each spatial axis. Those of ``padding`` are pairs ``(low, high)``,
    the numbers of zeros before and after the image.
    """

    image: Shape
    kernel: Shape
    stride: Shape
    padding: Pairs
    dilation: Shape
    groups: int = 1

    @property
    def rank(self) -> int:
        """Return the number of spatial axes."""
        return len(self.image)

    @property
    def span(self) -> Shape:
        """Return the number of positions that the dilated kernel covers, ``(A − 1) · dilation + 1``."""
        return tuple((a - 1) * d + 1 for a, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def output(self) -> Shape:
        """Return the shape of the output, ``P = ⌊(low + L + high − span) / stride⌋ + 1``."""
        sizes = zip(self.image, self.padding, self.span, self.stride, strict=True)
        return tuple((sum(pair) + length - span) // stride + 1 for length, pair, span, stride in sizes)

    @property
    def taps(self) -> int:
        """Return the number of taps of the kernel."""
        return math.prod(self.kernel)


def geometry_of(
    place: str,
    image: Shape,
    kernel: Shape,
    *,
    stride: Sizes = 1,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Geometry:
    """Return the geometry of a convolution of images of spatial shape ``image`` with kernels of shape ``kernel``.

    ``padding`` is ``"VALID"``, which is none; ``"SAME"``, which gives ``P = ⌈L / stride⌉`` and puts an odd zero at the
    high end; a number for all sides; or a sequence with a number or a pair ``(low, high)`` for each axis. A kernel that
    is larger than the padded image raises a ``ValueError``.
    """
    stride, dilation = per_axis(place, "stride", stride, len(image)), per_axis(place, "dilation", dilation, len(image))
    span = tuple((a - 1) * d + 1 for a, d in zip(kernel, dilation, strict=True))
    pairs = same_padding(image, span, stride) if padding == "SAME" else explicit_padding(place, padding, len(image))
    geometry = Geometry(image, kernel, stride, pairs, dilation, groups)
    padded = tuple(length + sum(pair) for length, pair in zip(image, pairs, strict=True))
    checks.require(
        all(length > 0 for length in image) and all(s <= length for s, length in zip(span, padded, strict=True)),
        f"{place}: the kernel {kernel}{f' with dilation {dilation} covers {span}, which' if span != kernel else ''} "
        f"is larger than the padded image {padded} (image {image}, padding {pairs}); the output would be empty: use a "
        f"smaller kernel or more padding",
    )
    return geometry


def transposed_geometry(
    place: str,
    output: Shape,
    kernel: Shape,
    *,
    stride: Sizes = 1,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    groups: int = 1,
    output_padding: int | Sequence[int] = 0,
) -> Geometry:
    """Return the geometry of the convolution whose output has the spatial shape ``output``.

    A transposed convolution of an input of this shape is its transpose. The image has ``L = P · stride`` for
    ``"SAME"``, and otherwise the smallest ``L`` that gives ``P``, plus ``output_padding``.
    """
    stride, dilation = (
        per_axis(place, "stride", stride, len(output)),
        per_axis(place, "dilation", dilation, len(output)),
    )
    extra = entries(output_padding, len(output))
    checks.require(
        len(extra) == len(stride) and all(is_natural(e) and e < s for e, s in zip(extra, stride, strict=True)),
        f"{place}: output_padding is {output_padding!r} but stride is {stride}; expected integers of at least 0 and "
        f"less than the stride, one for all axes or one for each axis",
    )
    span = tuple((a - 1) * d + 1 for a, d in zip(kernel, dilation, strict=True))
    if padding == "SAME":
        checks.require(not any(extra), f"{place}: output_padding is {output_padding!r}; with 'SAME' it must be 0")
        image = tuple(p * s for p, s in zip(output, stride, strict=True))
        pairs = same_padding(image, span, stride)
    else:
        pairs = explicit_padding(place, padding, len(output))
        sizes = zip(output, stride, span, pairs, extra, strict=True)
        image = tuple((p - 1) * s + covered - sum(pair) + e for p, s, covered, pair, e in sizes)
    checks.require(
        all(p > 0 for p in output) and all(length > 0 for length in image),
        f"{place}: an image of shape {output} would become an image of shape {image} with padding {pairs}; use less "
        f"padding",
    )
    return Geometry(image, kernel, stride, pairs, dilation, groups)


def set_sizes(layer: Any, *names: str) -> None:
    """Check the sizes and the padding of a layer, and turn lists into tuples, so that the layer is hashable.

    A size is None, a positive integer for all spatial axes, or a sequence with one for each axis.
    """
    place = type(layer).__name__
    for name in names:
        value = as_tuple(getattr(layer, name))
        object.__setattr__(layer, name, value)
        if name == "padding":
            if value != "SAME":
                explicit_padding(place, value)
        elif value is not None:
            per_axis(place, name, value)


def as_tuple(value: Any) -> Any:
    """Return a value with its lists turned into tuples and its integers of NumPy into integers of Python."""
    if isinstance(value, (list, tuple)):
        return tuple(map(as_tuple, value))
    return int(value) if isinstance(value, np.integer) else value


def per_axis(place: str, name: str, value: Any, rank: int | None = None) -> Shape:
    """Return ``value`` as a tuple of positive integers, with a single integer repeated ``rank`` times."""
    numbers = entries(value, rank)
    for number in numbers or (value,):
        checks.positive_integer(place, name, number)
    checks.require(
        rank is None or len(numbers) == rank,
        f"{place}: {name} is {value!r} with {len(numbers)} entries, but there are {rank} spatial axes; give one entry "
        f"for each axis, or a single integer for all axes",
    )
    return tuple(int(number) for number in numbers)


def entries(value: Any, rank: int | None) -> tuple[Any, ...]:
    """Return a sequence as a tuple, and any other value repeated ``rank`` times, or once if the rank is unknown."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * (1 if rank is None else rank)


def same_padding(image: Shape, span: Shape, stride: Shape) -> Pairs:
    """Return the padding that gives ``P = ⌈L / stride⌉``; an odd number of zeros has one more at the high end."""

    def pair(length: int, covered: int, step: int) -> tuple[int, int]:
        total = max((-(-length // step) - 1) * step + covered - length, 0)
        return total // 2, total - total // 2

    return tuple(map(pair, image, span, stride))


def explicit_padding(place: str, padding: Any, rank: int | None = None) -> Pairs:
    """Return ``padding`` as one pair for each axis; if the rank is unknown, a single number becomes one pair."""
    if padding == "VALID":
        return ((0, 0),) * (1 if rank is None else rank)
    pairs = tuple(entries(entry, 2) for entry in entries(padding, rank))
    checks.require(
        (bool(pairs) if rank is None else len(pairs) == rank)
        and all(len(pair) == 2 and all(is_natural(number) for number in pair) for pair in pairs),
        f"{place}: padding is {padding!r}; expected 'VALID', 'SAME', an integer of at least 0, or a sequence with "
        f"an integer or a pair (low, high) for each of the {'' if rank is None else f'{rank} '}spatial axes",
    )
    return tuple((int(low), int(high)) for low, high in pairs)


def is_natural(value: Any) -> bool:
    """Return whether ``value`` is an integer of at least 0."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 0)


def check_operands(place: str, x: Shaped, w: Shaped, groups: int) -> None:
    """Raise unless ``x`` is ``(N, *L, C)`` and ``w`` is ``(*A, C/G, O)``, where ``G`` divides ``C`` and ``O``."""
    checks.floating(place, "x", x)
    checks.same_dtype(place, "x", x, "w", w)
    checks.positive_integer(place, "groups", groups)
    checks.require(
        len(x.shape) == len(w.shape) >= 3,
        f"{place}: x has shape {x.shape} but w has shape {w.shape}; expected x (N, *image, C) and w (*kernel, "
        f"C / groups, filters) with the same number of spatial axes, and at least one",
    )
    check_channels(place, x.shape[-1], groups)
    checks.require(
        w.shape[-1] > 0 and w.shape[-1] % groups == 0,
        f"{place}: groups is {groups} but w has {w.shape[-1]} filters; expected a positive multiple of groups",
    )
    checks.require(
        x.shape[-1] == groups * w.shape[-2],
        f"{place}: x has shape {x.shape} but w has shape {w.shape}{f' and groups is {groups}' if groups > 1 else ''}; "
        f"expected {groups * w.shape[-2]} channels on the last axis of x",
    )


def check_channels(place: str, channels: int, groups: int) -> None:
    """Raise unless the number of channels is a positive multiple of the number of groups."""
    checks.require(
        channels > 0 and channels % groups == 0,
        f"{place}: groups is {groups} but x has {channels} channels; expected a positive multiple of groups",
    )
