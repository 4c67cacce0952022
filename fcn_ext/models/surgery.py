"""Net surgery: starting a net from its classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .fcn import TrunksAndHeads
from .parts import name_prefix
from .trunk import Trunk
from .values import check_names, checked, value_of

__all__ = ["SurgeryReport", "load_classifier"]


@dataclass(frozen=True)
class SurgeryReport:
    """What an initialization did.

    Attributes:
        loaded: the model's state dict keys whose values were loaded.
        initial: those whose values are the initial ones.
        unused: the source's keys that were not used.
    """

    loaded: tuple[str, ...]
    initial: tuple[str, ...]
    unused: tuple[str, ...]


@torch.no_grad()
def load_classifier(
    model: TrunksAndHeads | Trunk, state_dict: Mapping[str, Tensor]
) -> SurgeryReport:
    """Starts the trunk of ``model`` from its classifier, VGG16, AlexNet, GoogLeNet or SqueezeNet;
    the score layers are not changed.

    The fully connected fc6 and fc7, ``(4096, 25088)`` and ``(4096, 4096)`` in VGG16, become
    convolutions with the same numbers; weights already in the shape of a convolution are accepted,
    too. If ``state_dict`` lacks fc6 and fc7, both keep their initial values; all other layers are
    required.

    The numbers are copied as they are, so images must be prepared as for the classifier:
    torchvision's takes normalized RGB in [0, 1], Caffe's BGR in [0, 255] less the mean.

    If the trunk has more input channels than the classifier, each additional channel of its first
    convolution starts from the mean over the classifier's, as in the published early fusion of
    color and depth (nyud-fcn32s-color-d). A single input channel starts from their sum, so that a
    gray image gives what its three-channel copy gave. Two channels are refused.

    Args:
        model: a net with one trunk, or a trunk (``model.trunks["depth"]`` if there are several),
            with the classifier's width and the same ``batch_norm``.
        state_dict: keys as torchvision's ``vgg16``, ``vgg16_bn``, ``alexnet`` or ``squeezenet1_1``
            has them (``features.0.weight``, ``classifier.0.weight``, ...) or as Caffe names the
            layers (``conv1_1.weight``, with batch norm ``bn1_1.weight``, ..., ``fc6.weight``;
            ``inception_3a/1x1.weight``). torchvision's ``googlenet`` differs from the published
            net, and does not fit. Values may be NumPy arrays.

    Raises:
        TypeError: ``state_dict`` is not a dict with string keys.
        ValueError: a key is missing, or a shape does not fit (the message names the key, the
            shape expected and the one found), or a value has no real numbers, or ``batch_norm``
            differs, or ``model`` has several trunks, or the trunk is not that of a classifier.
            ``model`` is unchanged.
    """
    prefix, trunk = only_trunk(model)
    check_names(state_dict)
    names = _source_names(trunk, state_dict)
    missing = sorted(
        source
        for target, source in names.items()
        if source not in state_dict and not target.endswith("num_batches_tracked")
    )
    if missing:
        raise ValueError(
            f"state_dict must hold every convolution of {type(trunk).__name__}'s classifier, "
            f"but lacks {missing}"
        )

    first = f"{next(iter(trunk.caffe_layers()))}.weight"
    target_dict = trunk.state_dict()
    values = {}
    for target, source in names.items():
        if source in state_dict:
            value = value_of(state_dict, source)
            shape = target_dict[target].shape
            if target == first and value.dim() == 4:
                value = _fit_input_channels(value, trunk.in_channels)
            flat = len(shape) == 4 and value.dim() == 2
            expected = torch.Size((shape[0], shape[1:].numel())) if flat else shape
            values[target] = checked(source, value, expected).reshape(shape)
    values = {f"{prefix}{key}": value for key, value in values.items()}
    return apply(model, values, state_dict.keys() - set(names.values()))


def only_trunk(model: TrunksAndHeads | Trunk) -> tuple[str, Trunk]:
    """The classifier's trunk that ``model`` is or has, and the prefix of its layers' names in
    ``model``.

    Raises:
        ValueError: it has several trunks, or one that is not that of a classifier.
    """
    prefix, trunk = "", model
    if isinstance(model, TrunksAndHeads):
        if len(model.trunks) > 1:
            raise ValueError(
                f"model must be a trunk or have only one, got trunks {', '.join(model.trunks)}; "
                f"load each, such as model.trunks[{next(iter(model.trunks))!r}]"
            )
        ((name, only),) = model.trunks.items()
        prefix, trunk = name_prefix(name), cast(Trunk, only)
    if not isinstance(trunk, Trunk) or not trunk.caffe_layers():
        raise ValueError(f"model must have a classifier's trunk, got a {type(trunk).__name__}")
    return prefix, trunk


def check_net(net: object, name: str) -> None:
    """Raises TypeError unless ``net``, called ``name`` in messages, is an FCN or a MultiHeadFCN."""
    if not isinstance(net, TrunksAndHeads):
        raise TypeError(f"{name} must be an FCN or a MultiHeadFCN, got {type(net).__name__}")


def has_batch_norm(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether ``state_dict`` belongs to a net with batch normalization."""
    return any(key.endswith(".running_mean") for key in state_dict)


def classifier_layers(trunk: Trunk, layout: str) -> dict[str, str]:
    """The layers of ``trunk`` and their names in a layout, ``caffe`` or ``torchvision``."""
    return trunk.torchvision_layers() if layout == "torchvision" else trunk.caffe_layers()


def _source_names(trunk: Trunk, state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The keys of ``trunk``, each with its name in ``state_dict``."""
    batch_norm = has_batch_norm(state_dict)
    expected = bool(getattr(trunk, "batch_norm", False))
    if batch_norm != expected:
        raise ValueError(
            f"state_dict must be that of a net {'with' if expected else 'without'} batch "
            f"norm, as model has batch_norm={expected}, got one "
            f"{'with' if batch_norm else 'without'}"
        )
    layers = classifier_layers(trunk, "caffe")
    if any(key.startswith("features.") for key in state_dict):
        layers = classifier_layers(trunk, "torchvision") or layers
    fully_connected = {layer for layer in ("fc6", "fc7") if layer in layers}
    if not any(key.startswith(layers[layer]) for layer in fully_connected for key in state_dict):
        layers = {layer: name for layer, name in layers.items() if layer not in fully_connected}
    return {
        f"{layer}.{key}": f"{source}.{key}"
        for layer, source in layers.items()
        for key in trunk.get_submodule(layer).state_dict()
    }


def _fit_input_channels(weight: Tensor, channels: int) -> Tensor:
    """The first convolution's weight for ``channels``, unchanged if there is no rule for them."""
    found = weight.shape[1]
    if not weight.is_floating_point() or weight.itemsize < 2:  # torch cannot sum these
        weight = weight.double()
    if channels > found:
        extra = weight.mean(dim=1, keepdim=True).expand(-1, channels - found, -1, -1)
        return torch.cat([weight, extra], dim=1)
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight


def apply(model: nn.Module, values: Mapping[str, Tensor], unused: set[str]) -> SurgeryReport:
    """Copies ``values`` into ``model``, and reports what was loaded.

    Raises:
        ValueError: one has no memory to be read or written; nothing is written.
    """
    own = model.state_dict()
    for key, value in values.items():
        # torch would silently copy nothing.
        if own[key].is_meta or value.is_meta:
            where = "model" if own[key].is_meta else "what model starts from"
            raise ValueError(f"{where} must have values, got {key} on the meta device")
    for key, value in values.items():
        own[key].copy_(value)
    keys = own.keys()
    return SurgeryReport(
        loaded=tuple(key for key in keys if key in values),
        initial=tuple(key for key in keys if key not in values),
        unused=tuple(sorted(unused)),
    )
