"""What every layer says about arguments that do not fit, and what it computes for those at the edge."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    Dropout,
    GaussianNoise,
    GroupNorm,
    LayerNorm,
    LowPrecision,
    LSTMCell,
    Recurrent,
    backprop,
    bind,
    initializers,
    optimizers,
    penalties,
    projections,
    schedules,
    sequential,
    transformer_block,
)
from fnnet.backprop import as_custom_vjp
from fnnet.backprop.custom_vjp import CustomVJP
from fnnet.backprop.penalties import penalty_gradient
from fnnet.paths import named_leaves
from tests.cases import ACTIVATIONS, NOT_ELEMENTWISE, OF_TOKENS, ONE_OF_EACH, LayerCase

X = jnp.asarray(np.random.default_rng(0).standard_normal((4, 6)), "float32")
WITH_PARAMS = [case for case in ONE_OF_EACH if jax.tree.leaves(case.params("float32"))]
NOT_ACTIVATIONS = [case for case in [*NOT_ELEMENTWISE, *OF_TOKENS] if case.shape and case not in ACTIVATIONS]


@pytest.mark.parametrize("case", WITH_PARAMS, ids=str)
def test_every_parameter_of_another_shape_or_dtype_is_refused(case: LayerCase) -> None:
    """By ``apply`` and by the rule, while tracing; the error names the parameter, what came and what was expected."""
    layer, x = case.build(), case.x("float32")
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    leaves, structure = jax.tree.flatten(params)
    for i, (name, p) in enumerate(named_leaves(params)):
        wrong = [(1, *p.shape), (*p.shape[:-1], p.shape[-1] + 1), p.shape[:-1] if p.ndim > 1 else (p.shape[0] + 2,)]
        changed = [jax.ShapeDtypeStruct(shape, p.dtype) for shape in wrong]
        if not isinstance(layer, LowPrecision) and len(leaves) > 1:
            changed.append(jax.ShapeDtypeStruct(p.shape, "bfloat16"))
        for bad in changed:
            tree = structure.unflatten([*leaves[:i], bad, *leaves[i + 1 :]])
            for run in (layer.apply, lambda *arguments, **options: backprop.vjp(layer, *arguments, **options)[0]):
                with pytest.raises((ValueError, TypeError)) as caught:
                    jax.eval_shape(lambda p, x: run(p, x, **case.options()), tree, x)  # noqa: B023
                message = str(caught.value)
                assert name.split(".")[-1] in message, message
                assert (str(bad.shape) in message and str(p.shape) in message) or "bfloat16" in message, message
                assert "expected" in message or "convert" in message, message


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_init_of_no_key_or_no_array_is_refused(case: LayerCase) -> None:
    layer, x = case.build(), case.x("float32")
    with pytest.raises(TypeError, match=r"key is 0; expected a random key, such as jax.random.key\(0\)"):
        layer.init(0, x)
    with pytest.raises(TypeError, match=r"x is \(.*\); expected an array, or jax.ShapeDtypeStruct"):
        layer.init(jax.random.key(0), tuple(x.shape))


@pytest.mark.parametrize("case", NOT_ACTIVATIONS, ids=str)
def test_empty_axes(case: LayerCase) -> None:
    """The result is empty or right, or the error names the layer; no error comes from elsewhere."""
    layer, x, params = case.build(), case.x("float32"), jax.eval_shape(lambda: case.params("float32"))
    for axis in range(x.ndim):
        empty = jax.eval_shape(lambda x: jax.lax.slice_in_dim(x, 0, 0, axis=axis), x)  # noqa: B023

        def run(p: Any, x: Any) -> Any:
            y, pullback = backprop.vjp(layer, p, x, **case.options())
            return layer.apply(p, x, **case.options()), pullback(y)

        try:
            y, (dparams, _) = jax.eval_shape(run, params, empty)
        except (ValueError, TypeError) as error:
            said = any(mend in str(error) for mend in ("expected", "need at least", "use ", "give "))
            assert said and (axis > 0 or case.mixes_examples or len(case.shape) == 1), error  # noqa: PT017, PT018
        else:
            assert dparams == params
            assert axis > 0 or y.size == 0 or case.mixes_examples


def test_parameters_in_another_order_or_of_other_names() -> None:
    images = jnp.ones((2, 9, 9, 3))
    mend = r"its axes stand in another order, transpose it with jnp.transpose\(w, {}\)"
    for layer, x, shape, order in (
        (Conv(8, (5, 4)), images, (8, 3, 5, 4), r"\(2, 3, 1, 0\)"),
        (Conv(3, 3), images, (3, 3, 3, 4), None),  # of another shape
        (Conv(8, 5), images[:, :, 0], (8, 3, 5), r"\(2, 1, 0\)"),
        (Dense(2), X, (2, 6), r"\(1, 0\)"),
    ):
        with pytest.raises(ValueError, match=mend.format(order) if order else "expected w .*: reshape x, or init"):
            layer.apply({"w": jnp.ones(shape), "b": jnp.ones(layer.features)}, x)
    for params in ({"w": jnp.ones((6, 2))}, {"w": jnp.ones((6, 2)), "bias": jnp.ones(2)}, (), None):
        with pytest.raises(ValueError, match=r"Dense\(features=2\): params is .*expected a dict of \['b', 'w'\]"):
            Dense(2).apply(params, X)


@pytest.mark.parametrize("layer", [Conv(2, 3), ConvTranspose(2, 3)], ids=["Conv", "ConvTranspose"])
def test_images_without_an_axis_for_channels_give_a_warning(layer: Any) -> None:
    with pytest.warns(UserWarning, match=r"taken as sequences of 8 channels.*kernel_size=\(3,\)"):
        layer.init(jax.random.key(0), jnp.ones((5, 8, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.init(jax.random.key(0), jnp.ones((5, 8, 8, 1)))
        layer.init(jax.random.key(0), jnp.ones((5, 8, 7)))
        type(layer)(2, (3,)).init(jax.random.key(0), jnp.ones((5, 8, 8)))


@pytest.mark.parametrize("kind", [Conv, ConvTranspose])
@pytest.mark.parametrize(
    ("draw", "variance"),
    [
        (initializers.glorot_normal, 2 / (9 * 4 + 9 * 2)),
        (initializers.glorot_uniform, 2 / (9 * 4 + 9 * 2)),
        (initializers.he_normal, 2 / (9 * 4)),
        (initializers.he_uniform, 2 / (9 * 4)),
        (initializers.lecun_normal, 1 / (9 * 4)),
        (initializers.lecun_uniform, 1 / (9 * 4)),
    ],
)
def test_fans_of_grouped_convolutions(kind: Any, draw: Any, variance: float) -> None:
    """64 groups of 4 channels and 2 filters: 4608 numbers, so that 6 standard errors are 12.5 %."""
    w = kind(128, 3, groups=64, w_init=draw).init(jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 256), "float32"))[
        "w"
    ]
    assert w.shape == (3, 3, 4, 128)
    assert float(w.var()) == pytest.approx(variance, rel=6 * math.sqrt(2 / w.size))
    assert float(jnp.abs(w[..., :64] - w[..., 64:]).min()) > 0  # no two groups are alike


def of_layer(make: Callable[[Any], Any], shape: tuple[int, ...] = (4, 6)) -> Callable[[Any, str], Any]:
    """Return a function of a number that applies the layer, and the rule, in training."""

    def run(number: Any, dtype: str) -> Any:
        layer, x = make(number), jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
        params = layer.init(jax.random.key(1), x)
        if isinstance(layer, CustomVJP):
            y, pullback = jax.vjp(lambda p, x: layer.apply(p, x, key=jax.random.key(2), train=True), params, x)
        else:
            y, pullback = backprop.vjp(layer, params, x, key=jax.random.key(2), train=True)
        return y, pullback(y), layer.apply(params, x, key=jax.random.key(2), train=True)

    return run


def drawn(draw: Any, name: str, **options: Any) -> Callable[[Any, str], Any]:
    return lambda number, dtype: draw(jax.random.key(3), (3, 3), dtype, **{name: number}, **options)


def of_penalty(make: Any) -> Callable[[Any, str], Any]:
    return lambda number, dtype: (
        make(number)({"w": X.astype(dtype)}),
        penalty_gradient(make(number), {"w": X.astype(dtype)}),
    )


def at_seven(make: Any) -> Callable[[Any, str], Any]:
    return lambda number, dtype: make(number)(jnp.int32(7))


def plateau(number: Any, dtype: str) -> Any:
    init, update = schedules.reduce_on_plateau(number, 0, tolerance=number, lowest=number / 2)
    return update(update(init(), 1.0), 2.0)


def projected(number: Any, dtype: str) -> Any:
    optimizer = optimizers.project(bind(projections.box, low=-number, high=number))
    tree = {"w": X.astype(dtype)}
    return optimizer.update(tree, optimizer.init(tree), tree)[0]


OF_A_NUMBER: dict[str, Callable[[Any, str], Any]] = {
    "Dropout": of_layer(Dropout),
    "GaussianNoise": of_layer(GaussianNoise),
    "LayerNorm": of_layer(LayerNorm),
    "GroupNorm": of_layer(lambda n: GroupNorm(2, n)),
    "BatchNorm": of_layer(BatchNorm),
    "LSTMCell": of_layer(lambda n: Recurrent(LSTMCell(2, n)), (2, 2, 3)),
    "transformer_block": of_layer(lambda n: transformer_block(1, 2, dropout=n), (2, 2, 2)),
    "LowPrecision": of_layer(lambda n: LowPrecision(sequential(Dense(3), Dropout(n), LayerNorm(n)))),
    "as_custom_vjp": of_layer(lambda n: as_custom_vjp(sequential(Dense(3), Dropout(n), LayerNorm(n)))),
    "normal": drawn(initializers.normal, "stddev"),
    "uniform": drawn(initializers.uniform, "limit"),
    "identity": drawn(initializers.identity, "scale"),
    "orthogonal": drawn(initializers.orthogonal, "gain"),
    "with_spectral_radius": drawn(initializers.with_spectral_radius, "radius"),
    "box": lambda n, dtype: projections.box(X.astype(dtype), low=-n, high=n),
    "max_norm": lambda n, dtype: projections.max_norm(X.astype(dtype), limit=n),
    "simplex": lambda n, dtype: projections.simplex(X.astype(dtype), total=n),
    "project": projected,
    "l1": of_penalty(penalties.l1),
    "l2": of_penalty(penalties.l2),
    "elastic_net": of_penalty(lambda n: penalties.elastic_net(n, n)),
    "constant": at_seven(schedules.constant),
    "step_decay": at_seven(lambda n: schedules.step_decay(n, n, 3)),
    "piecewise": at_seven(lambda n: schedules.piecewise([3], [n, 2 * n])),
    "exponential": at_seven(lambda n: schedules.exponential(n, n, n)),
    "inverse_time": at_seven(lambda n: schedules.inverse_time(n, n, n)),
    "polynomial": at_seven(lambda n: schedules.polynomial(n, n / 2, 10, n)),
    "cosine": at_seven(lambda n: schedules.cosine(n, 10, n / 2)),
    "cosine_restarts": at_seven(lambda n: schedules.cosine_restarts(n, 3, 2, n / 2)),
    "warmup": at_seven(lambda n: schedules.warmup(n, 10, n / 2)),
    "one_cycle": at_seven(lambda n: schedules.one_cycle(n, 10, rise=n, start_factor=n, end_factor=n)),
    "reduce_on_plateau": plateau,
}

SLOW_TO_COMPILE = ("LSTMCell", "transformer_block", "orthogonal", "with_spectral_radius", "GroupNorm", "LowPrecision")


def test_numbers_may_be_traced() -> None:
    """A number that is an argument of the compiled program, one of several at once, gives what it gives in Python."""

    def run(number: Any) -> Any:
        return {name: f(number, "float32") for name, f in OF_A_NUMBER.items() if name not in SLOW_TO_COMPILE}

    together = jax.jit(jax.vmap(run))(jnp.array([0.3, 0.2], "float32"))
    alone = jax.jit(lambda: (run(0.3), run(0.2)))()
    for i in range(2):
        for (name, expected), found in zip(named_leaves(alone[i]), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", OF_A_NUMBER)
def test_traced_numbers_promote_nothing(name: str) -> None:
    with_python = jax.eval_shape(lambda: OF_A_NUMBER[name](0.3, "bfloat16"))
    assert jax.eval_shape(lambda n: OF_A_NUMBER[name](n, "bfloat16"), jnp.float32(0.3)) == with_python
