"""The real data sets that the experiments use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnnet
from experiments.cli import ExperimentError

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


class Split(NamedTuple):
    """Images ``(N, height, width)`` in [0, 1], float32, and labels ``(N,)``, int32."""

    train: Arrays
    test: Arrays


def digits(test_share: float = 0.2) -> Split:
    """Return scikit-learn's 1,797 handwritten digits of 8×8 pixels, always with the same split by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images, labels = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int32)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=test_share, stratify=labels, random_state=0
    )
    return Split((train_x, train_y), (test_x, test_y))


def mnist(data_dir: Path | None = None) -> Split:
    """Return MNIST's 60,000 and 10,000 digits of 28×28 pixels.

    They are read from the IDX files (``.gz`` or not) in ``data_dir`` or in its folder ``mnist``. Without ``data_dir``
    the environment variable ``FNNET_DATA`` names the folder. With neither, they are fetched from OpenML through
    scikit-learn, which needs a network connection and keeps a copy in its own cache.
    """
    folder = data_dir or (Path(os.environ["FNNET_DATA"]) if os.environ.get("FNNET_DATA") else None)
    if folder is None:
        return mnist_from_openml()
    images, labels = read_idx_set(folder, "train")
    test_images, test_labels = read_idx_set(folder, "t10k")
    return Split(scaled(images, labels), scaled(test_images, test_labels))


def read_idx_set(folder: Path, prefix: str) -> Arrays:
    images = read_idx(find_idx(folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(find_idx(folder, f"{prefix}-labels-idx1-ubyte"))
    if len(images) != len(labels):
        raise ExperimentError(f"{folder}: {len(images)} {prefix} images but {len(labels)} labels; get the files again")
    return images, labels


def find_idx(folder: Path, name: str) -> Path:
    places = [base / (name + ending) for base in (folder, folder / "mnist") for ending in (".gz", "")]
    for place in places:
        if place.is_file():
            return place
    raise ExperimentError(
        f"no MNIST in the data folder {folder}: none of {', '.join(map(str, places))} exists. Pass --data-dir or set "
        f"FNNET_DATA to the folder with the IDX files, or leave both out to fetch them from OpenML"
    )


def read_idx(path: Path) -> np.ndarray[Any, Any]:
    try:
        return fnnet.data.read_idx(path)
    except (OSError, ValueError) as error:
        raise ExperimentError(str(error)) from error


def mnist_from_openml() -> Split:
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff")
    except Exception as error:
        raise ExperimentError(
            f"MNIST could not be fetched from OpenML ({error}). Pass --data-dir or set FNNET_DATA to a folder with its "
            f"IDX files (train-images-idx3-ubyte.gz and the other three)"
        ) from error
    images, labels = bunch.data.reshape(-1, 28, 28), bunch.target
    return Split(scaled(images[:60_000], labels[:60_000]), scaled(images[60_000:], labels[60_000:]))


def scaled(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Arrays:
    return np.asarray(images, np.float32) / 255, labels.astype(np.int32)
