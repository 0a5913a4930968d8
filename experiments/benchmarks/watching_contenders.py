"""The contenders of ``watching``: an epoch of ``fit`` that nobody watches, and one that ``Watch`` watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.benchmarks import cnn_task, mlp_task
from experiments.benchmarks.harness import Factory, Work


@dataclass(frozen=True)
class Task:
    """An epoch of so many examples; ``every`` is that of ``Watch``."""

    network: str
    batch_size: int
    examples: int
    seed: int
    every: int

    def data(self) -> tuple[Any, Any]:
        if self.network == "dense":
            return mlp_task.Task((), self.batch_size, self.examples, self.seed).data()
        return cnn_task.Task(self.batch_size, self.examples, self.seed).data()


def alone(task: Task) -> Work:
    return epoch_of(task, [])


def watched(task: Task) -> Work:
    from fnnet.diagnosis import Watch

    return epoch_of(task, [Watch(every=task.every)])


def epoch_of(task: Task, callbacks: list[Any]) -> Work:
    """Return the work of an epoch of ``fit`` with these callbacks, compiled once, on data on the device."""
    import jax

    import fnnet
    from fnnet.data.stream import as_stream
    from fnnet.training.callback import Run
    from fnnet.training.fit import run_epoch
    from fnnet.training.placement import Placement
    from fnnet.training.program import chunk_program, copied, settings_of_jax
    from fnnet.training.snapshot import Snapshot

    x, y = task.data()
    dense = (fnnet.Dense(128), fnnet.relu, fnnet.Dense(10))
    image = (fnnet.Conv(20, 5), fnnet.relu, fnnet.MaxPool(2), fnnet.Conv(40, 5), fnnet.relu, fnnet.MaxPool(2))
    layers = dense if task.network == "dense" else (*image, fnnet.Flatten(), fnnet.Dense(100), *dense[1:])
    cost = fnnet.Cost(fnnet.sequential(*layers), fnnet.losses.softmax_cross_entropy)
    optimizer, engine = fnnet.optimizers.adam(1e-3), fnnet.backprop.value_and_grad
    init_key, key = jax.random.split(jax.random.key(task.seed))
    state = fnnet.TrainState.create(cost.model.init(init_key, x[:1]), optimizer, key)
    placement = Placement.of(None, state.params)
    stream = as_stream(placement.batch((x, y)), task.batch_size, shuffle=True, drop_last=False)
    probes = [each.step_probe for each in callbacks]
    program = chunk_program(cost, optimizer, engine, None, None, placement, settings_of_jax(), *probes)
    snapshot = Snapshot(placement.state(state))
    before = snapshot._replace(state=copied(snapshot.state))
    run = Run(cost, optimizer, engine, None, stream, placement, None, None, before)
    for callback in callbacks:
        callback.start(run)

    def epoch() -> float:
        nonlocal snapshot
        snapshot, record = run_epoch(run, program, snapshot, callbacks, keep=True)
        for callback in callbacks:
            record |= callback.to_record(snapshot.state)
        snapshot = snapshot.after_epoch(record)
        kept = copied(snapshot.state)
        for callback in callbacks:
            callback(kept, dict(record))
        run.before = snapshot._replace(state=kept)
        return float(record["cost"])

    return epoch


CONTENDERS: dict[str, Factory] = {"alone": alone, "watched": watched}
