"""The contenders of ``training``, one function each: an epoch of ``fit``, or of a peer's usual loop and loader.

The data are in the host's memory. fnnet copies them to the device once ("memory") or streams them ("stream"). flax with
optax gets NumPy batches, one step per call; PyTorch gets a ``DataLoader`` of a ``TensorDataset``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from experiments.benchmarks.harness import Factory, Work
from experiments.benchmarks.mlp_contenders import flax_linen
from experiments.benchmarks.mlp_task import CLASSES, Task, mean_loss


def fnnet_memory(task: Task) -> Work:
    """Train with ``fit`` on arrays on the device; the epoch is one program."""
    return fnnet_epoch(task, streamed=False)


def fnnet_stream(task: Task) -> Work:
    """Train with ``fit`` on ``fnnet.data.from_arrays``; batches are assembled on the host before they are needed."""
    return fnnet_epoch(task, streamed=True)


def fnnet_epoch(task: Task, streamed: bool) -> Work:
    import jax

    import fnnet
    from fnnet.data.stream import as_stream
    from fnnet.training.callback import Run
    from fnnet.training.chunk import train_chunk
    from fnnet.training.fit import run_epoch
    from fnnet.training.placement import Placement
    from fnnet.training.program import Program
    from fnnet.training.snapshot import Snapshot

    x, y = task.data()
    cost, optimizer, state = fnnet_start(task, x)
    placement = Placement.of(None, state.params)
    data: Any = fnnet.data.from_arrays(x, y, task.batch_size) if streamed else placement.batch((x, y))
    stream = as_stream(data, None if streamed else task.batch_size, shuffle=True, drop_last=False)
    # What fit itself does in an epoch, compiled once: a new call of fit would compile again.
    program = Program(train_chunk(cost, optimizer), donate_argnums=0)
    snapshot = Snapshot(placement.state(state))
    run = Run(cost, optimizer, jax.value_and_grad, None, stream, placement, None, None, snapshot)

    def epoch() -> float:
        nonlocal snapshot
        snapshot, record = run_epoch(run, program, snapshot, [], keep=True)
        snapshot = snapshot.after_epoch(record)
        return record["cost"]

    return epoch


def fnnet_start(task: Task, x: Any) -> tuple[Any, Any, Any]:
    import jax

    import fnnet

    hidden = [layer for features in task.hidden for layer in (fnnet.Dense(features), fnnet.relu)]
    model = fnnet.sequential(*hidden, fnnet.Dense(CLASSES))
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    optimizer = fnnet.optimizers.adam(task.learning_rate)
    init_key, key = jax.random.split(jax.random.key(task.seed))
    return cost, optimizer, fnnet.TrainState.create(model.init(init_key, x[:1]), optimizer, key)


def pytorch(task: Task) -> Work:
    """Train PyTorch, eager, with a shuffling ``DataLoader`` in the same process."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(task.seed)
    x, y = (torch.from_numpy(array) for array in task.data())
    loader = DataLoader(TensorDataset(x, y.long()), batch_size=task.batch_size, shuffle=True)
    *hidden, output = (nn.Linear(inputs, outputs) for inputs, outputs in pairwise(task.widths))
    model = nn.Sequential(*(layer for linear in hidden for layer in (linear, nn.ReLU())), output)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=task.learning_rate)

    def epoch() -> float:
        losses = []
        for batch, labels in loader:
            loss = loss_fn(model(batch), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        return mean_loss(torch.stack(losses).tolist(), task)

    return epoch


CONTENDERS: dict[str, Factory] = {
    "fnnet-memory": fnnet_memory,
    "fnnet-stream": fnnet_stream,
    "flax-optax": flax_linen,
    "pytorch-loader": pytorch,
}
