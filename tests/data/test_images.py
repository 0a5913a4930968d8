"""Folders of images: what is read, how, and what is refused."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fnnet.data import from_arrays, image_folder

GRAY = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)


def test_images(tmp_path: Path) -> None:
    """Read as they are needed, in the order of their classes; of another size, scaled."""
    for i, name in enumerate(("cat/b.png", "cat/a.png", "ant/c.png", "ant/read.txt")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("png"):
            Image.fromarray(np.full((4, 6, 3), 50 * i, np.uint8)).save(tmp_path / name)
        else:
            (tmp_path / name).write_text("no image")
    images, labels, classes = image_folder(tmp_path, (2, 3))
    assert (classes, labels.tolist(), images.shape, len(images)) == (("ant", "cat"), [0, 1, 1], (3, 2, 3, 3), 3)
    assert images[np.array([2, 0])][:, 0, 0, 0].tolist() == [0, 100]
    assert images[1].shape == (2, 3, 3)
    assert (images[1] == 50).all()
    stream = from_arrays(images, labels, 2, shuffle=False)
    assert [chunk.x.shape for chunk in stream.chunks(None, 0, 1)] == [(1, 2, 2, 3, 3), (1, 1, 2, 3, 3)]
    assert image_folder(tmp_path, (2, 3), "L")[0][:].shape == (3, 2, 3, 1)
    (tmp_path / "ant" / "c.png").write_bytes(b"\x89PNG damaged")
    with pytest.raises(ValueError, match=r"data.ImageFolder: cannot read .*c\.png: "):
        images[0]


def test_no_image_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr("fnnet.data.images.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"data.image_folder needs Pillow; .*fnnet\[images\]"):
            image_folder(tmp_path, (2, 2))
    with pytest.raises(ValueError, match="is not a folder"):
        image_folder(tmp_path / "none", (2, 2))
    with pytest.raises(ValueError, match="has no folders; expected one for each class"):
        image_folder(tmp_path, (2, 2))
    (tmp_path / "ant").mkdir()
    with pytest.raises(ValueError, match="has no image files in ant"):
        image_folder(tmp_path, (2, 2))


def png(width: int, height: int, kind: int, rows: bytes = b"") -> bytes:
    """A PNG of 16 bits, written as its specification says; Pillow writes none in color."""

    def block(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", head) + block(b"IDAT", zlib.compress(rows)) + block(b"IEND", b"")


def read(folder: Path, mode: str, size: tuple[int, int] = (3, 4), **options: Any) -> np.ndarray:
    """The only image in ``folder / "c"``."""
    return image_folder(folder, size, mode, **options)[0][0]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["gray.png", "gray.tif", "big-endian.tif", "color.png"])
def test_sixteen_bits_become_the_higher_eight(kind: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    path = tmp_path / "c" / kind
    if kind == "color.png":
        path.write_bytes(png(4, 3, 2, b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in GRAY)))
    elif kind == "big-endian.tif":
        Image.frombytes("I;16B", (4, 3), GRAY.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(GRAY).save(path)
    expected = np.repeat((GRAY >> 8)[..., None], 1 if mode == "L" else 3, axis=2)
    np.testing.assert_array_equal(read(tmp_path, mode), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_no_known_range_are_refused(dtype: Any, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    Image.fromarray((GRAY / 65535).astype(dtype)).save(tmp_path / "c" / "a.tif")
    with pytest.raises(ValueError, match=r"data.ImageFolder: cannot read .*a.tif: its pixels are of mode [FI], whose"):
        read(tmp_path, "L")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_an_image_is_turned_as_its_exif_orientation_says(orientation: int, ending: str, tmp_path: Path) -> None:
    """EXIF 2.3, tag 274: which corner of what is seen the first row and the first column of what is stored are."""
    seen = np.kron(np.array([[0, 80, 160], [250, 40, 120]], np.uint8), np.ones((16, 16), np.uint8))
    turns = (lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, np.transpose, lambda a: np.rot90(a, 1))
    turns += (lambda a: np.rot90(a, 2).T, lambda a: np.rot90(a, 3))  # type: ignore[assignment]
    stored = np.ascontiguousarray(turns[orientation - 1](seen))
    exif = Image.Exif()
    exif[274] = orientation
    (tmp_path / "c").mkdir()
    options: Any = {"quality": 100} if ending == "jpg" else {"lossless": True} if ending == "webp" else {}
    Image.fromarray(stored).save(tmp_path / "c" / f"a.{ending}", exif=exif, **options)
    found = read(tmp_path, "L", seen.shape)[..., 0].astype(int)
    assert np.abs(found - seen).max() <= 4


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("ending", ["png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "webp"])
@pytest.mark.parametrize("content", [POSTSCRIPT, b"P5 4 3 255\n" + bytes(12), b"8BPS", b"\0\0\1\0"])
def test_no_other_decoder_than_those_of_the_formats_is_started(
    ending: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostScript would start a program: what a file is called does not choose its decoder."""

    def no_program(*_: Any, **__: Any) -> None:
        raise SystemExit("a program was started")

    for name in ("subprocess.Popen", "subprocess.check_call", "os.system"):
        monkeypatch.setattr(name, no_program)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / f"a.{ending}").write_bytes(content)
    known = "expected one of the formats BMP, GIF, JPEG, PNG, TIFF, WEBP"
    with pytest.raises(ValueError, match=rf"ImageFolder: cannot read .*a.{ending}: cannot identify .*; {known}"):
        read(tmp_path, "RGB")


HUGE = {
    "png": png(60_000, 60_000, 2),
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0) + b"," + struct.pack("<HHHHBB", 0, 0, 9, 9, 0, 2),
    "tif": b"II*\0\x08\0\0\0\5\0"
    + b"".join(struct.pack("<HHII", *tag) for tag in ((256, 4, 1, 60_000), (257, 4, 1, 60_000), (258, 3, 1, 8)))
    + struct.pack("<HHIIHHIII", 262, 3, 1, 1, 273, 4, 1, 0, 0),
}


@pytest.mark.parametrize("ending", HUGE)
def test_a_header_that_promises_gigabytes_is_refused_by_name(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow's own limit is 179 million pixels; ours is an argument, and holds before memory is taken."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / f"a.{ending}").write_bytes(HUGE[ending])
    message = rf"ImageFolder: cannot read .*a.{ending}: Image size \(3600000000 pixels.*set PIL.Image.MAX_IMAGE_PIXELS"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "RGB", most_pixels=10**10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ValueError, match=r"60000 × 60000 pixels, more than most_pixels=67108864"):
        read(tmp_path, "RGB")


def test_the_limit_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c").mkdir()
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(tmp_path / "c" / "a.png")
    assert read(tmp_path, "L", most_pixels=1200).shape == (3, 4, 1)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("memory was taken"))
    with pytest.raises(ValueError, match=r"a.png: it has 40 × 30 pixels, more than most_pixels=1199"):
        read(tmp_path, "L", most_pixels=1199)
