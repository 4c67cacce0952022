"""Losses and class weights, against their definitions."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fcn_ext.geometry import Deconvolution
from fcn_ext.models import CoarseScores
from fcn_train.class_weights import class_weights, weights_from_file
from fcn_train.data import open_dataset
from fcn_train.errors import UsageError
from fcn_train.loss import pixel_loss

CPU = torch.device("cpu")
Loss = Callable[..., torch.Tensor]
Pixels = tuple[torch.Tensor, torch.Tensor]


class LogitsAsGiven(CoarseScores):
    """A net whose images are its logits."""

    num_classes, geometry = 4, Deconvolution(1)

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        return images


@pytest.fixture(params=["coarse", "full"])
def loss(request: pytest.FixtureRequest) -> Loss:
    """pixel_loss of logits, target and so on, by either way."""
    return functools.partial(pixel_loss, LogitsAsGiven(), logits=request.param)


@pytest.fixture
def pixels() -> Pixels:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 5, 6), generator=generator, dtype=torch.uint8)
    target[0, :2] = 255
    return logits, target


def pixelwise(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """-log softmax at the target of every valid pixel, by its definition."""
    valid = target != 255
    exponentials = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -exponentials.movedim(1, -1)[valid].gather(1, target[valid][:, None].long())[:, 0].log()


def test_mean_divides_by_valid_pixels(loss: Loss, pixels: Pixels) -> None:
    torch.testing.assert_close(loss(*pixels), pixelwise(*pixels).mean())


def test_sum_divides_by_images_alone(loss: Loss, pixels: Pixels) -> None:
    torch.testing.assert_close(loss(*pixels, "sum"), pixelwise(*pixels).sum() / 2)


def test_weighted_mean_divides_by_weights(loss: Loss, pixels: Pixels) -> None:
    logits, target = pixels
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    expected = F.cross_entropy(logits, target.long(), weight, ignore_index=255)
    torch.testing.assert_close(loss(logits, target, "mean", weight), expected)


@pytest.mark.parametrize("weight", [None, torch.ones(4, dtype=torch.float64)])
def test_batch_of_void_has_loss_and_gradient_zero(
    weight: torch.Tensor | None, loss: Loss, pixels: Pixels
) -> None:
    logits = pixels[0].requires_grad_()
    for reduction in ("mean", "sum"):
        value = loss(logits, torch.full_like(pixels[1], 255), reduction, weight)
        value.backward()
        assert value == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_accumulated_sum_is_caffes_iter_size(loss: Loss, pixels: Pixels) -> None:
    """Passes of one image, each divided by their number, add up to the batch's loss."""
    logits, target = pixels
    passes = sum(loss(logits[i : i + 1], target[i : i + 1], "sum") / 2 for i in range(2))
    torch.testing.assert_close(passes, loss(logits, target, "sum"))


def test_class_weights(sample_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset("sample", sample_root, "train")
    assert class_weights("none", dataset, CPU) is None
    balanced = class_weights("median-frequency", dataset, CPU)
    assert balanced is not None
    assert balanced.shape == (21,)
    assert balanced[0] == balanced.min() < 1
    path = tmp_path / "weights.txt"
    path.write_text(", ".join(str(i) for i in range(21)))
    given = class_weights(str(path), dataset, CPU)
    assert given is not None
    assert given.tolist() == list(range(21))


def test_weights_from_json(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps([1, 0.5, 2]))
    np.testing.assert_array_equal(weights_from_file(path, 3), [1, 0.5, 2])


@pytest.mark.parametrize(("name", "text"), [("w.json", "[1, 0.5, 2]"), ("w.txt", "1,0.5\n2")])
def test_weights_after_a_byte_order_mark(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    np.testing.assert_array_equal(weights_from_file(path, 3), [1, 0.5, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2", "must be 3 finite numbers >= 0, got 2"),
        ("1 2 -1", "got 3 with minimum -1"),
        ("1 2 nan", "must be 3 finite numbers"),
        ("1 2\n three", "must be a list of numbers, got '1 2 three'"),
        ("word " * 99, r"must be a list of numbers, got 'word .*\.\.\.'$"),
    ],
)
def test_bad_weights_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        weights_from_file(path, 3)
    with pytest.raises(UsageError, match="cannot be read"):
        weights_from_file(tmp_path / "absent.txt", 3)
    with path.open("wb") as file:
        file.truncate(2**28 + 1)  # of which the disk holds nothing
    with pytest.raises(UsageError, match=r"cannot be read \(it has 268,435,457 bytes, more than"):
        weights_from_file(path, 3)
