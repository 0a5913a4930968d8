"""Cases of layers, including the activation functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import (
    Activation,
    Affine,
    AvgPool,
    BatchNorm,
    Bidirectional,
    Conv,
    ConvTranspose,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    GRUCell,
    LayerNorm,
    LearnedPositions,
    LowPrecision,
    LSTMCell,
    MaxPool,
    MultiHeadAttention,
    Recurrent,
    Rematerialized,
    Residual,
    RNNCell,
    SinusoidalPositions,
    Truncated,
    Upsample,
    activations,
    bind,
    relu,
    sequential,
    sigmoid,
    tanh,
)
from fnnet.backprop import as_custom_vjp
from fnnet.types import Layer
from tests.cases.numbers import SEED, random_params


@dataclass(frozen=True)
class LayerCase:
    """A layer, which ``build()`` builds anew, and the shape of its input."""

    name: str
    build: Callable[[], Layer]
    shape: tuple[int, ...]
    train: bool = False
    mixes_examples: bool = False

    def __str__(self) -> str:
        return self.name

    def x(self, dtype: Any) -> jax.Array:
        return jnp.asarray(np.random.default_rng(SEED).standard_normal(self.shape), dtype)

    def params(self, dtype: Any) -> Any:
        return random_params(self.build(), self.x(dtype))

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of ``apply``, with a new key at each call, because a key is used once."""
        return {"key": jax.random.key(7) if self.train else None, "train": self.train}


@dataclass(frozen=True)
class TokenCase(LayerCase):
    """A layer of integers from 0 to ``entries − 1``; only its parameters have a dtype to choose."""

    entries: int = 1

    def x(self, dtype: Any) -> jax.Array:
        return jnp.asarray(np.random.default_rng(SEED).integers(0, self.entries, self.shape), jnp.int32)

    def params(self, dtype: Any) -> Any:
        return jax.tree.map(lambda p: p.astype(dtype), super().params(dtype))


def of_activation(
    name: str, shape: tuple[int, ...] = (5, 4), *, mixes_examples: bool = False, **options: Any
) -> LayerCase:
    function = getattr(activations, name)
    title = f"Activation({', '.join([name, *(f'{key}={value}' for key, value in options.items())])})"
    return LayerCase(
        title, lambda: Activation(bind(function, **options) if options else function), shape, False, mixes_examples
    )


ELEMENTWISE = [
    of_activation("identity"),
    of_activation("sigmoid"),
    of_activation("tanh"),
    of_activation("relu"),
    of_activation("leaky_relu"),
    of_activation("leaky_relu", slope=0.3),
    of_activation("elu"),
    of_activation("elu", alpha=0.7),
    of_activation("selu"),
    of_activation("celu"),
    of_activation("celu", alpha=2.0),
    of_activation("softplus"),
    of_activation("log_sigmoid"),
    of_activation("softsign"),
    of_activation("silu"),
    of_activation("gelu"),
    of_activation("gelu", approximate=True),
    of_activation("mish"),
    of_activation("hard_sigmoid"),
    of_activation("hard_tanh"),
    of_activation("hard_silu"),
]

ALONG_AXIS = [
    of_activation("glu"),
    of_activation("glu", (2, 4, 3), axis=1),
    of_activation("maxout"),
    of_activation("maxout", (2, 6, 3), pieces=3, axis=1),
    of_activation("softmax"),
    of_activation("softmax", (2, 4, 3), axis=1),
    of_activation("log_softmax"),
    of_activation("log_softmax", axis=0, mixes_examples=True),
]

OTHERS = [
    LayerCase("Dense", lambda: Dense(4), (5, 3)),
    LayerCase("Dense without bias", lambda: Dense(4, use_bias=False), (5, 3)),
    LayerCase("Dense of a sequence", lambda: Dense(4), (2, 3, 3)),
    LayerCase("Dense of one example", lambda: Dense(1), (1, 1)),
    LayerCase("Conv", lambda: Conv(3, 2), (2, 4, 5, 2)),
    LayerCase("Conv of a sequence", lambda: Conv(2, 3, stride=2, padding="SAME", use_bias=False), (3, 6, 2)),
    LayerCase("Conv with everything", lambda: Conv(4, (3, 2), (2, 1), ((0, 2), 1), (1, 2), 2), (2, 5, 5, 4)),
    LayerCase("Conv by XLA", lambda: Conv(4, (3, 2), (2, 1), ((0, 2), 1), (1, 2), 2, method="xla"), (2, 5, 5, 4)),
    LayerCase("Conv by patches", lambda: Conv(4, 2, groups=2, method="patches"), (3, 3, 4, 4)),
    LayerCase("Conv in depth", lambda: Conv(6, 2, groups=3), (2, 3, 4, 3)),
    LayerCase("Conv of a volume", lambda: Conv(2, 2), (2, 3, 2, 3, 1)),
    LayerCase("ConvTranspose", lambda: ConvTranspose(3, 2, stride=2), (2, 2, 3, 2)),
    LayerCase("ConvTranspose with everything", lambda: ConvTranspose(4, 3, 2, 1, 1, 2, (1, 0)), (2, 2, 3, 6)),
    LayerCase("ConvTranspose of a sequence", lambda: ConvTranspose(2, 3, 2, "SAME", use_bias=False), (3, 4, 1)),
    LayerCase("Flatten", lambda: Flatten(), (5, 2, 3)),
    LayerCase("Flatten of one axis", lambda: Flatten(), (5,)),
    LayerCase("Dropout", lambda: Dropout(0.4), (5, 3)),
    LayerCase("Dropout in training", lambda: Dropout(0.4), (5, 3), train=True),
    LayerCase("Dropout of nothing", lambda: Dropout(0.0), (5, 3), train=True),
    LayerCase("GaussianNoise", lambda: GaussianNoise(0.4), (5, 3)),
    LayerCase("GaussianNoise in training", lambda: GaussianNoise(0.4), (5, 3), train=True),
    LayerCase("Sequential", lambda: sequential(Flatten(), Dense(4), tanh, Dropout(0.4), Dense(2)), (5, 2, 3)),
    LayerCase("Sequential in training", lambda: sequential(Dropout(0.4), Dense(4), tanh), (5, 3), train=True),
    LayerCase("Sequential in Sequential", lambda: sequential(sequential(Dense(4), sigmoid), Dense(2)), (5, 3)),
    LayerCase("Sequential of nothing", lambda: sequential(), (5, 3)),
    LayerCase("CustomVJP", lambda: as_custom_vjp(sequential(Dense(4), tanh)), (5, 3)),
]

UNEVEN = ((2, 1), (0, 1))  # padding of the two spatial axes

POOLING = [
    LayerCase("MaxPool", lambda: MaxPool(2), (3, 4, 6, 2)),
    LayerCase("MaxPool of a sequence", lambda: MaxPool(2), (3, 5, 2)),
    LayerCase("MaxPool of a volume", lambda: MaxPool((2, 1, 2)), (2, 2, 2, 3, 2)),
    LayerCase("MaxPool, overlapping", lambda: MaxPool(3, stride=2, padding="SAME"), (2, 5, 6, 2)),
    LayerCase("MaxPool, stride 1", lambda: MaxPool((2, 3), stride=1), (2, 4, 5, 2)),
    LayerCase("MaxPool with gaps", lambda: MaxPool((1, 2), stride=(2, 3)), (2, 5, 6, 2)),
    LayerCase("MaxPool, uneven padding", lambda: MaxPool((3, 2), stride=(1, 2), padding=UNEVEN), (2, 4, 5, 2)),
    LayerCase("MaxPool of everything", lambda: MaxPool((4, 5)), (2, 4, 5, 2)),
    LayerCase("AvgPool", lambda: AvgPool(2), (3, 4, 6, 2)),
    LayerCase("AvgPool of a sequence", lambda: AvgPool(2), (3, 5, 2)),
    LayerCase("AvgPool, overlapping", lambda: AvgPool(3, stride=2, padding="SAME"), (2, 5, 6, 2)),
    LayerCase("AvgPool, counting padding", lambda: AvgPool(3, 2, "SAME", count_padding=True), (2, 5, 6, 2)),
    LayerCase("AvgPool with gaps", lambda: AvgPool((1, 2), stride=(2, 3)), (2, 5, 6, 2)),
    LayerCase("AvgPool, uneven padding", lambda: AvgPool((3, 2), stride=(1, 2), padding=UNEVEN), (2, 4, 5, 2)),
    LayerCase("GlobalAvgPool", lambda: GlobalAvgPool(), (3, 4, 5, 2)),
    LayerCase("GlobalAvgPool of a sequence", lambda: GlobalAvgPool(), (3, 4, 2)),
    LayerCase("GlobalMaxPool", lambda: GlobalMaxPool(), (3, 4, 5, 2)),
    LayerCase("GlobalMaxPool of a sequence", lambda: GlobalMaxPool(), (3, 4, 2)),
    LayerCase("Upsample", lambda: Upsample(2), (3, 2, 3, 2)),
    LayerCase("Upsample of a sequence", lambda: Upsample(3), (3, 2, 2)),
    LayerCase("Upsample, linear", lambda: Upsample((2, 3), "linear"), (3, 2, 3, 2)),
]

NORMALIZATION = [
    LayerCase("Affine", lambda: Affine(), (5, 3)),
    LayerCase("Affine of an image", lambda: Affine(), (2, 3, 2, 3)),
    LayerCase("LayerNorm", lambda: LayerNorm(), (5, 3)),
    LayerCase("LayerNorm of a sequence", lambda: LayerNorm(epsilon=0.1), (3, 2, 4)),
    LayerCase("GroupNorm", lambda: GroupNorm(2), (3, 2, 3, 4)),
    LayerCase("GroupNorm of single features", lambda: GroupNorm(4), (3, 2, 3, 4)),
    LayerCase("GroupNorm without positions", lambda: GroupNorm(1), (3, 4)),
    LayerCase("BatchNorm", lambda: BatchNorm(), (5, 3), mixes_examples=True),
    LayerCase("BatchNorm of an image", lambda: BatchNorm(), (3, 2, 3, 2), mixes_examples=True),
    LayerCase("BatchNorm in training", lambda: BatchNorm(0.1), (5, 3), train=True, mixes_examples=True),
]

RESIDUAL = [
    LayerCase("LowPrecision", lambda: LowPrecision(Activation(relu)), (5, 3)),
    LayerCase("Residual", lambda: Residual(sequential(Dense(3), tanh)), (5, 3)),
    LayerCase("Residual, projected", lambda: Residual(sequential(LayerNorm(), Dense(4)), Dense(4)), (5, 3)),
    LayerCase("Residual in training", lambda: Residual(Dropout(0.4), Dropout(0.4)), (5, 3), train=True),
    LayerCase("Residual in Sequential", lambda: sequential(Residual(Dense(3)), Residual(Dense(3)), tanh), (5, 3)),
]

EVERYTHING: dict[str, Any] = {"head_features": 2, "causal": True, "rotary": True, "use_bias": False, "block": 2}

ATTENTION = [
    LayerCase("MultiHeadAttention", lambda: MultiHeadAttention(2), (2, 3, 4)),
    LayerCase("MultiHeadAttention with everything", lambda: MultiHeadAttention(3, **EVERYTHING), (2, 5, 3)),
    LayerCase("SinusoidalPositions", lambda: SinusoidalPositions(), (2, 3, 5)),
    LayerCase("LearnedPositions", lambda: LearnedPositions(4), (2, 3, 2)),
]

OF_TOKENS = [
    TokenCase("Embedding", lambda: Embedding(5, 3), (2, 4), entries=5),
    TokenCase("Embedding of one token", lambda: Embedding(3, 2), (), entries=3),
]

RECURRENT = [
    LayerCase("Recurrent of RNNCell", lambda: Recurrent(RNNCell(3)), (2, 4, 2)),
    LayerCase("Recurrent of RNNCell, last step", lambda: Recurrent(RNNCell(3, relu), False), (2, 4, 2)),
    LayerCase("Recurrent of GRUCell", lambda: Recurrent(GRUCell(3)), (2, 4, 2)),
    LayerCase("Recurrent of GRUCell, reset before", lambda: Recurrent(GRUCell(3, reset_after=False)), (2, 4, 2)),
    LayerCase("Recurrent of LSTMCell, reversed", lambda: Recurrent(LSTMCell(3), reverse=True), (2, 4, 2)),
    LayerCase("Bidirectional", lambda: Bidirectional(GRUCell(2), other=LSTMCell(2)), (2, 3, 2)),
    LayerCase("Truncated", lambda: Truncated(Recurrent(GRUCell(3)), 2, 3), (2, 5, 2)),
    LayerCase("Rematerialized", lambda: Rematerialized(Recurrent(LSTMCell(3)), 2), (2, 5, 2)),
]

ACTIVATIONS = [*ELEMENTWISE, *ALONG_AXIS]
AT_ONCE = [
    *OTHERS,
    *POOLING,
    *NORMALIZATION,
    *RESIDUAL,
    *ALONG_AXIS,
]  # without loops, which compile slowly
NOT_ELEMENTWISE = [*AT_ONCE, *RECURRENT, *ATTENTION]  # where axes can be confused
LAYERS = [*NOT_ELEMENTWISE, *ELEMENTWISE]
ONE_OF_EACH = list({type(case.build()): case for case in [OF_TOKENS[0], *NOT_ELEMENTWISE[::-1]]}.values())  # types
