"""Readers of files of numbers: IDX (MNIST's format), NumPy's NPZ, CSV."""

from __future__ import annotations

import csv
import gzip
import math
import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fnnet import checks

NumpyArray = np.ndarray[Any, Any]

IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the type code


def read_idx(path: str | PathLike[str], *, mmap: bool = False) -> NumpyArray:
    """The array in an IDX file, gzipped if its name ends in ``.gz``.

    Two zero bytes, a type code (8: unsigned byte, 9: signed, 11: int16, 12: int32, 13: float32, 14: float64), the
    number of axes, their lengths as big-endian int32, the entries, big-endian as well. ``mmap`` leaves the entries of
    a file that is not compressed on disk, for ``from_arrays``. Source: LeCun, Cortes and Burges, "The MNIST database".
    """
    path = Path(path)
    compressed = path.suffix == ".gz"
    checks.require(not (mmap and compressed), f"data.read_idx: {path} is compressed; unpack it for mmap=True")
    try:
        if mmap:
            with path.open("rb") as file:
                head = file.read(4 + 4 * 255)
            size = path.stat().st_size
        else:
            head = gzip.decompress(path.read_bytes()) if compressed else path.read_bytes()
            size = len(head)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"data.read_idx: cannot read {path}: {error}; get the file again") from error
    axes = head[3] if head[:2] == b"\0\0" and len(head) >= 4 and head[2] in IDX_DTYPES else 0
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(head, ">i4", axes, 4).tolist()) if len(head) >= start else ()
    dtype = np.dtype(IDX_DTYPES[head[2]]) if axes else np.dtype("u1")
    if not axes or size != start + math.prod(shape) * dtype.itemsize:
        raise ValueError(f"data.read_idx: {path} is no complete IDX file; get the file again")
    if mmap:
        return np.memmap(path, dtype, "r", start, shape)
    entries = np.frombuffer(head, dtype, offset=start).reshape(shape)
    return entries.astype(dtype.newbyteorder("="), copy=False)


def read_npz(path: str | PathLike[str], x: str = "x", y: str = "y") -> tuple[NumpyArray, NumpyArray]:
    """The arrays called ``x`` and ``y`` in an NPZ file, as ``np.savez(path, x=..., y=...)`` writes it.

    Arrays of Python objects are refused: reading them would run what the file says.
    """
    try:
        with Path(path).open("rb") as opened:  # NumPy would leave a damaged file open
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array; read it with np.load")
            missing = [name for name in (x, y) if name not in file]
            if missing:
                raise ValueError(f"it has no array {missing[0]!r}, only {sorted(file)}; pass x= and y=")
            pair = file[x], file[y]
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"data.read_npz: cannot read {path}: {error}") from error
    checks.require(
        pair[0].ndim > 0 and pair[1].ndim > 0 and len(pair[0]) == len(pair[1]) > 0,
        f"data.read_npz: {path} has {x!r} of shape {pair[0].shape} and {y!r} of shape {pair[1].shape}; expected the "
        f"same number of examples, at least one, on the first axis of both",
    )
    return pair


def read_csv(
    path: str | PathLike[str], target: str | int = -1, *, delimiter: str = ",", labels: bool = False
) -> tuple[NumpyArray, NumpyArray]:
    """``x (N, D)`` and ``y (N, 1)``, float32, from a CSV file of numbers; with ``labels``, ``y (N,)`` int32.

    A first line in which no entry is a number is a header. ``target`` is the column of ``y``, by its name in the
    header or its number; the others are ``x``, in their order. A line of another length or an entry that is no finite
    number is an error that names the line.
    """
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        rows = [(reader.line_num, row) for row in reader if any(entry.strip() for entry in row)]
    checks.require(bool(rows), f"data.read_csv: {path} is empty")
    header = rows.pop(0)[1] if all(number(entry) is None for entry in rows[0][1]) else None
    checks.require(bool(rows), f"data.read_csv: {path} has a header and no lines of numbers")
    width = len(rows[0][1]) if header is None else len(header)
    column = column_of(path, target, header, width)
    values = np.empty((len(rows), width))
    for i, (line, row) in enumerate(rows):
        checks.require(
            len(row) == width, f"data.read_csv: line {line} of {path} has {len(row)} entries; expected {width}"
        )
        for j, entry in enumerate(row):
            value = number(entry)
            if value is None or not math.isfinite(value):
                name = j if header is None else header[j]
                raise ValueError(
                    f"data.read_csv: line {line} of {path} has {entry!r} in column {name}; "
                    f"expected a finite number: fill it in, or turn categories into numbers"
                )
            values[i, j] = value
    y = values[:, column]
    x = np.delete(values, column, axis=1).astype(np.float32)
    if not labels:
        return x, y.astype(np.float32)[:, None]
    whole = y.astype(np.int32)
    checks.require(bool((whole == y).all()), f"data.read_csv: the labels of {path} are not whole numbers")
    return x, whole


def number(entry: str) -> float | None:
    try:
        return float(entry)
    except ValueError:
        return None


def column_of(path: Any, target: str | int, header: list[str] | None, width: int) -> int:
    if isinstance(target, str):
        names = [name.strip() for name in header or ()]
        if target not in names:
            raise ValueError(f"data.read_csv: {path} has no column {target!r}; its header is {names}")
        return names.index(target)
    checks.require(-width <= target < width, f"data.read_csv: target is column {target} but {path} has {width} columns")
    return target % width
