"""Calls with one argument that breaks a rule, which must be refused by its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fcn_ext.geometry import Deconvolution, Resize

from .draw import NAN, Draw
from .judge import Call, Fault

# What stands for no number, no tensor and no option.
_NO_INTEGER: list[Any] = ["3", 1.5, True, None, 2**70, NAN, [1], 1j]
_NO_NUMBER: list[Any] = ["x", True, [1.0], 1j, torch.ones(2)]
_NO_PAIR: list[Any] = [(1,), (1, 2, 3), "12", 1.5, (1, "x"), (1, None), (True, 1), 2**70, {1, 2}]
_NO_TENSOR: list[Any] = [None, 3, "x", [[1.0]]]
_REFUSALS = (TypeError, ValueError, RuntimeError)

Break = Callable[[Draw, dict[str, Any]], Any]


def _no_map(draw: Draw, given: dict[str, Any], name: str) -> Any:
    map: Tensor = given[name]
    broken: list[Callable[[], Any]] = [
        lambda: draw.one_of(_NO_TENSOR),
        lambda: map.detach().tolist(),
        lambda: map.flatten(),
        lambda: map.unsqueeze(0),
        lambda: map.nan_to_num(0, 0, 0).to(draw.one_of([torch.int32, torch.uint8, torch.bool])),
        lambda: map.to(torch.complex64),
        lambda: map.to(torch.float8_e5m2),
        lambda: map[:, :, :0],
        lambda: map[:, :, :, :0],
        lambda: map.contiguous().to_sparse(),
    ]
    return draw.one_of(broken)()


def _no_labels(draw: Draw, given: dict[str, Any]) -> Any:
    labels: Tensor = given["target"]
    # Distillation takes all pixels without labels.
    no_tensor = _NO_TENSOR[1:] if "student" in given else _NO_TENSOR
    broken: list[Callable[[], Any]] = [
        lambda: draw.one_of(no_tensor),
        lambda: labels.tolist(),
        lambda: labels.to(draw.one_of([torch.complex64, torch.int8, torch.uint16])),
        lambda: labels.unsqueeze(0).unsqueeze(0),
        lambda: labels.flatten(),
        lambda: labels.to_sparse(),
    ]
    if "num_classes" not in given:
        broken += [lambda: labels[..., :0], lambda: torch.cat([labels, labels, labels[:1]])]
        if labels.shape[0] == 0:
            broken.pop()
        else:
            broken.append(lambda: labels.to("meta"))
    return draw.one_of(broken)()


def _label_out_of_range(draw: Draw, given: dict[str, Any]) -> Any:
    """One label of a value that is neither a class nor void."""
    labels: Tensor = given["target"].clone(memory_format=torch.contiguous_format)
    scores = given["input"] if "input" in given else given["student"]
    classes = 2 if labels.dim() == 4 or scores.shape[1] == 1 else scores.shape[1]
    if labels.dtype.is_floating_point:
        bad = draw.one_of([-0.5, 1.5, NAN])
    else:
        limits = torch.iinfo(labels.dtype)
        values = [-1, -7, max(classes, 2), 254, limits.max - 1]
        void = given.get("ignore_index", 255)
        values = [v for v in values if limits.min <= v <= limits.max and v != void]
        values = [v for v in values if v < 0 or v >= max(classes, 2)]
        bad = draw.one_of(values)
    labels.view(-1)[draw.integer(0, labels.numel() - 1)] = bad
    return labels


def _no_weight(draw: Draw, given: dict[str, Any], name: str) -> Any:
    weight: Tensor = given[name]
    broken: list[Callable[[], Any]] = [
        lambda: draw.one_of(_NO_TENSOR[1:]),
        lambda: weight.tolist(),
        lambda: torch.cat([weight, weight]),
        lambda: weight.unsqueeze(0),
        lambda: weight.contiguous().to_sparse(),
        lambda: weight.to("meta"),
    ]
    if name == "weight":
        broken.append(lambda: weight.detach().clone().requires_grad_())
        broken.append(lambda: weight.to(torch.complex64))
    return draw.one_of(broken)()


def _no_geometry(draw: Draw, given: dict[str, Any]) -> Any:
    return draw.one_of([None, 8, "deconvolution", (2, 4, 0, 0), Resize, Deconvolution])


def breaks(call: Call) -> dict[str, Break]:
    """For each argument of the call that has a rule, what breaks it."""
    given = call.arguments
    found: dict[str, Break] = {}
    for name in ("input", "coarse", "skip", "student", "teacher"):
        if isinstance(given.get(name), Tensor):
            found[name] = lambda draw, given, name=name: _no_map(draw, given, name)  # type: ignore[misc]
    if isinstance(given.get("target"), Tensor):
        found["target"] = _no_labels
        checked = "input" in given or "student" in given
        counts = "confusion" in call.name or call.name in ("check_labels", "pixel_accuracy")
        is_bool = given["target"].dtype == torch.bool
        if checked and not counts and not is_bool and given["target"].numel():
            found["a label of target"] = _label_out_of_range
    for name in ("weight", "class_weight", "alpha", "pos_weight"):
        if isinstance(given.get(name), Tensor):
            found[name] = lambda draw, given, name=name: _no_weight(draw, given, name)  # type: ignore[misc]
    if "geometry" in given:
        found["geometry"] = _no_geometry
    for name, least in (("stride", 1), ("num_classes", 1), ("ignore_index", None)):
        if name in given:
            found[name] = lambda draw, given, least=least: draw.one_of(  # type: ignore[misc]
                _NO_INTEGER + ([] if least is None else [least - 1, -5, -(2**62)])
            )
    if "kernel_size" in given:
        found["kernel_size"] = lambda draw, given: draw.one_of(
            [k for k in _NO_INTEGER if k is not None]
            + [0, -1, 2 * given["stride"] + 1, 2 * given["stride"] - 2, 2**62]
        )
    for name, least in (("offset", 0), ("size", 1), ("output_size", 1)):
        if name in given:
            low: list[Any] = [least - 1, (least, least - 1), (least - 1, 10**9), -(2**62)]
            high: list[Any] = [(2**31, 1), (1, 2**62)] if name != "offset" else [2**31, (2**62, 0)]
            found[name] = lambda draw, given, values=low + high: draw.one_of(_NO_PAIR + values)  # type: ignore[misc]
    for name, values in (
        ("reduction", ["Mean", "", None, 1, b"sum", ["mean"]]),
        ("convention", ["SMP", "", None, 1]),
        ("weighting", ["cube", None]),
        ("align_corners", [1, None, "x", 0.0]),
        ("return_probability", [1, None, "x"]),
        ("regions", [1, None, "x"]),
        ("dtype", [torch.float32, torch.bool, torch.int8, "uint8", 3, int]),
        ("label_smoothing", [*_NO_NUMBER, None, -0.1, 1.1, NAN]),
        ("gamma", [*_NO_NUMBER, -1.0, NAN]),
        ("temperature", [*_NO_NUMBER, None, 0.0, -1, NAN]),
        ("smooth", [*_NO_NUMBER, None, -1.0, NAN]),
        ("threshold", [*_NO_NUMBER, -0.1, 1.5, NAN]),
        ("min_kept", [1.5, -1, "x", None, True, NAN]),
        ("beta", [*_NO_NUMBER, None, -1.0, NAN]),
        ("dice_weight", [*_NO_NUMBER, None]),
    ):
        if name in given:
            found[name] = lambda draw, given, values=values: draw.one_of(values)  # type: ignore[misc]
    return found


def examine_refusal(call: Call, draw: Draw) -> str:
    """Breaks one rule and looks at what is said; returns what was broken.

    Raises:
        Fault: it was taken, or refused otherwise than by a documented exception that names it.
    """
    possible = breaks(call)
    what = draw.one_of(sorted(possible))
    name = what.rpartition(" ")[2]
    value = possible[what](draw, call.arguments)
    text = f"{name}={_shown(value)}"
    try:
        call.call(**{name: value})
    except _REFUSALS as error:
        # A window that does not fit is a matter of its offset and its size.
        names = {name, "size", "offset"} if name in ("offset", "size", "output_size") else {name}
        names |= {"kernel_size", "offset", "size"} if name == "stride" else set()
        if not any(re.search(rf"(?<!\w){n}(?!\w)", str(error)) for n in names):
            raise Fault(f"{text} is refused without its name: {error!r}") from None
        if "\n" in str(error).strip():
            raise Fault(f"{text} is refused in several lines: {error!r}") from None
        needs_gradient = isinstance(value, Tensor) and value.requires_grad
        if isinstance(error, RuntimeError) != needs_gradient:
            raise Fault(f"{text} is refused by another exception: {error!r}") from None
    except Exception as error:
        raise Fault(f"{text} ends in {error!r}") from error
    else:
        raise Fault(f"{text} is taken")
    return what


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)} on {value.device}"
    return repr(value)[:80]
