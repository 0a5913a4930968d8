"""Attention: equality with loops, the plain formula and PyTorch; masks, extremes, memory and errors."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import MultiHeadAttention, backprop, check_gradients
from fnnet.backprop import attend_vjp
from fnnet.backprop.layers.attention import attention_backward, attention_forward
from fnnet.layers.attention import AttentionBlocks, dot_product_attention
from tests.cases import random_params
from tests.compare import assert_close
from tests.reference import attention as reference
from tests.reference.recurrent import complex_step_gradient
from tests.shards import assert_sharded_alike

FEATURES = 4
LENGTHS = np.array([7, 4, 0])


def arrays_for(layer: MultiHeadAttention, steps: int, examples: int = 3, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return random parameters, inputs and gradients of the output."""
    generator = np.random.default_rng(seed)
    x, dy = jnp.asarray(generator.standard_normal((2, examples, steps, FEATURES)))
    return random_params(layer, x), x, dy


def mask_of(steps: int) -> np.ndarray:
    """Return a mask in which the last example has no step at all."""
    return np.arange(steps) < LENGTHS[:, None]


def plain(layer: MultiHeadAttention, params: Any, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Compute the formula with all scores at once."""
    q, k, v = layer.project(params, x)
    seen = jnp.tril(jnp.ones((x.shape[1],) * 2, bool), 0 if layer.causal else x.shape[1])
    seen = seen if mask is None else seen & mask[:, None, None, :]
    s = jnp.where(seen, jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(q.shape[-1]), -1e300)
    p = jnp.where(seen, jax.nn.softmax(s), 0)
    return layer.output(params, jnp.einsum("nhqk,nkhd->nqhd", p, v), mask)


CONFIGURATIONS = [
    ("plain", MultiHeadAttention(2), 7, False),
    ("one step", MultiHeadAttention(2, causal=True, rotary=True), 1, False),
    ("one head, one feature", MultiHeadAttention(1, 1, block=2), 4, False),
    ("blocks, causal", MultiHeadAttention(2, causal=True, block=2), 6, False),
    ("blocks and mask", MultiHeadAttention(2, block=3), 7, True),
    ("everything", MultiHeadAttention(3, 4, True, True, False, block=4), 7, True),
]


@pytest.mark.parametrize(
    ("layer", "steps", "masked"), [row[1:] for row in CONFIGURATIONS], ids=[r[0] for r in CONFIGURATIONS]
)
@pytest.mark.usefixtures("x64")
def test_equals_the_plain_formula_and_its_gradient(layer: MultiHeadAttention, steps: int, masked: bool) -> None:
    params, x, dy = arrays_for(layer, steps)
    mask = jnp.asarray(mask_of(steps)) if masked else None

    @jax.jit
    def run(params: Any, x: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(
            lambda p, x: plain(layer, p, jnp.where(mask[..., None], x, 0) if masked else x, mask), params, x
        )
        in_blocks, of_blocks = jax.vjp(lambda p, x: layer.attend(p, x, mask), params, x)
        by_hand, of_hand = attend_vjp(layer, params, x, mask)
        return [(y, pullback(dy)), (in_blocks, of_blocks(dy)), (by_hand, of_hand(dy))]

    expected, by_autodiff, by_hand = run(params, x, dy)
    assert_close(by_autodiff, expected, 1e-12)
    assert_close(by_hand, expected, 1e-12)


def test_what_keys_that_do_not_exist_hold_changes_nothing() -> None:
    q, k, v = (jnp.asarray(np.random.default_rng(i).standard_normal((2, 3, 1, 2)), "float32") for i in range(3))
    mask = jnp.array([[True, False, True], [True, True, False]])
    spoiled = (jnp.where(mask[..., None, None], a, jnp.nan) for a in (k, v))
    assert_close(dot_product_attention(q, *spoiled, mask=mask), dot_product_attention(q, k, v, mask=mask), 0)


@pytest.mark.parametrize(("causal", "rotary"), [(False, False), (True, True)])
@pytest.mark.usefixtures("x64")
def test_equals_loops_and_complex_steps(causal: bool, rotary: bool) -> None:
    layer = MultiHeadAttention(2, causal=causal, rotary=rotary, block=2)
    params, x, dy = arrays_for(layer, 3, 2)
    mask = np.array([[True, False, True], [True, True, True]])
    y, pullback = attend_vjp(layer, params, x, jnp.asarray(mask))
    leaves, structure = jax.tree.flatten((params, x))

    def loops(arrays: Any) -> np.ndarray:
        p, xs = jax.tree.unflatten(structure, [np.asarray(a) for a in arrays])
        return reference.multi_head_attention(p, xs, mask, 2, causal=causal, rotary=rotary)

    assert_close(y, loops(leaves).real)
    expected = complex_step_gradient(
        lambda arrays: (np.asarray(dy) * loops(arrays)).sum(), [np.asarray(a) for a in leaves]
    )
    assert_close(pullback(dy), jax.tree.unflatten(structure, expected))


@pytest.mark.usefixtures("x64")
def test_padding_changes_nothing() -> None:
    """Results and gradients do not depend on steps that do not exist, even if they hold NaN."""
    layer = MultiHeadAttention(2, block=3)
    params, x, dy = arrays_for(layer, 7)
    mask = jnp.asarray(mask_of(7))

    @jax.jit
    def run(params: Any, x: Any) -> Any:
        by_hand, pullback = attend_vjp(layer, params, x, mask)
        by_autodiff, pullback_of_autodiff = jax.vjp(lambda p, x: layer.attend(p, x, mask), params, x)
        return (by_hand, pullback(dy)), (by_autodiff, pullback_of_autodiff(dy))

    both, filled = run(params, x), run(params, jnp.where(mask[..., None], x, jnp.nan))
    assert_close(filled, both, 0)
    for y, (_, dx) in both:
        assert not np.asarray(y)[~np.asarray(mask)].any()
        assert not np.asarray(dx)[~np.asarray(mask)].any()
        assert_close(y[1:2, :4], layer.apply(params, x[1:2, :4]), 1e-14)


def test_a_query_that_sees_no_key_gives_zero() -> None:
    q, k, v = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 5, 2, 3)), "float32")
    mask = jnp.asarray([[False] * 5, [False, False, True, True, True]])
    o = dot_product_attention(q, k, v, mask=mask, causal=True, block=2)
    assert not np.asarray(o)[0].any()
    assert not np.asarray(o)[1, :2].any()
    np.testing.assert_allclose(o[1, 2], v[1, 2], rtol=1e-6)
    gradients = jax.grad(lambda *a: dot_product_attention(*a, mask=mask, causal=True, block=2).sum(), (0, 1, 2))(
        q, k, v
    )
    assert np.isfinite(np.asarray(gradients)).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_extreme_scores_are_finite_and_right(dtype: str) -> None:
    """With scores of ±1e4 the largest takes all the weight, and only its value has a gradient."""
    q, k = jnp.full((1, 5, 1, 4), 100.0, dtype), jnp.zeros((1, 5, 1, 4), dtype).at[0, 1].set(50).at[0, 3].set(-50)
    v = jnp.arange(20.0).reshape(1, 5, 1, 4).astype(dtype)
    o, pullback = jax.vjp(partial(dot_product_attention, block=2), q, k, v)
    np.testing.assert_array_equal(o, jnp.broadcast_to(v[:, 1:2], o.shape))
    dq, dk, dv = pullback(jnp.ones_like(o))
    np.testing.assert_array_equal(dv, jnp.zeros_like(v).at[0, 1].set(5))
    assert not np.asarray(dq, "float32").any()
    assert not np.asarray(dk, "float32").any()
    rule = attention_forward(q, k, v, None, AttentionBlocks.of(q.shape, 2, False))
    for by_hand, expected in zip(
        attention_backward(rule[1], jnp.ones_like(o), AttentionBlocks.of(q.shape, 2, False)),
        (dq, dk, dv),
        strict=True,
    ):
        np.testing.assert_array_equal(by_hand, expected)


def bytes_of_gradients(steps: int, by_hand: bool) -> int:
    """Return the temporary memory of the compiled forward and backward pass."""
    layer = MultiHeadAttention(1, 8, causal=True, block=128)
    x = jax.ShapeDtypeStruct((1, steps, 8), jnp.float32)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)

    def run(params: Any, x: Any, dy: Any) -> Any:
        vjp = partial(backprop.vjp, layer) if by_hand else partial(jax.vjp, layer.apply)
        return vjp(params, x)[1](dy)

    return jax.jit(run).lower(params, x, x).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("by_hand", [True, False], ids=["rule", "autodiff"])
def test_memory_is_linear_in_the_steps(by_hand: bool) -> None:
    used = [bytes_of_gradients(steps, by_hand) for steps in (512, 1024, 2048, 4096)]
    assert all(twice <= 2.2 * once for once, twice in pairwise(used)), used
    assert used[-1] < 4096 * 4096 * 4 / 8  # an eighth of the whole matrix of scores


@pytest.mark.usefixtures("x64")
def test_derivatives_of_derivatives() -> None:
    """Second derivatives, by autodiff and by forward mode through the rule, equal those of the plain formula."""
    layer = MultiHeadAttention(1, 2, causal=True, block=2)
    params, x, dy = arrays_for(layer, 3, 1)
    by_rule = backprop.as_custom_vjp(layer)
    of = {
        "plain": lambda x: plain(layer, params, x, None),
        "blocks": partial(layer.apply, params),
        "rule": partial(by_rule.apply, params),
    }

    @jax.jit
    def products(x: Any) -> Any:
        def along(f: Any) -> Any:
            return jax.jvp(jax.grad(lambda x: jnp.sin(f(x)).sum()), (x,), (dy,))[1]

        def twice_back(f: Any) -> Any:
            return jax.grad(lambda x: jnp.vdot(jax.grad(lambda x: jnp.sin(f(x)).sum())(x), dy))(x)

        return {name: along(f) for name, f in of.items()}, twice_back(of["blocks"])

    forward, back = products(x)
    for name in ("blocks", "rule"):
        assert_close(forward[name], forward["plain"], 1e-11)
    assert_close(back, forward["plain"], 1e-11)


@pytest.mark.parametrize("causal", [False, True])
def test_equals_pytorch(causal: bool) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    q, k, v, do = generator.standard_normal((4, 2, 7, 3, 4)).astype(np.float32)
    theirs = [torch.tensor(a.swapaxes(1, 2), requires_grad=True) for a in (q, k, v)]
    o = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal)
    o.backward(torch.tensor(do.swapaxes(1, 2)))
    ours, residuals = attention_forward(*map(jnp.asarray, (q, k, v)), None, AttentionBlocks.of(q.shape, 3, causal))
    gradients = attention_backward(residuals, jnp.asarray(do), AttentionBlocks.of(q.shape, 3, causal))
    np.testing.assert_allclose(ours, o.detach().numpy().swapaxes(1, 2), atol=2e-6)
    for mine, theirs_ in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(mine, theirs_.grad.numpy().swapaxes(1, 2), atol=5e-6)


def test_low_precision_is_as_good_as_autodiffs() -> None:
    layer = MultiHeadAttention(2, causal=True, block=3)
    x = np.random.default_rng(0).standard_normal((2, 7, FEATURES))
    params = layer.init(jax.random.key(0), x)
    report = check_gradients(layer, params, x, dtype="bfloat16", differences=False)
    assert report.ok, str(report)


def test_shard_map() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 2)), "float32")
    assert_sharded_alike(MultiHeadAttention(1, 2, causal=True, block=2), x)


def test_no_examples_give_no_outputs() -> None:
    y, pullback = backprop.vjp(LAYER, PARAMS, X[:0])
    assert y.shape == (0, 3, 4)
    assert_close(pullback(y), (jax.tree.map(jnp.zeros_like, PARAMS), X[:0]))


X = jnp.ones((2, 3, 4))
LAYER = MultiHeadAttention(2)
PARAMS = LAYER.init(jax.random.key(0), X)
KEY = jax.random.key(0)
REFUSED = [
    (lambda: MultiHeadAttention(0), ValueError, "MultiHeadAttention: heads is 0"),
    (lambda: MultiHeadAttention(2, 0), ValueError, "head_features is 0"),
    (lambda: MultiHeadAttention(2, block=0), ValueError, "block is 0"),
    (lambda: MultiHeadAttention(2, 3, rotary=True), ValueError, "head_features is 3; expected an even number"),
    (lambda: MultiHeadAttention(4, rotary=True).init(KEY, X), ValueError, "1 for each head; expected an even number"),
    (lambda: MultiHeadAttention(3).init(KEY, X), ValueError, "x has 4 features, which 3 heads do not divide"),
    (lambda: LAYER.init(KEY, X[0]), ValueError, r"x has shape \(3, 4\); expected \(N, T, D\)"),
    (lambda: LAYER.init(KEY, X.astype(int)), TypeError, "x has dtype int32"),
    (lambda: LAYER.apply(PARAMS, X[0]), ValueError, r"x has shape \(3, 4\); expected \(N, T, D\)"),
    (lambda: LAYER.apply(PARAMS, X[:, :0]), ValueError, "with no time steps"),
    (lambda: LAYER.apply(PARAMS, X[..., :2]), ValueError, r"x has shape \(2, 3, 2\) but w_q has shape \(4, 4\)"),
    (lambda: LAYER.apply(PARAMS, X.astype("bfloat16")), TypeError, "x has dtype bfloat16 but w_q has float32"),
    (lambda: LAYER.attend(PARAMS, X, jnp.ones((2, 4), bool)), ValueError, r"mask has shape \(2, 4\)"),
    (lambda: LAYER.attend(PARAMS, X, jnp.ones((2, 3))), ValueError, r"dtype float32; expected \(2, 3\), boolean"),
    (lambda: attend_vjp(LAYER, PARAMS, X, jnp.ones(3, bool)), ValueError, r"mask has shape \(3,\)"),
    (lambda: attend_vjp(LAYER, PARAMS, X)[1](X[:1]), ValueError, r"attend_vjp: dy has shape \(1,"),
    (lambda: dot_product_attention(X, X, X), ValueError, r"expected all alike, \(N, T, heads, features\)"),
    (
        lambda: dot_product_attention(*[X[None]] * 3, mask=jnp.ones(3)),
        ValueError,
        r"mask has shape \(3,\) .*expected \(1, 2\)",
    ),
    (lambda: dot_product_attention(*[X[None]] * 3, block=0), ValueError, "block is 0"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
