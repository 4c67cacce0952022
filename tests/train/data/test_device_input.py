"""Bytes that are normalized on the device: to the last bit what is normalized before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fcn_train.data import (
    CAFFE,
    IMAGENET,
    Batch,
    EvaluationLoader,
    Example,
    Normalization,
    TrainLoader,
    augmentation,
    collate,
    open_dataset,
    to_tensors,
    write_sample_dataset,
)
from fcn_train.data.depth import NUM_CHANNELS, Channels
from fcn_train.data.device_input import DeviceNormalization, input_to_bytes

CPU = torch.device("cpu")
CUDA = pytest.param("cuda", marks=pytest.mark.cuda)


def example(height: int, width: int, seed: int) -> Example:
    """With every value that a byte can have, and depth and HHA that are missing in places."""
    rng = np.random.default_rng(seed)
    depth = rng.integers(2**16, size=(height, width), dtype=np.uint16)
    depth[rng.random(depth.shape) < 0.3] = 0
    hha = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
    hha[rng.random(depth.shape) < 0.3] = 0
    image = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
    return Example(image, np.zeros((height, width), np.uint8), (), depth, hha)


def same_bits(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Zeros of one sign count as well."""
    return found.dtype == expected.dtype == torch.float32 and torch.equal(
        found.cpu().contiguous().view(torch.int32), expected.contiguous().view(torch.int32)
    )


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("normalization", [IMAGENET, CAFFE], ids=["imagenet", "caffe"])
@pytest.mark.parametrize("channels", list(NUM_CHANNELS))
def test_bits_are_those_of_the_host(
    channels: Channels, normalization: Normalization, layout: torch.memory_format, device: str
) -> None:
    """Of examples of several sizes, one pixel among them, padded to the largest."""
    shapes = [(64, 70), (1, 1), (33, 80), (80, 5)]
    examples = [example(*shape, seed) for seed, shape in enumerate(shapes)]
    ids = [""] * len(examples)
    expected = collate([to_tensors(one, normalization, channels) for one in examples], ids)
    labels = [torch.from_numpy(one.label) for one in examples]
    sent = collate(
        [(input_to_bytes(o, channels), at) for o, at in zip(examples, labels, strict=True)], ids
    )
    assert sent.images.dtype == torch.uint8
    normalized = DeviceNormalization(normalization, channels, torch.device(device))
    images = sent.images.to(device, memory_format=layout)
    found = normalized(images, sent.sizes)
    assert found.shape == (4, NUM_CHANNELS[channels], 80, 80)
    assert same_bits(found, expected.images)


def test_every_depth_and_every_byte() -> None:
    depth = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    color = np.stack([np.arange(2**16).reshape(256, 256) % 256] * 3, axis=2).astype(np.uint8)
    one = Example(color, np.zeros((256, 256), np.uint8), (), depth, color)
    for channels in ("color-depth", "color-hha"):
        expected, _ = to_tensors(one, IMAGENET, channels)
        normalized = DeviceNormalization(IMAGENET, channels, CPU)
        found = normalized(input_to_bytes(one, channels)[None], [(256, 256)])
        assert same_bits(found[0], expected)


def test_arrays_of_any_strides_and_byte_order() -> None:
    one = example(20, 30, 0)
    flipped = one.changed(*[lambda values: values[::-1, ::-1]] * 3)
    assert one.depth is not None
    other = replace(one, depth=one.depth.astype(">u2"))
    whole = input_to_bytes(one, "color-depth")
    assert torch.equal(input_to_bytes(flipped, "color-depth"), whole.flip(1, 2))
    assert torch.equal(input_to_bytes(other, "color-depth"), whole)


def test_loaders_give_bytes_of_the_same_examples(tmp_path: Path) -> None:
    root = write_sample_dataset(tmp_path / "data", layout="folder", train=3, val=1, size=33)
    dataset = open_dataset("folder", root, "train", channels="color-depth")
    normalized = DeviceNormalization(IMAGENET, "color-depth", CPU)

    def batches(normalization: Normalization | None) -> list[Batch]:
        transform = augmentation(scale=(0.5, 1.5))
        train = TrainLoader(dataset, transform, normalization, batch_size=2, workers=0)
        return [*train.batches(0, 2), *EvaluationLoader(dataset, normalization, batch_size=2)]

    for sent, expected in zip(batches(None), batches(IMAGENET), strict=True):
        assert sent._replace(images=normalized(sent.images, sent.sizes)) == expected
