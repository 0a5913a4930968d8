"""Functions with fixed options."""

from typing import Any

import pytest

from fnnet import bind, gelu, initializers, leaky_relu, losses, projections, relu, softmax
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


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (losses.huber, {"delta": "1"}),
        (losses.focal, {"gamma": "2"}),
        (losses.softmax_cross_entropy, {"smoothing": "0.1"}),
        (leaky_relu, {"slope": "0.1"}),
        (gelu, {"approximate": "no"}),
        (initializers.normal, {"stddev": "0.1"}),
        (projections.simplex, {"total": "1"}),
    ],
)
def test_a_string_for_a_number_is_refused_where_it_is_written(function: Any, options: dict[str, str]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(TypeError, match=f"bind: {name} of {function.__name__} is {value!r}; expected a number, such"):
        bind(function, **options)
