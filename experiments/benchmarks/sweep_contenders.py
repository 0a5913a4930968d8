"""The contenders of ``sweep``: ways to train many small networks. Each factory imports what it measures.

A round trains all networks of the task and returns the median of their last costs.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from experiments.benchmarks.harness import Factory, Work

if TYPE_CHECKING:
    from experiments.benchmarks.sweep_task import Task


def sweep_on_all_cores(task: Task) -> Work:
    """Train all networks in one program, with a CPU device for each core."""
    import jax

    jax.config.update("jax_num_cpu_devices", task.cores)
    return one_program(task)


def sweep_on_one_device(task: Task) -> Work:
    """Train all networks in one program on the single CPU device that JAX has by default."""
    return one_program(task)


def one_program(task: Task) -> Work:
    import jax
    import jax.numpy as jnp

    from fnnet.training.sweep import spread

    train, settings, sets = fnnet_training(task)
    devices = jax.local_devices()
    program = jax.jit(spread(train, task.networks, devices)).lower(settings, sets).compile()

    def work() -> float:
        _, history = program(settings, sets)
        return float(jnp.median(history["cost"][:, -1]))

    return work


def one_after_the_other(task: Task) -> Work:
    """Train one network after the other with one compiled program and the gradients that ``fit`` uses."""
    import jax

    train, settings, sets = fnnet_training(task, value_and_grad=jax.value_and_grad)
    each = [jax.tree.map(lambda values: values[i], settings) for i in range(task.networks)]  # noqa: B023
    program = jax.jit(train).lower(each[0], sets).compile()

    def work() -> float:
        return median(float(program(setting, sets)[1]["cost"][-1]) for setting in each)

    return work


def fnnet_training(task: Task, **options: Any) -> Any:
    """Return the training of one network as a pure function, all settings, and the data."""
    import jax
    import jax.numpy as jnp

    import fnnet
    from fnnet.cpu import narrow
    from fnnet.training.sweep import training

    options = {"value_and_grad": narrow.value_and_grad} | options
    layers = [layer for width in task.hidden for layer in (fnnet.Dense(width), fnnet.tanh)]
    cost = fnnet.Cost(fnnet.sequential(*layers, fnnet.Dense(2)), fnnet.losses.softmax_cross_entropy)
    train = training(
        lambda learning_rate: (cost, fnnet.optimizers.adam(learning_rate)),
        key=jax.random.key(task.seed),
        epochs=task.epochs,
        batch_size=task.batch_size,
        **options,
    )
    settings = {"learning_rate": jnp.asarray(task.rates()), "seed": jnp.arange(task.networks)}
    x, y = task.data()
    return train, settings, ((jnp.asarray(x), jnp.asarray(y)), None)


def flax_steps(task: Task) -> Work:
    """Train as the documentation of flax and optax does: Python calls a compiled step for each batch."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax import linen
    from flax.training.train_state import TrainState

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            for width in task.hidden:
                x = linen.tanh(linen.Dense(width)(x))
            return linen.Dense(2)(x)

    network = Network()
    x, y = (np.asarray(array) for array in task.data())
    adam = optax.scale_by_adam()  # the rate is an argument of the step, so that it is compiled once for all networks

    @jax.jit
    def step(state: TrainState, rate: Any, x: Any, y: Any) -> tuple[TrainState, Any]:
        def cost(params: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(state.apply_fn(params, x), y).mean()

        value, grads = jax.value_and_grad(cost)(state.params)
        directions, opt_state = adam.update(grads, state.opt_state)
        params = jax.tree.map(lambda p, d: p - rate * d, state.params, directions)
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), value

    init = jax.jit(network.init)
    rates = task.rates()

    def train(number: int) -> float:
        params = init(jax.random.key(number), x[:1])
        state = TrainState.create(apply_fn=network.apply, params=params, tx=adam)
        rate = jnp.asarray(rates[number])
        generator = np.random.default_rng(number)
        costs: list[Any] = []
        for _ in range(task.epochs):
            order, costs = generator.permutation(len(x)), []
            for rows in order.reshape(-1, task.batch_size):
                state, value = step(state, rate, x[rows], y[rows])
                costs.append(value)
        return float(np.mean([float(value) for value in costs]))

    def work() -> float:
        return median(train(number) for number in range(task.networks))

    return work


CONTENDERS: dict[str, Factory] = {
    "sweep, a device per core": sweep_on_all_cores,
    "sweep, one device": sweep_on_one_device,
    "one after the other, compiled": one_after_the_other,
    "flax (linen) + optax, a step per call": flax_steps,
}
