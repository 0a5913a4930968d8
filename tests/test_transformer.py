"""Transformer blocks: causality, learning, structure and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Cost,
    Dense,
    GlobalAvgPool,
    LayerNorm,
    LearnedPositions,
    MultiHeadAttention,
    SinusoidalPositions,
    backprop,
    fit,
    losses,
    optimizers,
    sequential,
    transformer_block,
)
from tests.cases import random_params
from tests.compare import assert_close


def test_no_earlier_output_sees_a_later_step() -> None:
    block = sequential(SinusoidalPositions(), transformer_block(2, 4, causal=True, rotary=True))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 4)), "float32")
    params = random_params(block, x)
    apply = jax.jit(block.apply)
    before = apply(params, x)
    for t in range(6):
        after = apply(params, x.at[:, t, 0].add(1))
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any((0, 2)).all()


def test_a_transformer_learns_to_find() -> None:
    """It learns which of five steps is marked, by gradients by hand that equal those of autodiff."""
    generator = np.random.default_rng(0)
    place = generator.integers(0, 5, 64)
    x = 0.1 * generator.standard_normal((64, 5, 8)).astype("float32")
    x[np.arange(64), place, 0] += 2
    model = sequential(LearnedPositions(5), transformer_block(2, 8), LayerNorm(), GlobalAvgPool(), Dense(5))
    cost = Cost(model, losses.softmax_cross_entropy)
    params = model.init(jax.random.key(0), x)
    batch = (x, place)
    assert_close(*jax.jit(lambda p: (backprop.grad(cost)(p, batch), jax.grad(cost)(p, batch)))(params), 1e-4)
    result = fit(
        cost,
        optimizers.adam(0.02),
        params,
        batch,
        key=jax.random.key(1),
        epochs=60,
        batch_size=64,
        value_and_grad=backprop.value_and_grad,
    )
    assert result.history["cost"][-1] < 0.1


def test_each_head_has_its_share_of_the_features() -> None:
    assert transformer_block(2, 4).layers[0].layer.layers[1] == MultiHeadAttention(2, 2)


def test_dropout_of_a_transformer_block_needs_a_key() -> None:
    block, x = transformer_block(2, 4, dropout=0.5), jnp.ones((1, 2, 4))
    with pytest.raises(ValueError, match="key is None"):
        block.apply(block.init(jax.random.key(0), x), x, train=True)


def test_features_that_the_heads_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="features is 4, which 3 heads do not divide"):
        transformer_block(3, 4)
