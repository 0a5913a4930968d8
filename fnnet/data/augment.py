"""Random changes of images on the device, as pure functions ``(key, images) -> images`` with images ``(N, H, W, C)``.

``inputs(random_flip, ...)`` turns them into the ``augment`` of ``fit``, ``train_epoch`` and ``train_step``, which is a
function ``(key, (x, y)) -> (x, y)``. Every update has its own key, from the key of the run and the number of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.binding import bind
from fnnet.types import Array, Batch

Augmentation = Callable[[Array, Batch], Batch]


def inputs(*functions: Callable[[Array, Array], Array]) -> Augmentation:
    """Return ``augment(key, (x, y)) -> (f(x), y)``, where ``f`` applies the functions in their order.

    Function ``i`` has the key ``jax.random.fold_in(key, i)``.
    """
    return bind(on_inputs, functions=functions)


def on_inputs(key: Array, batch: Batch, *, functions: tuple[Callable[[Array, Array], Array], ...]) -> Batch:
    x, y = batch
    for i, function in enumerate(functions):
        x = function(jax.random.fold_in(key, i), x)
    return x, y


def random_shift(key: Array, images: Array, *, most: int) -> Array:
    """Return every image shifted by a random number of pixels of its own, at most ``most`` along each axis.

    All ``(2 most + 1)²`` shifts are equally likely. Pixels that enter from outside of the image are 0.
    """
    checks.positive_integer("data.augment.random_shift", "most", most)
    check_images("random_shift", images)
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    return random_windows(key, padded, images.shape[1], images.shape[2])


def random_crop(key: Array, images: Array, *, height: int, width: int) -> Array:
    """Return a random window ``(N, height, width, C)`` of every image; all positions are equally likely."""
    checks.positive_integer("data.augment.random_crop", "height", height)
    checks.positive_integer("data.augment.random_crop", "width", width)
    check_images("random_crop", images)
    fits = height <= images.shape[1] and width <= images.shape[2]
    window = f"data.augment.random_crop: a window of {height} × {width}"
    checks.require(fits, f"{window} does not fit into images of shape {images.shape}; make it smaller")
    return random_windows(key, images, height, width)


def random_flip(key: Array, images: Array) -> Array:
    """Return every image mirrored, left to right, with probability one half."""
    check_images("random_flip", images)
    flipped = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def random_windows(key: Array, images: Array, height: int, width: int) -> Array:
    """Return a window of every image, whose position is random and inside of the image."""
    most = jnp.array([images.shape[1] - height, images.shape[2] - width])
    starts = jax.random.randint(key, (len(images), 2), 0, most[None] + 1)
    size = (height, width, images.shape[3])
    return jax.vmap(lambda image, start: jax.lax.dynamic_slice(image, (start[0], start[1], 0), size))(images, starts)


def check_images(name: str, images: Any) -> None:
    shape = f"data.augment.{name}: images has shape {images.shape}"
    checks.require(images.ndim == 4, f"{shape}; expected (N, H, W, C): add an axis with [..., None]")
