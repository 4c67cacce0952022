"""Hostile files: cut off, with bits flipped, larger than they look, without an end."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

# Which reader of readers.py takes a file, and the file.
Case = tuple[str, Path]


def pictures() -> dict[str, bytes]:
    """Small pictures, each in a format or a compression of its own."""
    generator = np.random.default_rng(0)
    color = Image.fromarray(generator.integers(0, 256, (30, 41, 3), dtype=np.uint8))
    label = Image.fromarray(generator.integers(0, 5, (30, 41), dtype=np.uint8), "L")
    palette = label.convert("P")
    depth = Image.fromarray(generator.integers(0, 9000, (30, 41)).astype(np.uint16))
    return {
        "image.png": _saved(color, "PNG"),
        "image.jpg": _saved(color, "JPEG"),
        "image.tif": _saved(color, "TIFF"),
        "image.webp": _saved(color, "WEBP"),
        "image.bmp": _saved(color, "BMP"),
        "image.ppm": _saved(color, "PPM"),
        "label.png": _saved(palette, "PNG"),
        "label.gif": _saved(palette, "GIF"),
        "label.tif": _saved(label, "TIFF", compression="tiff_lzw"),
        "label-deflate.tif": _saved(label, "TIFF", compression="tiff_adobe_deflate"),
        "depth.png": _saved(depth, "PNG"),
    }


def matlab() -> dict[str, bytes]:
    label = np.random.default_rng(0).integers(0, 5, (30, 41), dtype=np.uint8)
    content = {"GTcls": {"Segmentation": label, "Boundaries": np.zeros(3)}}
    found = {}
    for name, compress in (("matlab.mat", False), ("matlab-compressed.mat", True)):
        stream = io.BytesIO()
        savemat(stream, content, do_compression=compress)
        found[name] = stream.getvalue()
    return found


def hdf5(path: Path) -> bytes:
    """The labeled set of NYUDv2 in small."""
    sizes = {"images": (4, 3, 8, 6), "labels": (4, 8, 6), "depths": (4, 8, 6)}
    with h5py.File(path, "w") as file:
        for name, size in sizes.items():
            file.create_dataset(name, data=np.ones(size, np.uint8), compression="gzip")
    return path.read_bytes()


def damaged(folder: Path, name: str, content: bytes, cuts: int, flips: int) -> Iterator[Case]:
    """A file cut off at some places, and with some bits of it flipped at others."""
    draw = random.Random(name)
    reader = name.partition(".")[0].partition("-")[0]
    for number in range(cuts):
        end = len(content) * number // cuts
        yield reader, _written(folder / f"cut-{number}-{name}", content[:end])
    for number in range(flips):
        flipped = bytearray(content)
        # Heads of files are short, and say the most.
        places = min(len(content), 120) if number % 2 else len(content)
        for _ in range(draw.choice([1, 1, 4, 40])):
            flipped[draw.randrange(places)] ^= 1 << draw.randrange(8)
        yield reader, _written(folder / f"flip-{number}-{name}", bytes(flipped))


def bombs(folder: Path) -> Iterator[Case]:
    """Small files that ask for much memory or time."""
    for reader in ("image", "label"):
        for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)):
            name = f"bomb-{reader}-{width}-{height}.png"
            yield reader, _written(folder / name, _png(width, height))
    # Within Pillow's limit, but more than the process may have once it is RGB.
    yield "image", _written(folder / "large.png", _png(13_000, 13_000, bits=1))
    yield "image", _written(folder / "large.ppm", b"P6 60000 60000 255\n" + bytes(100))
    yield "image", _written(folder / "text.png", _png(4, 4, text=zlib.compress(bytes(2**26))))
    gif = bytearray(pictures()["label.gif"])
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    yield "label", _written(folder / "screen.gif", bytes(gif))
    yield "label", _written(folder / "frames.gif", _gif_of_frames(200_000))
    yield "label", _written(folder / "directories.tif", _tiff_in_circles())
    # Another format than its name says, and one that Pillow has another program read.
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    yield "image", _written(folder / "script.jpg", script)


def matlab_bombs(folder: Path) -> Iterator[Case]:
    """A matrix that says it is of 2**40 numbers; one of zeros that no disk needs to hold."""
    content = bytearray(matlab()["matlab.mat"])
    place = content.find(struct.pack("<ii", 30, 41))
    content[place : place + 8] = struct.pack("<ii", 2**20, 2**20)
    yield "matlab", _written(folder / "claims.mat", bytes(content))
    zeros = io.BytesIO()
    savemat(zeros, {"GTcls": {"Segmentation": np.zeros((9000, 20000), np.uint8)}}, do_compression=1)
    yield "matlab", _written(folder / "zeros.mat", zeros.getvalue())
    path = folder / "hdf5-zeros.mat"
    with h5py.File(path, "w") as file:
        for name, size in (("images", (4, 3)), ("labels", (4,)), ("depths", (4,))):
            file.create_dataset(name, (*size, 40_000, 40_000), np.uint8, chunks=True)
    yield "hdf5", path


def lists(folder: Path) -> Iterator[Case]:
    """Lists without an end, of no text, of names that no disk has."""
    contents = {
        "endless-line.txt": b"x" * 8_000_000,
        "endless-columns.txt": b"a " * 2_000_000,
        "long-name.txt": b"x" * 3000 + b"\n",
        "deep-name.txt": b"a/" * 4000 + b"b\n",
        "nul.txt": b"image\0one\n\0\0\n",
        "binary.txt": bytes(range(256)) * 20,
        "utf16.txt": "image-one\n".encode("utf-16"),
        "surrogates.txt": b"\xed\xa0\x80\n",
        "blank.txt": b"\n" * 1_000_000,
        "separators.txt": "a\u2028b\x85c\n".encode(),
        "nothing.txt": b"",
    }
    for name, content in contents.items():
        yield "list", _written(folder / name, content)
        yield "classes", folder / name
        yield "colors", folder / name
    sparse = folder / "sparse.txt"
    with sparse.open("wb") as file:
        file.truncate(2**36)
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "endless.txt").symlink_to("/dev/zero")
    (folder / "folder.txt").mkdir()
    os.mkfifo(folder / "pipe.txt")
    for name in ("sparse.txt", "loop.txt", "endless.txt", "folder.txt", "pipe.txt"):
        for reader in ("list", "classes", "image", "label", "matlab", "hdf5"):
            yield reader, folder / name


def _saved(picture: Image.Image, format: str, **how: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **how)
    return stream.getvalue()


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _png(width: int, height: int, bits: int = 8, text: bytes = b"") -> bytes:
    """A gray PNG of zeros; its rows are there only if they are few."""
    row = 1 + (width * bits + 7) // 8
    rows = zlib.compress(bytes(row * height)) if row * height < 2**26 else zlib.compress(b"\0")
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
    if text:
        chunks.insert(1, (b"zTXt", b"k\0\0" + text))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _gif_of_frames(count: int) -> bytes:
    """One pixel, again and again."""
    stream = io.BytesIO()
    first = Image.new("P", (1, 1))
    first.putpalette([0, 0, 0, 255, 0, 0])
    first.save(stream, "GIF")
    content = stream.getvalue()
    frame = content[content.index(b",") : -1]
    return content[:-1] + frame * count + b";"


def _tiff_in_circles() -> bytes:
    """Its only directory is followed by itself."""
    content = bytearray(pictures()["label.tif"])
    start = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, start)[0]
    struct.pack_into("<I", content, start + 2 + 12 * entries, start)
    return bytes(content)
