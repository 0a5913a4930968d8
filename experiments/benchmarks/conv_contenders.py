"""One function per contender of ``conv``: the forward pass of a layer, alone or with both gradients for given ``dy``.

Each takes the task and returns a round of work, which computes the task ``task.repeats`` times and returns the MiB of
temporary memory that XLA's memory analysis of the compiled program reports (NaN where there is none). Each has the
arrays in its fastest order of axes; nothing is copied inside a round.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from experiments.benchmarks.compiled import compiled
from experiments.benchmarks.conv_task import Task
from experiments.benchmarks.harness import Factory, Work


def fnnet_by_hand(task: Task) -> Work:
    """fnnet's layer with its rule: ``fnnet.backprop.vjp``."""
    import fnnet

    layer = fnnet.Conv(task.filters, task.kernel, task.stride, task.padding, task.dilation, task.groups, use_bias=False)

    def both(x: Any, w: Any, dy: Any) -> Any:
        y, pullback = fnnet.backprop.vjp(layer, {"w": w}, x)
        return y, pullback(dy)

    return part_of(task, lambda x, w, dy: layer.apply({"w": w}, x), both)


def lax_autodiff(task: Task) -> Work:
    """``jax.lax.conv_general_dilated`` and its ``jax.vjp``."""
    import jax

    rank = len(task.image)
    axes = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC")}[rank]

    def convolve(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x,
            w,
            (task.stride,) * rank,
            [(task.padding, task.padding)] * rank,
            rhs_dilation=(task.dilation,) * rank,
            feature_group_count=task.groups,
            dimension_numbers=axes,
        )

    def both(x: Any, w: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(convolve, x, w)
        return y, pullback(dy)

    return part_of(task, lambda x, w, dy: convolve(x, w), both)


def part_of(task: Task, forward: Callable[..., Any], both: Callable[..., Any]) -> Work:
    return compiled(forward if task.part == "forward" else both, task.arrays(), task.repeats)


def pytorch(task: Task) -> Work:
    """PyTorch, channels first."""
    return pytorch_in(task, channels_last=False)


def pytorch_channels_last(task: Task) -> Work:
    """PyTorch, images and kernels in the memory format channels-last (for one spatial axis there is none)."""
    return pytorch_in(task, channels_last=True)


def pytorch_in(task: Task, *, channels_last: bool) -> Work:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(os.cpu_count() or 1)
    rank = len(task.image)
    memory_format = torch.channels_last if channels_last and rank == 2 else torch.contiguous_format
    x, w, dy = (torch.from_numpy(a).to(device) for a in task.arrays())
    x, dy = (a.movedim(-1, 1).contiguous(memory_format=memory_format) for a in (x, dy))
    w = w.movedim((-1, -2), (0, 1)).contiguous(memory_format=memory_format)
    convolve = torch.conv1d if rank == 1 else torch.conv2d
    options = (None, task.stride, task.padding, task.dilation, task.groups)
    if task.part == "both":
        x.requires_grad_()
        w.requires_grad_()

    def work() -> float:
        for _ in range(task.repeats):
            y = convolve(x, w, *options)
            if task.part == "both":
                torch.autograd.grad(y, (x, w), dy)
        if device == "cuda":
            torch.cuda.synchronize()
        return math.nan

    return work


CONTENDERS: dict[str, Factory] = {
    "fnnet": fnnet_by_hand,
    "lax": lax_autodiff,
    "pytorch": pytorch,
    "pytorch-channels-last": pytorch_channels_last,
}
