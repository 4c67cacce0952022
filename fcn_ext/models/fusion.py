"""Starting a net with several streams from nets with one stream each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .fcn import TrunksAndHeads
from .names import renamed
from .stages import check_heads, check_trunk
from .surgery import SurgeryReport, apply, check_net
from .trunk import Trunk
from .values import checked

__all__ = ["initialize_from_streams"]


@torch.no_grad()
def initialize_from_streams(
    model: TrunksAndHeads, nets: Mapping[str, TrunksAndHeads]
) -> SurgeryReport:
    """Starts ``model`` from one net for each of its trunks, as in the published
    nyud-fcn32s-color-hha.

    Each stream takes the trunk and the score layers of its net. If all have the same skips,
    ``model(images)`` is then the mean of their logits (weighted by ``trunk_weights``). Score layers
    of skips that a net does not have are set to zero. Learned upsampling, which the streams share,
    keeps its values.

        >>> from fcn_ext.models import build_model
        >>> color, hha = build_model("fcn32s", 40, width=0.1), build_model("fcn32s", 40, width=0.1)
        >>> model = build_model("fcn32s", 40, width=0.1, streams=["color", "hha"])
        >>> initialize_from_streams(model, {"color": color, "hha": hha}).initial
        ()

    Args:
        model: a net of several trunks.
        nets: nets with one trunk each and the heads of ``model``, by the name of the trunk in
            ``model`` that each is for.

    Raises:
        TypeError: an argument is or holds something else.
        ValueError: a trunk has no net, or a net is for none, or has several trunks; or it differs
            from ``model`` in its kind of trunk, ``padding``, ``batch_norm``, heads, context, the
            factor on a skip or the shape of a layer (the message names it). ``model`` is unchanged.
    """
    check_net(model, "model")
    if not isinstance(nets, Mapping):
        raise TypeError(f"nets must be a dict by trunk, got {type(nets).__name__}")
    for name, net in nets.items():
        check_net(net, f"nets[{name!r}]")
    if nets.keys() != set(model.trunks):
        raise ValueError(
            f"nets must have one for each trunk, {', '.join(model.trunks)}, "
            f"got {', '.join(nets) or 'none'}"
        )
    values: dict[str, Tensor] = {}
    unused: set[str] = set()
    for stream, net in nets.items():
        try:
            taken = _of_stream(model, stream, net)
        except ValueError as error:
            raise ValueError(f"{stream}: {error}") from None
        values |= {name: value for _, name, value in taken}
        unused |= {f"{stream}: {key}" for key in net.state_dict().keys() - {t[0] for t in taken}}
    report = apply(model, values, unused)
    for name in model.score_layers:
        if f"{name}.weight" not in values:
            for parameter in getattr(model, name).parameters():
                nn.init.zeros_(parameter)
    return report


def _of_stream(
    model: TrunksAndHeads, stream: str, net: TrunksAndHeads
) -> list[tuple[str, str, Tensor]]:
    """What ``stream`` takes from ``net``: the key there, the key in ``model``, the value."""
    if len(net.trunks) > 1:
        raise ValueError(f"its net must have one trunk, got {', '.join(net.trunks)}")
    ((own, trunk),) = net.trunks.items()
    target = model.trunks[stream]
    assert isinstance(trunk, Trunk)
    assert isinstance(target, Trunk)
    check_trunk(target, trunk, "its net")
    check_heads(model, net, "its net")
    state = model.state_dict()
    published = {path: name for name, path in model.published_names().items()}
    taken = []
    for key, value in net.state_dict().items():
        path = renamed(key, net.published_names()) or key
        path = path.replace(f"trunks.{own}.", f"trunks.{stream}.", 1)
        path = path.replace(f".streams.{own}.", f".streams.{stream}.", 1)
        name = renamed(path, published)
        if name in state and key.rpartition(".")[0] not in net.upsampling_layers:
            taken.append((key, name, checked(key, value, state[name].shape)))
    return taken
