"""Folders of image files, read as they are needed. Needs Pillow (the extra ``images``)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fnnet import checks

NumpyArray = np.ndarray[Any, Any]

ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class ImageFolder:
    """Image files as an array ``(N, height, width, C)`` of bytes, each decoded when ``images[rows]`` asks for it.

    For ``from_arrays``; ``images[:]`` are all of them. ``C`` is 3 for ``mode="RGB"``, 1 for gray, ``"L"``. An image of
    another size is scaled to it, bilinearly.
    """

    files: tuple[Path, ...]
    size: tuple[int, int]
    mode: str = "RGB"

    def __post_init__(self) -> None:
        checks.require(
            self.mode in ("L", "RGB"), f"data.ImageFolder: mode is {self.mode!r}; expected 'RGB' or 'L' (gray)"
        )
        checks.require(
            len(self.size) == 2 and all(isinstance(s, int) and s > 0 for s in self.size),
            f"data.ImageFolder: size is {self.size}; expected (height, width) in pixels",
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *self.size, 3 if self.mode == "RGB" else 1)

    @property
    def dtype(self) -> Any:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Any) -> NumpyArray:
        """The images of an index, a slice or an array of indices."""
        chosen = np.arange(len(self.files))[rows]
        images = np.stack([self.read(self.files[i]) for i in np.atleast_1d(chosen)])
        return images if np.ndim(chosen) else images[0]

    def read(self, file: Path) -> NumpyArray:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(file) as image:
                converted = image.convert(self.mode)
                if converted.size != self.size[::-1]:
                    converted = converted.resize(self.size[::-1], Image.Resampling.BILINEAR)
                return np.asarray(converted).reshape(self.shape[1:])
        except FileNotFoundError:
            raise
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            raise ValueError(
                f"data.ImageFolder: cannot read the image {file}: {error}; remove or replace it"
            ) from error


def image_folder(
    path: str | PathLike[str], size: tuple[int, int], mode: str = "RGB"
) -> tuple[ImageFolder, NumpyArray, tuple[str, ...]]:
    """``(images, labels, classes)`` of a folder that has a folder per class, with the class's image files in it.

    ``labels (N,)`` are int32, the classes' places in the sorted ``classes``; the files are sorted, too.
    """
    if find_spec("PIL") is None:  # here, not when a thread reads the first image
        raise ImportError('data.image_folder needs Pillow; install it with: pip install "fnnet[images]"')
    root = Path(path)
    checks.require(root.is_dir(), f"data.image_folder: {root} is no folder")
    classes = tuple(sorted(folder.name for folder in root.iterdir() if folder.is_dir()))
    found = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((root / name).rglob("*"))
        if file.suffix.lower() in ENDINGS
    ]
    labels = np.array([label for _, label in found], np.int32)
    empty = [name for label, name in enumerate(classes) if not (labels == label).any()]
    checks.require(bool(classes), f"data.image_folder: {root} has no folders; expected one per class")
    checks.require(not empty, f"data.image_folder: {root} has no image files in {', '.join(empty)}")
    return ImageFolder(tuple(file for file, _ in found), tuple(size), mode), labels, classes  # type: ignore[arg-type]
