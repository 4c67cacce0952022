"""Decoding label files: one meaning, or refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_ext.numpy import voc_palette
from fcn_train.data import DataError, LabelCoding
from fcn_train.data.labels import PictureLabels, read_label


@pytest.mark.parametrize("mode", ["P", "L"])
def test_label_values_are_indices_with_or_without_palette(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1, 20], [255, 7, 3]], dtype=np.uint8)
    picture = Image.fromarray(values)
    if mode == "P":
        picture.putpalette(voc_palette().tobytes())
    picture.save(tmp_path / "label.png")
    assert np.array_equal(read_label(tmp_path / "label.png"), values)


def test_colors_of_the_palette_in_a_label_come_with_the_remedy(tmp_path: Path) -> None:
    colors = voc_palette()[np.array([[0, 15], [255, 2]])]
    Image.fromarray(colors).save(tmp_path / "label.png")
    with pytest.raises(DataError, match=r"label\.png: holds the palette's.*decode_palette"):
        read_label(tmp_path / "label.png", voc_palette())


def test_other_colors_in_a_label_are_told_apart(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3), (1, 2, 3)).save(tmp_path / "label.png")
    with pytest.raises(DataError, match=r"is a color picture \(RGB\), not class indices"):
        read_label(tmp_path / "label.png", voc_palette())


def test_jpeg_label_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 3).save(tmp_path / "label.jpg")
    with pytest.raises(DataError, match=r"is a JPEG.*save labels as PNG"):
        read_label(tmp_path / "label.jpg")


def test_label_of_16_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((3, 3), dtype=np.uint16)).save(tmp_path / "label.png")
    with pytest.raises(DataError, match=r"mode I(;16)?; save labels as 8-bit"):
        read_label(tmp_path / "label.png")


def black_and_white(folder: Path, ending: str, **options: Any) -> Path:
    """Brightness 0 and 255 in a file of fewer than 8 bits."""
    values = np.array([[0, 255, 0], [255, 255, 0]], dtype=np.uint8)
    path = folder / f"label.{ending}"
    if "bits" in options:
        path.write_bytes(gray_png(values > 0, options["bits"]))
    else:
        Image.fromarray(values).convert("1").save(path, **options)
    return path


def gray_png(white: np.ndarray, bits: int) -> bytes:
    """Black and white with 2 or 4 bits per pixel, which older versions of Pillow do not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    height, width = white.shape
    packed = np.packbits(white.repeat(bits, axis=1), axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


FEWER_BITS = [
    ("png", {}),
    ("png", {"bits": 2}),
    ("png", {"bits": 4}),
    ("tif", {}),
    ("tif", {"compression": "group4"}),
    ("bmp", {}),
]


@pytest.mark.parametrize(("ending", "options"), FEWER_BITS)
def test_gray_of_fewer_than_8_bits_has_no_meaning_of_its_own(
    tmp_path: Path, ending: str, options: dict[str, Any]
) -> None:
    path = black_and_white(tmp_path, ending, **options)
    with pytest.raises(DataError, match=r"is gray with .*--data\.label-map 0=0,255=1"):
        read_label(path)


@pytest.mark.parametrize(("ending", "options"), FEWER_BITS)
def test_gray_of_fewer_than_8_bits_is_mapped_by_its_brightness(
    tmp_path: Path, ending: str, options: dict[str, Any]
) -> None:
    path = black_and_white(tmp_path, ending, **options)
    for coding in (
        LabelCoding(classes=((0, 0), (255, 1))),
        LabelCoding(colors=(((0, 0, 0), 0), ((255, 255, 255), 1))),
    ):
        assert read(path, coding).tolist() == [[0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_black_is_0_with_any_number_of_bits(tmp_path: Path, bits: int) -> None:
    black = Image.new("L", (3, 2))
    (black.convert("1") if bits == 1 else black).save(tmp_path / "label.png", bits=bits)
    assert read_label(tmp_path / "label.png").tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_indices_keep_their_meaning_with_fewer_bits(tmp_path: Path, bits: int) -> None:
    values = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    picture = Image.fromarray(values)
    picture.putpalette(voc_palette()[:2].tobytes())
    picture.save(tmp_path / "label.png", bits=bits)
    assert np.array_equal(read_label(tmp_path / "label.png"), values)


@pytest.mark.parametrize("ending", ["gif", "tif", "bmp", "png"])
def test_labels_of_other_endings(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 1], [2, 0]], dtype=np.uint8)
    picture = Image.fromarray(values)
    picture.putpalette(voc_palette().tobytes())
    picture.save(tmp_path / f"label.{ending}")
    assert np.array_equal(read_label(tmp_path / f"label.{ending}"), values)


def test_several_pictures_in_a_label_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("L", (2, 2), value) for value in (0, 1)]
    for ending in ("gif", "tif"):
        path = tmp_path / f"label.{ending}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match="holds 2 pictures; save the one that is the label"):
            read_label(path)


def test_lossy_tiff_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 3).save(tmp_path / "label.tif", compression="jpeg")
    with pytest.raises(DataError, match="is a TIFF of JPEG compression, whose compression alters"):
        read_label(tmp_path / "label.tif")


def read(path: Path, coding: LabelCoding, num_classes: int = 2) -> np.ndarray:
    reader = PictureLabels(num_classes, coding.fitted(num_classes), voc_palette())
    return reader.classes(reader.decode(path), path)


def save(path: Path, values: object) -> Path:
    Image.fromarray(np.array(values, dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("coding", "values", "classes"),
    [
        (LabelCoding(), [[0, 1, 255]], [[0, 1, 255]]),
        (LabelCoding(void=(0,)), [[0, 1, 255]], [[255, 1, 255]]),
        (LabelCoding(first_class=1), [[1, 2, 255]], [[0, 1, 255]]),
        (LabelCoding(first_class=1, void=(0,)), [[0, 1, 2, 255]], [[255, 0, 1, 255]]),
        (LabelCoding(classes=((0, 0), (255, 1))), [[0, 255]], [[0, 1]]),
        (LabelCoding(classes=((7, 1), (8, 0))), [[7, 8, 255]], [[1, 0, 255]]),
        (LabelCoding(classes=((7, 1), (8, 255)), void=(9,)), [[7, 8, 9]], [[1, 255, 255]]),
    ],
)
def test_values_become_the_classes_that_the_coding_says(
    tmp_path: Path, coding: LabelCoding, values: object, classes: object
) -> None:
    assert read(save(tmp_path / "label.png", values), coding).tolist() == classes


@pytest.mark.parametrize(
    ("coding", "value", "message"),
    [
        (LabelCoding(), 2, r"outside 0\.\.1 and 255 \(void\): 2 in 1 .*--data\.first-class 1"),
        (LabelCoding(), 9, r"outside 0\.\.1 .*: 9 in 1 pixel,.*--data\.label-map VALUE=CLASS"),
        (LabelCoding(first_class=1), 0, r"outside 1\.\.2 .*: 0 in .*--data\.void-label 0"),
        (LabelCoding(void=(5,)), 3, r"outside 0\.\.1 and 5, 255 \(void\): 3 in"),
        (LabelCoding(classes=((1, 0), (2, 1))), 0, "label-map does not name: 0 in 1 pixel,"),
    ],
)
def test_values_that_mean_nothing_are_named_with_a_remedy(
    tmp_path: Path, coding: LabelCoding, value: int, message: str
) -> None:
    path = save(tmp_path / "label.png", [[255, value]])
    with pytest.raises(DataError, match=message):
        read(path, coding)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_colors_are_read_in_any_mode(tmp_path: Path, mode: str) -> None:
    gray = mode == "L"
    first, second = ((10, 10, 10), (90, 90, 90)) if gray else ((0, 0, 0), (128, 0, 64))
    void = (224, 224, 224) if gray else (224, 224, 192)
    coding = LabelCoding(colors=((first, 0), (second, 1), (void, 255)))
    pixels = np.array([[first, second], [void, second]], dtype=np.uint8)
    Image.fromarray(pixels).convert(mode, palette=Image.Palette.ADAPTIVE).save(
        tmp_path / "label.png"
    )
    assert read(tmp_path / "label.png", coding).tolist() == [[0, 1], [255, 1]]


def test_colors_without_a_class_are_named(tmp_path: Path) -> None:
    coding = LabelCoding(colors=(((0, 0, 0), 0), ((9, 9, 9), 1)))
    path = save(tmp_path / "label.png", [[[0, 0, 0], [9, 9, 9]], [[1, 2, 3], [1, 2, 3]]])
    with pytest.raises(DataError, match=r"\(1, 2, 3\) in 2 pixels, the first at row 1, column 0"):
        read(path, coding)


def test_vocs_colors_are_known_by_name(tmp_path: Path) -> None:
    classes = np.array([[0, 15], [255, 20]], dtype=np.uint8)
    path = save(tmp_path / "label.png", voc_palette()[classes])
    assert np.array_equal(read(path, LabelCoding(colors="voc"), 21), classes)


def test_labels_with_one_palette_agree(tmp_path: Path) -> None:
    reader = PictureLabels(21, LabelCoding(), voc_palette())
    for name, values in (("a", [[0, 5]]), ("b", [[0, 7]]), ("c", [[5, 255]])):
        picture = Image.fromarray(np.array(values, dtype=np.uint8))
        picture.putpalette(voc_palette().tobytes())
        picture.save(tmp_path / f"{name}.png")
        assert reader.decode(tmp_path / f"{name}.png").tolist() == values
    gray = save(tmp_path / "gray.png", [[0, 7]])
    assert reader.decode(gray).tolist() == [[0, 7]]


RED, GREEN = (255, 0, 0), (0, 255, 0)


def save_colors(path: Path, *colors: tuple[int, int, int]) -> Path:
    """One pixel per color, in a palette of these alone, as tools that reduce colors write it."""
    picture = Image.fromarray(np.arange(len(colors), dtype=np.uint8)[None])
    picture.putpalette([level for color in colors for level in color])
    picture.save(path)
    return path


def test_palettes_that_differ_are_refused_with_both_remedies(tmp_path: Path) -> None:
    first = save_colors(tmp_path / "first.png", (0, 0, 0), RED, GREEN)
    second = save_colors(tmp_path / "second.png", (0, 0, 0), GREEN)
    reader = PictureLabels(3, LabelCoding(), voc_palette())
    reader.decode(first)
    with pytest.raises(DataError) as caught:
        reader.decode(second)
    text = str(caught.value)
    assert text.startswith(f"{second}: shows value 1 in the color {GREEN}, {first} in {RED}")
    assert "--data.label-colors ignore" in text
    assert "--data.label-colors FILE" in text
    by_value = LabelCoding(any_palette=True)
    assert [read(path, by_value, 3).tolist() for path in (first, second)] == [[[0, 1, 2]], [[0, 1]]]
    by_color = LabelCoding(colors=(((0, 0, 0), 0), (RED, 1), (GREEN, 2)))
    assert [read(path, by_color, 3).tolist() for path in (first, second)] == [[[0, 1, 2]], [[0, 2]]]


@pytest.mark.parametrize("grays", [(0, 1, 255), (0, 5), (1,), (0, 2, 3)])
def test_gray_label_that_was_made_a_palette_one_is_refused(
    tmp_path: Path, grays: tuple[int, ...]
) -> None:
    """A lossless optimizer may write grays 0, 1, 255 as 0, 1, 2: void would be class 2."""
    packed = save_colors(tmp_path / "packed.png", *((gray,) * 3 for gray in grays))
    reader = PictureLabels(3, LabelCoding(), voc_palette())
    with pytest.raises(DataError, match="has a palette of grays that are not its values"):
        reader.decode(packed)
    by_value = PictureLabels(3, LabelCoding(any_palette=True), voc_palette())
    assert by_value.decode(packed).tolist() == [list(range(len(grays)))]


@pytest.mark.parametrize("grays", [(0, 255), (0, 127, 255), (0, 1, 2), (0, 85, 170, 255)])
def test_grays_that_count_or_rise_evenly_are_indices(
    tmp_path: Path, grays: tuple[int, ...]
) -> None:
    path = save_colors(tmp_path / "ramp.png", *((gray,) * 3 for gray in grays))
    reader = PictureLabels(4, LabelCoding(), voc_palette())
    assert reader.decode(path).tolist() == [list(range(len(grays)))]


def test_gray_and_black_and_white_palettes_do_not_mix(tmp_path: Path) -> None:
    gray = save(tmp_path / "gray.png", [[0, 1, 2, 255]])
    packed = save_colors(tmp_path / "packed.png", (0, 0, 0), (255, 255, 255))
    for first, second in ((gray, packed), (packed, gray)):
        reader = PictureLabels(3, LabelCoding(), voc_palette())
        reader.decode(first)
        with pytest.raises(DataError, match="shows value 1 in the color"):
            reader.decode(second)


@pytest.mark.parametrize("values", [[0, 255], [255, 255], [1, 1], [0, 1, 7]])
def test_gray_gifs_are_read_by_their_grays(tmp_path: Path, values: list[int]) -> None:
    path = tmp_path / "label.gif"
    save(path, [values])
    reader = PictureLabels(8, LabelCoding(), voc_palette())
    assert reader.decode(path).tolist() == [values]


def test_entries_that_no_pixel_uses_may_differ(tmp_path: Path) -> None:
    reader = PictureLabels(3, LabelCoding(), voc_palette())
    for name, unused in (("a", RED), ("b", GREEN)):
        picture = Image.fromarray(np.zeros((2, 2), dtype=np.uint8))
        picture.putpalette([0, 0, 0, *unused])
        picture.save(tmp_path / f"{name}.png")
        reader.decode(tmp_path / f"{name}.png")
