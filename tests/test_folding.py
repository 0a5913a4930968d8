"""Batch normalization folded for inference: equal on the population, with constants elsewhere."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Affine,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    LayerNorm,
    MaxPool,
    Residual,
    fold_batch_norm,
    relu,
    sequential,
    tanh,
)
from fnnet.backprop import as_custom_vjp
from fnnet.layers.nesting import holds
from tests.cases import SEED, random_params
from tests.compare import assert_close

BLOCK = sequential(Dense(4), BatchNorm(), relu, Dense(4, use_bias=False), BatchNorm(0.1))
MODELS = [
    ("after Dense", sequential(Dense(4), BatchNorm(), tanh, Dense(2)), (20, 3)),
    ("after Dense without bias", sequential(Dense(4, use_bias=False), BatchNorm(), tanh), (20, 3)),
    ("first", sequential(BatchNorm(), Dense(4)), (20, 3)),
    ("after an activation", sequential(Dense(4), relu, BatchNorm(), Dropout(0.5), Dense(2)), (20, 3)),
    ("twice", sequential(Dense(4), BatchNorm(), BatchNorm(0.1), Dense(2)), (20, 3)),
    ("alone", BatchNorm(), (20, 3)),
    ("of images", sequential(BatchNorm(), MaxPool(2), LayerNorm(), BatchNorm(), Flatten(), Dense(2)), (12, 4, 4, 2)),
    ("after Conv", sequential(Conv(3, 2), BatchNorm(), relu, Conv(4, 2, groups=1), BatchNorm()), (6, 4, 5, 2)),
    ("after Conv in groups", sequential(Conv(4, 2, groups=2, use_bias=False), BatchNorm()), (6, 4, 5, 2)),
    ("nested", sequential(sequential(Dense(4), BatchNorm()), relu, sequential(BatchNorm())), (20, 3)),
    ("residual", sequential(Residual(BLOCK, sequential(Dense(4), BatchNorm())), relu, Residual(BLOCK)), (20, 3)),
]
every_model = pytest.mark.parametrize(("model", "shape"), [row[1:] for row in MODELS], ids=[row[0] for row in MODELS])


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(SEED).standard_normal(shape) + 2)


@every_model
@pytest.mark.parametrize("batch_size", [None, 6])
@pytest.mark.usefixtures("x64")
def test_on_the_population_nothing_changes(model: Any, shape: tuple[int, ...], batch_size: int | None) -> None:
    """The model computes the same numbers, however the population is divided."""
    x = draw(*shape)
    params = random_params(model, x)
    folded, constants = fold_batch_norm(model, params, x, batch_size=batch_size)
    assert not holds(folded, BatchNorm)
    assert_close(folded.apply(constants, x), model.apply(params, x), 1e-11)
    assert jax.tree.structure(constants) == jax.tree.structure(jax.eval_shape(folded.init, jax.random.key(0), x))


@pytest.mark.parametrize("batch_size", [1, 5, 19, 100])
@pytest.mark.usefixtures("x64")
def test_any_division_of_the_population_gives_the_same(batch_size: int) -> None:
    """Batches of one example, whose variance is 0, are included."""
    x, (_, model, _) = draw(20, 3), MODELS[0]
    params = random_params(model, x)
    whole = fold_batch_norm(model, params, x)
    assert_close(fold_batch_norm(model, params, x, batch_size=batch_size)[1], whole[1])


@every_model
@pytest.mark.usefixtures("x64")
def test_an_example_no_longer_depends_on_the_others(model: Any, shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    folded, params = fold_batch_norm(model, random_params(model, x), x)
    assert_close(folded.apply(params, x[:1]), folded.apply(params, x)[:1])


@pytest.mark.usefixtures("x64")
def test_known_answer() -> None:
    """x = 1, 3 has μ = 2, σ² = 1; with ε = 3 it is y = (x − 2) / 2 · scale + shift."""
    layer, params = fold_batch_norm(
        BatchNorm(epsilon=3.0), {"scale": jnp.array([4.0]), "shift": jnp.array([1.0])}, jnp.array([[1.0], [3.0]])
    )
    assert layer == Affine()
    assert_close(params, {"scale": np.array([2.0]), "shift": np.array([-3.0])})


def test_it_goes_into_the_linear_layer_before_it() -> None:
    x = draw(20, 3).astype(jnp.float32)
    model = sequential(Dense(4, use_bias=False), BatchNorm(), relu, BatchNorm(), Dense(2))
    params = random_params(model, x)
    folded, constants = fold_batch_norm(model, params, x)
    assert folded == sequential(Dense(4), relu, Affine(), Dense(2))
    assert constants[0]["b"].shape == (4,)
    assert constants[-1] is params[-1]


def test_a_linear_layer_of_one_sequential_is_not_folded_into_by_another() -> None:
    x = draw(20, 3).astype(jnp.float32)
    model = sequential(Dense(4), sequential(BatchNorm()))
    assert fold_batch_norm(model, random_params(model, x), x)[0] == sequential(Dense(4), sequential(Affine()))


def test_a_model_without_batch_norm_stays_as_it_is() -> None:
    x, model = draw(4, 3).astype(jnp.float32), sequential(Dense(4), LayerNorm(), relu)
    params = random_params(model, x)
    folded, constants = fold_batch_norm(model, params, x)
    assert folded == model
    assert all(a is b for a, b in zip(jax.tree.leaves(constants), jax.tree.leaves(params), strict=True))


def test_a_large_mean_costs_no_digits_in_float32() -> None:
    """Mean and variance from several batches near 1e4, in float32, are as good as in float64."""
    x = jnp.asarray(np.random.default_rng(SEED).standard_normal((1000, 3)) * [1, 2, 0.5] + 1e4, jnp.float32)
    params = {"scale": jnp.ones(3), "shift": jnp.zeros(3)}
    _, folded = fold_batch_norm(BatchNorm(), params, x, batch_size=64)
    exact = np.asarray(x, np.float64)
    scale = 1 / np.sqrt(exact.var(0) + 1e-5)
    np.testing.assert_allclose(folded["scale"], scale, rtol=1e-6)
    np.testing.assert_allclose(folded["shift"], -exact.mean(0) * scale, rtol=1e-6)


def test_under_jit() -> None:
    x = draw(20, 3).astype(jnp.float32)
    model = sequential(Dense(4), BatchNorm(), relu)
    params = random_params(model, x)
    compiled = jax.jit(lambda p, x: fold_batch_norm(model, p, x, batch_size=8)[1])(params, x)
    assert_close(compiled, fold_batch_norm(model, params, x)[1], 1e-5)


@dataclass(frozen=True)
class Twice:
    """A layer that holds another layer."""

    layer: Any

    def children(self) -> Any:
        return (("", self.layer),)

    def init(self, key: jax.Array, x: Any) -> Any:
        return self.layer.init(key, x)

    def apply(self, params: Any, x: Any, **options: Any) -> jax.Array:
        return self.layer.apply(params, self.layer.apply(params, x, **options), **options)


class Scaled(Dense):
    """A layer that does not compute what ``Dense`` does, so that nothing may be folded into it."""

    def apply(self, params: Any, x: Any, **options: Any) -> jax.Array:
        return 2 * super().apply(params, x, **options)


@pytest.mark.usefixtures("x64")
def test_a_subclass_is_not_taken_for_its_base() -> None:
    x, model = draw(20, 3), sequential(Scaled(4), BatchNorm())
    params = random_params(model, x)
    folded, constants = fold_batch_norm(model, params, x)
    assert folded == sequential(Scaled(4), Affine())
    assert_close(folded.apply(constants, x), model.apply(params, x), 1e-11)


X = jnp.ones((4, 3))
REFUSED = [
    (lambda: fold_batch_norm(BatchNorm(), {}, jnp.ones((0, 3))), ValueError, "fold_batch_norm: x has shape"),
    (lambda: fold_batch_norm(BatchNorm(), {}, X, batch_size=0), ValueError, "fold_batch_norm: batch_size is 0"),
    (lambda: fold_batch_norm(sequential(relu), (), X), ValueError, "params has 0 entries"),
    (
        lambda: fold_batch_norm(Twice(sequential(BatchNorm())), ({},), X),
        TypeError,
        r"Twice\(.*\) holds a BatchNorm where it is not looked for; .* then build Twice around it",
    ),
    (lambda: fold_batch_norm(as_custom_vjp(BatchNorm()), {}, X), TypeError, "CustomVJP"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
