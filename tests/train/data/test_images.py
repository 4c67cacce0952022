"""Decoding images, and finding them in folders."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import DataError
from fcn_train.data.images import image_files, image_size, read_image, read_oriented
from fcn_train.serve.uploads import Refused, picture_of


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_images_of_any_8_bit_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (4, 5, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()
    assert image.flags.writeable


def test_image_of_16_bits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(path)
    with pytest.raises(DataError, match=r"deep\.png: has pixels of mode I;16.*8 bits"):
        read_image(path)


@pytest.mark.parametrize("kept", [0, 10, 200])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_truncated_file_is_an_error_that_names_it(tmp_path: Path, ending: str, kept: int) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"cut.{ending}"
    Image.fromarray(rng.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"cut\.{ending}: image cannot be decoded \(.+\); replace"):
        read_image(path)


def test_file_that_is_no_picture_is_told_from_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"decoded \(no known picture format\); replace the file"):
        read_image(tmp_path / "page.jpg")


def test_picture_beyond_pillows_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (300, 300)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"bomb\.png: image has too many pixels"):
            read(path)
    with pytest.raises(Refused, match=r"far more pixels than the limit of 0\.03 million"):
        picture_of(path.read_bytes(), 30_000)


def test_what_pillow_reads_all_the_same_is_no_warning(tmp_path: Path) -> None:
    # In a process of its own, whose filters are the program's and not pytest's.
    picture = Image.new("RGB", (30, 20), (51, 102, 204))
    palette, exif, large = (tmp_path / name for name in ("p.png", "exif.jpg", "large.png"))
    picture.convert("P").save(palette, transparency=bytes(range(256)))
    picture.save(exif, exif=b"Exif\0\0II*\0\xff\xff\0\0")
    picture.save(large)
    program = f"""
import warnings
from pathlib import Path
import numpy as np
from PIL import Image
from fcn_train.data.images import image_size, read_image
from fcn_train.serve.uploads import picture_of

palette, exif, large = (Path({str(tmp_path)!r}) / n for n in ("p.png", "exif.jpg", "large.png"))
expected = np.full((20, 30, 3), (51, 102, 204))
assert np.array_equal(read_image(palette), expected)
for upright in (False, True):
    assert np.abs(read_image(exif, upright=upright).astype(int) - expected).max() < 9
Image.MAX_IMAGE_PIXELS = 400  # Pillow warns of larger ones
assert np.array_equal(read_image(large), expected)
assert image_size(large) == (20, 30)
assert np.array_equal(picture_of(large.read_bytes(), 600), expected)
try:
    warnings.warn("of others")
except UserWarning:
    print("done")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("read", [read_image, image_size, lambda p: picture_of(p.read_bytes(), 99)])
def test_reading_leaves_the_filters_of_warnings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    # Threads share them: of two that mute and restore them at once, one leaves them muted.
    path = tmp_path / "image.png"
    Image.new("RGB", (5, 4)).save(path)
    seen = []
    opening = Image.open

    def noticing(*arguments: Any, **options: Any) -> Image.Image:
        seen.append((id(warnings.filters), list(warnings.filters)))
        return opening(*arguments, **options)

    monkeypatch.setattr(Image, "open", noticing)
    before = (id(warnings.filters), list(warnings.filters))
    read(path)
    assert seen
    assert all(each == before for each in seen)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(os.devnull)])
def test_what_is_no_regular_file_is_not_called_missing(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "image.png"
    with pytest.raises(DataError, match=r"image\.png: image is missing; restore the file"):
        read_image(path)
    make(path)
    with pytest.raises(
        DataError, match=r"image\.png: image is no regular file; replace it or take"
    ):
        read_image(path)


def test_pillows_limit_is_left_in_force() -> None:
    from PIL import ImageFile

    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def deep_png(path: Path, mode: str) -> None:
    """A PNG of 16 bits per channel, which Pillow does not write: 2 x 1 pixels of 4095."""
    channels, color_type = {"RGB": (3, 2), "RGBA": (4, 6), "LA": (2, 4), "L": (1, 0)}[mode]
    row = b"\0" + b"\x0f\xff" * channels * 2

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 2, 1, 16, color_type, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L"])
def test_16_bits_per_channel_are_refused_in_every_mode(tmp_path: Path, mode: str) -> None:
    deep_png(tmp_path / "deep.png", mode)
    with pytest.raises(DataError, match=r"deep\.png: has pixels of mode .*16.*8 bits per channel"):
        read_image(tmp_path / "deep.png")


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_are_refused_in_tiff(tmp_path: Path, order: str) -> None:
    strip = struct.pack(f"{order}6H", *[4095] * 6)  # 2 x 1 pixels
    tags = [(256, 2), (257, 1), (258, 122), (259, 1), (262, 2), (273, 128), (277, 3), (278, 1)]
    directory = struct.pack(f"{order}H", len(tags) + 1)
    for tag, value in [*tags, (279, len(strip))]:
        directory += (
            struct.pack(f"{order}HHII", tag, 4, 1, value)
            if tag != 258
            else (struct.pack(f"{order}HHII", tag, 3, 3, value))
        )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    body = head + directory + bytes(4)
    bits = struct.pack(f"{order}3H", 16, 16, 16)
    (tmp_path / "deep.tif").write_bytes(body.ljust(122, b"\0") + bits + strip)
    with pytest.raises(DataError, match=r"deep\.tif: has pixels of mode RGB;16"):
        read_image(tmp_path / "deep.tif")


def test_16_bits_are_refused_in_other_formats(tmp_path: Path) -> None:
    (tmp_path / "deep.ppm").write_bytes(b"P6 2 1 65535\n" + b"\x0f\xff" * 6)
    with pytest.raises(DataError, match=r"deep\.ppm: has pixels of mode RGB;16B"):
        read_image(tmp_path / "deep.ppm")
    (tmp_path / "flat.ppm").write_bytes(b"P6 2 1 255\n" + bytes(range(6)))
    assert read_image(tmp_path / "flat.ppm").tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_16_bits_per_pixel_are_not_16_per_channel(tmp_path: Path) -> None:
    header = struct.pack("<2sIHHI", b"BM", 14 + 40 + 4, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
    (tmp_path / "old.bmp").write_bytes(header + b"\xff\x7f\0\0")
    assert read_image(tmp_path / "old.bmp").tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_viewers_show(tmp_path: Path, orientation: int) -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    save_turned(tmp_path / "turned.png", pixels, orientation)
    stored, upright = (
        read_oriented(tmp_path / "turned.png", upright=upright) for upright in (False, True)
    )
    assert stored[1] == upright[1] == orientation
    np.testing.assert_array_equal(stored[0], pixels)
    expected = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels),
    }[orientation]
    np.testing.assert_array_equal(upright[0], expected)


def test_absurd_orientation_is_none(tmp_path: Path) -> None:
    save_turned(tmp_path / "odd.png", np.zeros((2, 3, 3), np.uint8), 77)
    assert read_oriented(tmp_path / "odd.png")[1] == 1


def save_turned(path: Path, pixels: np.ndarray, orientation: int) -> None:
    tag = Image.Exif()
    tag[0x112] = orientation
    Image.fromarray(pixels).save(path, exif=tag)


def test_stray_files_are_no_images(tmp_path: Path) -> None:
    picture = Image.new("RGB", (2, 2))
    for place in ("b.png", "a.JPG", "sub/c.tif", "._b.png", ".hidden/d.png", "out/b.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / place)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")

    def found(outside: Path) -> list[str]:
        return [str(p.relative_to(tmp_path)) for p in image_files(tmp_path, outside=outside)]

    assert found(tmp_path / "out") == ["a.JPG", "b.png", "sub/c.tif"]
    everything = ["a.JPG", "b.png", "out/b.png", "sub/c.tif"]
    assert found(tmp_path / "elsewhere") == everything
    assert found(tmp_path.parent) == everything


def test_folders_below_that_are_links_are_searched_but_in_no_circle(tmp_path: Path) -> None:
    there, root = tmp_path / "there", tmp_path / "root"
    for folder in (there, root):
        folder.mkdir()
    Image.new("RGB", (2, 2)).save(there / "a.png")
    (there / "around").symlink_to(there)
    (root / "link").symlink_to(there)
    (root / "up").symlink_to(tmp_path)
    found = [path.relative_to(root) for path in image_files(root, outside=tmp_path / "out")]
    assert found == [Path("link/a.png"), Path("up/there/a.png")]


def test_folder_that_is_a_link_is_searched(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "there" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert list(image_files(tmp_path / "link", outside=tmp_path / "link" / "out")) == [
        tmp_path / "link" / "a.png"
    ]
