"""Healthy runs: drawn at random from wide ranges, and hard ones on purpose, which look like faults and are none.

A run is healthy by its outcome and not by its intention: its validation ``λ`` must be within two standard errors, or a
tenth, of the best one of its data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments.faults import sets
from experiments.faults.bases import BASES, Base, available
from experiments.faults.posts import xor
from fnnet import Cost, Dense, initializers, losses, optimizers, penalties, schedules, sequential
from fnnet.diagnosis import Setup
from fnnet.types import Array


@dataclass(frozen=True)
class Healthy:
    """A healthy run. ``certified`` says that it is healthy by construction, so that its outcome is not looked at."""

    name: str
    base: str
    family: str
    make: Callable[[], Setup]
    certified: bool = False


ACTIVATIONS: dict[str, Any] = {
    "relu": fnnet.relu,
    "leaky relu": fnnet.leaky_relu,
    "elu": fnnet.elu,
    "gelu": fnnet.gelu,
    "silu": fnnet.silu,
    "tanh": fnnet.tanh,
    "sigmoid": fnnet.sigmoid,
}
INITIALIZERS: dict[str, Any] = {
    "he": initializers.he_normal,
    "glorot": initializers.glorot_uniform,
    "lecun": initializers.lecun_normal,
    "orthogonal": initializers.orthogonal,
}
# Optimizers with the rates that are best for small networks on standardized features.
OPTIMIZERS: dict[str, tuple[Callable[..., Any], float]] = {
    "sgd": (optimizers.sgd, 0.1),
    "momentum": (optimizers.momentum, 0.1),
    "heavy ball": (partial(optimizers.momentum, averaged=False), 0.01),
    "nesterov": (optimizers.nesterov, 0.01),
    "adam": (optimizers.adam, 5e-3),
    "adamw": (optimizers.adamw, 5e-3),
    "rmsprop": (optimizers.rmsprop, 2e-3),
    "lion": (optimizers.lion, 5e-4),
}


def drawn(base: Base, seed: int) -> Healthy:
    """Return a run on the data of a base with everything else drawn at random."""
    rng = np.random.default_rng([seed, *base.name.encode()])

    def pick(table: Any) -> str:
        return str(rng.choice(list(table)))

    activation, initializer, optimizer = pick(ACTIVATIONS), pick(INITIALIZERS), pick(OPTIMIZERS)
    depth = int(rng.integers(1, 3 if activation == "sigmoid" else 6))
    width = int(rng.choice([16, 32, 64, 128]))
    norm, zero, residual = rng.random(3) < [0.2, 0.15, 0.15]
    dropout = float(rng.choice([0, 0, 0, 0.1, 0.3]))
    strength = float(rng.choice([0, 0, 1e-5, 1e-4, 1e-3]))
    smoothing = bool(rng.random() < 0.1) and base.loss == losses.softmax_cross_entropy
    factor = float(2 ** rng.uniform(-1, 1))
    batch = int(rng.choice([16, 32, 64]))
    schedule = pick(("constant", "cosine", "warm-up", "one cycle"))
    epochs = max(base.epochs, round(base.epochs * batch / base.batch_size))

    def make() -> Setup:
        dense = partial(Dense, w_init=INITIALIZERS[initializer])
        layers: list[Any] = []
        for i in range(depth):
            block = [dense(width), *([fnnet.LayerNorm()] if norm else []), ACTIVATIONS[activation]]
            block += [fnnet.Dropout(dropout)] if dropout else []
            layers += [fnnet.Residual(sequential(*block))] if residual and i else block
        last = next(layer.features for layer in reversed(base.model.layers) if isinstance(layer, Dense))  # type: ignore[attr-defined]
        layers.append(Dense(last, w_init=initializers.zeros if zero else INITIALIZERS[initializer]))
        train, validation = base.sets()
        steps = epochs * -(-len(train[0]) // batch)
        function, best = OPTIMIZERS[optimizer]
        rate: Any = best * factor
        if schedule == "cosine":
            rate = schedules.cosine(rate, steps)
        elif schedule == "warm-up":
            rate = schedules.warmup(rate, steps // 10, rate / 10)
        elif schedule == "one cycle":
            rate = schedules.one_cycle(1.5 * rate, steps)
        loss = fnnet.bind(base.loss, smoothing=0.1) if smoothing else base.loss
        model = sequential(*layers)
        start, order = jax.random.split(jax.random.key(seed))
        params = model.init(start, jnp.asarray(train[0][:2]))
        cost = Cost(model, loss, penalties.l2(strength) if strength else None)
        return Setup(cost, function(rate), params, train, order, validation, batch, epochs)

    return Healthy(f"{base.name}: drawn {seed}, {activation}, {optimizer}, {schedule}", base.name, "dense", make)


def with_seed(base: Base, seed: int) -> Healthy:
    return Healthy(f"{base.name}: seed {seed}", base.name, base.family, partial(base.setup, seed))


# Hard ones.


def half_sum(prediction: Array, target: Array) -> Array:
    return 0.5 * jnp.square(prediction - target).sum(-1)


def edge_of_stability() -> Setup:
    """Return whole-batch gradient descent at ``η λ_max = 2``, where the loss is not monotone and falls."""
    (x, y), (other_x, other_y) = sets.digits()
    dense = partial(Dense, w_init=initializers.lecun_normal)
    model = sequential(dense(24), fnnet.tanh, dense(24), fnnet.tanh, dense(10))
    start, order = jax.random.split(jax.random.key(0))
    mean = x[:128].mean(0)
    train = x[:128] - mean, np.eye(10, dtype=np.float32)[y[:128]]
    validation = other_x - mean, np.eye(10, dtype=np.float32)[other_y]
    params = model.init(start, jnp.asarray(train[0][:2]))
    return Setup(Cost(model, half_sum), optimizers.sgd(0.25), params, train, order, validation, 128, 600)


def plateau() -> Setup:
    """Return the adding problem at a low rate: it stays on its plateau for many epochs, and then comes down."""
    return replace(BASES["adding"].setup(), epochs=40, optimizer=optimizers.adam(3e-3))


def sparse_units() -> Setup:
    """Return a network whose units are silent for most examples by an L1 penalty."""
    setup = BASES["digits"].setup()
    return replace(setup, cost=replace(setup.cost, penalty=penalties.l1(1e-4)))


def past_convergence() -> Setup:
    """Return a run that goes on for long after it has converged."""
    setup = BASES["moons"].setup()
    return replace(setup, epochs=120, optimizer=optimizers.sgd(0.1))


def zero_branches() -> Setup:
    """Return a network whose residual branches start at 0, as Fixup does."""
    base = BASES["digits"]
    train, validation = base.sets()
    block = sequential(Dense(64), fnnet.relu, Dense(64, w_init=initializers.zeros))
    model = sequential(Dense(64), fnnet.Residual(block), fnnet.Residual(block), fnnet.relu, Dense(10))
    start, order = jax.random.split(jax.random.key(0))
    params = model.init(start, jnp.asarray(train[0][:2]))
    return Setup(Cost(model, base.loss), optimizers.adam(2e-3), params, train, order, validation, 32, 15)


def closed_gates() -> Setup:
    """Return a trained LSTM whose gates are saturated: the run goes on from the parameters that it has learned."""
    setup = BASES["rows"].setup()
    trained = replace(setup, epochs=20).fit(callbacks=[]).state.params
    return replace(setup, params=trained, epochs=5, optimizer=optimizers.adam(1e-3))


def gaussian_likelihood() -> Setup:
    """Return a network that predicts a mean and a logarithm of a variance; its loss falls below 0."""
    (x, y), (other_x, other_y) = sets.friedman()
    model = sequential(Dense(32), fnnet.tanh, Dense(2, w_init=fnnet.bind(initializers.normal, stddev=0.01)))
    start, order = jax.random.split(jax.random.key(0))
    params = model.init(start, jnp.asarray(x[:2]))
    cost = Cost(model, losses.gaussian_negative_log_likelihood)
    return Setup(cost, optimizers.adam(3e-3), params, (x, y), order, (other_x, other_y), 32, 20)


def noisy_labels() -> Setup:
    """Return a run with a tenth of the labels wrong, and early enough an end."""
    setup = BASES["digits"].setup()
    x, y = setup.data
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < 0.1
    noisy = np.where(wrong, rng.integers(0, 10, len(y)), y).astype(np.int32)
    return replace(setup, data=(x, noisy), epochs=8)


def somewhat_unbalanced() -> Setup:
    """Return a run with one example of some classes for five of the others."""
    setup = BASES["digits"].setup()
    x, y = setup.data
    rare = np.asarray(y) >= 5
    kept = ~rare | (np.cumsum(rare) % 5 == 0)
    return replace(setup, data=(x[kept], y[kept]))


def learned_xor() -> Setup:
    """Return XOR, which it takes many epochs to begin to learn."""
    x, y = xor()
    model = sequential(Dense(8), fnnet.tanh, Dense(1))
    start, order = jax.random.split(jax.random.key(0))
    params = model.init(start, jnp.asarray(x))
    data = np.tile(x, (16, 1)), np.tile(y, (16, 1))
    return Setup(Cost(model, losses.sigmoid_cross_entropy), optimizers.adam(1e-2), params, data, order, None, 16, 60)


HARD: tuple[Healthy, ...] = (
    Healthy("hard: edge of stability", "digits", "dense", edge_of_stability, certified=True),
    Healthy("hard: adding problem on its plateau", "adding", "recurrent", plateau),
    Healthy("hard: sparse units", "digits", "dense", sparse_units, certified=True),
    Healthy("hard: past convergence", "moons", "dense", past_convergence, certified=True),
    Healthy("hard: branches that start at 0", "digits", "dense", zero_branches, certified=True),
    Healthy("hard: saturated gates", "rows", "recurrent", closed_gates, certified=True),
    Healthy("hard: likelihood below 0", "friedman", "dense", gaussian_likelihood, certified=True),
    Healthy("hard: a tenth of the labels wrong", "digits", "dense", noisy_labels, certified=True),
    Healthy("hard: classes 1 to 5", "digits", "dense", somewhat_unbalanced, certified=True),
    Healthy("hard: XOR", "xor", "dense", learned_xor, certified=True),
)


def healthy_runs(draws: int, seeds: int, *, held_out: bool = False) -> list[Healthy]:
    """Return ``draws`` runs drawn on each data set of vectors, ``seeds`` of each base, and the hard ones."""
    first = 1000 if held_out else 0
    chosen = [base for base in BASES.values() if base.held_out == held_out and available(base)]
    runs = [with_seed(base, first + seed) for seed in range(seeds) for base in chosen]
    vectors = [base for base in chosen if base.family == "dense"]
    runs += [drawn(base, first + seed) for seed in range(draws) for base in vectors]
    return runs if held_out else [*HARD, *runs]
