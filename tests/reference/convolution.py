"""The convolution and its transpose in loops over every example, output position, tap, channel and filter."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.reference.pair import Reference

Sizes = tuple[int, ...]


def meetings(
    image: Sizes, output: Sizes, w: np.ndarray, stride: Sizes, padding: Any, dilation: Sizes, groups: int
) -> Iterator[tuple[Sizes, Sizes, Sizes, int, int, int]]:
    """Every ``(p, i, a, channel of x, channel of w, filter)`` that meet: where ``i = p · stride + a · dilation − low``
    lies in the image, and channel and filter are of one group."""
    *kernel, channels, filters = w.shape
    for p in np.ndindex(*output):
        for a in np.ndindex(*kernel):
            i = tuple(p[s] * stride[s] + a[s] * dilation[s] - padding[s][0] for s in range(len(image)))
            if all(0 <= i[s] < image[s] for s in range(len(image))):
                for o in range(filters):
                    group = o // (filters // groups)
                    for c in range(channels):
                        yield p, i, a, group * channels + c, c, o


def output_of(image: Sizes, kernel: Sizes, stride: Sizes, padding: Any, dilation: Sizes) -> Sizes:
    """How many places the kernel fits, counted one by one."""
    counts = []
    for s in range(len(image)):
        places = range(-padding[s][0], image[s] + padding[s][1], stride[s])
        counts.append(sum(place + (kernel[s] - 1) * dilation[s] < image[s] + padding[s][1] for place in places))
    return tuple(counts)


def conv(params: dict[str, np.ndarray], x: np.ndarray, *, groups: int = 1, **sizes: Any) -> np.ndarray:
    w, image = params["w"], x.shape[1:-1]
    output = output_of(image, w.shape[:-2], **sizes)
    y = np.zeros((len(x), *output, w.shape[-1])) + params.get("b", 0)
    for n in range(len(x)):
        for p, i, a, channel, c, o in meetings(image, output, w, groups=groups, **sizes):
            y[(n, *p, o)] += x[(n, *i, channel)] * w[(*a, c, o)]
    return y


def conv_derivative(
    params: dict[str, np.ndarray], x: np.ndarray, dy: np.ndarray, *, groups: int = 1, **sizes: Any
) -> tuple[Any, np.ndarray]:
    w = params["w"]
    dw, dx = np.zeros_like(w), np.zeros_like(x)
    for n in range(len(x)):
        for p, i, a, channel, c, o in meetings(x.shape[1:-1], dy.shape[1:-1], w, groups=groups, **sizes):
            dw[(*a, c, o)] += x[(n, *i, channel)] * dy[(n, *p, o)]
            dx[(n, *i, channel)] += w[(*a, c, o)] * dy[(n, *p, o)]
    return with_bias(params, dw, dy), dx


def conv_transpose(
    params: dict[str, np.ndarray], x: np.ndarray, *, groups: int = 1, output_padding: Any = 0, **sizes: Any
) -> np.ndarray:
    """Every entry of x lays the kernel, times itself, onto y: the meetings of a convolution from y to x."""
    w, output = params["w"], x.shape[1:-1]
    extra = np.broadcast_to(output_padding, len(output))
    stride, padding, dilation = sizes["stride"], sizes["padding"], sizes["dilation"]
    image = tuple(
        (output[s] - 1) * stride[s] + (w.shape[s] - 1) * dilation[s] + 1 - sum(padding[s]) + int(extra[s])
        for s in range(len(output))
    )
    y = np.zeros((len(x), *image, w.shape[-1])) + params.get("b", 0)
    for n in range(len(x)):
        for p, i, a, channel, c, o in meetings(image, output, w, groups=groups, **sizes):
            y[(n, *i, o)] += x[(n, *p, channel)] * w[(*a, c, o)]
    return y


def conv_transpose_derivative(
    params: dict[str, np.ndarray],
    x: np.ndarray,
    dy: np.ndarray,
    *,
    groups: int = 1,
    output_padding: Any = 0,
    **sizes: Any,
) -> tuple[Any, np.ndarray]:
    w = params["w"]
    dw, dx = np.zeros_like(w), np.zeros_like(x)
    for n in range(len(x)):
        for p, i, a, channel, c, o in meetings(dy.shape[1:-1], x.shape[1:-1], w, groups=groups, **sizes):
            dw[(*a, c, o)] += x[(n, *p, channel)] * dy[(n, *i, o)]
            dx[(n, *p, channel)] += w[(*a, c, o)] * dy[(n, *i, o)]
    return with_bias(params, dw, dy), dx


def with_bias(params: dict[str, np.ndarray], dw: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    if "b" not in params:
        return {"w": dw}
    db = np.zeros(dy.shape[-1])
    for place in np.ndindex(*dy.shape[:-1]):
        db += dy[place]
    return {"w": dw, "b": db}


CONV, CONV_TRANSPOSE = Reference(conv, conv_derivative), Reference(conv_transpose, conv_transpose_derivative)
