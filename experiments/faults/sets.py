"""The data sets of the benchmark: all of them come with scikit-learn, are drawn, or lie in ``FNNET_DATA``.

Each function returns ``(train, validation)``, two pairs ``(x, y)``. Features are standardized by the moments of the
training examples, images lie in [0, 1], and the numbers of training examples are multiples of the batch sizes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from experiments import data, text

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
Sets = tuple[Arrays, Arrays]
CONSTANT = 1e-8  # standard deviation


def split(pair: tuple[Any, Any], train: int, seed: int = 0) -> Sets:
    """Return the first ``train`` examples of a fixed random order, and the others."""
    order = np.random.default_rng(seed).permutation(len(pair[0]))
    x, y = np.asarray(pair[0], np.float32)[order], np.asarray(pair[1])[order]
    y = y.astype(np.int32) if y.dtype.kind in "iu" else y.astype(np.float32)
    return (x[:train], y[:train]), (x[train:], y[train:])


def standardized(sets: Sets, *, targets: bool = False) -> Sets:
    """Return the sets with features, and with ``targets`` also real targets, of mean 0 and variance 1 in training."""
    parts = []
    for part in range(2):
        values = sets[0][part]
        if part == 1 and not targets:
            parts.append(tuple(each[part] for each in sets))
            continue
        mean, deviation = values.mean(0), values.std(0)
        deviation = np.where(deviation > CONSTANT, deviation, 1)
        parts.append(tuple(((each[part] - mean) / deviation).astype(np.float32) for each in sets))
    (train_x, other_x), (train_y, other_y) = parts
    return (train_x, train_y), (other_x, other_y)


@cache
def moons() -> Sets:
    from sklearn.datasets import make_moons

    return standardized(split(make_moons(1024, noise=0.2, random_state=0), train=768))


@cache
def digits() -> Sets:
    """Return 1,024 and 360 digits as 64 pixels; some pixels are always 0."""
    (x, y), (test_x, test_y) = data.digits()
    return (x[:1024].reshape(-1, 64), y[:1024]), (test_x.reshape(-1, 64), test_y)


@cache
def images() -> Sets:
    """Return the digits as images ``(N, 8, 8, 1)``."""
    (x, y), (test_x, test_y) = digits()
    return (x.reshape(-1, 8, 8, 1), y), (test_x.reshape(-1, 8, 8, 1), test_y)


@cache
def rows() -> Sets:
    """Return the digits as sequences of 8 rows."""
    (x, y), (test_x, test_y) = digits()
    return (x.reshape(-1, 8, 8), y), (test_x.reshape(-1, 8, 8), test_y)


@cache
def wine() -> Sets:
    from sklearn.datasets import load_wine

    return standardized(split(load_wine(return_X_y=True), train=128))


@cache
def cancer() -> Sets:
    """Return 448 and 121 tumours with 30 features; the targets are 0 and 1, ``(N, 1)``."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return standardized(split((x, y[:, None].astype(np.float32)), train=448))


@cache
def diabetes() -> Sets:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return standardized(split((x, y[:, None]), train=352), targets=True)


@cache
def friedman() -> Sets:
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(768, noise=0.5, random_state=0)
    return standardized(split((x, y[:, None]), train=512), targets=True)


@cache
def linear() -> Sets:
    """Return a noisy linear function of 20 features."""
    from sklearn.datasets import make_regression

    x, y = make_regression(768, 20, n_informative=8, noise=10.0, random_state=0)
    return standardized(split((x, y[:, None]), train=512), targets=True)


@cache
def mnist() -> Sets:
    """Return 4,096 and 1,024 digits of MNIST as 784 pixels."""
    (x, y), (test_x, test_y) = data.mnist()
    return (x[:4096].reshape(-1, 784), y[:4096]), (test_x[:1024].reshape(-1, 784), test_y[:1024])


LENGTH = 24  # of a sequence of characters


@cache
def characters() -> Sets:
    """Return 1,024 and 256 sequences of characters; the target of each step is the next character."""
    found, _ = text.find(None)
    letters = [c for c in found[:100_000].lower() if "a" <= c <= "z" or c in " \n"]
    _, tokens = np.unique(letters, return_inverse=True)
    starts = np.arange(1280) * (LENGTH + 1)
    pieces = tokens.astype(np.int32)[starts[:, None] + np.arange(LENGTH + 1)]
    return (pieces[:1024, :-1], pieces[:1024, 1:]), (pieces[1024:, :-1], pieces[1024:, 1:])


def adding(length: int = 24, seed: int = 0) -> Sets:
    """Return 1,024 and 256 sequences of the adding problem; see ``experiments.adding_problem``."""
    rng = np.random.default_rng(seed)
    number = rng.random((1280, length)).astype(np.float32)
    mark = np.zeros_like(number)
    first, second = rng.integers(0, length // 2, 1280), rng.integers(length // 2, length, 1280)
    mark[np.arange(1280), first] = mark[np.arange(1280), second] = 1
    y = (number * mark).sum(1, keepdims=True)
    x = np.stack([number, mark], -1)
    return (x[:1024], y[:1024]), (x[1024:], y[1024:])


# Sets that were not looked at while the thresholds were set.


@cache
def circles() -> Sets:
    from sklearn.datasets import make_circles

    return standardized(split(make_circles(896, noise=0.1, factor=0.4, random_state=1), train=640))


@cache
def iris() -> Sets:
    from sklearn.datasets import load_iris

    return standardized(split(load_iris(return_X_y=True), train=96, seed=1))


@cache
def clusters() -> Sets:
    """Return five classes in 15 features."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        1024, 15, n_informative=8, n_redundant=3, n_classes=5, n_clusters_per_class=1, random_state=1
    )
    return standardized(split((x, y), train=768, seed=1))


@cache
def impedance() -> Sets:
    """Return Friedman's second function: the impedance of a circuit."""
    from sklearn.datasets import make_friedman2

    x, y = make_friedman2(640, noise=20.0, random_state=1)
    return standardized(split((x, y[:, None]), train=480, seed=1), targets=True)


@cache
def waves() -> Sets:
    """Return noisy waves of 20 steps; the class is their frequency."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 1024)
    phase, t = rng.uniform(0, 2 * np.pi, (1024, 1)), np.arange(20)
    x = np.sin((0.3 + 0.3 * label[:, None]) * t + phase) + 0.3 * rng.standard_normal((1024, 20))
    return split((x[..., None], label), train=768, seed=1)


@cache
def shapes() -> Sets:
    """Return noisy images ``(N, 12, 12, 1)`` of a square, a cross or a bar, anywhere."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, 768)
    x = 0.2 * rng.random((768, 12, 12, 1))
    kernels = np.zeros((3, 5, 5))
    kernels[0, [0, -1], :] = kernels[0, :, [0, -1]] = kernels[1, 2, :] = kernels[1, :, 2] = kernels[2, 2, :] = 0.8
    for image, kind, (i, j) in zip(x, label, rng.integers(0, 8, (768, 2)), strict=True):
        image[i : i + 5, j : j + 5, 0] += kernels[kind]
    return split((np.clip(x, 0, 1), label), train=512, seed=1)
