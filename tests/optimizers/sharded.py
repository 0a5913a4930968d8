"""Steps of every optimizer on a parameter tree that lies on four devices.

``python -m tests.optimizers.sharded``, in a process with four devices, prints what is wrong and nothing else.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fnnet import apply_updates
from tests.cases.optimizers import ALGORITHMS, gradients_for

STEPS = 3


@jax.jit
def step(params: Any, states: Any, g: Any) -> Any:
    """Return the parameters and states of every optimizer after one update."""
    after_params, after_states = {}, {}
    for case in ALGORITHMS:
        name = case.name
        updates, after_states[name] = case.make(0.1).update(g, states[name], params[name])
        after_params[name] = apply_updates(params[name], updates)
    return after_params, after_states


def after_steps(params: Any, states: Any, gradients: Any) -> Any:
    for t in range(STEPS):
        params, states = step(params, states, jax.tree.map(lambda g: g[t], gradients))  # noqa: B023
    return params, states


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    generator = np.random.default_rng(0)
    params = {"w": jnp.asarray(generator.standard_normal((8, 4))), "b": jnp.asarray(generator.standard_normal(4))}
    gradients = gradients_for(params, STEPS)
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    shardings = {
        "w": NamedSharding(mesh, PartitionSpec("devices", None)),
        "b": NamedSharding(mesh, PartitionSpec("devices")),
    }
    shards = jax.device_put(params, shardings)
    assert len(shards["w"].sharding.device_set) == 4

    def start(params: Any) -> Any:
        states = {case.name: case.make(0.1).init(params) for case in ALGORITHMS}
        return {case.name: jax.tree.map(jnp.copy, params) for case in ALGORITHMS}, states

    given, states = start(shards)
    for name, state in states.items():
        report(name, "a moment does not lie where its parameter lies", moments_elsewhere(state, shardings))
    found, found_states = after_steps(given, states, gradients)
    expected, _ = after_steps(*start(params), gradients)
    for case in ALGORITHMS:
        name = case.name
        for leaf in ("w", "b"):
            moved = not found[name][leaf].sharding.is_equivalent_to(shardings[leaf], params[leaf].ndim)
            report(name, f"{leaf} is now on {found[name][leaf].sharding}", moved)
            apart = np.abs(np.asarray(found[name][leaf]) - np.asarray(expected[name][leaf])).max()
            report(name, f"{leaf} is off by {apart}", apart > 1e-13)
        report(name, "a moment lies elsewhere after the steps", moments_elsewhere(found_states[name], shardings))


def moments_elsewhere(state: Any, shardings: Any) -> bool:
    """Return whether a moment, which has the shape of its parameter, has another sharding."""
    by_shape = {(8, 4): shardings["w"], (4,): shardings["b"]}
    leaves = [leaf for leaf in jax.tree.leaves(state) if leaf.shape in by_shape]
    return not all(leaf.sharding.is_equivalent_to(by_shape[leaf.shape], leaf.ndim) for leaf in leaves)


def report(name: str, what: str, wrong: bool) -> None:
    if wrong:
        print(f"{name}: {what}")


if __name__ == "__main__":
    main()
