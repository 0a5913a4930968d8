"""What is particular to the layers ``Conv`` and ``ConvTranspose``."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Conv, ConvTranspose, Cost, check_gradients, losses, relu, sequential
from fnnet.backprop import as_custom_vjp
from tests.cases import random_params
from tests.compare import assert_close


def key() -> jax.Array:
    """Made anew each time, as a key is used once."""
    return jax.random.key(0)


def output_shape(layer: Any, *shape: int) -> tuple[int, ...]:
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda x: layer.apply(layer.init(jax.random.key(0), x), x), x).shape


def test_known_answer() -> None:
    """A difference of neighbours, plus a bias; and with zeros beside the sequence."""
    params = {"w": jnp.array([-1.0, 1.0]).reshape(2, 1, 1), "b": jnp.array([10.0])}
    x = jnp.array([1.0, 4.0, 9.0, 16.0]).reshape(1, 4, 1)
    np.testing.assert_array_equal(Conv(1, 2).apply(params, x).ravel(), [13, 15, 17])
    np.testing.assert_array_equal(Conv(1, 2, padding=1).apply(params, x).ravel(), [11, 13, 15, 17, -6])
    np.testing.assert_array_equal(Conv(1, 2, stride=2).apply(params, x).ravel(), [13, 17])
    np.testing.assert_array_equal(Conv(1, 2, dilation=2).apply(params, x).ravel(), [18, 22])


def test_transpose_known_answer() -> None:
    """Every entry lays the kernel, times itself, onto the output."""
    params = {"w": jnp.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)}
    x = jnp.array([1.0, 10.0]).reshape(1, 2, 1)
    layer = ConvTranspose(1, 3, use_bias=False)
    np.testing.assert_array_equal(layer.apply(params, x).ravel(), [1, 12, 23, 30])
    layer = ConvTranspose(1, 3, stride=2, use_bias=False)
    np.testing.assert_array_equal(layer.apply(params, x).ravel(), [1, 2, 13, 20, 30])


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Conv(20, 5), (64, 28, 28, 1), (64, 24, 24, 20)),
        (Conv(8, 3, padding="SAME"), (2, 7, 6, 3), (2, 7, 6, 8)),
        (Conv(8, 3, stride=2, padding="SAME"), (2, 7, 6, 3), (2, 4, 3, 8)),
        (Conv(8, (3, 5), padding=((1, 1), 2)), (2, 7, 6, 3), (2, 7, 6, 8)),
        (Conv(8, 3, dilation=2), (2, 7, 3), (2, 3, 8)),
        (Conv(8, 2), (2, 3, 4, 5, 1), (2, 2, 3, 4, 8)),
        (Conv(8, (4, 3)), (1, 4, 3, 1), (1, 1, 1, 8)),
        (ConvTranspose(8, 3, stride=2, padding="SAME"), (2, 4, 3, 3), (2, 8, 6, 8)),
        (ConvTranspose(8, 2, stride=3, padding="SAME"), (2, 4, 3), (2, 12, 8)),
        (ConvTranspose(8, 3, stride=2, padding=1, output_padding=1), (2, 4, 3, 3), (2, 8, 6, 8)),
        (ConvTranspose(8, 3, dilation=2), (2, 4, 3), (2, 8, 8)),
    ],
    ids=repr,
)
def test_output_shape(layer: Any, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert output_shape(layer, *shape) == expected


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, "VALID", 1), (2, "SAME", 2), (3, 1, 2)])
def test_the_transpose_is_the_transpose(stride: int, padding: Any, groups: int) -> None:
    """``⟨Conv x, v⟩ = ⟨x, ConvTranspose v⟩`` with the same kernel, channels and filters exchanged."""
    sizes = {"stride": stride, "padding": padding, "groups": groups, "use_bias": False}
    conv, generator = Conv(6, 3, **sizes), np.random.default_rng(0)
    length = {1: 6, 2: 6, 3: 7}[stride]
    x = jnp.asarray(generator.standard_normal((2, length, length, 4)))
    params = random_params(conv, x)
    y = conv.apply(params, x)
    v = jnp.asarray(generator.standard_normal(y.shape))
    w = params["w"].reshape(3, 3, 4 // groups, groups, 6 // groups)
    back = ConvTranspose(4, 3, **sizes).apply({"w": w.swapaxes(2, 4).reshape(3, 3, 6 // groups, 4)}, v)
    assert_close(jnp.vdot(y, v), jnp.vdot(x, back), 1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv(3, 2, 2, 1), (2, 4, 5, 2)),
        (Conv(4, 3, groups=2, method="patches"), (2, 5, 4)),
        (ConvTranspose(3, 3, 2, "SAME"), (2, 3, 2, 2)),
    ],
    ids=repr,
)
def test_check_gradients(layer: Any, shape: tuple[int, ...]) -> None:
    x = jnp.asarray(np.random.default_rng(1).standard_normal(shape))
    assert check_gradients(layer, random_params(layer, x), x).ok


@pytest.mark.usefixtures("x64")
def test_in_a_network_with_a_cost() -> None:
    model = sequential(Conv(4, 3, padding="SAME"), relu, Conv(2, 3, stride=2), relu)
    cost = Cost(model, losses.squared_error)
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((3, 6, 6, 1)), generator.standard_normal((3, 2, 2, 2))
    params = random_params(model, jnp.asarray(x))
    assert check_gradients(cost, params, (jnp.asarray(x), jnp.asarray(y))).ok
    assert_close(
        jax.grad(Cost(as_custom_vjp(model), losses.squared_error))(params, (x, y)), jax.grad(cost)(params, (x, y))
    )


def test_starts_he_normal_by_the_inputs_of_one_output() -> None:
    params = Conv(64, 3, groups=2).init(key(), jax.ShapeDtypeStruct((1, 8, 8, 64), jnp.float32))
    assert params["w"].shape == (3, 3, 32, 64)
    assert float(params["w"].var()) == pytest.approx(2 / (9 * 32), rel=0.05)  # standard error √(2 / 18432) = 1 %
    np.testing.assert_array_equal(params["b"], np.zeros(64))


def test_lists_become_tuples_and_defaults_are_not_shown() -> None:
    layer = Conv(8, [3, 3], stride=[1, 2], padding=[[1, 1], 0])
    assert layer == Conv(8, (3, 3), stride=(1, 2), padding=((1, 1), 0))
    assert hash(layer) == hash(Conv(8, (3, 3), stride=(1, 2), padding=((1, 1), 0)))
    assert repr(Conv(20, 5)) == "Conv(features=20, kernel_size=5)"


X = jnp.ones((2, 5, 5, 4))
REFUSED = [
    (lambda: Conv(0, 3), "Conv: features is 0"),
    (lambda: Conv(8, 0), "Conv: kernel_size is 0"),
    (lambda: Conv(8, (3, 2.0)), "kernel_size is 2.0"),
    (lambda: Conv(8, 3, stride=-1), "stride is -1"),
    (lambda: Conv(8, 3, padding="valid"), "Conv: padding is 'valid'; expected 'VALID', 'SAME'"),
    (lambda: Conv(8, 3, padding=((1, 2, 3),)), "padding is"),
    (lambda: Conv(8, 3, groups=3), "Conv: groups is 3, which must divide the 8 features"),
    (lambda: Conv(8, 3, method="winograd"), "Conv: method is 'winograd'; expected one of 'auto', 'patches', 'xla'"),
    (lambda: ConvTranspose(8, 3, stride=2, output_padding=2).init(key(), X), "output_padding is 2 but stride is"),
    (
        lambda: ConvTranspose(8, 3, stride=2, padding="SAME", output_padding=1).init(key(), X),
        "with 'SAME' it must be 0",
    ),
    (lambda: ConvTranspose(8, 3, padding=4).init(key(), X), r"would become an image of shape \(-1, -1\)"),
    (lambda: Conv(8, 6).init(key(), X), r"the kernel \(6, 6\) is larger than the padded image \(5, 5\)"),
    (lambda: Conv(6, 3, groups=3).init(key(), X), "groups is 3 but x has 4 channels"),
    (lambda: Conv(8, 3).init(key(), jnp.ones((5, 4))), r"x has shape \(5, 4\); expected 1 or more spatial axes"),
    (lambda: Conv(8, (3, 3)).init(key(), jnp.ones((2, 5, 4))), r"x has shape \(2, 5, 4\); expected 2 spatial axes"),
    (
        lambda: Conv(8, 3, stride=(1, 2)).init(key(), jnp.ones((2, 5, 4))),
        "stride is .* with 2 entries, but there are 1",
    ),
    (
        lambda: Conv(8, 3).apply(Conv(8, 3).init(key(), X), X[0]),
        r"x has shape \(5, 5, 4\) but w has shape \(3, 3, 4, 8\)",
    ),
    (lambda: Conv(8, 3).apply(Conv(8, 3).init(key(), X), X[..., :3]), r"expected w \(3, 3, 3, 8\): reshape x"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_dtypes_are_not_mixed() -> None:
    params = Conv(8, 3).init(key(), X)
    with pytest.raises(TypeError, match=r"Conv\(features=8, kernel_size=3\): x has dtype bfloat16 but w has float32"):
        Conv(8, 3).apply(params, X.astype(jnp.bfloat16))
    with pytest.raises(TypeError, match="x has dtype int32"):
        Conv(8, 3).init(key(), jnp.ones((2, 5, 5, 4), int))
