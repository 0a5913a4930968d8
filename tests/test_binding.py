"""Functions with fixed options."""

import pytest

from fnnet import bind, initializers, relu, softmax
from fnnet.binding import name_of, unbind


def test_equal_and_hashable_by_value() -> None:
    assert bind(softmax, axis=1) == bind(softmax, axis=1)
    assert hash(bind(softmax, axis=1)) == hash(bind(softmax, axis=1))
    assert bind(softmax, axis=1) != bind(softmax, axis=0)
    assert bind(softmax, axis=1) != bind(relu)


def option_order(*, a: int = 0, b: int = 0) -> tuple[int, int]:
    return a, b


def test_the_order_of_options_does_not_matter() -> None:
    assert bind(option_order, a=1, b=2) == bind(option_order, b=2, a=1)
    assert bind(option_order, a=1, b=2)() == (1, 2)


def test_binding_a_binding_adds_and_replaces() -> None:
    twice = bind(bind(option_order, a=1, b=2), b=3)
    assert twice == bind(option_order, a=1, b=3)
    assert unbind(twice) == (option_order, {"a": 1, "b": 3})
    assert unbind(relu) == (relu, {})


def test_names() -> None:
    assert repr(bind(softmax, axis=1)) == "softmax(axis=1)"
    assert name_of(bind(option_order, b=2, a=1)) == "option_order(a=1, b=2)"
    assert name_of(relu) == "relu"
    assert name_of(3) == "3"


def test_an_unknown_option_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="bind: softmax has no option 'axes'; it takes z, axis"):
        bind(softmax, axes=1)
    with pytest.raises(TypeError, match="normal has no option 'std'; it takes key, shape, dtype, stddev"):
        bind(bind(initializers.normal, stddev=1.0), std=1.0)
