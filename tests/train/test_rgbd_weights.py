"""Nets that see depth, started from the weights of classifiers that were trained on color alone:
their first layers against a plain computation in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fcn_ext.models import FCN
from fcn_train.data import open_dataset, write_sample_dataset
from fcn_train.data.depth import Channels
from fcn_train.data.normalization import input_to_tensor
from fcn_train.initialize import from_classifier
from fcn_train.model_options import ModelName
from fcn_train.network import build_network, normalization_of
from fcn_train.recipes import recipe_options
from fcn_train.run import load_run

Command = Callable[..., tuple[int, str, str]]


class Classifier(NamedTuple):
    model: ModelName
    file: str
    published_layer: str
    layer: str


CLASSIFIERS = [
    Classifier("fcn-squeezenet", "squeezenet_v1_1_oihw.npz", "conv1", "conv1"),
    Classifier("fcn-googlenet", "googlenet_bvlc_oihw.npz", "conv1/7x7_s2", "conv1_7x7_s2"),
]
PADDING = 100
COLOR_MEAN = (92.318, 97.203, 116.190)  # R, G, B
LOG_DEPTH_MEAN = 7.844
HHA_MEAN = (132.431, 94.076, 118.477)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "nyud"
    return write_sample_dataset(folder, layout="nyud", train=2, val=1, size=48)


def seen(root: Path, stem: str, channels: Channels) -> Tensor:
    """What the reference repository's nyud_layers.py makes of the files, in float64; but 0 where
    depth is missing."""

    def read(folder: str) -> np.ndarray:
        return np.asarray(Image.open(root / "data" / folder / f"{stem}.png")).astype(np.float64)

    parts = []
    if channels.startswith("color"):
        parts += [read("images")[:, :, 2 - i] - COLOR_MEAN[2 - i] for i in range(3)]
    if channels == "color-depth":
        depth = read("depth")
        logarithm = np.log(np.where(depth > 0, depth, 1)) - LOG_DEPTH_MEAN
        parts.append(np.where(depth > 0, logarithm, 0))
    if channels.endswith("hha"):
        hha = read("hha")
        parts += [np.where(hha[:, :, 0] > 0, hha[:, :, i] - HHA_MEAN[i], 0) for i in range(3)]
    return torch.from_numpy(np.stack(parts))[None]


def first_layer(images: Tensor, weight: np.ndarray, bias: np.ndarray) -> Tensor:
    """Of a classifier's filters of three channels; further channels are seen by their mean."""
    filters = torch.from_numpy(weight).double()
    values = F.conv2d(images[:, :3], filters, torch.from_numpy(bias).double(), 2, PADDING)
    for extra in images[:, 3:].unbind(1):
        for part in filters.unbind(1):
            values += F.conv2d(extra[:, None], part[:, None] / 3, None, 2, PADDING)
    return values


def assert_first_layer(convolution: torch.nn.Module, images: Tensor, expected: Tensor) -> None:
    with torch.no_grad():
        found = convolution(images).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("channels", ["color", "hha", "color-depth", "color-hha"])
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda one: one.model)
def test_first_layer_of_classifier_weights(
    classifier: Classifier, channels: Channels, root: Path, shared_data: Path
) -> None:
    """Of pictures from their files on, with the published preparation."""
    options = recipe_options("paper", classifier.model, "nyud").model
    model = build_network(options, 40, channels)
    path = shared_data / "weights" / classifier.file
    from_classifier(model, path)
    assert isinstance(model, FCN)

    dataset = open_dataset("nyud", root, "trainval", channels=channels)
    images = input_to_tensor(dataset[0], normalization_of(options), channels)[None]
    plain = seen(root, dataset.image_path(0).stem, channels)
    assert images.shape == plain.shape
    torch.testing.assert_close(images.double(), plain, rtol=0, atol=1e-4)

    with np.load(path) as source:
        weight, bias = (
            source[f"{classifier.published_layer}.{kind}"] for kind in ("weight", "bias")
        )
    convolution = model.trunk.get_submodule(classifier.layer)
    assert_first_layer(convolution, images, first_layer(plain, weight, bias))


@pytest.mark.usefixtures("no_pictures")
def test_late_fusion_of_classifier_weights(
    root: Path, shared_data: Path, command: Command, tmp_path: Path
) -> None:
    """Each stream from the same classifier, by runs of its own that hardly learn."""
    net = CLASSIFIERS[0]
    path = shared_data / "weights" / net.file
    flags = ("train", "--recipe", "paper", "--model", net.model, "--data.kind", "nyud")
    flags += ("--data.root", str(root), "--threads", "1", "--evaluate-every", "0")
    flags += ("--optim.steps", "1", "--optim.accumulate", "1", "--optim.lr", "1e-12")

    def train(channels: str, *more: object) -> Path:
        run = tmp_path / channels
        code, _, err = command(*flags, "--data.channels", channels, *more, "--output", run)
        assert code == 0, err
        return run

    color, hha = (train(kind, "--init-classifier", path) for kind in ("color", "hha"))
    streams = ("--init-streams", f"color={color},hha={hha}")
    late = load_run(train("color-hha", "--model.fusion", "late", *streams)).model

    example = open_dataset("nyud", root, "test", channels="color-hha")
    plain = seen(root, example.image_path(0).stem, "color-hha")
    with np.load(path) as source:
        weight, bias = source["conv1.weight"], source["conv1.bias"]
        deep = torch.from_numpy(source["fire9/expand3x3.weight"])
    for stream, images in (("color", plain[:, :3]), ("hha", plain[:, 3:])):
        trunk = late.trunks[stream]
        expected = first_layer(images, weight, bias)
        assert_first_layer(trunk.get_submodule("conv1"), images.float(), expected)
        torch.testing.assert_close(trunk.state_dict()["fire9.expand3x3.weight"], deep)
