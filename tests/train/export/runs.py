"""Runs that nobody trained: the files of a run folder that exporting reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fcn_ext.numpy import voc_palette
from fcn_train.classes import Classes, save_classes
from fcn_train.config import to_dict
from fcn_train.data import Normalization, image_to_tensor
from fcn_train.files import write_text
from fcn_train.heads import Net, in_order
from fcn_train.model_options import WITHOUT_FC, ModelOptions
from fcn_train.network import network_of, normalization_of
from fcn_train.options import DataOptions, TrainOptions
from fcn_train.report import to_json
from fcn_train.run import TrainedRun
from fcn_train.weights import save_weights


def untrained(
    name: str = "fcn16s", sets: Sequence[int] = (5,), channels: Any = "color", **options: Any
) -> TrainedRun:
    """A run with random weights, of a narrow net, that predicts many classes.

    Args:
        sets: the number of classes of each set of labels.
        options: of the model.
    """
    fc_channels = 0 if name.startswith(WITHOUT_FC) else 8
    model: Any = ModelOptions(name=name, width=0.05, fc_channels=fc_channels)  # type: ignore[arg-type]
    chosen = replace(TrainOptions(), model=replace(model, **options))
    chosen = replace(chosen, data=replace(DataOptions(), channels=channels))
    names = ("semantic", "geometric") if len(sets) > 1 else ("",)
    label_sets = tuple(
        Classes(tuple(f"class {n}" for n in range(count)), voc_palette(), label_set)
        for count, label_set in zip(sets, names, strict=True)
    )
    torch.manual_seed(0)
    net = network_of(chosen.model, label_sets, channels).eval()
    randomize_scores(net, normalization_of(chosen.model))
    return TrainedRun(Path("run"), chosen, label_sets[0], net, label_sets[1:])


@torch.no_grad()
def randomize_scores(net: Net, normalization: Normalization) -> None:
    """Score layers with weights, and biases for which all classes score alike on noise."""
    colors = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    seen = image_to_tensor(colors, normalization)[None]
    images = torch.cat([seen] * 2, 1)[:, : net.in_channels]
    for head in net.heads.values():
        for layer in head.score_layers.values():
            nn.init.normal_(layer.weight)
    for head, scores in zip(net.heads.values(), in_order(net.scores(images)), strict=True):
        for stream in head.streams.values():
            top = next(stream.children())
            top.bias -= scores.mean((0, 2, 3))


def write_run(run: TrainedRun, folder: Path) -> Path:
    """The files of ``run`` that ``load_run`` reads, in ``folder``."""
    folder.mkdir()
    write_text(folder / "config.json", to_json(to_dict(run.options)))
    save_classes(folder / "classes.json", run.label_sets)
    save_weights(folder / "last.safetensors", run.model.state_dict())
    return folder


def noise(run: TrainedRun, *size: int) -> Tensor:
    """Images (N, channels, H, W) as the network of ``run`` sees them."""
    number, height, width = size
    torch.manual_seed(1)
    return torch.randn(number, run.model.in_channels, height, width)
