"""Readers, each with what they refuse."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnnet.data import read_csv, read_idx, read_npz

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{array.ndim}i", 0, 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(4,), (2, 3, 5)])
def test_idx(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = (np.arange(np.prod(shape)) * 3 - 5).astype(dtype).reshape(shape)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    for name, mmap in (("a", False), ("a.gz", False), ("a", True)):
        read = read_idx(tmp_path / name, mmap=mmap)
        np.testing.assert_array_equal(read, array)
        assert read.dtype.newbyteorder("=") == array.dtype
        assert isinstance(read, np.memmap) == mmap


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"\0\0\x08",
        b"\0\0\x07\1\0\0\0\0",
        b"\1\0\x08\1\0\0\0\0",
        idx(np.ones(4, "u1"))[:-1],
        idx(np.ones(4, "u1")) + b"1",
    ],
)
def test_no_idx(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    (tmp_path / "b.gz").write_bytes(gzip.compress(idx(np.ones(100, "u1")))[:-9])
    for name, mmap in (("a", False), ("a.gz", False), ("a", True), ("b.gz", False)):
        with pytest.raises(ValueError, match=rf"data.read_idx: cannot read .*{name}: "):
            read_idx(tmp_path / name, mmap=mmap)
    with pytest.raises(ValueError, match="is compressed; unpack it for mmap=True"):
        read_idx(tmp_path / "a.gz", mmap=True)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")
    with pytest.raises(IsADirectoryError):  # as where it may not be read: another copy would not help
        read_idx(tmp_path)


def test_npz(tmp_path: Path) -> None:
    x, y = np.ones((3, 2)), np.arange(3)
    np.savez(tmp_path / "a.npz", x=x, labels=y, short=y[:2])
    for read, given in zip(read_npz(tmp_path / "a.npz", y="labels"), (x, y), strict=True):
        np.testing.assert_array_equal(read, given)
    np.savez(tmp_path / "objects.npz", x=np.array([{}, {}], object), y=y)
    np.save(tmp_path / "single.npy", x)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    (tmp_path / "text.npz").write_text("no archive")
    for name, options, message in (
        ("a.npz", {}, r"it has no array 'y', only \['labels', 'short', 'x'\]; pass x= and y="),
        ("a.npz", {"y": "short"}, r"it has 'x' of shape \(3, 2\) and 'short' of shape \(2,\)"),
        ("objects.npz", {}, "Object arrays cannot be loaded"),
        ("single.npy", {}, "it has a single array"),
        ("cut.npz", {}, "File is not a zip file"),
        ("text.npz", {}, ""),
    ):
        with pytest.raises(ValueError, match=f"data.read_npz: cannot read .*{name}: {message}"):
            read_npz(tmp_path / name, **options)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("width,kind,height\n1,0,2.5\n\n3,1,-4e-1\n")
    x, y = read_csv(path, "kind", labels=True)
    assert (x.tolist(), y.tolist()) == ([[1, 2.5], [3, np.float32(-0.4)]], [0, 1])
    assert (x.dtype, y.dtype) == (np.float32, np.int32)
    assert read_csv(path)[1].tolist() == [[2.5], [np.float32(-0.4)]]
    path.write_text("1;2\n3;4\n")
    assert read_csv(path, 0, delimiter=";")[1].tolist() == [[1], [3]]


@pytest.mark.parametrize(
    ("text", "options", "examples", "target"),
    [
        ("0,1,2\n3,4,5\n6,7,8\n", {"header": True}, 2, [5, 8]),
        ("0,1,2\n3,4,5\n6,7,8\n", {"header": False}, 3, [2, 5, 8]),
        ("0,1,target\n3,4,5\n6,7,8\n", {"target": "target"}, 2, [5, 8]),
        ("0,1,target\n3,4,5\n6,7,8\n", {"target": "0"}, 2, [3, 6]),
        ("2020,2021\n3,4\n", {"header": True, "target": "2020"}, 1, [3]),
        ("a,2\n3,4\n", {"header": True}, 1, [4]),
        ("0,2\n3,4\n", {}, 2, [2, 4]),
    ],
)
def test_headers_of_csv(text: str, options: Any, examples: int, target: list[float], tmp_path: Path) -> None:
    """The names of columns may be numbers, as pandas writes them."""
    (tmp_path / "a.csv").write_text(text)
    x, y = read_csv(tmp_path / "a.csv", **options)
    assert (len(x), y[:, 0].tolist()) == (examples, target)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty"),
        ("a,b\n", {}, "has a header but no lines of numbers"),
        ("a,b\n1,2\n3\n", {}, "line 3 has 1 entries; expected 2"),
        ("a,b\n1,2\n3,x\n", {}, "line 3 has 'x' in column b; expected a finite number"),
        ("1,,3\n1,2,3\n", {}, "line 1 has '' in column 1; expected a finite number"),
        ("1,2\n3,nan\n", {}, "line 2 has 'nan' in column 1"),
        ("1,2\n\n3,1e39\n", {}, "line 3 has '1e39' in column 1; expected a finite number in float32"),
        ("1,2\n12_34,5\n", {}, "line 2 has '12_34' in column 0"),
        ("12_34,5_6\n1,2\n", {}, "line 1 has '12_34' in column 0"),
        ("0,1,2\n3,4,5\n", {}, r"begins with 0,1,2: names of columns, or an example\? Pass header=True or False"),
        ("1,b\n3,4\n", {}, "line 1 has 'b' in column 1; .* pass header=True if it is a header"),
        ("a,b\n3,4\n", {"header": False}, "line 1 has 'a' in column 0"),
        ("0,1\n0,3e9\n", {"labels": True, "header": True}, "labels are not whole numbers in int32"),
        ("a,b\n1,2\n", {"target": "c"}, r"has no column 'c'; its first line is \['a', 'b'\]"),
        ("1,2\n", {"target": 2}, "target is column 2 but there are 2 columns"),
        ("1,2.5\n", {"labels": True}, "the labels are not whole numbers"),
        (
            "1,2\n3,\N{ARABIC-INDIC DIGIT THREE}\n",
            {},
            "line 2 has '\N{ARABIC-INDIC DIGIT THREE}' in column 1; expected",
        ),
        ("1,2\n3,4\N{FULLWIDTH DIGIT ONE}\n", {}, "line 2 has '4\N{FULLWIDTH DIGIT ONE}' in column 1"),
        ("a,a,b\n1,2,3\n", {"target": "a"}, "has 2 columns named 'a'; give the number of one"),
        (b"caf\xe9,b\n1,2\n", {}, "a.csv cannot be read: .utf-8. codec .*; expected lines of numbers, saved as UTF-8"),
        ("1," + "2" * 200_000, {}, "a.csv cannot be read: field larger than field limit"),
    ],
)
def test_no_csv(text: str | bytes, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"data.read_csv: .*{message}"):
        read_csv(tmp_path / "a.csv", **options)
