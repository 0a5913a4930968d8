"""Folders of image files, which are read when they are needed. This needs Pillow, the extra ``images``."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fnnet import checks
from fnnet.data.files import explained

NumpyArray = np.ndarray[Any, Any]

ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # whatever a file is called: others may start programs
MOST_PIXELS = 2**26


@dataclass(frozen=True)
class ImageFolder:
    """Image files as an array ``(N, height, width, C)``, uint8; ``images[rows]`` reads and decodes its files.

    Pass it to ``from_arrays``, or read all images with ``images[:]``. ``C`` is 3 for ``mode="RGB"`` and 1 for ``"L"``,
    which is gray. Files are PNG, JPEG, BMP, GIF, TIFF or WebP. An image is turned as its EXIF orientation says, 16 bits
    become the higher 8 of them, and another size is scaled to ``size`` by bilinear interpolation. Pixels of floating
    point or of 32 bits, whose range is not known, raise a ``ValueError``, and so does an image of more than
    ``most_pixels`` pixels, before it takes memory. Pillow has a limit of its own, ``2 * PIL.Image.MAX_IMAGE_PIXELS``,
    which is 179 million pixels; to read larger images, raise it too.
    """

    files: tuple[Path, ...]
    size: tuple[int, int]
    mode: str = "RGB"
    most_pixels: int = MOST_PIXELS

    def __post_init__(self) -> None:
        checks.require(self.mode in ("L", "RGB"), f"data.ImageFolder: mode is {self.mode!r}; expected 'RGB' or 'L'")
        checks.require(len(self.size) == 2, f"data.ImageFolder: size is {self.size}; expected (height, width)")
        for name, value in (("size", self.size[0]), ("size", self.size[1]), ("most_pixels", self.most_pixels)):
            checks.positive_integer("data.ImageFolder", name, value)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *self.size, 3 if self.mode == "RGB" else 1)

    @property
    def dtype(self) -> Any:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Any) -> NumpyArray:
        """Return the images of an index, of a slice or of an array of indices."""
        chosen = np.arange(len(self.files))[rows]
        images = np.stack([self.read(self.files[i]) for i in np.atleast_1d(chosen)])
        return images if np.ndim(chosen) else images[0]

    def read(self, file: Path) -> NumpyArray:
        """Return one image ``(height, width, C)``."""
        from PIL import Image, ImageOps

        # Opened here, as Pillow 13 reads an uncompressed TIFF that is turned wrongly by its name.
        with explained("data.ImageFolder", file), file.open("rb") as opened, open_image(opened) as image:
            (width, height), kind = image.size, image.mode
            few = width * height <= self.most_pixels
            checks.require(few, f"it has {width} × {height} pixels, more than most_pixels={self.most_pixels}")
            known = kind not in ("F", "I")
            checks.require(known, f"its pixels are of mode {kind}, whose range is not known; convert to 8 or 16 bits")
            turned = ImageOps.exif_transpose(image)
            if turned.mode.startswith("I;16"):  # which Pillow would clip to 255
                turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
            converted = turned.convert(self.mode)
            if converted.size != self.size[::-1]:
                converted = converted.resize(self.size[::-1], Image.Resampling.BILINEAR)
            return np.asarray(converted).reshape(self.shape[1:])


def open_image(file: Any) -> Any:
    """Return the image in an open file, whose header alone is read."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file, "r", FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError(f"{error}; expected one of the formats {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error} This is Pillow's own limit: to lift it, set PIL.Image.MAX_IMAGE_PIXELS") from error


def image_folder(
    path: str | PathLike[str], size: tuple[int, int], mode: str = "RGB", *, most_pixels: int = MOST_PIXELS
) -> tuple[ImageFolder, NumpyArray, tuple[str, ...]]:
    """Return ``(images, labels, classes)`` of a folder that has one folder of image files for each class.

    ``classes`` are the sorted names of these folders, and ``labels (N,)``, int32, are the indices of the images in
    ``classes``. The images are in the order of the classes, and within a class in the order of their paths.
    """
    if find_spec("PIL") is None:
        raise ImportError('data.image_folder needs Pillow; install it with: pip install "fnnet[images]"')
    root = Path(path)
    checks.require(root.is_dir(), f"data.image_folder: {root} is not a folder")
    classes = tuple(sorted(folder.name for folder in root.iterdir() if folder.is_dir()))
    checks.require(bool(classes), f"data.image_folder: {root} has no folders; expected one for each class")
    found = [sorted(f for f in (root / name).rglob("*") if f.suffix.lower() in ENDINGS) for name in classes]
    empty = [name for name, files in zip(classes, found, strict=True) if not files]
    checks.require(not empty, f"data.image_folder: {root} has no image files in {', '.join(empty)}")
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(files) for files in found])
    return ImageFolder(tuple(itertools.chain(*found)), tuple(size), mode, most_pixels), labels, classes  # type: ignore[arg-type]
