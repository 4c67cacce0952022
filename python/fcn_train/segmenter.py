"""Labels images with the network of a run or with an exported file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import torch
from torch import Tensor

from fcn_ext.geometry import Deconvolution
from fcn_ext.models import FCN, MultiHeadFCN
from fcn_train.classes import Classes
from fcn_train.data import Example, input_to_tensor
from fcn_train.data.depth import Channels
from fcn_train.errors import UsageError
from fcn_train.export.onnx_reading import OnnxFile
from fcn_train.finite import FiniteWatch, NotFiniteError
from fcn_train.heads import Net, by_head, in_order
from fcn_train.network import normalization_of
from fcn_train.run import TrainedRun
from fcn_train.runtime import Runtime
from fcn_train.views import AT_ONCE, Views


class Segmenter(Protocol):
    """Gives the labels of an image.

    Attributes:
        path: the run or the file.
        channels: the channels that it sees of an image.
        label_sets: the classes of each map of labels.
    """

    @property
    def path(self) -> Path: ...
    @property
    def channels(self) -> Channels: ...
    @property
    def label_sets(self) -> tuple[Classes, ...]: ...

    def __call__(self, example: Example) -> list[np.ndarray]:
        """The labels (H, W) of each set. Raises NotFiniteError if the scores are not finite."""


class RunSegmenter:
    """The network of ``run``."""

    def __init__(self, run: TrainedRun, runtime: Runtime, views: Views = AT_ONCE) -> None:
        self.path, self.label_sets = run.path, run.label_sets
        self.channels = run.options.data.channels
        self._model = runtime.place(run.model)
        self._normalization = normalization_of(run.options.model)
        self._runtime, self._views = runtime, views

    def __call__(self, example: Example) -> list[np.ndarray]:
        tensor = input_to_tensor(example, self._normalization, self.channels)
        with FiniteWatch(self._model) as watch:
            maps = in_order(segment(self._model, tensor, self._runtime, self._views))
        if not watch.held():
            raise NotFiniteError
        return maps


class OnnxSegmenter:
    """An exported file.

    Raises:
        UsageError: ``views`` are to be averaged, but the file gives only labels.
    """

    def __init__(self, file: OnnxFile, views: Views = AT_ONCE) -> None:
        self.path, self.label_sets = file.path, file.metadata.label_sets
        self.channels = file.metadata.channels
        self._file, self._views = file, views
        if views.several and file.metadata.output == "labels":
            raise UsageError(
                f"{file.path}: gives labels, which --tile and --tta cannot average; export it "
                "with --output logits"
            )

    def __call__(self, example: Example) -> list[np.ndarray]:
        images = self._images(example)
        if self._views.several:
            averages = self._views.average(_AtFullSize(self._file), torch.from_numpy(images))
            return [average.argmax()[0].numpy() for average in averages]
        outputs = self._file(images)
        if self._file.metadata.output != "labels":
            if not all(np.isfinite(scores).all() for scores in outputs):
                raise NotFiniteError
            outputs = [scores.argmax(1) for scores in outputs]
        return [labels[0].astype(np.uint8) for labels in outputs]

    def _images(self, example: Example) -> np.ndarray:
        """The image (1, channels, H, W) as the file takes it."""
        metadata = self._file.metadata
        if metadata.pixels == "normalized":
            made: np.ndarray = input_to_tensor(
                example, metadata.normalization, metadata.channels
            ).numpy()[None]
            return made
        colors = np.ascontiguousarray(example.image.transpose(2, 0, 1))[None]
        return colors if metadata.pixels == "uint8" else colors.astype(np.float32) / 255


@dataclass
class _Head:
    geometry: Deconvolution = field(default_factory=lambda: Deconvolution(1))


class _AtFullSize:
    """Makes a file look to ``Views`` like a network: it has scores, here of every pixel, whose
    softmax is averaged."""

    def __init__(self, file: OnnxFile) -> None:
        self._file = file
        self.heads = {name: _Head() for name in file.metadata.output_names}

    def scores(self, images: Tensor) -> dict[str, Tensor]:
        outputs = [torch.from_numpy(output) for output in self._file(images.numpy())]
        if self._file.metadata.output == "probabilities":
            # Logarithms, whose softmax gives the probabilities back.
            outputs = [output.clamp_min(torch.finfo(output.dtype).tiny).log() for output in outputs]
        return dict(zip(self.heads, outputs, strict=True))


@overload
def segment(model: FCN, image: Tensor, runtime: Runtime, views: Views = ...) -> np.ndarray: ...
@overload
def segment(
    model: MultiHeadFCN, image: Tensor, runtime: Runtime, views: Views = ...
) -> dict[str, np.ndarray]: ...
@torch.inference_mode()
def segment(
    model: Net, image: Tensor, runtime: Runtime, views: Views = AT_ONCE
) -> np.ndarray | Mapping[str, np.ndarray]:
    """Class indices (H, W) uint8 of a normalized image (C, H, W); by head if there are several.
    ``model`` is in eval mode."""
    images = runtime.images(image[None])
    with runtime.autocast():
        if views.several:
            predicted = by_head(model, [each.argmax() for each in views.average(model, images)])
        else:
            predicted = model.predict(images)
    if isinstance(predicted, Mapping):
        return {name: labels[0].cpu().numpy() for name, labels in predicted.items()}
    labels: np.ndarray = predicted[0].cpu().numpy()
    return labels
