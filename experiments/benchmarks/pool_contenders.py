"""The contenders of ``pool``, with one function for each.

Each function takes the task and returns a function that runs one round: it computes the maxima and, for a given ``dy``,
the gradient with respect to the image, ``repeats`` times. A round returns the mean of ``|dx|``, which must be the same
for all contenders. Each function imports its library itself, so that it is loaded only in its own process. The
contenders on JAX are compiled by ``jax.jit``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experiments.benchmarks.harness import Factory, Work
from experiments.benchmarks.pool_task import Task


def fnnet_manual(task: Task) -> Work:
    """Pool with fnnet and its hand-written rule."""
    import fnnet

    layer = fnnet.MaxPool(task.window, task.stride)
    return on_jax(task, lambda x, dy: of_pullback(dy, *fnnet.backprop.vjp(layer, {}, x)))


def fnnet_autodiff(task: Task) -> Work:
    """Pool with the layer of fnnet under ``jax.vjp``."""
    import jax

    import fnnet

    layer = fnnet.MaxPool(task.window, task.stride)
    return on_jax(task, lambda x, dy: of_pullback(dy, *jax.vjp(lambda x: layer.apply({}, x), x)))


def xla(task: Task) -> Work:
    """Pool with ``jax.vjp`` of ``jax.lax.reduce_window``, XLA's own pooling."""
    import jax
    from jax import lax

    window, stride = (1, task.window, task.window, 1), (1, task.stride, task.stride, 1)

    def pool(x: Any) -> Any:
        return lax.reduce_window(x, -float("inf"), lax.max, window, stride, "VALID")

    return on_jax(task, lambda x, dy: of_pullback(dy, *jax.vjp(pool, x)))


def flax(task: Task) -> Work:
    """Pool with ``jax.vjp`` of ``flax.linen.max_pool``."""
    import jax
    from flax import linen as nn

    window, stride = (task.window, task.window), (task.stride, task.stride)
    return on_jax(task, lambda x, dy: of_pullback(dy, *jax.vjp(lambda x: nn.max_pool(x, window, stride), x)))


def pytorch(task: Task) -> Work:
    """Pool with ``torch.nn.functional.max_pool2d`` and the default memory format of PyTorch, channels first."""
    return on_torch(task, channels_last=False)


def pytorch_channels_last(task: Task) -> Work:
    """Pool with PyTorch and the memory format channels last, which the contenders on JAX have."""
    return on_torch(task, channels_last=True)


def of_pullback(dy: Any, y: Any, pullback: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return ``(y, dx)``, where ``dx`` is the last or only value that the pullback returns."""
    return y, pullback(dy)[-1]


def on_jax(task: Task, both: Callable[[Any, Any], tuple[Any, Any]]) -> Work:
    """Return the round of a function ``(x, dy) -> (y, dx)`` on JAX."""
    import jax
    import jax.numpy as jnp

    x, dy = map(jnp.asarray, task.data())
    run = jax.jit(both)

    def work() -> float:
        for _ in range(task.repeats):
            _, dx = jax.block_until_ready(run(x, dy))
        return float(jnp.abs(dx).mean())

    return work


def on_torch(task: Task, channels_last: bool) -> Work:
    """Return the round of PyTorch, on an accelerator if there is one."""
    import torch
    from torch.nn.functional import max_pool2d

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    order = torch.channels_last if channels_last else torch.contiguous_format
    x, dy = (torch.from_numpy(a).permute(0, 3, 1, 2).to(device).contiguous(memory_format=order) for a in task.data())
    x.requires_grad_()

    def work() -> float:
        for _ in range(task.repeats):
            (dx,) = torch.autograd.grad(max_pool2d(x, task.window, task.stride), x, dy)
            if device is not None and device.type != "cpu":
                torch.accelerator.synchronize()
        return float(dx.abs().mean())

    return work


CONTENDERS: dict[str, Factory] = {
    "fnnet-manual": fnnet_manual,
    "fnnet-autodiff": fnnet_autodiff,
    "xla": xla,
    "flax": flax,
    "pytorch": pytorch,
    "pytorch-channels-last": pytorch_channels_last,
}
