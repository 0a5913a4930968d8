"""Double-length arithmetic, compiled, against exact rational arithmetic and 50 digits."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp

from fnnet.backprop import precise
from fnnet.backprop.precise import Double, double, two_product, two_sum
from tests.cases import SEED

Array = np.ndarray[Any, Any]
COUNT = 2000
CONSTANTS = [1.0, -0.3, 3e4]


def numbers(seed: int) -> Array:
    """Of both signs and many sizes."""
    random = np.random.default_rng(SEED + seed)
    return (random.standard_normal(COUNT) * 10 ** random.uniform(-6, 6, COUNT)).astype(np.float32)


def doubles(seed: int) -> Any:
    """``(high, low)``, and the fractions that they are."""
    high = numbers(seed)
    low = (high * np.random.default_rng(SEED).uniform(-3e-8, 3e-8, COUNT)).astype(np.float32)
    return (high, low), fractions(high, low)


def fractions(*parts: Any) -> list[Fraction]:
    return [sum(map(Fraction, map(float, each)), Fraction(0)) for each in zip(*map(np.ravel, parts), strict=True)]


def compiled(f: Callable[..., Double], *inputs: Any) -> list[Fraction]:
    def parts(*inputs: Any) -> Any:
        result = f(*inputs)
        return result.high, result.low

    return fractions(*jax.jit(parts)(*inputs))


def error(found: list[Fraction], expected: list[Fraction], sizes: list[Fraction]) -> float:
    return max(float(abs(a - b) / size) for a, b, size in zip(found, expected, sizes, strict=True))


def relative_error(found: list[Fraction], expected: list[Any]) -> float:
    with mp.workdps(50):
        exact = [mp.mpf(a.numerator) / a.denominator for a in found]
        return max(float(abs(a / b - 1)) for a, b in zip(exact, expected, strict=True))


def test_sum_and_product_are_exact() -> None:
    a, b = numbers(0), numbers(1)
    pairs = list(zip(fractions(a), fractions(b), strict=True))
    assert compiled(two_sum, a, b) == [x + y for x, y in pairs]
    assert compiled(two_product, a, b) == [x * y for x, y in pairs]


@pytest.mark.parametrize("constant", CONSTANTS)
def test_exact_also_with_constants(constant: float) -> None:
    """Which XLA knows while it simplifies: of (a + c) − c it makes a."""
    a, c = numbers(0), jnp.full(COUNT, constant, jnp.float32)
    exact, known = fractions(a), Fraction(float(np.float32(constant)))
    assert compiled(lambda a: two_sum(a, c), a) == [x + known for x in exact]
    assert compiled(lambda a: two_sum(c, a), a) == [x + known for x in exact]
    assert compiled(lambda a: two_product(c, a), a) == [x * known for x in exact]


def test_operations() -> None:
    (a, x), (b, y) = doubles(0), doubles(1)
    pairs = list(zip(x, y, strict=True))
    sizes = [abs(p) + abs(q) for p, q in pairs]
    assert error(compiled(lambda a, b: Double(*a) + Double(*b), a, b), [p + q for p, q in pairs], sizes) < 2**-46
    assert error(compiled(lambda a, b: Double(*a) - Double(*b), a, b), [p - q for p, q in pairs], sizes) < 2**-46
    products, ratios = [p * q for p, q in pairs], [p / q for p, q in pairs]
    assert error(compiled(lambda a, b: Double(*a) * Double(*b), a, b), products, list(map(abs, products))) < 2**-46
    assert error(compiled(lambda a, b: Double(*a) / Double(*b), a, b), ratios, list(map(abs, ratios))) < 2**-46


def test_python_numbers_keep_their_digits() -> None:
    a, x = doubles(0)
    third = Fraction(1 / 3)
    assert (
        error(compiled(lambda a: 1 / 3 - Double(*a), a), [third - p for p in x], [third + abs(p) for p in x]) < 2**-46
    )
    assert error(compiled(lambda a: 1 / 3 * Double(*a), a), [third * p for p in x], [abs(p) for p in x]) < 2**-46


@pytest.mark.parametrize("length", [1, 2, 3, 10, 1000])
def test_total(length: int) -> None:
    """Of both signs, next to a large entry."""
    high = np.random.default_rng(SEED).standard_normal((20, length)).astype(np.float32)
    high[:, 0] *= 100
    expected = [sum(fractions(row), Fraction(0)) for row in high]
    found = compiled(lambda x: precise.total(double(x)), jnp.asarray(high))
    assert error(found, expected, [sum(map(abs, fractions(row)), Fraction(0)) for row in high]) < 2**-40


def test_total_keeps_what_is_small_and_far_below() -> None:
    x = jnp.array([[1.0, 3e-22, -1.0, 1e-30]])
    assert compiled(lambda x: precise.total(double(x)), x)[0] == pytest.approx(Fraction(float(x[0, 1])), rel=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_exp(sign: int) -> None:
    high = sign * np.random.default_rng(SEED).uniform(0, 40, COUNT).astype(np.float32)
    low = (high * np.float32(3e-8)).astype(np.float32)
    found = compiled(lambda *x: precise.exp(Double(*x)), high, low)
    with mp.workdps(50):
        expected = [mp.exp(mp.mpf(float(a)) + float(b)) for a, b in zip(high, low, strict=True)]
    assert relative_error(found, expected) < 2**-30


def test_exp_at_the_ends() -> None:
    x = jnp.array([0, -87, -100, -1e4, -jnp.inf])
    np.testing.assert_allclose(precise.exp(double(x)).high, [1, np.exp(-87), 0, 0, 0], rtol=2e-6)
    assert jnp.isnan(precise.exp(double(jnp.array(jnp.nan))).high)


@pytest.mark.parametrize("name", ["log", "log1p"])
def test_logarithms(name: str) -> None:
    x = (10 ** np.random.default_rng(SEED).uniform(-20, 2, COUNT)).astype(np.float32)
    found = compiled(lambda x: getattr(precise, name)(double(x)), jnp.asarray(x))
    with mp.workdps(50):
        assert relative_error(found, [getattr(mp, name)(float(z)) for z in x]) < 2**-29
