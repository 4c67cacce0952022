from __future__ import annotations

import subprocess
import sys

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
    with pytest.raises(ValueError, match=r"got 3 other pixels"):
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


def test_voc_palette() -> None:
    palette = fnp.voc_palette()
    # background, aeroplane, bicycle, ..., tv monitor, void: the devkit's colours.
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert all(tuple(palette[i]) == colour for i, colour in known.items())
    assert len({tuple(colour) for colour in palette}) == 256


def test_palette_round_trip() -> None:
    indices = np.random.default_rng(0).integers(0, 256, (3, 17, 23)).astype(np.uint8)
    assert (fnp.decode_palette(fnp.encode_palette(indices)) == indices).all()
    view = fnp.encode_palette(indices)[:, ::2, ::-1]
    assert (fnp.decode_palette(view) == indices[:, ::2, ::-1]).all()


def test_equal_colours_decode_to_the_first() -> None:
    palette = np.array([[1, 2, 3], [9, 9, 9], [1, 2, 3]], dtype=np.uint8)
    assert fnp.decode_palette(palette, palette).tolist() == [0, 1, 0]


def test_palette_rejects() -> None:
    colours = np.zeros((2, 3, 3), dtype=np.uint8)
    colours[1, 2] = (1, 2, 3)
    with pytest.raises(ValueError, match=r"must be in the palette, got \(1, 2, 3\) at \(1, 2\)"):
        fnp.decode_palette(colours)
    with pytest.raises(ValueError, match="indices must be below the palette's 2 colours, got 5"):
        fnp.encode_palette(np.full((2, 2), 5, np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"colours must be uint8 \(..., 3\)"):
        fnp.decode_palette(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="indices must be uint8, got int64"):
        fnp.encode_palette(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match="palette must be uint8"):
        fnp.encode_palette(np.zeros((2, 2), np.uint8), np.zeros((2, 4), np.uint8))


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
