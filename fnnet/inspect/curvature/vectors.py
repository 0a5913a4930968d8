"""Parameter trees as vectors of the parameters that ``where`` chooses, and operators on these vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.leaves import as_vector, chosen, flattened
from fnnet.types import Array, DType, Params

Product = Callable[[Params], Params]  # v -> A v, on trees like the parameters
Where = Callable[[str], bool]


def everywhere(name: str) -> bool:
    """Choose every parameter."""
    return True


class Block(NamedTuple):
    """The block of a symmetric operator that belongs to the chosen parameters, as an operator on vectors ``(n,)``."""

    product: Callable[[Array], Array]
    size: int
    dtype: DType
    tree: Callable[[Array], Params]  # the vector as a tree, with zeros at the parameters that are not chosen


def block_of(caller: str, product: Product, params: Params, where: Where) -> Block:
    """Return ``v ↦ P A P v`` on vectors, where ``P`` keeps the parameters that ``where`` chooses by their names."""
    mask, _ = flattened(chosen(caller, where, params))
    leaves, structure = flattened(params)
    checks.require(bool(leaves), f"{caller}: params has no leaves; expected the parameters of a network")

    def vector(tree: Params) -> tuple[Array, Callable[[Array], list[Array]]]:
        return as_vector([leaf for leaf, own in zip(structure.flatten_up_to(tree), mask, strict=True) if own])

    start, back = vector(params)

    def tree(entries: Array) -> Params:
        own = iter(back(entries))
        return structure.unflatten([next(own) if m else jnp.zeros_like(p) for p, m in zip(leaves, mask, strict=True)])

    return Block(lambda v: vector(product(tree(v)))[0], start.size, start.dtype, tree)
