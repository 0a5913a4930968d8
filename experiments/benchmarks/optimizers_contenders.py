"""The contenders of ``optimizers``, one function each. A library is imported only in its contender's process."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.benchmarks.harness import Factory, Work

# Number of arrays of the parameters' size that an update reads or writes: gradients once, parameters and moments twice.
ARRAYS_MOVED = {"sgd": 3, "momentum": 5, "adam": 7, "adamw": 7}
RATE, DECAY = 1e-3, 1e-2
MEGABYTE = 1e6


@dataclass(frozen=True)
class Task:
    """An optimizer and the sizes of the tree that it updates."""

    optimizer: str
    parameters: int
    leaves: int
    updates: int  # in a round

    def arrays(self, value: float) -> list[Any]:
        return [np.full(self.parameters // self.leaves, value, np.float32) for _ in range(self.leaves)]


def of_fnnet(task: Task) -> Work:
    from fnnet import apply_updates, optimizers

    makers = {
        "sgd": lambda: optimizers.sgd(RATE),
        "momentum": lambda: optimizers.momentum(RATE, averaged=False),
        "adam": lambda: optimizers.adam(RATE),
        "adamw": lambda: optimizers.adamw(RATE, weight_decay=DECAY, where=lambda name: True),
    }
    return compiled_updates(task, makers[task.optimizer](), apply_updates)


def of_optax(task: Task) -> Work:
    import optax

    makers = {
        "sgd": lambda: optax.sgd(RATE),
        "momentum": lambda: optax.sgd(RATE, momentum=0.9),
        "adam": lambda: optax.adam(RATE),
        "adamw": lambda: optax.adamw(RATE, weight_decay=DECAY),
    }
    return compiled_updates(task, makers[task.optimizer](), optax.apply_updates)


def compiled_updates(task: Task, optimizer: Any, apply_updates: Callable[[Any, Any], Any]) -> Work:
    import jax
    import jax.numpy as jnp

    params, grads = ([jnp.asarray(a) for a in task.arrays(value)] for value in (1.0, 0.1))

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(grads, state, params)
        return apply_updates(params, updates), state

    state = optimizer.init(params)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads).compile()
    accessed = dict(compiled.cost_analysis() or {}).get("bytes accessed", float("nan")) / MEGABYTE

    def work() -> float:
        nonlocal params, state
        for _ in range(task.updates):
            params, state = compiled(params, state, grads)
        jax.block_until_ready((params, state))
        return accessed

    return work


def of_torch(task: Task, **implementation: Any) -> Work:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    params, grads = ([torch.from_numpy(a) for a in task.arrays(value)] for value in (1.0, 0.1))
    for p, g in zip(params, grads, strict=True):
        p.requires_grad_()
        p.grad = g
    makers: dict[str, Callable[[], Any]] = {
        "sgd": lambda: torch.optim.SGD(params, RATE, **implementation),
        "momentum": lambda: torch.optim.SGD(params, RATE, momentum=0.9, **implementation),
        "adam": lambda: torch.optim.Adam(params, RATE, **implementation),
        "adamw": lambda: torch.optim.AdamW(params, RATE, weight_decay=DECAY, **implementation),
    }
    optimizer = makers[task.optimizer]()

    def work() -> float:
        for _ in range(task.updates):
            optimizer.step()
        return float("nan")

    return work


def of_torch_foreach(task: Task) -> Work:
    return of_torch(task, foreach=True)


def of_torch_fused(task: Task) -> Work:
    return of_torch(task, fused=True)


def floor(task: Task) -> Work:
    """Copy half as many arrays as an update moves, since a copy reads and writes."""
    threads = os.cpu_count() or 1
    source, target = (np.full(task.parameters, value, np.float32) for value in (1.0, 0.0))
    bounds = np.linspace(0, task.parameters, threads + 1).astype(int)
    moved = ARRAYS_MOVED[task.optimizer]
    pool = ThreadPoolExecutor(threads)

    def copy_slice(thread: int) -> None:
        start, stop = bounds[thread], bounds[thread + 1]
        for _ in range(task.updates):
            for _ in range(moved // 2):
                np.copyto(target[start:stop], source[start:stop])
            if moved % 2:
                middle = (start + stop) // 2
                np.copyto(target[start:middle], source[start:middle])

    def work() -> float:
        list(pool.map(copy_slice, range(threads)))
        return moved * source.nbytes / MEGABYTE

    return work


CONTENDERS: dict[str, Factory] = {
    "fnnet": of_fnnet,
    "optax": of_optax,
    "torch-foreach": of_torch_foreach,
    "torch-fused": of_torch_fused,
    "floor": floor,
}
