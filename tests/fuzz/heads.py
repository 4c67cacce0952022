"""Calls of the heads: coarse scores and a target, in any geometry, by any of their names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from fcn_ext import ops, reference
from fcn_ext.geometry import Deconvolution, Geometry, Resize

from .draw import Draw
from .judge import Call, Fault, eps
from .maps import _largest
from .plain import axis_weights, full_size

Make = Callable[[Draw], Call]


def named(name: str, make: Callable[[Draw, str, Geometry | None], Call]) -> dict[str, Make]:
    """The calls of a head and of its two shorthands."""
    short = name.removeprefix("score_")
    return {
        name: lambda draw: make(draw, name, None),
        f"upsample_{short}": lambda draw: make(draw, f"upsample_{short}", Deconvolution(1)),
        f"interpolate_{short}": lambda draw: make(draw, f"interpolate_{short}", Resize()),
    }


def drawn_geometry(
    draw: Draw, coarse: tuple[int, int], kind: Geometry | None
) -> tuple[Geometry, tuple[int, int]]:
    """Of the kind that a shorthand takes; of any where that is None."""
    if isinstance(kind, Deconvolution):
        return draw.deconvolution(coarse)
    if isinstance(kind, Resize):
        return Resize(draw.chance(0.5)), draw.fine()
    return draw.geometry(coarse)


def geometry_arguments(geometry: Geometry, kind: Geometry | None) -> dict[str, Any]:
    if kind is None:
        return {"geometry": geometry}
    if isinstance(geometry, Resize):
        return {"align_corners": geometry.align_corners}
    return asdict(geometry)


def pixel_error(scores: Tensor, classes: int) -> float:
    """By how much the loss of a pixel may be wrong: rounded logits and a rounded logarithm."""
    unit = eps(scores.dtype)
    return unit * (64 * _largest(scores) + 32 * (1 + math.log(max(1, classes))))


def share_error(scores: Tensor) -> float:
    """By how much a probability may be wrong, relatively; it is never wrong by more than one."""
    unit = eps(scores.dtype)
    return min(1.0, 32 * unit * _largest(scores)) + 64 * unit


def most_terms(geometry: Geometry, coarse: tuple[int, int], fine: tuple[int, int]) -> float:
    """The largest sum of weights with which a node is read."""
    rows, columns = (
        axis_weights(nodes, outputs, geometry, axis).sum(0).max()
        for axis, (nodes, outputs) in enumerate(zip(coarse, fine, strict=True))
    )
    return float(rows * columns)


# --------------------------------------------------------------------------- argmax


def argmax(draw: Draw, name: str, kind: Geometry | None) -> Call:
    coarse = draw.coarse()
    geometry, fine = drawn_geometry(draw, coarse, kind)
    input = draw.scores((draw.batch(), draw.classes(), *coarse), draw.dtype())
    arguments: dict[str, Any] = {"input": input, **geometry_arguments(geometry, kind)}
    size = "output_size" if name == "upsample_argmax" else "size"
    is_whole = isinstance(geometry, Deconvolution) and fine == geometry.output_size(coarse)
    if not is_whole or draw.chance(0.5):
        arguments[size] = draw.as_pair(fine)
    wanted = torch.uint8 if input.shape[1] <= 256 else torch.int16
    if draw.chance(0.3):
        wanted = draw.one_of([torch.int16, torch.int32, torch.int64])
        arguments["dtype"] = wanted
    with_probability = draw.chance(0.5)
    if with_probability or draw.chance(0.3):
        arguments["return_probability"] = with_probability

    def judge(results: tuple[Tensor, ...]) -> None:
        logits = full_size(input.double(), fine, geometry)
        _judge_winners(input, logits, results, wanted)

    return Call(
        getattr(ops, name),
        arguments,
        results=lambda found: found if with_probability else (found,),
        judge=judge,
    )


def _judge_winners(
    input: Tensor, logits: Tensor, results: tuple[Tensor, ...], wanted: torch.dtype
) -> None:
    labels = results[0]
    if labels.dtype != wanted or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise Fault(f"labels are {labels.dtype} {tuple(labels.shape)}")
    if not labels.numel():
        return
    # That of the scores, and that of positions in the plain formula, in units of the last node's:
    # it breaks ties that the operator's exact weights keep.
    positions = max(input.shape[2:]) * eps(torch.float64)
    rounding = 8 * (eps(input.dtype) + positions) * _largest(input)
    expected = logits.argmax(1)
    chosen = logits.gather(1, labels.long().unsqueeze(1)).squeeze(1)
    best = logits.gather(1, expected.unsqueeze(1)).squeeze(1)
    right = (labels == expected) | (chosen >= best - rounding)
    # Of NaN and of equal infinities the first one wins.
    right &= (labels == expected) | (best.isfinite() & chosen.isfinite())
    if not right.all():
        where = tuple(int(i) for i in (~right).nonzero()[0])
        raise Fault(
            f"the winner at {where} is {int(labels[where])} of score {float(chosen[where])!r}, "
            f"expected {int(expected[where])} of {float(best[where])!r}"
        )
    if len(results) == 2:
        share = logits.softmax(1).gather(1, labels.long().unsqueeze(1)).squeeze(1)
        gap = (results[1].double() - share).abs()
        same = gap <= share_error(input)
        if not (same | (results[1].isnan() & share.isnan())).all():
            raise Fault(f"probabilities differ by {float(gap.nan_to_num(2.0).max())}")


# --------------------------------------------------------------------------- counts


def confusion_matrix(draw: Draw) -> Call:
    n, (h, w), classes = draw.batch(), draw.fine(), draw.classes()
    ignore_index = draw.ignore_index(classes)
    target = draw.labels((n, h, w), classes, ignore_index, strange=True)
    if draw.chance(0.5):
        prediction = draw.labels((n, h, w), classes, ignore_index, strange=True)
    else:
        prediction = draw.scores((n, classes, h, w), draw.dtype())
    arguments = {"prediction": prediction, "target": target, "num_classes": classes}
    wide = prediction.double() if prediction.dim() == 4 else prediction

    def expected() -> tuple[Tensor, int]:
        if prediction.dim() == 4 and not prediction.numel():
            return torch.zeros((classes, classes), dtype=torch.int64), 0
        return reference.confusion_matrix(wide, target, classes, ignore_index=ignore_index)

    return _counting(draw, ops.confusion_matrix, arguments, classes, ignore_index, expected)


def score_confusion_matrix(draw: Draw, name: str, kind: Geometry | None) -> Call:
    coarse, classes, n = draw.coarse(), draw.classes(), draw.batch()
    geometry, fine = drawn_geometry(draw, coarse, kind)
    ignore_index = draw.ignore_index(classes)
    input = draw.scores((n, classes, *coarse), draw.dtype())
    target = draw.labels((n, *fine), classes, ignore_index, strange=True)
    arguments = {"input": input, "target": target, **geometry_arguments(geometry, kind)}

    def expected() -> tuple[Tensor, int]:
        """With the winners of ``argmax``, which has a case of its own: equal but for nothing."""
        winners = ops.argmax(input, fine, geometry, dtype=torch.int64)
        return reference.confusion_matrix(winners, target, classes, ignore_index=ignore_index)

    return _counting(draw, getattr(ops, name), arguments, classes, ignore_index, expected)


def _counting(
    draw: Draw,
    function: Any,
    arguments: dict[str, Any],
    classes: int,
    ignore_index: int,
    expected: Callable[[], tuple[Tensor, int]],
) -> Call:
    """A call that counts pixels; of an ``out`` it gets another copy every time."""
    if ignore_index != 255 or draw.chance(0.5):
        arguments["ignore_index"] = ignore_index
    before = draw.whole(0, 100, (classes, classes)) if draw.chance(0.4) else None
    transposed = draw.chance(0.3)

    def call(**given: Any) -> tuple[Tensor, Tensor]:
        invalid = torch.full((), 5, dtype=torch.int64)
        out = None
        if before is not None:
            out = (
                before.T.clone(memory_format=torch.contiguous_format).T
                if transposed
                else before.clone()
            )
            given["out"] = out
        matrix = function(**given, invalid=invalid)
        if out is not None and matrix is not out:
            raise Fault("out is not what is returned")
        return matrix, invalid

    def judge(results: tuple[Tensor, ...]) -> None:
        matrix, invalid = expected()
        matrix = matrix if before is None else matrix + before
        if not torch.equal(results[0], matrix):
            raise Fault(f"counts {results[0].tolist()}, expected {matrix.tolist()}")
        if int(results[1]) != 5 + invalid:
            raise Fault(f"{int(results[1]) - 5} pixels are invalid, expected {invalid}")

    return Call(call, arguments, results=lambda found: found, judge=judge)


def check_labels(draw: Draw) -> Call:
    classes = draw.classes()
    ignore_index = draw.ignore_index(classes)
    shape = (draw.batch(), *draw.fine())
    target = draw.labels(shape, classes, ignore_index, strange=draw.chance(0.5))
    arguments = {"target": target, "num_classes": classes, "ignore_index": ignore_index}

    def said(module: Any) -> str:
        try:
            module.check_labels(**arguments)
        except ValueError as error:
            return str(error)
        return ""

    def call(**given: Any) -> None:
        """What is said of labels out of range is for ``judge`` to compare."""
        try:
            ops.check_labels(**given)
        except ValueError as error:
            if "or ignore_index = " not in str(error):
                raise

    def judge(results: tuple[Tensor, ...]) -> None:
        ours, plain = said(ops), said(reference)
        if ours != plain:
            raise Fault(f"said {ours!r}, expected {plain!r}")

    return Call(call, arguments, results=lambda _: (), judge=judge)


# --------------------------------------------------------------------------- losses


def cross_entropy(draw: Draw, name: str, kind: Geometry | None) -> Call:
    coarse, classes, n = draw.coarse(), draw.classes(), draw.batch()
    geometry, fine = drawn_geometry(draw, coarse, kind)
    ignore_index = draw.ignore_index(classes)
    input = draw.scores((n, classes, *coarse), draw.dtype())
    target = draw.labels((n, *fine), classes, ignore_index)
    weight = draw.weight(classes) if draw.chance(0.4) else None
    options: dict[str, Any] = {"ignore_index": ignore_index}
    options["reduction"] = reduction = draw.one_of(["none", "sum", "mean"])
    if draw.chance(0.3):
        options["label_smoothing"] = draw.one_of([0.0, 0.1, 1.0, draw.number(0, 1)])
        if weight is not None and reduction == "mean":
            weight = weight.clamp(min=0.1)  # infinity over a weight of zero, or NaN: neither is one
    arguments = {"input": input, "target": target, **geometry_arguments(geometry, kind)}
    if weight is not None:
        arguments["weight"] = weight

    def plain(wide: Tensor) -> tuple[Tensor]:
        given = None if weight is None else _as_used(weight, input)
        return (reference.cross_entropy(wide, target, geometry, weight=given, **options),)

    heaviest = 1.0 if weight is None else float(weight.max())
    counted = target.long() != ignore_index
    over = 1.0
    if reduction == "mean":
        total = counted.sum() if weight is None else _weights_of(weight, target, counted).sum()
        over = max(float(total), 1e-30)
    of_pixel = heaviest * pixel_error(input, classes)
    terms = most_terms(geometry, coarse, fine)

    def error(expected: tuple[Tensor, ...]) -> list[Any]:
        # A rounding of each loss besides, and of their sum.
        size = expected[0].abs().nan_to_num(0, 0, 0)
        if reduction == "none":
            return [of_pixel + 16 * eps(input.dtype) * size]
        return [float(counted.sum()) * of_pixel / over + 16 * eps(input.dtype) * size]

    def slope_error(seeds: tuple[Tensor, ...]) -> list[Any]:
        most = float(seeds[0].abs().max()) if seeds[0].numel() else 0.0
        return [terms * most * heaviest * 2 * share_error(input) / over]

    return Call(
        getattr(ops, name),
        {**arguments, **options},
        ("input",),
        plain,
        error=error,
        slope_error=None if reduction == "mean" and over < 1e-6 else slope_error,
    )


def _as_used(weight: Tensor, input: Tensor) -> Tensor:
    """As the operators convert it before it is used."""
    return weight.to(torch.float64 if input.dtype == torch.float64 else torch.float32).double()


def _weights_of(weight: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, weight.double()[torch.where(counted, target.long(), 0)], 0)


def region_sums(draw: Draw) -> Call:
    coarse, classes, n = draw.coarse(), draw.classes(), draw.batch()
    geometry, fine = draw.geometry(coarse)
    ignore_index = draw.ignore_index(classes)
    input = draw.scores((n, classes, *coarse), draw.dtype())
    target = draw.labels((n, *fine), classes, ignore_index)
    squared, with_loss = draw.chance(0.5), draw.chance(0.5)
    weight = draw.weight(classes) if with_loss and draw.chance(0.5) else None
    options = {"ignore_index": ignore_index, "squared": squared, "with_loss": with_loss}
    arguments = {"input": input, "target": target, "geometry": geometry, **options}
    if weight is not None:
        arguments["weight"] = weight

    def results(found: Any) -> tuple[Tensor, ...]:
        return tuple(sums for sums in found if sums is not None)

    def plain(wide: Tensor) -> tuple[Tensor, ...]:
        given = None if weight is None else _as_used(weight, input)
        return results(reference.region_sums(wide, target, geometry, weight=given, **options))

    pixels = fine[0] * fine[1]
    heaviest = 1.0 if weight is None else float(weight.max())
    share = 2 * share_error(input)
    of_loss = heaviest * pixel_error(input, classes)

    def error(expected: tuple[Tensor, ...]) -> list[Any]:
        found: list[Any] = [pixels * share, pixels * share, 0.0]
        found += [pixels * share] if squared else []
        if with_loss:
            sizes = [16 * eps(input.dtype) * e.abs().nan_to_num(0, 0, 0) for e in expected[-2:]]
            found += [pixels * of_loss + sizes[0], sizes[1]]
        return found

    terms = most_terms(geometry, coarse, fine)

    def slope_error(seeds: tuple[Tensor, ...]) -> list[Any]:
        most = max((float(s.abs().max()) for s in seeds if s.numel()), default=0.0)
        return [terms * most * share * (8 + heaviest)]

    return Call(ops.region_sums, arguments, ("input",), plain, results, error, slope_error)


def sigmoid_sums(draw: Draw, *, weighed: bool = False) -> Call:
    coarse, classes, n = draw.coarse(), min(draw.classes(), 33), draw.batch()
    geometry, fine = draw.geometry(coarse)
    ignore_index = draw.ignore_index(2)
    input = draw.scores((n, classes, *coarse), draw.dtype(), most=40.0, special=False)
    target = draw.masks((n, classes, *fine), ignore_index)
    options: dict[str, Any] = {"ignore_index": ignore_index, "regions": draw.chance(0.5)}
    gamma = 0.0
    if not target.is_floating_point() and draw.chance(0.5):
        options["gamma"] = gamma = draw.one_of([0.0, 0.5, 1.0, 2.0, 3.5])
    pixels, unit, largest = fine[0] * fine[1], eps(input.dtype), _largest(input)
    of_pixel = unit * (64 + 64 * largest) * (1 + gamma) * (1 + largest)
    terms = most_terms(geometry, coarse, fine)

    def slope_error(seeds: tuple[Tensor, ...]) -> list[Any]:
        most = float(seeds[0].abs().max()) if seeds[0].numel() else 0.0
        return [terms * most * 8 * of_pixel]

    given = {"input": input, "target": target, "geometry": geometry, **options}
    if weighed:
        del given["regions"], options["regions"]
        given["weight"] = weight = draw.sum_weights(classes)

        def loss_error(_: Any) -> list[Any]:
            return [8 * pixels * of_pixel * (1 + float(weight.abs().max())), pixels * of_pixel]

        return Call(
            ops.sigmoid_loss,
            given,
            ("input",),
            lambda wide: reference.sigmoid_loss(wide, target, weight, geometry, **options),
            results=lambda found: found,
            error=loss_error,
            slope_error=slope_error,
        )
    return Call(
        ops.sigmoid_sums,
        given,
        ("input",),
        lambda wide: (reference.sigmoid_sums(wide, target, geometry, **options),),
        error=lambda _: [pixels * of_pixel],
        slope_error=slope_error,
    )
