"""Depth images: what is read, what a network sees of it, what augmentation does to it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcn_train.data import (
    CAFFE,
    IMAGENET,
    DataError,
    Example,
    Mirror,
    RandomCrop,
    collate,
    image_to_tensor,
    input_to_tensor,
    read_depth,
    read_hha,
    to_tensors,
)
from fcn_train.data.depth import HHA_MEAN, LOG_DEPTH_MEAN, depth_from_meters, log_depth
from fcn_train.data.transforms import resize


def test_depth_is_read_in_millimeters(tmp_path: Path) -> None:
    depth = np.array([[0, 1, 700], [2550, 65535, 10000]], dtype=np.uint16)
    Image.fromarray(depth).save(tmp_path / "a.png")
    found = read_depth(tmp_path / "a.png")
    assert found.dtype == np.uint16
    assert np.array_equal(found, depth)


@pytest.mark.parametrize(
    "picture", [Image.new("L", (3, 2), 7), Image.new("RGB", (3, 2)), Image.new("P", (3, 2))]
)
def test_other_pictures_are_refused(tmp_path: Path, picture: Image.Image) -> None:
    picture.save(tmp_path / "a.png")
    message = rf"a\.png: is no depth image but has pixels of mode {picture.mode}; save depth as a"
    with pytest.raises(DataError, match=message):
        read_depth(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_hha_has_three_channels(tmp_path: Path, mode: str) -> None:
    values = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(read_hha(tmp_path / "a.png"), values)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "I;16"])
def test_one_channel_is_no_hha(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (3, 2), 1).save(tmp_path / "a.png")
    read = "I(;16)?" if mode == "I;16" else mode  # as older versions of Pillow call it
    message = rf"a\.png: is no HHA image but has pixels of mode {read}; write it from the depth"
    with pytest.raises(DataError, match=message):
        read_hha(tmp_path / "a.png")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: depth image is missing; restore"):
        read_depth(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: HHA image is missing; restore"):
        read_hha(tmp_path / "a.png")
    Image.fromarray(np.ones((40, 40), dtype=np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"a\.png: depth image cannot be decoded"):
        read_depth(tmp_path / "a.png")


def test_meters_become_millimeters() -> None:
    meters = np.array([[np.nan, -1.0, 0.0, 0.0004, 0.0006, 2.5504, 65.535, 66, np.inf]], np.float32)
    assert depth_from_meters(meters).tolist() == [[0, 0, 0, 0, 1, 2550, 65535, 0, 0]]


def test_missing_depth_is_the_mean_of_its_logarithm() -> None:
    depth = np.array([[0, 1, 2550, 65535]], dtype=np.uint16)
    found = log_depth(depth)
    assert found.dtype == np.float32
    expected = [0.0, *(math.log(value) - LOG_DEPTH_MEAN for value in (1, 2550, 65535))]
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=2e-6)
    assert np.isfinite(log_depth(np.zeros((2, 2), dtype=np.uint16))).all()


def example() -> Example:
    rng = np.random.default_rng(0)
    depth = rng.integers(500, 9000, (6, 9), dtype=np.uint16)
    hha = rng.integers(1, 256, (6, 9, 3), dtype=np.uint8)
    depth[2, 3] = hha[2, 3] = 0
    return Example(
        rng.integers(0, 256, (6, 9, 3), dtype=np.uint8),
        rng.integers(0, 5, (6, 9), dtype=np.uint8),
        (rng.integers(0, 3, (6, 9), dtype=np.uint8),),
        depth,
        hha,
    )


def test_a_network_sees_the_channels_in_their_order() -> None:
    it = example()
    assert it.depth is not None
    assert it.hha is not None
    color = image_to_tensor(it.image, CAFFE)
    depth = torch.from_numpy(log_depth(it.depth))[None]
    hha = torch.from_numpy((it.hha - np.float32(HHA_MEAN)).transpose(2, 0, 1).copy())
    hha[:, 2, 3] = 0
    for channels, expected in (
        ("color", [color]),
        ("hha", [hha]),
        ("color-depth", [color, depth]),
        ("color-hha", [color, hha]),
    ):
        found = input_to_tensor(it, CAFFE, channels)  # type: ignore[arg-type]
        torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-5)
    scaled = input_to_tensor(it, IMAGENET, "hha")
    torch.testing.assert_close(scaled, hha / (sum(IMAGENET.std) / 3))


def test_mirror_and_crop_move_all_maps_together() -> None:
    it = example()
    mirrored = Mirror(1.0)(it, np.random.default_rng(0))
    assert mirrored == it.changed(*(lambda values: values[:, ::-1],) * 3)
    assert Mirror(1.0)(mirrored, np.random.default_rng(0)) == it
    cut = RandomCrop(4, 12)(it, np.random.default_rng(3))
    assert cut.depth is not None
    assert cut.hha is not None
    (left,) = {tuple(np.flatnonzero((label != 255).all(0))[[0, -1]]) for label in cut.labels}
    assert left[1] - left[0] == 8
    outside = np.ones(12, dtype=bool)
    outside[left[0] : left[1] + 1] = False
    assert not cut.depth[:, outside].any()
    assert not cut.hha[:, outside].any()
    assert (cut.more_labels[0][:, outside] == 255).all()
    rows = [r for r in range(3) if np.array_equal(it.depth[r : r + 4], cut.depth[:, ~outside])]  # type: ignore[index]
    assert len(rows) == 1
    assert np.array_equal(it.image[rows[0] : rows[0] + 4], cut.image[:, ~outside])
    assert np.array_equal(it.more_labels[0][rows[0] : rows[0] + 4], cut.more_labels[0][:, ~outside])


def test_resizing_mixes_no_missing_depth_in() -> None:
    depth = np.full((8, 8), 3000, dtype=np.uint16)
    depth[:, 4:] = 0
    hha = np.where(depth[:, :, None] > 0, (100, 50, 128), 0).astype(np.uint8)
    label = np.zeros((8, 8), dtype=np.uint8)
    it = Example(np.zeros((8, 8, 3), dtype=np.uint8), label, (), depth, hha)
    for height, width in ((16, 16), (5, 7), (1, 1), (9, 3)):
        resized = resize(it, height, width)
        assert resized.depth is not None
        assert resized.hha is not None
        assert resized.depth.shape == resized.label.shape == (height, width)
        assert set(np.unique(resized.depth)) <= {0, 3000}
        assert set(map(tuple, resized.hha.reshape(-1, 3).tolist())) <= {(0, 0, 0), (100, 50, 128)}
    assert (resize(it, 16, 16).depth > 0).mean() == 0.5  # type: ignore[operator]


def test_batches_stack_every_map() -> None:
    it = example()
    smaller = it.changed(*(lambda values: values[:4, :5],) * 3)
    tensors = [to_tensors(e, CAFFE, "color-depth") for e in (it, smaller)]
    batch = collate(tensors, ["a", "b"])
    assert batch.images.shape == (2, 4, 6, 9)
    assert not batch.images[1, :, 4:].any()
    assert len(batch.more_targets) == 1
    assert batch.more_targets[0].shape == batch.targets.shape == (2, 6, 9)
    assert (batch.more_targets[0][1, :, 5:] == 255).all()
    assert torch.equal(batch.more_targets[0][0], torch.from_numpy(it.more_labels[0]))
    assert batch == collate(tensors, ["a", "b"])
    assert batch != collate(tensors[::-1], ["a", "b"])


def test_examples_differ_by_any_map() -> None:
    it = example()
    assert it == example()
    assert it.only(1).label is it.more_labels[0]
    assert it.only(0) != it
    without = Example(it.image, it.label, it.more_labels, None, it.hha)
    assert without != it
    assert it != Example(it.image, it.label, it.more_labels, it.depth + 1, it.hha)  # type: ignore[operator]
