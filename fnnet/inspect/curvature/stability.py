"""The curvature beyond which an optimizer diverges, and the sharpness of a cost beside it.

Near a minimum a cost is a quadratic. Along an eigenvector of its Hessian with the eigenvalue ``λ`` the gradient is
``λ θ``, and one update of ``θ`` and of the optimizer's moments ``s`` is a linear map::

    z' = (J + λ b e₀ᵀ) z,     z = (θ, s),   J = ∂z'/∂z,   b = ∂z'/∂g

It is stable as long as all its eigenvalues are within the unit circle. As ``λ`` grows, the first of them leaves at -1,
where ``θ`` jumps from side to side: ``det (J + I + λ b e₀ᵀ) = 0`` for ``λ = -1 / [(J + I)⁻¹ b]₀``. For these
optimizers, with the rate ``η`` and the momentum ``β``, that is

============================================= ==========================
``sgd``                                       ``2 / η``
``momentum(averaged=False)``, the heavy ball  ``(2 + 2β) / η``
``momentum``, averaged                        ``(2 + 2β) / (η (1 − β))``
``nesterov``                                  ``(2 + 2β) / (η (1 + 2β))``
``adam``                                      ``(2 + 2β₁) / (η (1 − β₁))`` for ``P⁻¹ H`` with ``P = diag(√v̂ + ε)``
============================================= ==========================

Source: Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of stability", section 2;
Adam: Cohen et al. 2022, "Adaptive gradient methods at the edge of stability", proposition 1.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.checks import at_least_float32, is_float, is_integer
from fnnet.inspect.curvature.lanczos import eigenvalues
from fnnet.inspect.curvature.products import Objective, hvp, over_batches
from fnnet.inspect.curvature.vectors import Product, Where, everywhere
from fnnet.optimizers import Optimizer, apply_updates
from fnnet.optimizers.leaves import flattened
from fnnet.paths import map_named, named_leaves
from fnnet.training.callbacks import Callback, Memory, Run
from fnnet.training.snapshot import Record
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Params

LATE = 1 << 24  # updates, after which the bias corrections are 1 and schedules are at their end
TINY, HUGE = 1e-30, 1e20  # second moments far below and far above ε² and the squares of new gradients
SECOND_MOMENTS = frozenset({"v", "v_max", "sum_of_squares", "nu"})  # their names in the states of fnnet and optax


def stability_limit(optimizer: Optimizer, step: Array | int = LATE) -> Array:
    """Return the curvature beyond which an optimizer diverges on a quadratic.

    Compare it with the largest eigenvalue of the Hessian: below the limit the optimizer converges, above it the
    parameters oscillate along the eigenvector with growing amplitude. For optimizers that divide the gradient by the
    root of a second moment, such as Adam, the limit is that of the preconditioned Hessian ``P⁻¹ H``, where ``P`` is the
    divisor of each entry and is held fixed; ``stability_limits`` has the limits of all entries.

    The limit is computed from the derivatives of ``optimizer.update``, as the head of this module explains. So any
    optimizer that acts on each entry alone can be asked, also one of optax or a chain with weight decay. ``step`` is
    the number of updates made, for schedules and bias corrections; by default both are at their end. The limit
    is infinite for a rate of 0. It is NaN where an update is not linear in the gradient and the moments, so that there
    is no such limit (``lion``, ``lars``, ``lamb``, ``muon``). The second moments of ``adadelta`` and ``adamax`` enter
    in another way: only ``stability_limits`` is right for them.
    """
    theta = jnp.ones((1, 1))  # muon takes matrices alone

    def is_moment(name: str) -> bool:
        return name.rsplit(".", 1)[-1] in SECOND_MOMENTS

    def late(name: str, leaf: Array) -> Array:
        if is_integer(leaf):
            return jnp.full_like(leaf, step)
        return jnp.full_like(leaf, HUGE) if is_moment(name) else leaf

    state = map_named(late, optimizer.init(theta))
    (none, after), (one, _), (two, _) = (optimizer.update(g * theta, state, theta) for g in (0.0, 1e-6, 2e-6))
    moments = [leaf for name, leaf in named_leaves(after) if is_moment(name)]
    divisor = jnp.sqrt(moments[-1]) if moments else jnp.ones(())
    limit = stability_limits(optimizer, theta, state) / divisor
    linear = jnp.abs(two - 2 * one + none) <= 1e-3 * jnp.abs(two - none)
    return jnp.where(linear, limit, jnp.nan).reshape(())


def stability_limits(optimizer: Optimizer, params: Params, opt_state: Any) -> Params:
    """Return for every entry of the parameters the curvature ``L`` beyond which an optimizer in this state diverges.

    For ``sgd``, with and without momentum, every entry has the limit ``stability_limit``. Adam multiplies it by the
    divisor ``P`` of the entry, and layer-wise rates divide it by their factors. On a quadratic with the Hessian ``H``
    the optimizer is stable if and only if all eigenvalues of ``L^(−1/2) H L^(−1/2)``, which ``scaled_product`` gives,
    are below 1, as long as ``P`` stays as it is. The result is a tree like ``params``, in at least float32.
    """
    state, of_state = flattened(opt_state)
    p, of_params = flattened(jax.tree.map(lambda leaf: jnp.asarray(leaf, at_least_float32(leaf)), params))
    owned = moments_of(optimizer, params)
    most = max(map(len, owned), default=0)

    def advance(g: list[Array], z: list[list[Array]]) -> list[list[Array]]:
        """Return ``z'`` after the gradients ``g``; ``z[k]`` are parameter k and its moments."""
        leaves = list(state)
        for indices, (_, *moments) in zip(owned, z, strict=True):
            for i, moment in zip(indices, moments, strict=True):
                leaves[i] = moment
        theta = of_params.unflatten([column[0] for column in z])
        updates, after = optimizer.update(of_params.unflatten(g), of_state.unflatten(leaves), theta)
        moved, after_leaves = jax.tree.leaves(apply_updates(theta, updates)), jax.tree.leaves(after)
        return [[own, *(after_leaves[i] for i in indices)] for own, indices in zip(moved, owned, strict=True)]

    # A moment of 0 is replaced by next to nothing, because the root has no derivative at 0.
    z = [[own, *(jnp.where(state[i] == 0, TINY, state[i]) for i in ii)] for own, ii in zip(p, owned, strict=True)]
    zero = [jnp.zeros_like(own) for own in p]

    def along(r: int | None) -> list[list[Array]]:
        """Return the derivatives of ``z'`` along entry ``r`` of every ``z[k]``, or along the gradients."""
        dg = [jnp.ones_like(own) if r is None else jnp.zeros_like(own) for own in p]
        dz = [[jnp.ones_like(a) if i == r else jnp.zeros_like(a) for i, a in enumerate(column)] for column in z]
        return jax.jvp(advance, (zero, z), (dg, dz))[1]

    columns, b = [along(r) for r in range(most + 1)], along(None)
    limits = []
    for k, indices in enumerate(owned):
        rows = range(len(indices) + 1)
        matrix = jnp.stack([jnp.stack([columns[r][k][i] for r in rows], -1) for i in rows], -2)
        response = jnp.linalg.solve(matrix + jnp.eye(len(rows), dtype=matrix.dtype), jnp.stack(b[k], -1)[..., None])
        response = response[..., 0, 0]
        limits.append(jnp.where(response >= 0, jnp.inf, -1 / response))
    return of_params.unflatten(limits)


def moments_of(optimizer: Optimizer, params: Params) -> list[list[int]]:
    """Return for every parameter the positions of its moments among the leaves of the state.

    They are found by their lengths, in the state for parameters of which no two have the same length.
    """
    leaves, structure = flattened(params)
    marked = [jax.ShapeDtypeStruct((k + 1, *(1,) * (jnp.ndim(p) - 1)), jnp.float32) for k, p in enumerate(leaves)]
    state = jax.tree.leaves(jax.eval_shape(optimizer.init, structure.unflatten(marked)))
    return [
        [i for i, leaf in enumerate(state) if is_float(leaf) and leaf.shape[:1] == (k + 1,)] for k in range(len(leaves))
    ]


def scaled_product(product: Product, limits: Params) -> Product:
    """Return ``v ↦ L^(−1/2) A L^(−1/2) v`` for an operator ``A`` and a tree ``L`` of positive numbers."""
    scales = jax.tree.map(jnp.sqrt, limits)

    def divided(v: Params) -> Params:
        return jax.tree.map(lambda a, scale: (a.astype(scale.dtype) / scale).astype(a.dtype), v, scales)

    return lambda v: divided(product(divided(v)))


def sharpness(
    cost: Objective,
    params: Params,
    data: Batch,
    *,
    key: Array,
    steps: int = 20,
    batch_size: int = 1024,
    where: Where = everywhere,
) -> Array:
    """Return the sharpness, the largest eigenvalue of the Hessian of the cost over a data set, by Lanczos' method.

    Gradient descent with the rate ``η`` is stable below ``2 / η``. Compute it every so many steps with the callback
    ``Sharpness`` of ``fit``, or in every step::

        measure=lambda params, grads, updates: {"sharpness": sharpness(cost, params, data, key=key)}

    The arguments are those of ``eigenvalues`` and ``over_batches``.
    """
    product = partial(over_batches(hvp, batch_size), cost, params, data)
    return eigenvalues(product, params, key=key, steps=steps, where=where).largest.values[0]


class Sharpness(Callback):
    """A callback of ``fit`` that looks at the sharpness after every so many steps, and at the limit of the optimizer.

    ``history`` has the lists ``step``, ``sharpness`` and ``stability_limit``: where the sharpness is above the limit,
    the optimizer is unstable. For optimizers with a preconditioner ``P``, such as Adam, it is the sharpness of
    ``P⁻¹ H``, with the ``P`` of that moment. A look is made after the first epoch that ends ``every`` steps or more
    after the last multiple of ``every``; it takes ``steps`` products with the Hessian over ``data``, ``batch_size``
    examples at a time. The history is kept in checkpoints.
    """

    def __init__(
        self,
        data: Batch,
        every: int = 1,
        *,
        key: Array | None = None,
        steps: int = 20,
        batch_size: int = 1024,
    ) -> None:
        checks.positive_integer("curvature.Sharpness", "every", every)
        self.data, self.every, self.steps, self.batch_size = data, every, steps, batch_size
        self.key = jax.random.key(0) if key is None else key

    @property
    def history(self) -> dict[str, list[float]]:
        """By name, one number for every look."""
        return {} if self.memory is None else self.memory.numbers["history"]

    def start(self, run: Run) -> None:
        self.memory = Memory((), {"seen": 0, "history": {"step": [], "sharpness": [], "stability_limit": []}})
        cost, optimizer = run.cost, run.optimizer
        known = bool(jnp.isfinite(jax.jit(lambda: stability_limit(optimizer))()))

        def look(params: Params, opt_state: Any, step: Array, data: Batch) -> tuple[Array, Array]:
            product: Product = partial(over_batches(hvp, self.batch_size), cost, params, data)
            limit = stability_limit(optimizer, step)
            if known:
                product = scaled_product(product, stability_limits(optimizer, params, opt_state))
            key = jax.random.fold_in(self.key, step)
            top = eigenvalues(product, params, key=key, steps=self.steps).largest.values[0]
            return (top * limit if known else top), limit

        self.look = jax.jit(look)

    def __call__(self, state: TrainState, record: Record) -> None:
        assert self.memory is not None
        step, seen = int(state.step), self.memory.numbers["seen"]
        if step // self.every == seen // self.every:
            return
        found = self.look(state.params, state.opt_state, state.step, self.data)
        numbers = zip(self.history.items(), (step, *map(float, found)), strict=True)
        history = {name: [*values, number] for (name, values), number in numbers}
        self.memory = Memory((), {"seen": step, "history": history})
