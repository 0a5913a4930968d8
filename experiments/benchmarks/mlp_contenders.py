"""The contenders of ``mlp``, one function each, written as the documentation of each library trains such a network.

A function takes the task and returns an epoch, which trains on every example once in a new random order and returns the
mean loss. Libraries are imported inside the functions, so that only a contender's own process pays for them.

The comparison favors the peers: the data are arrays in memory, a batch is taken by its indices without a data loader,
and losses are read at the end of the epoch, so that no step waits. Initial weights and the precision of float32
products are each library's defaults. A peer on JAX could scan its step over an epoch, as fnnet does; its documentation
calls the step from Python.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from experiments.benchmarks.harness import Factory, Work
from experiments.benchmarks.mlp_task import CLASSES, Task, Training, batches, mean_loss


def fnnet_manual(task: Task) -> Work:
    """Train fnnet with hand-written backpropagation; the whole epoch is one program."""
    import fnnet

    return fnnet_epoch(task, fnnet.backprop.value_and_grad)


def fnnet_autodiff(task: Task) -> Work:
    """Train fnnet with ``jax.value_and_grad``; the whole epoch is one program."""
    import jax

    return fnnet_epoch(task, jax.value_and_grad)


def fnnet_epoch(task: Task, value_and_grad: Any) -> Work:
    import jax
    import jax.numpy as jnp

    import fnnet

    x, y = map(jnp.asarray, task.data())
    hidden = [layer for features in task.hidden for layer in (fnnet.Dense(features), fnnet.relu)]
    model = fnnet.sequential(*hidden, fnnet.Dense(CLASSES))
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


def flax_linen(task: Task) -> Work:
    """Train flax.linen and optax with a jitted step on a ``TrainState``, called for each batch."""
    import jax
    import optax
    from flax import linen as nn
    from flax.training.train_state import TrainState

    x, y = task.data()
    hidden = [layer for features in task.hidden for layer in (nn.Dense(features), nn.relu)]
    model = nn.Sequential([*hidden, nn.Dense(CLASSES)])
    params = model.init(jax.random.key(task.seed), x[:1])["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(task.learning_rate))
    generator = np.random.default_rng(task.seed)

    @jax.jit
    def train_step(state: Any, x: Any, y: Any) -> Any:
        def loss_fn(params: Any) -> Any:
            logits = state.apply_fn({"params": params}, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=grads), loss

    def epoch() -> float:
        nonlocal state
        losses = []
        for batch in batches(x, y, task.batch_size, generator):
            state, loss = train_step(state, *batch)
            losses.append(loss)
        jax.block_until_ready(state)
        return mean_loss(jax.device_get(losses), task)

    return epoch


def flax_nnx(task: Task) -> Work:
    """Train flax.nnx and optax with a step under ``nnx.jit`` that updates model and optimizer in place."""
    import jax
    import optax
    from flax import nnx

    x, y = task.data()
    rngs = nnx.Rngs(task.seed)
    *hidden, output = (nnx.Linear(inputs, outputs, rngs=rngs) for inputs, outputs in pairwise(task.widths))
    model = nnx.Sequential(*(layer for linear in hidden for layer in (linear, nnx.relu)), output)
    optimizer = nnx.Optimizer(model, optax.adam(task.learning_rate), wrt=nnx.Param)
    generator = np.random.default_rng(task.seed)

    @nnx.jit
    def train_step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        def loss_fn(model: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, grads)
        return loss

    def epoch() -> float:
        losses = [train_step(model, optimizer, *batch) for batch in batches(x, y, task.batch_size, generator)]
        jax.block_until_ready(nnx.state(model))
        return mean_loss(jax.device_get(losses), task)

    return epoch


def equinox(task: Task) -> Work:
    """Train equinox and optax with a step under ``eqx.filter_jit``, called for each batch."""
    import equinox as eqx
    import jax

    x, y = task.data()
    *hidden, output = (
        eqx.nn.Linear(inputs, outputs, key=jax.random.key(task.seed + i))
        for i, (inputs, outputs) in enumerate(pairwise(task.widths))
    )
    activation = eqx.nn.Lambda(jax.nn.relu)
    model = eqx.nn.Sequential([*(layer for linear in hidden for layer in (linear, activation)), output])
    return equinox_steps(model, x, y, task)


def equinox_steps(model: Any, x: Any, y: Any, task: Training) -> Work:
    """Return an epoch that calls a step under ``eqx.filter_jit`` for each batch."""
    import equinox as eqx
    import jax
    import optax

    optimizer = optax.adam(task.learning_rate)
    opt_state = optimizer.init(eqx.filter(model, eqx.is_array))
    generator = np.random.default_rng(task.seed)

    @eqx.filter_jit
    def make_step(model: Any, opt_state: Any, x: Any, y: Any) -> Any:
        def loss(model: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

        value, grads = eqx.filter_value_and_grad(loss)(model)
        updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), opt_state, value

    def epoch() -> float:
        nonlocal model, opt_state
        losses = []
        for batch in batches(x, y, task.batch_size, generator):
            model, opt_state, value = make_step(model, opt_state, *batch)
            losses.append(value)
        jax.block_until_ready(eqx.filter((model, opt_state), eqx.is_array))
        return mean_loss(jax.device_get(losses), task)

    return epoch


def pytorch(task: Task) -> Work:
    """Train PyTorch, eager, with its default threads; if it has an accelerator, the model and the data are there."""
    import torch
    from torch import nn

    torch.manual_seed(task.seed)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    x, y = (torch.from_numpy(array).to(device) for array in task.data())
    y = y.long()  # CrossEntropyLoss needs int64
    *hidden, output = (nn.Linear(inputs, outputs) for inputs, outputs in pairwise(task.widths))
    model = nn.Sequential(*(layer for linear in hidden for layer in (linear, nn.ReLU())), output).to(device)
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


def scikit_learn(task: Task) -> Work:
    """Train scikit-learn's ``MLPClassifier`` without its L2 penalty; ``partial_fit`` is one pass over the data."""
    from sklearn.neural_network import MLPClassifier

    x, y = task.data()
    model = MLPClassifier(
        task.hidden,
        solver="adam",
        alpha=0,
        batch_size=task.batch_size,
        learning_rate_init=task.learning_rate,
        random_state=task.seed,
    )

    def epoch() -> float:
        model.partial_fit(x, y, classes=np.arange(CLASSES))
        return float(model.loss_)

    return epoch


CONTENDERS: dict[str, Factory] = {
    "fnnet-manual": fnnet_manual,
    "fnnet-autodiff": fnnet_autodiff,
    "flax-linen": flax_linen,
    "flax-nnx": flax_nnx,
    "equinox": equinox,
    "pytorch": pytorch,
    "scikit-learn": scikit_learn,
}
