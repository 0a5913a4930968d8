"""Data for training: streams of batches, readers of files, random changes of images.

``from_arrays`` and ``from_batches`` return a ``Stream`` for ``fnnet.fit(cost, optimizer, params, data=stream)``.
"""

from fnnet.data import augment
from fnnet.data.files import read_csv, read_idx, read_npz
from fnnet.data.images import ImageFolder, image_folder
from fnnet.data.stream import Stream, from_arrays, from_batches

__all__ = [
    "ImageFolder",
    "Stream",
    "augment",
    "from_arrays",
    "from_batches",
    "image_folder",
    "read_csv",
    "read_idx",
    "read_npz",
]
