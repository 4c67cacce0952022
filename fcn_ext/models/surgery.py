"""Net surgery: starting a net from its classifier, or from a coarser net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .fcn import FCN

__all__ = ["SurgeryReport", "initialize_from_coarser", "load_classifier"]


@dataclass(frozen=True)
class SurgeryReport:
    """What an initialisation did.

    Attributes:
        loaded: the model's state dict keys that were given values.
        initial: those left at, or set to, their initial values.
        unused: the source's keys that nothing was taken from.
    """

    loaded: tuple[str, ...]
    initial: tuple[str, ...]
    unused: tuple[str, ...]


@torch.no_grad()
def load_classifier(model: FCN, state_dict: Mapping[str, Tensor]) -> SurgeryReport:
    """Starts the trunk of ``model`` from its classifier, VGG16, AlexNet or GoogLeNet; the score
    layers are left alone.

    The fully connected fc6 and fc7, ``(4096, 25088)`` and ``(4096, 4096)`` in VGG16, become
    convolutions with the same numbers; weights already in the shape of a convolution are taken as
    well. Without fc6 and fc7 in ``state_dict`` both stay at their initial values; everything else
    must be there.

    The numbers are copied as they are, so images must be prepared as for the classifier:
    torchvision's takes normalised RGB in [0, 1], Caffe's BGR in [0, 255] less the mean.

    Where ``model`` has more input channels than the classifier, each further channel of its first
    convolution starts from the mean over the classifier's, as in the published early fusion of
    colour and depth (nyud-fcn32s-color-d). A single input channel starts from their sum, so that a
    grey image answers as its three-channel copy did. Two channels are refused.

    Args:
        model: any of the nets, of the classifier's width and with the same ``batch_norm``.
        state_dict: keys as torchvision's ``vgg16``, ``vgg16_bn`` or ``alexnet`` has them
            (``features.0.weight``, ``classifier.0.weight``, ...) or as Caffe names the layers
            (``conv1_1.weight``, with batch norm ``bn1_1.weight``, ..., ``fc6.weight``;
            ``inception_3a/1x1.weight``). torchvision's ``googlenet`` is another net than the
            published one, and does not fit. Values may be NumPy arrays.

    Raises:
        ValueError: a key is missing, or a shape does not fit (the message names the key, the
            shape expected and the one found), or ``batch_norm`` differs. ``model`` is unchanged.
    """
    names = _source_names(model, state_dict)
    missing = sorted(
        source
        for target, source in names.items()
        if source not in state_dict and not target.endswith("num_batches_tracked")
    )
    if missing:
        raise ValueError(
            f"state_dict must hold every convolution of {type(model).__name__}'s classifier, "
            f"but lacks {missing}"
        )

    first = f"{next(iter(model.caffe_layers()))}.weight"
    target_dict = model.state_dict()
    values = {}
    for target, source in names.items():
        if source in state_dict:
            value = torch.as_tensor(state_dict[source])
            shape = target_dict[target].shape
            if target == first and value.dim() == 4:
                value = _fit_input_channels(value, model.in_channels)
            flat = len(shape) == 4 and value.dim() == 2
            expected = torch.Size((shape[0], shape[1:].numel())) if flat else shape
            values[target] = _checked(source, value, expected).reshape(shape)
    return _apply(model, values, state_dict.keys() - set(names.values()))


@torch.no_grad()
def initialize_from_coarser(model: FCN, coarser: FCN) -> SurgeryReport:
    """Starts ``model`` from a net with fewer skips: FCN-16s from FCN-32s, FCN-8s from FCN-16s.

    Layers of the same name are copied; the score layers that only ``model`` has are set to zero.
    ``model.scores(images)`` is then the coarser net's map upsampled by 2 for each new skip, and
    ``model(images)`` the coarser net's answer but for the rounding of its kinks: interpolating in
    two steps cuts the corner where the slope changes, at the coarser cells.

    Raises:
        ValueError: ``coarser`` does not have fewer skips, or scales the shared ones differently,
            or the nets differ in trunk, ``padding``, ``batch_norm`` or the shape of a layer (the
            message names it). ``model`` is unchanged.
    """
    if len(coarser.skips) >= len(model.skips):
        raise ValueError(
            f"coarser must have fewer skips than model's {model.skips}, got {coarser.skips}"
        )
    for name in ("padding", "batch_norm"):
        expected, found = getattr(model, name), getattr(coarser, name)
        if expected != found:
            raise ValueError(f"coarser must have {name}={expected!r} as model, got {found!r}")
    if coarser.caffe_layers() != model.caffe_layers():
        raise ValueError(
            f"coarser must be on the trunk of model, a {type(model).__name__}, "
            f"got a {type(coarser).__name__}"
        )
    for skip, scale in coarser.skip_scales.items():
        if scale != model.skip_scales[skip]:
            raise ValueError(
                f"coarser must scale {skip} by {model.skip_scales[skip]} as model, got {scale}"
            )
    target_dict = model.state_dict()
    values = {
        key: _checked(key, value, target_dict[key].shape)
        for key, value in coarser.state_dict().items()
    }
    for name in set(model.score_layers) - set(coarser.score_layers):
        for parameter in getattr(model, name).parameters():
            nn.init.zeros_(parameter)
    return _apply(model, values, unused=())


def _source_names(model: FCN, state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """The keys of the trunk in ``model``, each with its name in ``state_dict``."""
    batch_norm = any(key.endswith(".running_mean") for key in state_dict)
    if batch_norm != model.batch_norm:
        raise ValueError(
            f"state_dict must be that of a net {'with' if model.batch_norm else 'without'} batch "
            f"norm, as model has batch_norm={model.batch_norm}, got one "
            f"{'with' if batch_norm else 'without'}"
        )
    layers = model.caffe_layers()
    if any(key.startswith("features.") for key in state_dict):
        layers = model.torchvision_layers() or layers
    fully_connected = {layer for layer in ("fc6", "fc7") if layer in layers}
    if not any(key.startswith(layers[layer]) for layer in fully_connected for key in state_dict):
        layers = {layer: name for layer, name in layers.items() if layer not in fully_connected}
    return {
        f"{layer}.{key}": f"{source}.{key}"
        for layer, source in layers.items()
        for key in model.get_submodule(layer).state_dict()
    }


def _fit_input_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution's weight for ``channels``, unchanged where there is no rule."""
    found = weight.shape[1]
    if channels > found:
        extra = weight.mean(dim=1, keepdim=True).expand(-1, channels - found, -1, -1)
        return torch.cat([weight, extra], dim=1)
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight


def _checked(key: str, value: Tensor, shape: torch.Size) -> Tensor:
    if value.shape != shape:
        raise ValueError(f"{key} must have shape {tuple(shape)}, got {tuple(value.shape)}")
    return value


def _apply(model: FCN, values: Mapping[str, Tensor], unused: set[str] | tuple[()]) -> SurgeryReport:
    for key, tensor in model.state_dict().items():
        if key in values:
            tensor.copy_(values[key])
    keys = model.state_dict().keys()
    return SurgeryReport(
        loaded=tuple(key for key in keys if key in values),
        initial=tuple(key for key in keys if key not in values),
        unused=tuple(sorted(unused)),
    )
