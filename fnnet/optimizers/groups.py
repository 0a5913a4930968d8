"""Parameters that are treated differently by their names: groups, layer-wise rates, frozen layers.

``where`` and ``label`` are functions of a parameter's name, such as ``"0.w"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Kind, Optimizer, StepState, kind_of, zero_step
from fnnet.optimizers.hyperparameters import check_not_negative
from fnnet.optimizers.leaves import brief_names, chosen, flattened, map_leaves, multiplied, params_given
from fnnet.paths import Where, map_named, named_leaves
from fnnet.types import Array, Params, Scalar


def groups(label: Callable[[str], str], optimizers: Mapping[str, Optimizer]) -> Optimizer:
    """Return an optimizer that updates each group of parameters by an optimizer of its own.

    ``label(name)`` is the group of a parameter; every group must have at least one parameter. The state is a dict of
    the states of the groups, each of which covers the parameters of its group alone::

        groups(
            lambda name: "head" if name.startswith("2.") else "body",
            {"head": adam(1e-3), "body": sgd(1e-2)},
        )
    """
    known = sorted(optimizers)
    checks.require(bool(known), "optimizers.groups: there are no optimizers; expected one for each label")

    def check(params: Params) -> None:
        labels = {name: label(name) for name, _ in named_leaves(params)}
        unknown = {name: group for name, group in labels.items() if group not in known}
        checks.require(not unknown, f"optimizers.groups: label gives {unknown}, but the optimizers are for {known}")
        empty = sorted(set(known) - set(labels.values()))
        checks.require(
            not empty, f"optimizers.groups: no parameter is in {empty}; the parameters are {brief_names(labels)}"
        )

    kinds = {kind_of("optimizers.groups", optimizer) for optimizer in optimizers.values()}
    kind: Kind = "algorithm" if "algorithm" in kinds else "transform"
    return grouped(lambda name, p: label(name), dict(optimizers), check, kind)


def restrict(optimizer: Optimizer, where: Callable[[str], bool]) -> Optimizer:
    """Return ``optimizer`` restricted to the parameters that ``where`` chooses; the others keep their updates.

    It is meant for transforms. An algorithm that is restricted leaves the gradients of the other parameters as their
    updates, which go uphill: give those an optimizer of their own with ``groups``, or ``freeze`` them.
    """
    return restricted("optimizers.restrict", optimizer, where)


def freeze(where: Callable[[str], bool] | None = None) -> Optimizer:
    """Return an optimizer that keeps the parameters that ``where`` chooses as they are; by default, all of them.

    Put it last in a chain, after any decay: ``chain(adam(1e-3), freeze(lambda name: name.startswith("0.")))`` freezes
    layer 0, and still keeps moments for it. As the optimizer of a group, ``groups(..., {"frozen": freeze(), ...})``, it
    needs no state at all.
    """
    zero = Optimizer(lambda params: (), lambda grads, state, params=None: (jax.tree.map(jnp.zeros_like, grads), state))
    return zero if where is None else restricted("optimizers.freeze", zero, where)


def identity() -> Optimizer:
    """Return an optimizer that leaves the updates as they are."""
    return Optimizer(lambda params: (), lambda grads, state, params=None: (grads, state))


def layerwise(multiplier: Callable[[str], Scalar]) -> Optimizer:
    """Return the transform of layer-wise learning rates, ``u ← c u`` with ``c = multiplier(name)``.

    Put it after an algorithm: ``chain(adam(1e-3), layerwise(lambda name: 0.1 if name.startswith("0.") else 1.0))``.
    For rates that fall with the distance from the last layer, use ``layerwise(depth_decay(params, 0.8))``.
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


def depth_decay(params: Params, factor: Scalar) -> Callable[[str], Scalar]:
    """Return a multiplier for ``layerwise``: 1 at the last layer, and ``factorᵏ`` at the ``k``-th layer before it.

    The layer of a parameter is its name up to the first dot, in the order of the tree. Layers without parameters do not
    count.

    Source: Howard and Ruder 2018, section 3.2, where the factor is 1/2.6.
    """
    check_not_negative("optimizers.depth_decay", factor=factor)
    layers = list(dict.fromkeys(name.split(".")[0] for name, _ in named_leaves(params)))
    heights = {layer: len(layers) - 1 - position for position, layer in enumerate(layers)}

    def multiplier(name: str) -> Scalar:
        layer = name.split(".")[0]
        checks.require(layer in heights, f"optimizers.depth_decay: {name!r} is in none of the layers {layers}")
        return factor ** heights[layer]

    return multiplier


def restricted(caller: str, optimizer: Optimizer, where: Callable[[str], bool]) -> Optimizer:
    kind_of(caller, optimizer)
    return grouped(
        lambda name, p: "chosen" if where(name) else "others",
        {"chosen": optimizer, "others": identity()},
        lambda params: chosen(caller, where, params),
    )


def grouped(
    label: Callable[[str, Any], str],
    table: dict[str, Optimizer],
    check: Callable[[Params], Any],
    kind: Kind = "transform",
) -> Optimizer:
    """Return an optimizer that updates the parameters of each ``label(name, parameter)`` by the optimizer in ``table``.

    ``check(params)`` is called first, and raises an error if the labels do not fit the parameters.
    """

    def labels(tree: Params) -> list[str]:
        return [label(name, leaf) for name, leaf in named_leaves(tree)]

    def split(tree: Params) -> dict[str, Params]:
        """Return a tree for each group, with None, which has no leaves, in place of the parameters of the others."""
        leaves, structure = flattened(tree)
        labelled = list(zip(leaves, labels(tree), strict=True))
        return {
            group: structure.unflatten([leaf if own == group else None for leaf, own in labelled]) for group in table
        }

    def init(params: Params) -> dict[str, Any]:
        check(params)
        return {group: table[group].init(own) for group, own in split(params).items()}

    def update(grads: Params, state: dict[str, Any], params: Params | None = None) -> tuple[Params, dict[str, Any]]:
        check(grads)
        own_grads = split(grads)
        own_params = dict.fromkeys(table) if params is None else split(params)
        results = {group: table[group].update(own_grads[group], state[group], own_params[group]) for group in table}
        _, structure = flattened(grads)
        # Leaves are joined by position, because {"a.b": ...} and {"a": {"b": ...}} have leaves of the same name.
        columns = {group: structure.flatten_up_to(updates) for group, (updates, _) in results.items()}
        updates = structure.unflatten([columns[group][i] for i, group in enumerate(labels(grads))])
        return updates, {group: s for group, (_, s) in results.items()}

    return Optimizer(init, update, kind)


def for_chosen(
    caller: str, where: Where, transform: Callable[[Array, Array, Array], Array], kind: Kind = "transform"
) -> Optimizer:
    """Return an optimizer that applies ``transform(step, u, p) -> u`` to the parameters that ``where`` chooses.

    ``step`` is the number of updates made so far, ``u`` the update and ``p`` the parameter. The other parameters keep
    their updates.
    """

    def init(params: Params) -> StepState:
        chosen(caller, where, params)
        return StepState(zero_step())

    def update(grads: Params, state: StepState, params: Params | None = None) -> tuple[Params, StepState]:
        def leaf(u: Array, p: Array, is_chosen: bool) -> tuple[Array]:
            return (transform(state.step, u, p) if is_chosen else u,)

        params = params_given(caller, params)
        (updates,) = map_leaves(caller, leaf, grads, given=(params, chosen(caller, where, params)))
        return updates, StepState(state.step + 1)

    return Optimizer(init, update, kind)
