"""The classifiers that nets start from, as they were before surgery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._arguments import one_of_literal
from ..ops import _common
from .alexnet import AlexNetTrunk
from .fcn import TrunksAndHeads
from .googlenet import GoogLeNetTrunk
from .squeezenet import SqueezeNetTrunk
from .surgery import (
    SurgeryReport,
    classifier_layers,
    has_batch_norm,
    load_classifier,
    only_trunk,
)
from .trunk import ClassifierTrunk, Trunk, count
from .values import check_names, value_of
from .vgg16 import VGG16Trunk

__all__ = [
    "CLASSIFIER_NAMES",
    "Classifier",
    "build_classifier",
    "classifier_name",
    "classifier_state_dict",
    "recognize_classifier",
]

Layout = Literal["caffe", "torchvision"]


@dataclass(frozen=True)
class _Classifier:
    """A row of the table: a trunk, and what follows it in the classifier.

    Attributes:
        last: the last layer's name, by layout.
        fully_connected: whether files have its weight as a matrix.
        rectified: whether the last layer is preceded by a dropout and followed by a ReLU.
        image_size: side of the images that it was trained on.
    """

    trunk: Callable[..., ClassifierTrunk]
    last: Mapping[str, str]
    fully_connected: bool = True
    rectified: bool = False
    image_size: int = 224


_FC8 = {"caffe": "fc8", "torchvision": "classifier.6"}
_CLASSIFIERS = {
    "vgg16": _Classifier(VGG16Trunk, _FC8),
    "alexnet": _Classifier(AlexNetTrunk, {"caffe": "fc8"}, image_size=227),
    "alexnet-torchvision": _Classifier(partial(AlexNetTrunk, variant="torchvision"), _FC8),
    "googlenet": _Classifier(GoogLeNetTrunk, {"caffe": "loss3/classifier"}),
    "squeezenet": _Classifier(
        partial(SqueezeNetTrunk, top="fire9"),
        {"caffe": "conv10", "torchvision": "classifier.1"},
        fully_connected=False,
        rectified=True,
        image_size=227,
    ),
}

CLASSIFIER_NAMES = tuple(_CLASSIFIERS)
"""The names that :func:`build_classifier` knows."""


class Classifier(nn.Module):
    """A classifier of whole images: a trunk with the classifier's padding, and its last layer.

    Images larger than those it was trained on give scores at several positions, which are averaged,
    as GoogLeNet and SqueezeNet do anyway. :meth:`score_map` returns them for each position.

    Made by :func:`build_classifier`.

    Attributes:
        name: as :func:`build_classifier` knows it.
        num_classes: length of the scores.
        image_size: side of the images that it was trained on.
    """

    def __init__(self, name: str, num_classes: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        row = _CLASSIFIERS[name]
        self.name = name
        self.num_classes = count(num_classes, "num_classes")
        self.image_size = row.image_size
        self.trunk = row.trunk(padding="classifier", **options)
        self.last = nn.Conv2d(self.trunk.channels[self.trunk.top], self.num_classes, 1)
        self.dropout = nn.Dropout(self.trunk.dropout if row.rectified else 0.0)
        self.rectified = row.rectified

    def score_map(self, images: Tensor) -> Tensor:
        """The scores of every window of the size that the classifier sees: ``(N, num_classes, h,
        w)``.

        Args:
            images: ``(N, in_channels, H, W)``, floating point.

        Raises:
            TypeError: ``images`` is not a tensor.
            ValueError: ``images`` has another shape, or is too small for a single window, or is not
                floating point.
        """
        _common.is_tensor(images, "images")
        smallest = self.trunk.smallest_image
        fits = images.dim() == 4 and images.shape[1] == self.trunk.in_channels
        if not fits or min(images.shape[2:]) < smallest:
            raise ValueError(
                f"images must have shape (N, {self.trunk.in_channels}, H, W) with H, W >= "
                f"{smallest}, got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point, got {images.dtype}")
        features = self.dropout(self.trunk(images)[self.trunk.top])
        scores: Tensor = self.last(features)
        return scores.relu() if self.rectified else scores

    def forward(self, images: Tensor) -> Tensor:
        """The scores ``(N, num_classes)``, before a softmax; as :meth:`score_map`."""
        return self.score_map(images).mean(dim=(2, 3))

    @torch.no_grad()
    def load(self, state_dict: Mapping[str, Tensor]) -> SurgeryReport:
        """Loads all parameters of a classifier, from the layouts that
        :func:`fcn_ext.models.load_classifier` reads.

        Raises:
            TypeError, ValueError: as there, or the last layer is missing or of another shape. The
                classifier is unchanged.
        """
        check_names(state_dict)
        layer = last_layer(self.name, state_dict)
        values = {}
        for kind, parameter in self.last.state_dict().items():
            key = f"{layer}.{kind}"
            value = value_of(state_dict, key)
            matrix = parameter.shape[:2]  # of the weight; the bias has one dimension
            if value.shape not in (parameter.shape, matrix):
                raise ValueError(f"{key} must have shape {tuple(matrix)}, got {tuple(value.shape)}")
            values[kind] = value.reshape(parameter.shape)
        report = load_classifier(self.trunk, state_dict)
        self.last.load_state_dict(values)
        taken = {f"{layer}.{kind}" for kind in values}
        return SurgeryReport(
            loaded=(*(f"trunk.{key}" for key in report.loaded), "last.weight", "last.bias"),
            initial=tuple(f"trunk.{key}" for key in report.initial),
            unused=tuple(key for key in report.unused if key not in taken),
        )


def build_classifier(name: str, num_classes: int = 1000, **options: Any) -> Classifier:
    """The classifier called ``name``.

    ====================  ====================================================================
    vgg16                 VGG16
    alexnet               Caffe's AlexNet
    alexnet-torchvision   torchvision's AlexNet
    googlenet             GoogLeNet, without its two auxiliary classifiers
    squeezenet            SqueezeNet v1.1
    ====================  ====================================================================

        >>> model = build_classifier("squeezenet", width=1 / 8).eval()
        >>> model(torch.zeros(1, 3, 227, 227)).shape
        torch.Size([1, 1000])

    Args:
        num_classes: length of the scores.
        options: those of the trunk, as in :func:`fcn_ext.models.build_model`, without ``padding``.

    Raises:
        ValueError: ``name`` is none of these, or an option is out of range.
        TypeError: an option is unknown, or of the wrong type.
    """
    if not (isinstance(name, str) and name in _CLASSIFIERS):
        raise ValueError(
            f"name must be one of {', '.join(_CLASSIFIERS)}, got {_common.shown(name)}"
        )
    return Classifier(name, num_classes, options)


def recognize_classifier(state_dict: Mapping[str, Tensor]) -> Classifier:
    """The classifier that ``state_dict`` belongs to, with its parameters loaded.

    Args:
        state_dict: that of a published classifier, in one of the layouts that
            :func:`fcn_ext.models.load_classifier` reads.

    Raises:
        TypeError: ``state_dict`` is not a dict with string keys.
        ValueError: it belongs to none of them, or a layer has another shape.
    """
    name = classifier_name(state_dict)
    num_classes = len(state_dict[f"{last_layer(name, state_dict)}.weight"])
    model = build_classifier(name, num_classes, batch_norm=has_batch_norm(state_dict))
    model.load(state_dict)
    return model


def classifier_name(state_dict: Mapping[str, Any]) -> str:
    """The one of ``CLASSIFIER_NAMES`` whose layers ``state_dict`` has.

    Raises:
        TypeError: ``state_dict`` is not a dict with string keys.
        ValueError: there is none.
    """
    check_names(state_dict)
    for name, row in _CLASSIFIERS.items():
        with torch.device("meta"):
            trunk = row.trunk(batch_norm=has_batch_norm(state_dict))
        for layout in row.last:
            layers = (*classifier_layers(trunk, layout).values(), row.last[layout])
            if all(f"{layer}.weight" in state_dict for layer in layers) and _is_build_of(
                trunk, state_dict[f"{layers[0]}.weight"]
            ):
                return name
    raise ValueError(
        f"state_dict must be that of a classifier, {', '.join(_CLASSIFIERS)}, got one with "
        f"{', '.join(list(state_dict)[:3]) or 'nothing'}"
    )


def _is_build_of(trunk: ClassifierTrunk, first: Tensor) -> bool:
    """Whether AlexNet's first weight fits the build in ``trunk``; other trunks have only one
    build."""
    return not isinstance(trunk, AlexNetTrunk) or len(first) == len(
        trunk.state_dict()["conv1.bias"]
    )


def classifier_state_dict(
    model: Classifier | TrunksAndHeads | Trunk, layout: Layout = "caffe"
) -> dict[str, Tensor]:
    """The parameters of ``model`` in the layout of Caffe or torchvision: surgery undone.

    Convolutions that were fully connected layers are matrices again, with the same numbers. This
    writes what :meth:`Classifier.load` and :func:`fcn_ext.models.load_classifier` read.

    Args:
        model: a classifier; or a net with one trunk, or a trunk, which lack the last layer.
        layout: ``"caffe"`` for Caffe's names (``fc6.weight``, ``inception_3a/1x1.weight``) or
            ``"torchvision"`` for torchvision's (``classifier.0.weight``).

    Raises:
        ValueError: there is no such layout of this classifier, ``model`` has several trunks, or
            the trunk is no classifier's.
    """
    one_of_literal(layout, Layout, "layout")
    _, trunk = only_trunk(model.trunk if isinstance(model, Classifier) else model)
    layers = classifier_layers(trunk, layout)
    # Caffe's AlexNet has the layers of torchvision's, but in other shapes.
    if not layers or (layout, getattr(trunk, "variant", layout)) == ("torchvision", "caffe"):
        raise ValueError(
            f"layout must be caffe for this {type(trunk).__name__}, got {_common.shown(layout)}"
        )
    state = {}
    for layer, source in layers.items():
        for key, value in trunk.get_submodule(layer).state_dict().items():
            flat = layer in ("fc6", "fc7") and key == "weight"
            state[f"{source}.{key}"] = value.flatten(1) if flat else value
    if isinstance(model, Classifier):
        row = _CLASSIFIERS[model.name]
        for key, value in model.last.state_dict().items():
            flat = row.fully_connected and key == "weight"
            state[f"{row.last[layout]}.{key}"] = value.flatten(1) if flat else value
    return state


def last_layer(name: str, state_dict: Mapping[str, Tensor]) -> str:
    """The name of the last layer of the classifier ``name`` in ``state_dict``.

    Raises:
        ValueError: it is not there.
    """
    return _last_layer(name, _CLASSIFIERS[name].last.values(), state_dict)


def last_layer_of(trunk: Trunk, state_dict: Mapping[str, Tensor]) -> str:
    """The name in ``state_dict`` of the last layer of the classifier that ``trunk`` comes from.

    Raises:
        ValueError: it is not there.
    """
    kinds = {name: getattr(row.trunk, "func", row.trunk) for name, row in _CLASSIFIERS.items()}
    names = [name for name, kind in kinds.items() if kind is type(trunk)]
    found = dict.fromkeys(layer for name in names for layer in _CLASSIFIERS[name].last.values())
    return _last_layer(names[0], found, state_dict)


def _last_layer(name: str, found: Iterable[str], state_dict: Mapping[str, Tensor]) -> str:
    layers = list(found)
    for layer in layers:
        if f"{layer}.weight" in state_dict and f"{layer}.bias" in state_dict:
            return layer
    raise ValueError(
        f"state_dict must hold the last layer of {name}, {' or '.join(layers)}, "
        f"got {', '.join(list(state_dict)[:3]) or 'nothing'}"
    )
