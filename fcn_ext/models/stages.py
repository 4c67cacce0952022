"""Training in stages: starting a net from a coarser one (Long et al., section 4.2)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .fcn import TrunksAndHeads
from .heads import Head
from .surgery import SurgeryReport, apply, check_net
from .trunk import Trunk
from .upsampling import LearnedUpsampling
from .values import checked

__all__ = ["initialize_from_coarser"]


@torch.no_grad()
def initialize_from_coarser(model: TrunksAndHeads, coarser: TrunksAndHeads) -> SurgeryReport:
    """Starts ``model`` from a net with fewer skips: FCN-16s from FCN-32s, FCN-8s from FCN-16s.

    Layers of the same name are copied. Score layers that only ``model`` has are set to zero, and
    upsampling layers that it learns but ``coarser`` does not are set to the bilinear kernel. The
    last upsampling of ``coarser`` has another stride and is not copied. ``model.scores(images)`` is
    then the coarser net's map, upsampled by 2 for each new skip, and ``model(images)`` nearly the
    coarser net's logits: interpolation in two steps differs from one step only near the coarser
    cells, where the slope changes.

    Trunks and heads, if there are several, are matched by their names.

    Raises:
        TypeError: one is not an FCN or a MultiHeadFCN.
        ValueError: ``coarser`` does not have fewer skips, or scales the shared ones differently,
            or the nets differ in the names of trunks or heads, in a trunk, its ``padding`` or
            ``batch_norm``, or the shape of a layer (the message names it), or ``coarser`` learned
            kernels that ``model`` has fixed, or has a context that ``model`` lacks. ``model`` is
            unchanged.
    """
    for net, name in ((model, "model"), (coarser, "coarser")):
        check_net(net, name)
    _check_coarser(model, coarser)
    target_dict = model.state_dict()
    kernels = _learned_kernels(model, coarser)
    values = {
        key: checked(key, kernels.get(key, value), target_dict[key].shape)
        for key, value in coarser.state_dict().items()
        if key in target_dict
    }
    report = apply(model, values, coarser.state_dict().keys() - values.keys())
    for name in model.upsampling_layers:
        layer = getattr(model, name)
        if isinstance(layer, LearnedUpsampling) and f"{name}.weight" not in values:
            layer.reset_parameters()
    for name in set(model.score_layers) - set(coarser.score_layers):
        for parameter in getattr(model, name).parameters():
            nn.init.zeros_(parameter)
    return report


def _learned_kernels(model: TrunksAndHeads, coarser: TrunksAndHeads) -> dict[str, Tensor]:
    """The kernels that ``coarser`` learned for upsampling layers that both have, in the shapes of
    ``model``."""
    kernels = {}
    for name in set(coarser.upsampling_layers) & set(model.upsampling_layers):
        learned, layer = getattr(coarser, name), getattr(model, name)
        if not isinstance(learned, LearnedUpsampling):
            continue
        if not isinstance(layer, LearnedUpsampling):
            raise ValueError(f"model must learn {name}, as coarser does, got one that has it fixed")
        try:
            kernels[f"{name}.weight"] = layer.fitting(learned.weight)
        except ValueError as error:
            raise ValueError(f"{name}.weight {error}") from None
    return kernels


def _check_coarser(model: TrunksAndHeads, coarser: TrunksAndHeads) -> None:
    _check_names(model, coarser, "trunks", "coarser")
    _check_names(model, coarser, "heads", "coarser")
    for name, head in model.heads.items():
        skips, shared = _skips(head), _skips(coarser.heads[name])
        if len(shared) >= len(skips):
            raise ValueError(
                f"coarser must have fewer skips than model's {tuple(skips)}, got {tuple(shared)}"
            )
    for key, trunk in model.trunks.items():
        check_trunk(cast(Trunk, trunk), cast(Trunk, coarser.trunks[key]), "coarser")
    check_heads(model, coarser, "coarser")


def check_heads(model: TrunksAndHeads, other: TrunksAndHeads, name: str) -> None:
    """Raises unless ``other``, called ``name`` in messages, has the heads of ``model``, no skips
    that these lack, the same factors on skips, and no context that these lack."""
    _check_names(model, other, "heads", name)
    for key, head in model.heads.items():
        if cast(Head, other.heads[key]).context and not cast(Head, head).context:
            raise ValueError(f"{name} must have no context, as model has none")
        scales = _skips(head)
        for skip, scale in _skips(other.heads[key]).items():
            if skip not in scales:
                raise ValueError(f"{name} must have no skip that model does not have, got {skip}")
            if scale != scales[skip]:
                raise ValueError(
                    f"{name} must scale {skip} by {scales[skip]} as model, got {scale}"
                )


def check_trunk(trunk: Trunk, other: Trunk, name: str) -> None:
    """Raises unless ``other``, a trunk of the net called ``name`` in messages, is of the same kind
    as ``trunk``."""
    for option in ("padding", "batch_norm"):
        expected, found = getattr(trunk, option, None), getattr(other, option, None)
        if expected != found:
            raise ValueError(f"{name} must have {option}={expected!r} as model, got {found!r}")
    if type(other) is not type(trunk):
        raise ValueError(
            f"{name} must be on the trunk of model, {type(trunk).__name__}, "
            f"got {type(other).__name__}"
        )


def _check_names(model: TrunksAndHeads, other: TrunksAndHeads, kind: str, name: str) -> None:
    expected, found = list(getattr(model, kind)), list(getattr(other, kind))
    if expected != found:
        raise ValueError(
            f"{name} must have the {kind} of model, {', '.join(expected)}, got {', '.join(found)}"
        )


def _skips(head: nn.Module) -> dict[str, float]:
    return cast(Head, head).skip_scales
