"""What an optimizer is, and how optimizers are chained."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, Params

Kind: TypeAlias = Literal["algorithm", "clip", "transform"]


class Functions(NamedTuple):
    """The fields of an optimizer."""

    init: Callable[[Params], Any]
    update: Callable[..., tuple[Params, Any]]


class Optimizer(Functions):
    """A pair of pure functions.

    - ``init(params) -> state`` returns a pytree of arrays, no two of which share a buffer.
    - ``update(grads, state, params=None) -> (updates, state)`` returns updates with the structure and the dtypes of the
      gradients, which ``apply_updates`` adds to the parameters.

    ``kind`` tells ``chain`` what may follow what: an "algorithm" turns gradients into steps, a "clip" bounds gradients.
    """

    kind: Kind = "transform"

    def __new__(
        cls, init: Callable[[Params], Any], update: Callable[..., tuple[Params, Any]], kind: Kind = "transform"
    ) -> Optimizer:
        self = super().__new__(cls, init, in_order(update))
        self.kind = kind
        return self


def in_order(update: Callable[..., tuple[Params, Any]]) -> Callable[..., tuple[Params, Any]]:
    """Return the same function, which raises if the state and the parameters are exchanged."""

    @functools.wraps(update)
    def checked(grads: Params, state: Any, params: Params | None = None, **more: Any) -> tuple[Params, Any]:
        trees: list[Any] = [jax.tree.structure(tree) for tree in (state, grads, params)]
        if params is not None and trees[0] == trees[1] != trees[2]:
            raise TypeError(
                "optimizers: the state has the structure of the gradients, and params has another one; expected "
                "update(grads, state, params), in this order"
            )
        for g in jax.tree.leaves(grads):
            checks.floating("optimizers", "a gradient", g)
        return update(grads, state, params, **more)

    return checked


class StepState(NamedTuple):
    """The state of an optimizer that keeps nothing but the number of its updates."""

    step: Array


def zero_step() -> Array:
    return jnp.zeros((), jnp.int32)


def apply_updates(params: Params, updates: Params) -> Params:
    """Return ``params + updates``, leaf by leaf, in the dtypes of the parameters."""
    return jax.tree.map(lambda p, u: p + jnp.asarray(u).astype(p.dtype), params, updates)


def kind_of(caller: str, optimizer: Any) -> Kind:
    """Return the kind of an optimizer, "transform" for one of another library. Raise for what is no optimizer."""
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(f"{caller}: {optimizer!r} has no init and update; expected an optimizer, such as adam(1e-3)")
    return getattr(optimizer, "kind", "transform")


def step_or(condition: Array, step: Callable[[], Any], wait: Callable[[], Any]) -> Any:
    """Return ``step()`` where the condition holds, else ``wait()``, in the dtypes of ``wait()``.

    The optimizers of other libraries may return a state in wider dtypes than they started from.
    """

    def in_its_dtypes() -> Any:
        return jax.tree.map(lambda a, like: jnp.asarray(a).astype(like.dtype), step(), jax.eval_shape(wait))

    return jax.lax.cond(condition, in_its_dtypes, wait)


def chain(*optimizers: Optimizer) -> Optimizer:
    """Return an optimizer that applies several one after the other: the updates of each are the gradients of the next.

    A chain joins one algorithm with transforms before and after it, such as clipping or a projection. Two algorithms
    in one chain raise, because they would go uphill: each of them turns gradients into steps against the gradient. A
    clip after the algorithm, which bounds steps and not gradients, gives a warning. The state is the tuple of the
    states.
    """
    caller = "optimizers.chain"
    checks.require(bool(optimizers), f"{caller}: there is nothing to chain; pass at least one optimizer")
    kinds = [kind_of(caller, optimizer) for optimizer in optimizers]
    algorithms = [i for i, kind in enumerate(kinds) if kind == "algorithm"]
    checks.require(
        len(algorithms) < 2,
        f"{caller}: the optimizers at the places {algorithms} (from 0) are algorithms; expected one of them, because "
        f"the second would turn the steps of the first into steps uphill: for different parameters use groups(...)",
    )
    if algorithms and "clip" in kinds[algorithms[0] :]:
        warnings.warn(
            f"{caller}: a clip stands after the algorithm, where it bounds the steps; put it first to bound the "
            f"gradients. If the steps are meant: warnings.filterwarnings('ignore', '{caller}: a clip')",
            stacklevel=2,
        )

    def init(params: Params) -> tuple[Any, ...]:
        return tuple(optimizer.init(params) for optimizer in optimizers)

    def update(grads: Params, state: tuple[Any, ...], params: Params | None = None) -> tuple[Params, tuple[Any, ...]]:
        states = []
        for optimizer, s in zip(optimizers, state, strict=True):
            grads, s = optimizer.update(grads, s, params)
            states.append(s)
        return grads, tuple(states)

    kind: Kind = "algorithm" if algorithms else "clip" if "clip" in kinds else "transform"
    return Optimizer(init, update, kind)
