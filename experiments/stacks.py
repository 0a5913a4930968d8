"""Random stacks of layers as code, and the smaller stacks that a stack can be reduced to."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from fnnet import activations, backprop
from fnnet.types import Layer, Shape

DTYPES = ("float64", "float64", "float32", "bfloat16")
HOW = ("jit", "vmap", "scan", "grad", "second")
TOKENS = 3  # tokens are 0 .. 2
NAMES = {name: getattr(module, name) for module in (activations, fnnet) for name in module.__all__} | {
    "as_custom_vjp": backprop.as_custom_vjp
}


@dataclass(frozen=True)
class Stack:
    """Layers, each as the code that builds it, and how they are differentiated at which random numbers.

    ``how`` is a transformation: "jit" of the derivatives, "vmap" or "scan" over two networks, "grad" of the layers as
    custom derivatives, or "second", the gradient of the gradient. With ``masked`` every layer that takes a mask gets
    one; with ``ties`` all numbers are multiples of ½ from −1 to 1, so that many of them are equal or 0.
    """

    layers: tuple[str, ...]
    shape: Shape
    dtype: str = "float64"
    how: str = "jit"
    train: bool = False
    masked: bool = False
    ties: bool = False
    seed: int = 0

    @property
    def of_tokens(self) -> bool:
        return self.layers[0].startswith("Embedding")

    @property
    def precision(self) -> str:
        """The dtype with the fewest digits in which anything is computed."""
        return "bfloat16" if any("LowPrecision" in layer for layer in self.layers) else self.dtype


def build(code: str, names: Mapping[str, Any] = NAMES) -> Layer:
    """Return the layer that the code builds, in the names of ``fnnet`` and of its activations."""
    return eval(code, dict(names))


class Draw:
    """Random choices. Now and then a number is one that no layer should take."""

    def __init__(self, seed: Sequence[int], wild: float = 0.03) -> None:
        self.rng, self.wild = np.random.default_rng(seed), wild

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def number(self, low: int, high: int) -> int:
        return self.pick((-1, 0, 9)) if self.chance(self.wild) else int(self.rng.integers(low, high + 1))

    def sizes(self, rank: int, low: int, high: int) -> Any:
        """Return one number for all axes, or one for each."""
        if self.chance(0.5):
            return self.number(low, high)
        return tuple(self.number(low, high) for _ in range(rank))

    def padding(self, rank: int, most: int) -> Any:
        if self.chance(0.5):
            return self.pick(("VALID", "SAME"))
        if self.chance(0.3):
            return self.number(0, most)
        sides = [(self.number(0, most), self.number(0, most)) for _ in range(rank)]
        return tuple(pair if self.chance(0.7) else pair[0] for pair in sides)


def call(name: str, *values: Any, **options: Any) -> str:
    """Return the code of a call. Text is code; write the ``repr`` of a string."""
    written = [*map(str, values), *(f"{key}={value}" for key, value in options.items())]
    return f"{name}({', '.join(written)})"


def sometimes(draw: Draw, **options: Any) -> dict[str, Any]:
    """Return about half of the options."""
    return {key: value for key, value in options.items() if draw.chance(0.5)}


ELEMENTWISE = (
    "identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "celu", "softplus", "log_sigmoid", "softsign",
    "silu", "gelu", "mish", "hard_sigmoid", "hard_tanh", "hard_silu",
)  # fmt: skip
OPTIONS = {
    "leaky_relu": "slope=0.3",
    "elu": "alpha=0.7",
    "celu": "alpha=2.0",
    "gelu": "approximate=True",
}


def activation(draw: Draw, shape: Shape) -> str:
    if draw.chance(0.3):
        name, axis = draw.pick(("glu", "maxout", "softmax", "log_softmax")), draw.pick((-1, -1, 1, len(shape) - 1, -2))
        pieces = {"pieces": draw.number(2, 3)} if name == "maxout" else {}
        return call("Activation", call("bind", name, axis=axis, **pieces))
    name = draw.pick(ELEMENTWISE)
    bound = f"bind({name}, {OPTIONS[name]})" if name in OPTIONS and draw.chance(0.5) else name
    return call("Activation", bound)


def dense(draw: Draw, shape: Shape) -> str:
    return call("Dense", draw.number(1, 4), **sometimes(draw, use_bias=False))


def noise(draw: Draw, shape: Shape) -> str:
    return call(draw.pick(("Dropout", "GaussianNoise")), draw.pick((0.0, 0.3, 0.5, 0.5)))


def normalization(draw: Draw, shape: Shape) -> str:
    name = draw.pick(("LayerNorm", "GroupNorm", "BatchNorm", "Affine"))
    if name == "Affine":
        return "Affine()"
    return call(name, *([draw.number(1, 3)] if name == "GroupNorm" else []), **sometimes(draw, epsilon=0.1))


def convolution(draw: Draw, shape: Shape) -> str:
    rank, channels = max(1, len(shape) - 2), shape[-1]
    divisors = [n for n in range(1, channels + 1) if channels % n == 0] or [1]  # of no channels there are none
    groups = draw.pick((1, draw.pick(divisors), draw.number(1, 3)))
    chosen = sometimes(
        draw,
        stride=draw.sizes(rank, 1, 3),
        padding=repr(draw.padding(rank, 3)),
        dilation=draw.sizes(rank, 1, 2),
        groups=groups,
        use_bias=False,
        method=repr(draw.pick(("auto", "patches", "xla"))),
    )
    features = draw.number(1, 2) * chosen.get("groups", 1)
    if draw.chance(0.6):
        return call("Conv", features, draw.sizes(rank, 1, 3), **chosen)
    chosen |= sometimes(draw, output_padding=draw.sizes(rank, 0, 1))
    return call("ConvTranspose", features, draw.sizes(rank, 1, 3), **chosen)


def pooling(draw: Draw, shape: Shape) -> str:
    rank = max(1, len(shape) - 2)
    name = draw.pick(("MaxPool", "MaxPool", "AvgPool", "AvgPool", "GlobalAvgPool", "GlobalMaxPool", "Upsample"))
    if name.startswith("Global"):
        return f"{name}()"
    if name == "Upsample":
        return call(name, draw.sizes(rank, 1, 3), **sometimes(draw, method=repr("linear")))
    chosen = sometimes(draw, stride=draw.sizes(rank, 1, 3), padding=repr(draw.padding(rank, 2)))
    if name == "AvgPool":
        chosen |= sometimes(draw, count_padding=True)
    return call(name, draw.sizes(rank, 1, 3), **chosen)


def cell(draw: Draw) -> str:
    name, options = draw.pick(("RNNCell", "GRUCell", "LSTMCell")), {}
    if name == "RNNCell":
        options = sometimes(draw, activation=draw.pick(("relu", "tanh", "bind(leaky_relu, slope=0.3)", "softsign")))
    if name == "GRUCell":
        options = sometimes(draw, reset_after=False)
    return call(name, draw.number(1, 3), **options)


def recurrence(draw: Draw, shape: Shape) -> str:
    chosen = sometimes(draw, return_sequences=draw.chance(0.3))
    if draw.chance(0.2):
        return call("Bidirectional", cell(draw), **chosen, **sometimes(draw, other=cell(draw)))
    layer = call("Recurrent", cell(draw), **chosen, **sometimes(draw, reverse=True))
    if draw.chance(0.3):
        return call("Truncated", layer, draw.number(1, 3), **sometimes(draw, k2=draw.number(2, 5)))
    return call("Rematerialized", layer, **sometimes(draw, segment=draw.number(1, 3))) if draw.chance(0.3) else layer


def attention(draw: Draw, shape: Shape) -> str:
    if draw.chance(0.1):
        return call("transformer_block", 1, shape[-1], hidden=2, **sometimes(draw, causal=True, dropout=0.5))
    chosen = sometimes(draw, causal=True, rotary=True, use_bias=False, block=draw.number(1, 4))
    heads = draw.number(1, 2)
    return call("MultiHeadAttention", heads, **chosen, **sometimes(draw, head_features=draw.pick((2, 2, 4, 3))))


def positions(draw: Draw, shape: Shape) -> str:
    return draw.pick(("SinusoidalPositions()", call("LearnedPositions", draw.number(2, 6))))


def combinator(draw: Draw, shape: Shape) -> str:
    """Return a layer made of layers; a shortcut fits the output where that is only of another width."""
    inner = [layer_for(draw, shape, deep=False)]
    if draw.chance(0.5):
        inner.append(layer_for(draw, output_shape(inner[0], shape) or shape, deep=False))
    code = inner[0] if len(inner) == 1 and draw.chance(0.5) else call("sequential", *inner)
    kind = draw.pick(("sequential", "Residual", "Residual", "as_custom_vjp", "LowPrecision"))
    if kind == "LowPrecision":
        return call(kind, code, **sometimes(draw, dtype=repr("float16")))
    after = output_shape(code, shape)
    if kind == "Residual" and after is not None and (after != shape or draw.chance(0.3)):
        return call(kind, code, call("Dense", after[-1]))
    return call(kind, code)


def flatten(draw: Draw, shape: Shape) -> str:
    return "Flatten()"


ANY = (activation, activation, dense, dense, noise, normalization, normalization, flatten)
OF_RANK: dict[int, tuple[Callable[[Draw, Shape], str], ...]] = {
    2: ANY,
    3: (*ANY, convolution, convolution, pooling, recurrence, recurrence, recurrence, attention, attention, positions),
    4: (*ANY, convolution, convolution, convolution, pooling, pooling, pooling),
    5: (*ANY, convolution, pooling),
}
EVERY = (*OF_RANK[3], combinator)


def layer_for(draw: Draw, shape: Shape, deep: bool = True) -> str:
    """Return the code of a layer for inputs of this shape, seldom of a layer for another number of axes."""
    if deep and draw.chance(0.15):
        return combinator(draw, shape)
    return draw.pick(EVERY if draw.chance(draw.wild) else OF_RANK[len(shape)])(draw, shape)


def output_shape(code: str, shape: Shape, dtype: Any = jnp.float32) -> Shape | None:
    """Return the shape of the layer's output, or None if it takes no such input."""
    try:
        layer, x = build(code), jax.ShapeDtypeStruct(shape, dtype)
        with jax.enable_x64(True):
            return jax.eval_shape(lambda x: layer.apply(layer.init(jax.random.key(0), x), x), x).shape
    except Exception:  # whatever it raises is judged later, or never
        return None


REFUSED = 0.2  # how often a layer that does not fit is kept, to see its error
LARGEST = 300  # numbers in an array


def draw_stack(seed: int, number: int) -> Stack:
    """Return stack ``number`` of the run with this seed."""
    draw = Draw([seed, number])
    rank = draw.pick((2, 3, 3, 3, 4, 4, 5))
    most = (3, *(6 - rank // 2 for _ in range(rank - 2)), 4)
    shape: Shape = tuple(max(0, min(draw.number(1, n), n)) for n in most)
    dtype, layers, here = draw.pick(DTYPES), [], shape
    if rank == 3 and draw.chance(0.15):
        shape, layers = shape[:2], [call("Embedding", draw.number(3, 5), draw.number(1, 4), dtype=repr(dtype))]
        here = output_shape(layers[0], shape, jnp.int32) or shape
    while len(layers) < 4 and not (layers and draw.chance(0.3)):
        code = layer_for(draw, here)
        after = output_shape(code, here)
        if after is None and draw.chance(REFUSED):
            layers.append(code)
            break
        if after is not None and np.prod(after) <= LARGEST and len(after) in OF_RANK:
            layers.append(code)
            here = after
    # Second derivatives in low precision are mostly rounding errors. Those of a truncated gradient are not defined: the
    # layers after it see its outputs change as if nothing were truncated, or not, as the program has it.
    twice = dtype == "float64" and not any("Truncated" in code for code in layers)
    how = draw.pick(HOW if twice else HOW[:-1])
    return Stack(
        tuple(layers),
        shape,
        dtype,
        how,
        train=draw.chance(0.4),
        masked=draw.chance(0.5) and how != "grad",  # a custom derivative takes no mask
        ties=draw.chance(0.2),
        seed=number,
    )


def smaller(stack: Stack) -> Iterator[Stack]:
    """Yield stacks that are a little simpler, the greatest steps first."""
    change = dataclasses.replace
    for i in range(len(stack.layers) if len(stack.layers) > 1 else 0):
        yield change(stack, layers=stack.layers[:i] + stack.layers[i + 1 :])
    for name, default in (("how", "jit"), ("dtype", "float64"), ("train", False), ("masked", False), ("ties", False)):
        if getattr(stack, name) != default:
            yield change(stack, **{name: default})
    for i, code in enumerate(stack.layers):
        for simpler in smaller_calls(code):
            yield change(stack, layers=(*stack.layers[:i], simpler, *stack.layers[i + 1 :]))
    for axis, length in enumerate(stack.shape):
        if len(stack.shape) > 2:
            yield change(stack, shape=stack.shape[:axis] + stack.shape[axis + 1 :])
        for less in sorted({1, length // 2, length - 1}):
            if 0 < less < length:
                yield change(stack, shape=(*stack.shape[:axis], less, *stack.shape[axis + 1 :]))


def smaller_calls(code: str) -> Iterator[str]:
    """Yield simpler calls: a layer within the layer, one option or one layer fewer, smaller numbers."""
    root = ast.parse(code, mode="eval").body
    for node in ast.walk(root):
        if isinstance(node, ast.Call) and node is not root and name_of(node)[0].isupper():
            yield ast.unparse(node)
    for node in ast.walk(root):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                yield edited(root, node, "keywords", [k for k in node.keywords if k is not keyword])
            for i in range(len(node.args)) if name_of(node) in ("sequential", "Residual") else ():
                if len(node.args) > 1:
                    yield edited(root, node, "args", node.args[:i] + node.args[i + 1 :])
        elif isinstance(node, ast.Constant) and type(node.value) is int and node.value > 1:
            yield edited(root, node, "value", 1)
            yield edited(root, node, "value", node.value - 1)


def name_of(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else " "


def edited(root: ast.AST, node: Any, field: str, value: Any) -> str:
    """Return the code with one field of one node changed for the moment."""
    before = getattr(node, field)
    setattr(node, field, value)
    try:
        return ast.unparse(root)
    finally:
        setattr(node, field, before)
