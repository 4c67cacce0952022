"""Score layers that start from the classifier's last layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from .._arguments import integer, number, shown
from .classifier import last_layer_of
from .fcn import TrunksAndHeads
from .heads import Head
from .parts import MAIN
from .surgery import SurgeryReport, apply, check_net, only_trunk
from .values import check_names, value_of

__all__ = ["initialize_scores"]


@torch.no_grad()
def initialize_scores(
    model: TrunksAndHeads,
    state_dict: Mapping[str, Tensor],
    rows: Mapping[int, Sequence[int]],
    *,
    rest: int | None = None,
    scale: float = 1.0,
    head: str = MAIN,
) -> SurgeryReport:
    r"""Starts the score layer of the top map from rows of the classifier's last layer.

    That layer is linear, so it can score every cell of the map as it scored their average. If the
    classifier's classes :math:`R_c`, with rows :math:`w_i` and biases :math:`b_i`, stand for a
    class :math:`c`, then its probability is the sum of theirs:

    .. math::
        \log \sum_{i \in R_c} \exp(w_i x + b_i)
        \ge \log |R_c| + \frac{1}{|R_c|} \sum_{i \in R_c} (w_i x + b_i).

    The layer starts from the right side, which is linear: the mean of the rows, with the logarithm
    of their number in the bias. The mean over all rows is subtracted, which does not change the
    softmax. Classes without rows start from zero, as a single row equal to the mean would. The
    score layers of skips are not changed.

        >>> from fcn_ext.models import build_classifier, build_model, classifier_state_dict
        >>> state = classifier_state_dict(build_classifier("squeezenet"))
        >>> model = build_model("fcn-squeezenet", num_classes=3)
        >>> rows = {1: range(281, 286), 2: range(151, 269)}  # of cats and of dogs
        >>> report = initialize_scores(model, state, rows, rest=0)
        >>> report.loaded
        ('score_fr.weight', 'score_fr.bias')

    The classifier averaged over all cells. Single cells have greater scores, and so more extreme
    probabilities; a ``scale`` below 1 makes them milder at the start. SqueezeNet needs 0.1: its
    last layer was on fire9 and followed by a ReLU, and here it is on the maxima of that map.

    Args:
        model: a net with one trunk, that of a classifier with all its layers, and any heads.
        state_dict: that of its classifier, with the last layer, in one of the layouts that
            :func:`fcn_ext.models.load_classifier` reads.
        rows: for classes of the score layer, the classes of the classifier that stand for them,
            each once per class.
        rest: the class that gets all rows that no other class has, such as the background.
        scale: factor on the classifier's scores, before they are summed over a class's rows.
        head: the name of the head, where the net has several.

    Returns:
        What was loaded: the score layer's weight and bias.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: ``model`` has several trunks, or one that is no classifier's or was cut short,
            or scores another map first; ``state_dict`` has no last layer of that classifier, or one
            of another shape; ``rows`` names no row or one twice for a class, or a class or a row
            out of range; ``rest`` is among ``rows``, or nothing is left for it; ``scale`` is not
            finite and > 0. ``model`` is unchanged.
    """
    scale = number(scale, "scale")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be finite and > 0, got {scale!r}")
    check_net(model, "model")
    check_names(state_dict)
    _, trunk = only_trunk(model)
    if not (isinstance(head, str) and head in model.heads):
        raise ValueError(f"head must be one of {', '.join(model.heads)}, got {shown(head)}")
    scored = cast(Head, model.heads[head])
    ((name, top),) = scored.tops.items()
    if not trunk.whole or top != trunk.top:
        raise ValueError(
            "model must score the map that its classifier scores, the last of "
            f"{type(trunk).__name__}, got {top}"
        )
    last = last_layer_of(trunk, state_dict)
    weight, bias = (value_of(state_dict, f"{last}.{kind}") for kind in ("weight", "bias"))
    channels = trunk.channels[top]
    if weight.shape[1:].numel() != channels or weight.dim() not in (2, 4):
        raise ValueError(
            f"{last}.weight must have a row of {channels} numbers for each class of the "
            f"classifier, got shape {tuple(weight.shape)}"
        )
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"{last}.bias must have shape {(len(weight),)}, got {tuple(bias.shape)}")
    chosen = _whole_numbers(rows)
    if rest is not None:
        rest = integer(rest, "rest")
        if rest in chosen:
            raise ValueError(f"rest must be a class that rows leaves out, got {rest}")
        taken = {row for some in chosen.values() for row in some}
        chosen[rest] = [row for row in range(len(weight)) if row not in taken]
    _check_rows(chosen, scored.num_classes, len(weight), last)

    table = torch.cat([weight.flatten(1).double(), bias[:, None].double()], dim=1)
    table -= table.mean(dim=0)
    starts = table.new_zeros(scored.num_classes, channels + 1)
    for index, some in chosen.items():
        starts[index] = scale * table[some].mean(dim=0)
        starts[index, -1] += math.log(len(some))
    layer = next(iter(dict(scored.streams[name].named_children())))
    names = {path: published for published, path in model.published_names().items()}
    path = names[f"heads.{head}.streams.{name}.{layer}"]
    values = {f"{path}.weight": starts[:, :-1, None, None], f"{path}.bias": starts[:, -1]}
    unused = set(state_dict) - {f"{last}.weight", f"{last}.bias"}
    return apply(model, values, unused)


def _whole_numbers(rows: Any) -> dict[int, list[int]]:
    if not isinstance(rows, Mapping):
        raise TypeError(f"rows must be a dict of rows by class, got {type(rows).__name__}")
    chosen = {}
    for index, some in rows.items():
        if isinstance(some, str) or not isinstance(some, Iterable):
            raise TypeError(f"rows must have a list of rows for each class, got {shown(some)}")
        chosen[integer(index, "rows")] = [integer(row, "rows") for row in some]
    return chosen


def _check_rows(
    rows: Mapping[int, Sequence[int]], num_classes: int, num_rows: int, last: str
) -> None:
    for index, chosen in rows.items():
        if not 0 <= index < num_classes:
            raise ValueError(f"rows must be of classes in [0, {num_classes}), got class {index}")
        if not chosen:
            raise ValueError(f"rows must name at least one row of a class, got none for {index}")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"rows must name each row of a class once, got {list(chosen)}")
        for row in chosen:
            if not 0 <= row < num_rows:
                raise ValueError(
                    f"rows must lie in [0, {num_rows}), as {last} has {num_rows}, got {row}"
                )
