"""The contenders of ``cnn``, each of which trains the network as the documentation of its library does.

Like the contenders of ``mlp``, the other libraries have three advantages: the data are in memory, batches are chosen by
indices, and the losses are read only at the end of an epoch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.cnn_task import Task
from experiments.benchmarks.harness import Factory, Work
from experiments.benchmarks.mlp_contenders import equinox_steps
from experiments.benchmarks.mlp_task import CLASSES, batches, mean_loss


def fnnet_manual(task: Task) -> Work:
    """Train with fnnet and its hand-written rules, with a whole epoch as one program."""
    import fnnet

    return fnnet_epoch(task, fnnet.backprop.value_and_grad)


def fnnet_autodiff(task: Task) -> Work:
    """Train with fnnet and ``jax.value_and_grad`` through its convolution and pooling."""
    import jax

    return fnnet_epoch(task, jax.value_and_grad)


def fnnet_epoch(task: Task, value_and_grad: Any) -> Work:
    """Return the training of an epoch with fnnet as a compiled program."""
    import jax
    import jax.numpy as jnp

    import fnnet

    x, y = map(jnp.asarray, task.data())
    model = fnnet.sequential(
        *(fnnet.Conv(20, 5), fnnet.relu, fnnet.MaxPool(2), fnnet.Conv(40, 5), fnnet.relu, fnnet.MaxPool(2)),
        *(fnnet.Flatten(), fnnet.Dense(100), fnnet.relu, fnnet.Dense(CLASSES)),
    )
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    optimizer = fnnet.optimizers.adam(task.learning_rate)
    train = fnnet.train_epoch(cost, optimizer, batch_size=task.batch_size, value_and_grad=value_and_grad)
    compiled = jax.jit(train, donate_argnums=(0,))
    init_key, key = jax.random.split(jax.random.key(task.seed))
    state = fnnet.TrainState.create(model.init(init_key, x), optimizer, key)

    def epoch() -> float:
        nonlocal state
        state, metrics = jax.block_until_ready(compiled(state, (x, y)))
        return float(metrics["cost"])

    return epoch


def flax_state_and_step(task: Task) -> tuple[Any, Callable[[Any, Any, Any], Any]]:
    """Return the initial state and the training step with flax.linen and optax."""
    import jax
    import optax
    from flax import linen as nn
    from flax.training.train_state import TrainState

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.max_pool(nn.relu(nn.Conv(20, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
            x = nn.max_pool(nn.relu(nn.Conv(40, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
            return nn.Dense(CLASSES)(nn.relu(nn.Dense(100)(x.reshape(len(x), -1))))

    model = Network()
    params = model.init(jax.random.key(task.seed), np.zeros((1, 28, 28, 1), np.float32))["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(task.learning_rate))

    def train_step(state: Any, x: Any, y: Any) -> Any:
        def loss_fn(params: Any) -> Any:
            logits = state.apply_fn({"params": params}, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=grads), loss

    return state, train_step


def flax_steps(task: Task) -> Work:
    """Train with flax.linen and optax, where Python calls a compiled step for each batch."""
    import jax

    x, y = task.data()
    state, step = flax_state_and_step(task)
    train_step = jax.jit(step)
    generator = np.random.default_rng(task.seed)

    def epoch() -> float:
        nonlocal state
        losses = []
        for batch in batches(x, y, task.batch_size, generator):
            state, loss = train_step(state, *batch)
            losses.append(loss)
        jax.block_until_ready(state)
        return mean_loss(jax.device_get(losses), task)

    return epoch


def flax_scan(task: Task) -> Work:
    """Train with flax.linen and optax, where the step is scanned over the epoch in one program."""
    import jax
    import jax.numpy as jnp

    x, y = map(jnp.asarray, task.data())
    state, step = flax_state_and_step(task)
    steps = task.examples // task.batch_size

    @jax.jit
    def scanned(state: Any, key: Any) -> Any:
        order = jax.random.permutation(key, task.examples)[: steps * task.batch_size].reshape(steps, -1)
        state, losses = jax.lax.scan(lambda state, rows: step(state, x[rows], y[rows]), state, order)
        return state, losses.mean()

    key = jax.random.key(task.seed)

    def epoch() -> float:
        nonlocal state, key
        key, order_key = jax.random.split(key)
        state, loss = jax.block_until_ready(scanned(state, order_key))
        return float(loss)

    return epoch


def equinox(task: Task) -> Work:
    """Train with equinox and optax, where Python calls a step under ``eqx.filter_jit`` for each batch."""
    import equinox as eqx
    import jax

    x, y = task.data()
    x = np.moveaxis(x, -1, 1)
    keys = jax.random.split(jax.random.key(task.seed), 4)
    nn = eqx.nn
    model = nn.Sequential(
        [
            *(nn.Conv2d(1, 20, 5, key=keys[0]), nn.Lambda(jax.nn.relu), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(20, 40, 5, key=keys[1]), nn.Lambda(jax.nn.relu), nn.MaxPool2d(2, 2)),
            *(nn.Lambda(lambda a: a.reshape(-1)), nn.Linear(640, 100, key=keys[2]), nn.Lambda(jax.nn.relu)),
            nn.Linear(100, CLASSES, key=keys[3]),
        ]
    )
    return equinox_steps(model, x, y, task)


def pytorch(task: Task, channels_last: bool) -> Work:
    """Train with eager PyTorch, with the network and the data on an accelerator if there is one."""
    import torch
    from torch import nn

    torch.manual_seed(task.seed)
    accelerated = torch.accelerator.is_available()
    device = torch.accelerator.current_accelerator() if accelerated else torch.device("cpu")
    if not accelerated:
        torch.set_num_threads(os.cpu_count() or 1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images, labels = task.data()
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1))).to(device, memory_format=layout)
    y = torch.from_numpy(labels).long().to(device)
    model: Any = nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 40, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(640, 100), nn.ReLU(), nn.Linear(100, CLASSES)),
    )
    model = model.to(device=device, memory_format=layout)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=task.learning_rate)

    def epoch() -> float:
        losses = []
        for rows in torch.randperm(len(x), device=device).split(task.batch_size):
            loss = loss_fn(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        return mean_loss(torch.stack(losses).tolist(), task)

    return epoch


def pytorch_contiguous(task: Task) -> Work:
    """Train with PyTorch in its default memory format, channels first."""
    return pytorch(task, channels_last=False)


def pytorch_channels_last(task: Task) -> Work:
    """Train with PyTorch in the memory format channels last."""
    return pytorch(task, channels_last=True)


CONTENDERS: dict[str, Factory] = {
    "fnnet-manual": fnnet_manual,
    "fnnet-autodiff": fnnet_autodiff,
    "flax-steps": flax_steps,
    "flax-scan": flax_scan,
    "equinox": equinox,
    "pytorch": pytorch_contiguous,
    "pytorch-channels-last": pytorch_channels_last,
}
