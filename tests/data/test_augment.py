"""Random changes of images, against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import bind
from fnnet.data.augment import inputs, random_crop, random_flip, random_shift

IMAGES = np.random.default_rng(0).standard_normal((200, 5, 4, 2)).astype("float32")


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    result = np.zeros_like(image)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            if 0 <= i - down < image.shape[0] and 0 <= j - right < image.shape[1]:
                result[i, j] = image[i - down, j - right]
    return result


def test_shifts_are_all_of_them_and_nothing_else() -> None:
    result = np.asarray(random_shift(jax.random.key(0), IMAGES, most=1))
    seen = []
    for image, moved in zip(IMAGES, result, strict=True):
        matches = [(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1) if (shifted(image, d, r) == moved).all()]
        assert len(matches) == 1
        seen += matches
    assert len(set(seen)) == 9
    assert all(8 <= seen.count(each) <= 45 for each in set(seen))  # 22 on average


def test_crops() -> None:
    result = np.asarray(random_crop(jax.random.key(0), IMAGES, height=3, width=4))
    assert result.shape == (200, 3, 4, 2)
    places = [
        [i for i in range(3) if (image[i : i + 3] == crop).all()] for image, crop in zip(IMAGES, result, strict=True)
    ]
    assert all(len(place) == 1 for place in places)
    assert {place[0] for place in places} == {0, 1, 2}


def test_flips() -> None:
    result = np.asarray(random_flip(jax.random.key(0), IMAGES))
    kept = np.array([(a == b).all() for a, b in zip(IMAGES, result, strict=True)])
    mirrored = np.array([(a[:, ::-1] == b).all() for a, b in zip(IMAGES, result, strict=True)])
    assert (kept ^ mirrored).all()
    assert 70 < kept.sum() < 130


def test_dtypes_jit_and_keys() -> None:
    change = inputs(bind(random_shift, most=1), random_flip)
    for dtype in ("uint8", "bfloat16", "float32"):
        images = jnp.asarray(IMAGES).astype(dtype)
        x, y = jax.jit(change)(jax.random.key(0), (images, 3))
        assert (x.dtype, x.shape, int(y)) == (images.dtype, images.shape, 3)
        np.testing.assert_array_equal(x, change(jax.random.key(0), (images, 3))[0])
    other = change(jax.random.key(1), (images, 3))[0]
    assert not (other == x).all()
    assert change == inputs(bind(random_shift, most=1), random_flip)


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"augment.random_flip: images has shape \(5, 4, 2\); expected \(N, H, W, C\)"):
        random_flip(jax.random.key(0), IMAGES[0])
    with pytest.raises(ValueError, match="a window of 6 × 2 does not fit into images"):
        random_crop(jax.random.key(0), IMAGES, height=6, width=2)
    with pytest.raises(ValueError, match="random_shift: most is 0"):
        random_shift(jax.random.key(0), IMAGES, most=0)
