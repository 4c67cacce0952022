"""Calls of :mod:`fcn_ext.losses`, compared with :mod:`fcn_ext.reference_losses`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fcn_ext import losses, ops, reference, reference_losses
from fcn_ext.geometry import Geometry

from .draw import Draw
from .heads import most_terms, share_error
from .judge import Call, eps
from .maps import _largest

# Larger scores make a ratio of sums as uncertain as its terms are.
_MOST = 8.0
REDUCTIONS = ["none", "sum", "mean", "mean_all"]


@dataclass
class Problem:
    """Scores and a target of labels, and what they were drawn with."""

    input: Tensor
    target: Tensor
    geometry: Geometry
    fine: tuple[int, int]
    options: dict[str, Any]

    @property
    def classes(self) -> int:
        return self.input.shape[1]

    def call(self, name: str, loose: float = 1.0, **more: Any) -> Call:
        """Of the loss called ``name``; ``loose``: by how much more it may differ than its terms."""
        options = {**self.options, **more}
        wide = {k: v.double() if isinstance(v, Tensor) else v for k, v in options.items()}
        is_number = not self.target.dtype.is_floating_point and self.target.dtype != torch.bool
        labels = self.target.long() if is_number else self.target

        def plain(input: Tensor) -> tuple[Tensor]:
            return (getattr(reference_losses, name)(input, labels, self.geometry, **wide),)

        arguments = {"input": self.input, "target": self.target, "geometry": self.geometry}
        return Call(
            getattr(losses, name),
            {**arguments, **options},
            ("input",),
            plain,
            error=lambda expected: [self.value_error(expected[0], loose)],
            slope_error=lambda seeds: [self.slope_error(seeds[0], loose, options)],
        )

    def value_error(self, expected: Tensor, loose: float) -> float:
        largest = float(expected.abs().nan_to_num(0, 0, 0).max()) if expected.numel() else 0.0
        return loose * 64 * eps(self.input.dtype) * (1 + _largest(self.input)) * max(1.0, largest)

    def slope_error(self, seed: Tensor, loose: float, options: dict[str, Any]) -> float:
        terms = most_terms(self.geometry, tuple(self.input.shape[2:]), self.fine)  # type: ignore[arg-type]
        most = float(seed.abs().max()) if seed.numel() else 0.0
        weights = [float(v.max()) for v in options.values() if isinstance(v, Tensor) and v.numel()]
        heaviest = max([1.0, *weights])
        return loose * terms * most * heaviest * 8 * share_error(self.input)


def problem(draw: Draw, *, special: bool = False) -> Problem:
    coarse, classes, n = draw.coarse(), draw.classes(), draw.batch()
    geometry, fine = draw.geometry(coarse)
    ignore_index = draw.ignore_index(classes)
    input = draw.scores((n, classes, *coarse), draw.dtype(), most=_MOST, special=special)
    target = draw.labels((n, *fine), classes, ignore_index)
    return Problem(input, target, geometry, fine, {"ignore_index": ignore_index})


def mask_problem(draw: Draw, *, soft: bool) -> Problem:
    coarse, classes, n = draw.coarse(), min(draw.classes(), 17), draw.batch()
    geometry, fine = draw.geometry(coarse)
    ignore_index = draw.ignore_index(2)
    input = draw.scores((n, classes, *coarse), draw.dtype(), most=_MOST, special=False)
    target = draw.masks((n, classes, *fine), ignore_index)
    if not soft and target.is_floating_point():
        target = target > 0.5
    if classes == 1 and draw.chance(0.5):
        target = target.squeeze(1)
    return Problem(input, target, geometry, fine, {"ignore_index": ignore_index})


def cross_entropy(draw: Draw) -> Call:
    given = problem(draw)
    more: dict[str, Any] = {"reduction": draw.one_of(REDUCTIONS)}
    if draw.chance(0.4):
        more["label_smoothing"] = draw.number(0, 1)
    # Over hardly any weight a mean is all rounding.
    if draw.chance(0.4) and more["reduction"] != "mean":
        more["weight"] = draw.weight(given.classes)
    pixels = given.target.numel() if more["reduction"] == "sum" else 1
    call = given.call("cross_entropy", max(1, pixels), **more)
    if draw.chance(0.5):
        return call
    of_loss, error = call.plain, call.error
    assert of_loss is not None
    assert error is not None
    return replace(
        call,
        arguments={**call.arguments, "return_accuracy": True},
        plain=lambda input: (*of_loss(input), _accuracy_of(given)),
        results=lambda found: found,
        error=lambda expected: [*error(expected), 1e-6],
    )


def _accuracy_of(given: Problem) -> Tensor:
    """Of winners that are those of ``argmax``, whatever rounding made of ties."""
    winner = ops.argmax(given.input, given.fine, given.geometry, dtype=torch.int64)
    target = given.target.long()
    counts = target != given.options["ignore_index"]
    return (winner[counts] == target[counts]).double().mean()


def pixel_accuracy(draw: Draw) -> Call:
    given = problem(draw)
    arguments = {"input": given.input, "target": given.target, "geometry": given.geometry}
    return Call(
        losses.pixel_accuracy,
        {**arguments, **given.options},
        (),
        lambda: (_accuracy_of(given),),
        error=lambda _: [1e-6],
    )


def focal_loss(draw: Draw) -> Call:
    given = problem(draw)
    more: dict[str, Any] = {"reduction": draw.one_of(REDUCTIONS)}
    more["gamma"] = draw.one_of([0.0, 1.0, 2.0, 3.5])
    if draw.chance(0.4):
        more["alpha"] = draw.weight(given.classes)
    pixels = given.target.numel() if more["reduction"] == "sum" else 1
    return given.call("focal_loss", max(4, pixels), **more)


def ohem_cross_entropy(draw: Draw) -> Call:
    """Which pixels are kept is asked of the pixels' own losses, where rounding makes no ties."""
    given = problem(draw)
    given.input = given.input.double()
    reduction, per_image = draw.one_of(REDUCTIONS), draw.chance(0.5)
    threshold = draw.one_of([None, 0.0, 1.0, draw.number(0, 1)])
    share = draw.one_of([0.0, 1.0, draw.number(0, 1)])
    min_kept = share if draw.chance(0.5) else draw.integer(0, 40)
    weight = draw.weight(given.classes).double() if draw.chance(0.4) else None
    more = {"reduction": reduction, "per_image": per_image, "threshold": threshold}
    pixels = given.target.numel() if reduction == "sum" else 1
    call = given.call(
        "ohem_cross_entropy",
        max(4, pixels),
        **more,
        min_kept=min_kept,
        **({} if weight is None else {"weight": weight}),
    )

    def plain(wide: Tensor) -> tuple[Tensor]:
        target, options = given.target.long(), {**given.options, "reduction": "none"}
        hardness = ops.cross_entropy(given.input, target, given.geometry, **options)
        counts = target != given.options["ignore_index"]
        kept = torch.zeros_like(counts)
        for image in range(len(target)) if per_image else [slice(None)]:
            order = hardness[image][counts[image]].sort(descending=True).values
            k = math.floor(len(order) * min_kept) if isinstance(min_kept, float) else min_kept
            k = min(k, len(order))
            least = float(order[k - 1]) if k > 0 else math.inf
            limit = -math.log(threshold) if threshold else math.inf
            kept[image] = counts[image] & ((hardness[image] > limit) | (hardness[image] >= least))
        loss = reference.cross_entropy(wide, target, given.geometry, weight=weight, **options)
        loss = torch.where(kept, loss, 0)
        if reduction == "none":
            return (loss,)
        over = {"sum": 1, "mean": int(kept.sum()), "mean_all": loss.numel()}[reduction]
        return (loss.sum() / max(1, over),)

    call.plain = plain
    return call


def deep_supervision(draw: Draw) -> Call:
    """Two heads, one of which may have a geometry of its own."""
    given = problem(draw)
    weights = [draw.number(0, 2), 0.4]
    second = draw.scores(tuple(given.input.shape), given.input.dtype, most=_MOST, special=False)
    own = [given.geometry] if draw.chance(0.5) else []

    def make(module: Any) -> Callable[..., Tensor]:
        def call(input: Tensor, second: Tensor, target: Tensor, ignore_index: int) -> Tensor:
            heads = [(input, weights[0]), (second, weights[1], *own)]
            found: Tensor = module.deep_supervision(
                heads, target, given.geometry, reduction="sum", ignore_index=ignore_index
            )
            return found

        return call

    single = given.call("cross_entropy", 4 * max(1, given.target.numel()))
    assert single.slope_error is not None
    slope = single.slope_error
    return Call(
        make(losses),
        {"input": given.input, "second": second, "target": given.target, **given.options},
        ("input", "second"),
        lambda *wide: (make(reference_losses)(*wide, given.target.long(), **given.options),),
        error=single.error,
        slope_error=lambda seeds: slope(seeds) * 2,
    )


def distillation_loss(draw: Draw) -> Call:
    given = problem(draw)
    teacher = draw.scores(tuple(given.input.shape), given.input.dtype, most=_MOST, special=False)
    options: dict[str, Any] = {"geometry": given.geometry}
    options["temperature"] = draw.one_of([1.0, 1.0, 0.5, 3.0])
    options["reduction"] = draw.one_of(["sum", "mean", "batchmean"])
    plain_options = dict(options)
    whole = None
    if len(given.geometry.numbers) > 1:
        whole = given.geometry.output_size(tuple(given.input.shape[2:]))  # type: ignore[arg-type]
    if draw.chance(0.5):
        options |= {"target": given.target, **given.options}
        plain_options |= {"target": given.target.long(), **given.options}
    if ("target" not in options and whole != given.fine) or draw.chance(0.5):
        options["size"] = draw.as_pair(given.fine)

    def plain(wide: Tensor) -> tuple[Tensor]:
        found: Tensor = reference_losses.distillation_loss(
            wide, teacher.double(), given.fine, **plain_options
        )
        return (found,)

    unit = eps(given.input.dtype)
    # What cancels: cross-entropies, and the inner product of slopes and scores.
    heat = (1 + _largest(given.input) + _largest(teacher)) / options["temperature"]
    pixels = given.target.numel()
    over = 1 if options["reduction"] == "sum" else max(1, pixels)
    if options["reduction"] == "batchmean":
        over = max(1, len(given.input))
    if "target" in options and options["reduction"] == "mean":
        over = max(1, int((given.target.long() != given.options["ignore_index"]).sum()))
    size = options["temperature"] ** 2 * 256 * unit * max(1, pixels) * (1 + heat) * (4 + heat)
    return Call(
        losses.distillation_loss,
        {"student": given.input, "teacher": teacher, **options},
        ("student",),
        plain,
        error=lambda _: [size / over * max(1, given.classes)],
        slope_error=lambda seeds: [
            given.slope_error(seeds[0], 16 * max(1.0, options["temperature"]) / over, {})
            * (1 + heat)
        ],
    )


def _region(name: str, draw: Draw, **more: Any) -> Call:
    given = problem(draw)
    more["convention"] = draw.one_of(list(losses.CONVENTIONS))
    more["reduction"] = draw.one_of(REDUCTIONS[:3])
    if name != "generalized_dice_loss":
        more["squared"] = draw.chance(0.3)
        if draw.chance(0.3):
            more["class_weight"] = draw.weight(given.classes)
    call = given.call(name, 64.0 * (given.classes if more["reduction"] == "sum" else 1), **more)
    if name != "generalized_dice_loss":
        return call
    # Weights that a void region's one over nothing leaves infinite have no slope in plain code.
    call.slope_error = None
    return call


def dice_loss(draw: Draw) -> Call:
    return _region("dice_loss", draw, log=draw.chance(0.2))


def jaccard_loss(draw: Draw) -> Call:
    return _region("jaccard_loss", draw, log=draw.chance(0.2))


def tversky_loss(draw: Draw) -> Call:
    numbers = {"alpha": draw.number(0.1, 1), "beta": draw.number(0.1, 1)}
    return _region("tversky_loss", draw, gamma=draw.one_of([1.0, 1.0, 1.5, 2.0]), **numbers)


def generalized_dice_loss(draw: Draw) -> Call:
    weighting = draw.one_of(["square", "simple", "uniform"])
    return _region("generalized_dice_loss", draw, weighting=weighting)


def dice_cross_entropy_loss(draw: Draw) -> Call:
    given = problem(draw)
    more: dict[str, Any] = {"convention": draw.one_of(list(losses.CONVENTIONS))}
    more |= {"dice_weight": draw.number(0, 2), "cross_entropy_weight": draw.number(0, 2)}
    if draw.chance(0.3):
        # No class of weight zero: over those alone plain torch has no mean.
        more["weight"] = draw.weight(given.classes).clamp(min=0.1)
    return given.call("dice_cross_entropy_loss", 256.0, **more)


def sigmoid_cross_entropy(draw: Draw) -> Call:
    given = mask_problem(draw, soft=True)
    more: dict[str, Any] = {"reduction": draw.one_of(["none", "sum", "mean", "mean_masks"])}
    if draw.chance(0.4):
        more["pos_weight"] = draw.weight(given.classes)
    pixels = given.target.numel() if more["reduction"] in ("none", "sum") else 1
    return given.call("sigmoid_cross_entropy", max(4, pixels), **more)


def sigmoid_focal_loss(draw: Draw) -> Call:
    given = mask_problem(draw, soft=False)
    more: dict[str, Any] = {"reduction": draw.one_of(["none", "sum", "mean", "mean_masks"])}
    more["gamma"] = draw.one_of([0.0, 1.0, 2.0, 3.5])
    more["alpha"] = draw.one_of([None, 0.25, draw.number(0, 1)])
    pixels = given.target.numel() if more["reduction"] in ("none", "sum") else 1
    return given.call("sigmoid_focal_loss", 8 * max(4, pixels), **more)


def sigmoid_dice_loss(draw: Draw) -> Call:
    given = mask_problem(draw, soft=True)
    more: dict[str, Any] = {"reduction": draw.one_of(REDUCTIONS[:3])}
    more["smooth"] = draw.one_of([1.0, 0.1, draw.number(0.01, 10)])
    masks = given.input.shape[0] * given.classes
    return given.call("sigmoid_dice_loss", 64.0 * max(1, masks), **more)


LOSSES = {name: globals()[name] for name in losses.__all__ if name in globals()}
del LOSSES["cross_entropy"]  # its name is that of the operator, which has a case of its own
LOSSES["losses.cross_entropy"] = cross_entropy
