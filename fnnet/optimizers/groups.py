"""Parameters treated differently by their names: groups, layer-wise rates, frozen layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.optimizers.leaves import brief_names, chosen, flattened, moment_dtype, zero_step
from fnnet.paths import map_named, named_leaves
from fnnet.types import Array, Hyperparameter, Params, Scalar


def groups(label: Callable[[str], str], optimizers: Mapping[str, Optimizer]) -> Optimizer:
    """Each parameter by the optimizer of its group: ``label`` gives the group of a parameter's name.

    ``groups(lambda name: "head" if name.startswith("2.") else "body", {"head": adam(1e-3), "body": sgd(1e-2)})``. The
    state is a dict of the groups' states, each over its own parameters alone. Every group must have a parameter.
    """
    known = sorted(optimizers)
    checks.require(bool(known), "optimizers.groups: no optimizers; expected one for each label")

    def check(params: Params) -> None:
        labels = {name: label(name) for name, _ in named_leaves(params)}
        unknown = {name: group for name, group in labels.items() if group not in known}
        checks.require(not unknown, f"optimizers.groups: label gives {unknown}, but the optimizers are for {known}")
        empty = sorted(set(known) - set(labels.values()))
        checks.require(
            not empty, f"optimizers.groups: no parameter is in {empty}; the parameters are {brief_names(labels)}"
        )

    return grouped(label, dict(optimizers), check)


def masked(optimizer: Optimizer, where: Callable[[str], bool]) -> Optimizer:
    """``optimizer`` on the parameters that ``where`` chooses by their names; the updates of the others pass unchanged.

    For transforms. An algorithm on some parameters alone leaves the gradients of the others as updates, uphill: give
    those an optimizer of their own with ``groups``, or ``freeze`` them.
    """
    return grouped(
        lambda name: "chosen" if where(name) else "others",
        {"chosen": optimizer, "others": unchanged()},
        lambda params: chosen("optimizers.masked", where, params),
    )


def grouped(label: Callable[[str], str], table: dict[str, Optimizer], check: Callable[[Params], Any]) -> Optimizer:
    """``groups`` whose parameters are looked at by ``check``."""

    def labels(tree: Params) -> list[str]:
        return [label(name) for name, _ in named_leaves(tree)]

    def split(tree: Params) -> dict[str, Params]:
        """For every group the tree with None, which has no leaves, for the parameters of the others."""
        leaves, structure = flattened(tree)
        of_leaves = list(zip(leaves, labels(tree), strict=True))
        return {
            group: structure.unflatten([leaf if of == group else None for leaf, of in of_leaves]) for group in table
        }

    def init(params: Params) -> dict[str, Any]:
        check(params)
        return {group: table[group].init(part) for group, part in split(params).items()}

    def update(grads: Params, state: dict[str, Any], params: Params | None = None) -> tuple[Params, dict[str, Any]]:
        check(grads)
        parts = split(grads)
        of_params = dict.fromkeys(table) if params is None else split(params)
        results = {group: table[group].update(parts[group], state[group], of_params[group]) for group in table}
        _, structure = flattened(grads)
        # By the place in the tree, not by the name: {"a.b": ...} and {"a": {"b": ...}} have the same one.
        columns = {group: structure.flatten_up_to(updates) for group, (updates, _) in results.items()}
        updates = structure.unflatten([columns[group][i] for i, group in enumerate(labels(grads))])
        return updates, {group: s for group, (_, s) in results.items()}

    return Optimizer(init, update)


def unchanged() -> Optimizer:
    """Updates as they are."""
    return Optimizer(lambda params: (), lambda grads, state, params=None: (grads, state))


def freeze(where: Callable[[str], bool]) -> Optimizer:
    """Updates of 0 for the parameters that ``where`` chooses by their names. Last in a chain, after any decay.

    ``chain(adam(1e-3), freeze(lambda name: name.startswith("0.")))`` keeps layer 0 as it is, and moments for it. With
    ``groups(..., {"frozen": frozen(), ...})`` it has no state at all.
    """

    def init(params: Params) -> tuple[()]:
        chosen("optimizers.freeze", where, params)
        return ()

    def update(grads: Params, state: tuple[()], params: Params | None = None) -> tuple[Params, tuple[()]]:
        mask = chosen("optimizers.freeze", where, grads)
        return jax.tree.map(lambda g, still: jnp.zeros_like(g) if still else g, grads, mask), state

    return Optimizer(init, update)


def frozen() -> Optimizer:
    """The optimizer of parameters that stay as they are: ``θ ← θ``."""
    return Optimizer(lambda params: (), lambda grads, state, params=None: (jax.tree.map(jnp.zeros_like, grads), state))


class ScaleState(NamedTuple):
    step: Array


def scale(factor: Hyperparameter) -> Optimizer:
    """``u ← c u``; ``c`` is a number, a traced array or a schedule."""
    check_not_negative("optimizers.scale", factor=factor)

    def update(grads: Params, state: ScaleState, params: Params | None = None) -> tuple[Params, ScaleState]:
        c = value_at(factor, state.step)
        return jax.tree.map(lambda u: multiplied(u, c), grads), ScaleState(state.step + 1)

    return Optimizer(lambda params: ScaleState(zero_step()), update)


def layerwise(multiplier: Callable[[str], Scalar]) -> Optimizer:
    """Layer-wise learning rates: ``u ← c u`` with ``c = multiplier(name)``, after an algorithm in a chain.

    ``chain(adam(1e-3), layerwise(lambda name: 0.1 if name.startswith("0.") else 1.0))``; by depth:
    ``layerwise(depth_decay(params, 0.8))``.
    """

    def checked(name: str) -> Scalar:
        c = multiplier(name)
        check_not_negative(f"optimizers.layerwise: parameter {name!r}", multiplier=c)
        return c

    def init(params: Params) -> tuple[()]:
        map_named(lambda name, p: checked(name), params)
        return ()

    def update(grads: Params, state: tuple[()], params: Params | None = None) -> tuple[Params, tuple[()]]:
        return map_named(lambda name, u: multiplied(u, checked(name)), grads), state

    return Optimizer(init, update)


def multiplied(u: Array, factor: Scalar) -> Array:
    """``c u``, calculated in at least float32 and rounded once."""
    wide = moment_dtype(u)
    return jnp.asarray(in_dtype(factor, wide) * u.astype(wide)).astype(u.dtype)


def depth_decay(params: Params, decay: Scalar) -> Callable[[str], Scalar]:
    """A multiplier for ``layerwise``: 1 at the last layer, ``decayᵏ`` for the one ``k`` layers before it.

    A layer is the first part of a parameter's name, in the order of the tree; layers without parameters do not count.
    Source: the discriminative fine-tuning of Howard and Ruder 2018, section 3.2, there with 1/2.6.
    """
    check_not_negative("optimizers.depth_decay", decay=decay)
    layers = list(dict.fromkeys(name.split(".")[0] for name, _ in named_leaves(params)))
    heights = {layer: len(layers) - 1 - position for position, layer in enumerate(layers)}

    def multiplier(name: str) -> Scalar:
        layer = name.split(".")[0]
        checks.require(layer in heights, f"optimizers.depth_decay: {name!r} is in none of the layers {layers}")
        return decay ** heights[layer]

    return multiplier
