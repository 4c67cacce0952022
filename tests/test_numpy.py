from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

import fcn_ext.numpy as fnp
from fcn_ext import reference


def test_confusion_matrix_matches_reference() -> None:
    generator = np.random.default_rng(0)
    for p_type in (np.uint8, np.int16, np.int32, np.int64):
        for shape in ((300,), (30, 41), (2, 30, 41), (2, 200, 401)):
            target = generator.integers(0, 9, shape).astype(np.int64)
            target[target == 8] = 255
            prediction = generator.integers(0, 8, shape).astype(p_type)
            expected, _ = reference.confusion_matrix(
                torch.from_numpy(prediction), torch.from_numpy(target), 8
            )
            assert (fnp.confusion_matrix(prediction, target, 8) == expected.numpy()).all()


@pytest.mark.parametrize("num_classes", [21, 150, 301, 1500])
def test_confusion_matrix_by_several_threads(num_classes: int) -> None:
    """Whether each has a histogram, bytes that are added up at the end, or neither."""
    generator = np.random.default_rng(num_classes)
    target, prediction = generator.integers(0, num_classes, (2, 2, 400, 501))
    counts = fnp.confusion_matrix(prediction, target, num_classes, ignore_index=7)
    used = target != 7
    bins = target[used] * num_classes + prediction[used]
    assert (counts.ravel() == np.bincount(bins, minlength=num_classes**2)).all()


def test_confusion_matrix_of_views() -> None:
    generator = np.random.default_rng(0)
    target, prediction = generator.integers(0, 5, (2, 3, 40, 50))
    for view in (np.s_[:, ::-1], np.s_[:, :, ::-3], np.s_[::-1, 3:30:2, 4::2]):
        expected = fnp.confusion_matrix(prediction[view].copy(), target[view].copy(), 5)
        assert (fnp.confusion_matrix(prediction[view], target[view], 5) == expected).all()
    flipped = fnp.confusion_matrix(prediction.transpose(2, 1, 0), target.transpose(2, 1, 0), 5)
    assert (flipped == fnp.confusion_matrix(prediction, target, 5)).all()


def test_confusion_matrix_rejects() -> None:
    labels = np.zeros((4, 5), dtype=np.int64)
    with pytest.raises(ValueError, match=r"got 3 pixels that are not"):
        fnp.confusion_matrix(labels, np.where(np.arange(20).reshape(4, 5) < 3, 7, 0), 5)
    with pytest.raises(
        TypeError, match="prediction must be uint8, int16, int32 or int64, got float64"
    ):
        fnp.confusion_matrix(labels * 1.0, labels, 5)
    with pytest.raises(ValueError, match=r"same shape, got \(4, 5\) and \(4, 4\)"):
        fnp.confusion_matrix(labels, labels[:, :4], 5)
    with pytest.raises(ValueError, match="at most 3 axes, got 4"):
        fnp.confusion_matrix(labels[None, None], labels[None, None], 5)
    with pytest.raises(ValueError, match="num_classes must be in"):
        fnp.confusion_matrix(labels, labels, 0)
    assert fnp.confusion_matrix(labels[:0], labels[:0], 5).sum() == 0


RNG = np.random.default_rng(3)
PREDICTION, TARGET = RNG.integers(0, 5, (2, 6, 7))
EXPECTED = fnp.confusion_matrix(PREDICTION, TARGET, 5)
LABEL_TYPES = (np.uint8, np.int16, np.int32, np.int64)


def read_only(labels: np.ndarray) -> np.ndarray:
    labels = labels.copy()
    labels.flags.writeable = False
    return labels


def unaligned(labels: np.ndarray) -> np.ndarray:
    """At addresses that are no multiples of the element's size, as in a file read at an offset."""
    return np.frombuffer(b"x" + labels.tobytes(), labels.dtype, offset=1).reshape(labels.shape)


def field_of_records(labels: np.ndarray) -> np.ndarray:
    """Strides that are no multiples of the element's size."""
    records = np.zeros(labels.shape, [("score", np.uint8), ("label", labels.dtype), ("b", "S2")])
    records["label"] = labels
    return records["label"]


class Labels(np.ndarray):
    """A subclass of anybody's."""


SAME_LABELS: dict[str, Callable[[np.ndarray], object]] = {
    "pickled": lambda labels: pickle.loads(pickle.dumps(labels)),
    "dtype by name": lambda labels: labels.astype(np.dtype(labels.dtype.str)),
    "dtype with metadata": lambda labels: labels.astype(np.dtype(labels.dtype, metadata={"a": 1})),
    "big-endian": lambda labels: labels.astype(labels.dtype.newbyteorder(">")),
    "little-endian": lambda labels: labels.astype(labels.dtype.newbyteorder("<")),
    "read-only": read_only,
    "unaligned": unaligned,
    "field of records": field_of_records,
    "columns first": np.asfortranarray,
    "reversed": lambda labels: labels[::-1].copy()[::-1],
    "matrix": np.asmatrix,
    "subclass": lambda labels: labels.view(Labels),
    "nothing masked": np.ma.masked_array,
    "mask of nothing": lambda labels: np.ma.masked_array(labels, np.zeros(labels.shape, bool)),
    "tensor": torch.tensor,
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("form", SAME_LABELS)
@pytest.mark.parametrize("dtype", LABEL_TYPES)
def test_labels_are_what_they_hold(dtype: type, form: str) -> None:
    prediction, target = PREDICTION.astype(dtype), TARGET.astype(dtype)
    as_form = SAME_LABELS[form]
    for pair in (
        (as_form(prediction), as_form(target)),
        (as_form(prediction), TARGET),
        (PREDICTION, as_form(target)),
    ):
        assert (fnp.confusion_matrix(*pair, 5) == EXPECTED).all()


@pytest.mark.parametrize("dtype", [np.short, np.intc, np.int_, np.intp, np.longlong, np.ubyte])
def test_types_of_c_are_types_of_their_size(dtype: type) -> None:
    assert (
        fnp.confusion_matrix(PREDICTION.astype(dtype), TARGET.astype(dtype), 5) == EXPECTED
    ).all()


def test_lists_and_single_labels_count() -> None:
    assert (fnp.confusion_matrix(PREDICTION.tolist(), TARGET.tolist(), 5) == EXPECTED).all()
    assert (fnp.confusion_matrix(list(PREDICTION), tuple(TARGET), 5) == EXPECTED).all()
    for one in (np.uint8(3), np.array(3), 3):
        assert fnp.confusion_matrix(one, 2, 5)[2, 3] == 1
    repeated = np.broadcast_to(np.uint8(1), (4, 5))
    assert fnp.confusion_matrix(repeated, repeated, 2).tolist() == [[0, 0], [0, 20]]


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (bool, "bool"),
        (np.int8, "int8"),
        (np.uint16, "uint16"),
        (np.uint32, "uint32"),
        (np.uint64, "uint64"),
        (np.float32, "float32"),
        (">f8", "float64"),
        (complex, "complex128"),
        (object, "object"),
        ("S1", r"\|S1"),
        ("m8[s]", r"timedelta64\[s\]"),
        ([("label", np.uint8)], r"\[\('label', 'u1'\)\]"),
    ],
)
@pytest.mark.parametrize("name_of_argument", ["prediction", "target"])
def test_other_types_are_refused_by_name(dtype: object, name: str, name_of_argument: str) -> None:
    labels = np.zeros((3, 4), np.uint8)
    arguments = {"prediction": labels, "target": labels, name_of_argument: labels.astype(dtype)}
    message = f"{name_of_argument} must be uint8, int16, int32 or int64, got {name}$"
    with pytest.raises(TypeError, match=message):
        fnp.confusion_matrix(num_classes=5, **arguments)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**70])
@pytest.mark.parametrize("name", ["num_classes", "ignore_index"])
def test_numbers_beyond_64_bits_are_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must fit in 64 bits, got {value}$"):
        fnp.confusion_matrix(PREDICTION, TARGET, **{"num_classes": 5, name: value})


def test_the_core_reads_native_bytes_only() -> None:
    """What converts is the Python side; the core refuses what it would read wrongly."""
    swapped = TARGET.astype(TARGET.dtype.newbyteorder())
    with pytest.raises(TypeError, match=r"target must be .*, got [<>]i8"):
        fnp._host.confusion_matrix(TARGET, swapped, 255, np.zeros((5, 5), np.int64))


@pytest.mark.parametrize("dtype", LABEL_TYPES)
@pytest.mark.parametrize("ignore_index", [255, 0, -1, 2**40])
@pytest.mark.parametrize("as_list", [False, True])
def test_masked_targets_are_void(dtype: type, ignore_index: int, as_list: bool) -> None:
    """Whatever lies behind the mask, and whether or not the dtype holds ``ignore_index``."""
    void = RNG.random(TARGET.shape) < 0.3
    hidden = np.where(void, 99, TARGET).astype(dtype)
    masked = np.ma.masked_array(hidden, void)
    expected = fnp.confusion_matrix(
        PREDICTION, np.where(void, ignore_index, TARGET), 5, ignore_index
    )
    given = list(masked) if as_list else masked
    assert (fnp.confusion_matrix(PREDICTION, given, 5, ignore_index) == expected).all()
    assert (masked.data == hidden).all()
    assert masked.mask.sum() == void.sum()
    everything = np.ma.masked_all_like(masked)
    assert fnp.confusion_matrix(PREDICTION, everything, 5, ignore_index).sum() == 0


def test_other_masks_are_refused_with_a_remedy() -> None:
    labels = np.ma.masked_array(np.zeros((4, 5), np.uint8), np.arange(20).reshape(4, 5) < 3)
    colors = np.ma.masked_array(np.zeros((4, 5, 3), np.uint8), np.arange(60).reshape(4, 5, 3) < 2)
    for prediction in (labels, list(labels), labels.astype(float)):
        message = "prediction must not be masked, got 3 masked elements; .* mask the target"
        with pytest.raises(ValueError, match=message):
            fnp.confusion_matrix(prediction, labels, 5)
    with pytest.raises(ValueError, match=r"indices must not be masked, got 3 .*filled\(255\)"):
        fnp.encode_palette(labels)
    with pytest.raises(ValueError, match=r"colors must not be masked, got 2 .*colors.filled"):
        fnp.decode_palette(colors)
    for function in (fnp.encode_palette, fnp.decode_palette):
        with pytest.raises(ValueError, match=r"palette must not be masked, got 2 .*palette.filled"):
            function(np.zeros((2, 3), np.uint8), colors[0])
    with pytest.raises(TypeError, match=r"target must be uint8, .*, got float64"):
        fnp.confusion_matrix(np.zeros((4, 5), np.uint8), labels.astype(float), 5)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("form", sorted({*SAME_LABELS} - {"tensor"}))
def test_palettes_take_any_form_of_array(form: str) -> None:
    as_form = SAME_LABELS[form]
    labels = TARGET.astype(np.uint8)
    plain = fnp.voc_palette()[labels]
    palette = as_form(fnp.voc_palette())
    colored = fnp.encode_palette(as_form(labels), palette)
    assert type(colored) is np.ndarray
    assert (colored == plain).all()
    given = as_form(plain) if form != "matrix" else plain
    decoded = fnp.decode_palette(given, palette)
    assert type(decoded) is np.ndarray
    assert (decoded == labels).all()
    assert fnp.decode_palette(plain[0, 0]) == labels[0, 0]
    assert (fnp.decode_palette(list(plain)) == labels).all()


@pytest.mark.parametrize("wrong", [bool, np.int8, np.uint16, object, float])
def test_palettes_name_other_types(wrong: type) -> None:
    labels, name = np.zeros((2, 3), wrong), np.dtype(wrong).name
    with pytest.raises(ValueError, match=f"indices must be uint8, got {name}"):
        fnp.encode_palette(labels)
    with pytest.raises(ValueError, match=rf"colors must be uint8 \(..., 3\), got {name}"):
        fnp.decode_palette(labels)
    with pytest.raises(ValueError, match=rf"palette must be uint8 \(num_colors, 3\), got {name}"):
        fnp.encode_palette(np.zeros(1, np.uint8), labels)


def test_voc_palette() -> None:
    palette = fnp.voc_palette()
    # background, aeroplane, bicycle, ..., tv monitor, void: the devkit's colors.
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert all(tuple(palette[i]) == color for i, color in known.items())
    assert len({tuple(color) for color in palette}) == 256


def test_palette_round_trip() -> None:
    indices = np.random.default_rng(0).integers(0, 256, (3, 17, 23)).astype(np.uint8)
    assert (fnp.decode_palette(fnp.encode_palette(indices)) == indices).all()
    view = fnp.encode_palette(indices)[:, ::2, ::-1]
    assert (fnp.decode_palette(view) == indices[:, ::2, ::-1]).all()


def test_equal_colors_decode_to_the_first() -> None:
    palette = np.array([[1, 2, 3], [9, 9, 9], [1, 2, 3]], dtype=np.uint8)
    assert fnp.decode_palette(palette, palette).tolist() == [0, 1, 0]


def test_palette_rejects() -> None:
    colors = np.zeros((2, 3, 3), dtype=np.uint8)
    colors[1, 2] = (1, 2, 3)
    with pytest.raises(ValueError, match=r"must be in the palette, got \(1, 2, 3\) at \(1, 2\)"):
        fnp.decode_palette(colors)
    with pytest.raises(ValueError, match="the number of colors of palette, 2, got 5"):
        fnp.encode_palette(np.full((2, 2), 5, np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"colors must be uint8 \(..., 3\)"):
        fnp.decode_palette(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="indices must be uint8, got int64"):
        fnp.encode_palette(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match="palette must be uint8"):
        fnp.encode_palette(np.zeros((2, 2), np.uint8), np.zeros((2, 4), np.uint8))
    for count in (0, 257):
        with pytest.raises(ValueError, match=f"palette must have 1 to 256 colors, got {count}"):
            fnp.encode_palette(np.zeros((2, 2), np.uint8), np.zeros((count, 3), np.uint8))


def test_host_module_needs_no_torch() -> None:
    """The extension module behind this file loads and counts in a process without torch."""
    code = (
        "import importlib.util, sys, numpy as np;"
        f"spec = importlib.util.spec_from_file_location('_host', {fnp._host.__file__!r});"
        "host = importlib.util.module_from_spec(spec); spec.loader.exec_module(host);"
        "m = np.zeros((2, 2), np.int64); z = np.zeros((3, 3), np.uint8);"
        "assert host.confusion_matrix(z, z, 255, m) == 0 and m[0, 0] == 9;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


RAGGED = [[1, 2], [3]]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: fnp.confusion_matrix(RAGGED, [[1, 2]], 5), "prediction"),
        (lambda: fnp.confusion_matrix([[1, 2]], RAGGED, 5), "target"),
        (lambda: fnp.encode_palette(RAGGED), "indices"),
        (lambda: fnp.decode_palette(RAGGED), "colors"),
        (lambda: fnp.encode_palette(np.zeros(1, np.uint8), RAGGED), "palette"),
    ],
)
def test_lists_of_several_lengths_are_refused_by_name(call, name):
    with pytest.raises(ValueError, match=f"^{name} must be an array, got a list that is none"):
        call()
