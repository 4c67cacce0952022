"""What the losses refuse alike, by name: weights that could get no gradient, flags that are none,
numbers that would make the loss NaN, reductions that are no words."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from fcn_ext import losses, nn, ops
from fcn_ext.losses import Convention

INF, NAN = float("inf"), float("nan")
SCORES = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
TARGET = torch.arange(2 * 8 * 10).reshape(2, 8, 10) % 3
MASKS = (TARGET.unsqueeze(1) == torch.arange(3).view(3, 1, 1)).to(torch.uint8)
SOFT = MASKS * 0.5 + 0.25


def of_labels(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda **options: function(SCORES, TARGET, **fixed, **options)


def of_masks(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    return lambda **options: function(SCORES, MASKS, **fixed, **options)


REGION_LOSSES = {
    name: of_labels(getattr(losses, name))
    for name in ("dice_loss", "jaccard_loss", "tversky_loss", "dice_cross_entropy_loss")
}
GENERALIZED = {"generalized_dice_loss": of_labels(losses.generalized_dice_loss)}
PIXEL_LOSSES = {
    name: of_labels(getattr(losses, name))
    for name in ("cross_entropy", "focal_loss", "ohem_cross_entropy")
}
MASK_LOSSES = {
    name: of_masks(getattr(losses, name))
    for name in ("sigmoid_cross_entropy", "sigmoid_focal_loss", "sigmoid_dice_loss")
}

WEIGHTS: list[tuple[str, Callable[..., Any]]] = [
    ("weight", PIXEL_LOSSES["cross_entropy"]),
    ("weight", PIXEL_LOSSES["ohem_cross_entropy"]),
    ("weight", REGION_LOSSES["dice_cross_entropy_loss"]),
    ("alpha", PIXEL_LOSSES["focal_loss"]),
    *(("class_weight", call) for call in REGION_LOSSES.values()),
    ("pos_weight", MASK_LOSSES["sigmoid_cross_entropy"]),
    ("pos_weight", of_masks(losses.sigmoid_cross_entropy, reduction="pixels")),
]


@pytest.mark.parametrize(("name", "call"), WEIGHTS)
def test_weights_that_could_get_no_gradient_are_refused(
    name: str, call: Callable[..., Any]
) -> None:
    weight = torch.tensor([0.5, 1.0, 2.0], requires_grad=True)
    message = rf"^{name} must not require a gradient: .* Pass {name}\.detach\(\)"
    for given in (weight, torch.nn.Parameter(weight.detach()), 2 * weight):
        with pytest.raises(RuntimeError, match=message):
            call(**{name: given})
    expected = call(**{name: weight.detach()})
    with torch.no_grad():
        assert torch.equal(call(**{name: weight}), expected)


def _over_copies(f: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """``f`` of two copies of its argument under vmap, summed."""

    def of_copies(value: Tensor) -> Tensor:
        return torch.func.vmap(f)(value.expand(2, *value.shape)).sum()  # type: ignore[no-any-return]

    return of_copies


def _forward_mode(f: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def with_tangent(value: Tensor) -> Any:
        with forward_ad.dual_level():
            return f(forward_ad.make_dual(value, torch.ones_like(value)))

    return with_tangent


# Each differentiates a function of one tensor.
DERIVATIVES: dict[str, Callable[[Callable[[Tensor], Any]], Callable[[Tensor], Any]]] = {
    "grad": torch.func.grad,
    "grad of vmap": lambda f: torch.func.grad(_over_copies(f)),
    "vmap of grad": lambda f: _over_copies(torch.func.grad(f)),
    "grad of vmap of vmap": lambda f: torch.func.grad(_over_copies(_over_copies(f))),
    "backward of vmap": lambda f: lambda value: _over_copies(f)(value.clone().requires_grad_()),
    "jvp": lambda f: lambda value: torch.func.jvp(f, (value,), (value,)),
    "jvp of vmap": lambda f: lambda value: torch.func.jvp(_over_copies(f), (value,), (value,)),
    "jacfwd": torch.func.jacfwd,
    "dual numbers": _forward_mode,
}


@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize(("name", "call"), WEIGHTS)
def test_weights_that_a_transform_differentiates_are_refused(
    name: str, call: Callable[..., Any], derivative: str
) -> None:
    transform, weight = DERIVATIVES[derivative], torch.tensor([0.5, 1.0, 2.0])
    with pytest.raises(RuntimeError, match=f"^{name} must not require a gradient"):
        transform(lambda value: call(**{name: value}).sum())(weight)
    # Detached as the message says, or beside what is differentiated.
    transform(lambda value: value.sum() * call(**{name: value.detach()}).sum())(weight)
    transform(lambda value: value.sum() * call(**{name: weight}).sum())(weight)


@pytest.mark.parametrize(("name", "call"), WEIGHTS)
def test_complex_weights_are_refused(name: str, call: Callable[..., Any]) -> None:
    for dtype in (torch.complex64, torch.complex128):
        with pytest.raises(ValueError, match=f"^{name} must be real, got {dtype}"):
            call(**{name: torch.ones(3, dtype=dtype)})


OF_SOFT_MASKS: dict[str, Callable[[Tensor], Any]] = {
    **{
        f"cross-entropy, {reduction}": lambda t, r=reduction: losses.sigmoid_cross_entropy(
            SCORES, t, reduction=r
        )
        for reduction in ("mean", "sum", "none", "mean_masks")
    },
    **{
        f"Dice, {reduction}": lambda t, r=reduction: losses.sigmoid_dice_loss(
            SCORES, t, reduction=r
        )
        for reduction in ("mean", "sum", "none")
    },
    "sums": lambda t: ops.sigmoid_sums(SCORES, t, regions=True),
    "weighed sums": lambda t: ops.sigmoid_loss(SCORES, t, torch.ones(3, 8))[0],
}


@pytest.mark.parametrize("name", OF_SOFT_MASKS)
def test_masks_that_could_get_no_gradient_are_refused(name: str) -> None:
    call, target = OF_SOFT_MASKS[name], SOFT.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"^target must not require a gradient: .*\.detach\(\)"):
        call(target)
    with torch.no_grad():
        assert torch.equal(call(target), call(SOFT))


@pytest.mark.parametrize("derivative", ["grad of vmap", "jvp", "jvp of vmap", "dual numbers"])
@pytest.mark.parametrize("name", OF_SOFT_MASKS)
def test_masks_that_a_transform_differentiates_are_refused(name: str, derivative: str) -> None:
    call, transform = OF_SOFT_MASKS[name], DERIVATIVES[derivative]
    with pytest.raises(RuntimeError, match=r"^target must not require a gradient"):
        transform(lambda target: call(target).sum())(SOFT)
    transform(lambda target: call(target.detach()).sum() * target.sum())(SOFT)


FLAGS: list[tuple[str, Callable[..., Any]]] = [
    ("return_accuracy", PIXEL_LOSSES["cross_entropy"]),
    ("per_image", PIXEL_LOSSES["ohem_cross_entropy"]),
    *((name, call) for call in REGION_LOSSES.values() for name in ("squared", "log")),
    ("squared", of_labels(ops.region_sums)),
    ("with_loss", of_labels(ops.region_sums)),
    ("regions", of_masks(ops.sigmoid_sums)),
    ("per_image", nn.OhemCrossEntropyLoss),
    *(
        (name, module)
        for module in (nn.DiceLoss, nn.JaccardLoss, nn.TverskyLoss, nn.DiceCrossEntropyLoss)
        for name in ("squared", "log")
    ),
    ("align_corners", nn.Interpolate),
    *(
        (name, Convention)
        for name in ("absent", "background", "power_of_mean", "normalize_weights")
    ),
]


@pytest.mark.parametrize(("name", "call"), FLAGS)
@pytest.mark.parametrize("value", ["no", 1, None, np.True_, torch.tensor([1, 2])], ids=repr)
def test_flags_that_are_none_are_refused(name: str, call: Callable[..., Any], value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a bool, got "):
        call(**{name: value})


# Argument, whether it may be zero and below, and what takes it.
NUMBERS: list[tuple[str, str, Callable[..., Any]]] = [
    ("gamma", ">= 0", PIXEL_LOSSES["focal_loss"]),
    ("gamma", ">= 0", MASK_LOSSES["sigmoid_focal_loss"]),
    ("gamma", ">= 0", of_masks(losses.sigmoid_focal_loss, reduction="pixels")),
    ("gamma", ">= 0", of_masks(ops.sigmoid_sums)),
    ("gamma", ">= 0", of_masks(ops.sigmoid_loss, weight=torch.ones(3, 8))),
    ("smooth", ">= 0", MASK_LOSSES["sigmoid_dice_loss"]),
    ("alpha", ">= 0", REGION_LOSSES["tversky_loss"]),
    ("beta", ">= 0", REGION_LOSSES["tversky_loss"]),
    ("gamma", "> 0", REGION_LOSSES["tversky_loss"]),
    (
        "temperature",
        "> 0",
        lambda **options: losses.distillation_loss(SCORES, -SCORES, 8, **options),
    ),
    *(
        (name, ">= 0", Convention)
        for name in (
            "smooth_numerator",
            "smooth_denominator",
            "least_denominator",
            "jaccard_smoothing",
        )
    ),
    ("dice_weight", "", REGION_LOSSES["dice_cross_entropy_loss"]),
    ("cross_entropy_weight", "", REGION_LOSSES["dice_cross_entropy_loss"]),
]


@pytest.mark.parametrize(("name", "rule", "call"), NUMBERS)
def test_numbers_that_would_make_no_number_are_refused(
    name: str, rule: str, call: Callable[..., Any]
) -> None:
    wrong: list[tuple[Any, str]] = [(INF, "finite"), (10**400, "fit in a float")]
    if rule:
        wrong += [(-1.0, rule), (NAN, rule), (-INF, rule)]
        wrong += [(0, rule)] if rule == "> 0" else []
    else:
        wrong += [(NAN, "finite"), (-INF, "finite")]
    for value, said in wrong:
        with pytest.raises(ValueError, match=f"^{name} must (be )?{said}, got "):
            call(**{name: value})
    for value in ("a", True, torch.tensor(1.0), 1j):
        with pytest.raises(TypeError, match=f"^{name} must be a number, got "):
            call(**{name: value})


@pytest.mark.parametrize(("name", "rule", "call"), NUMBERS)
def test_numbers_of_any_kind_are_alike(name: str, rule: str, call: Callable[..., Any]) -> None:
    expected = call(**{name: 0.5})
    for value in (np.float32(0.5), np.float64(0.5), np.float16(0.5), Fraction(1, 2)):
        found = call(**{name: value})
        if isinstance(expected, tuple):
            assert torch.equal(found[0], expected[0])
        elif isinstance(expected, Tensor):
            assert torch.equal(found, expected)
        else:
            assert found == expected
    call(**{name: np.int64(1)})


class Index:
    """Nothing but an integer."""

    def __index__(self) -> int:
        return 1


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "mean_all", "pixels"])
@pytest.mark.parametrize(
    "call",
    [*PIXEL_LOSSES.values(), *REGION_LOSSES.values(), *GENERALIZED.values(), *MASK_LOSSES.values()],
)
def test_void_labels_of_any_kind_are_alike(call: Callable[..., Any], reduction: str) -> None:
    try:
        expected = call(ignore_index=1, reduction=reduction)
    except (TypeError, ValueError):  # a loss without this reduction
        return
    for value in (np.uint8(1), np.int64(1), np.array(1), torch.tensor(1), Index()):
        assert torch.equal(call(ignore_index=value, reduction=reduction), expected)


WORDS: list[tuple[str, Callable[..., Any]]] = [
    *(
        ("reduction", call)
        for calls in (PIXEL_LOSSES, REGION_LOSSES, GENERALIZED, MASK_LOSSES)
        for name, call in calls.items()
        if name != "dice_cross_entropy_loss"
    ),
    ("reduction", of_labels(ops.cross_entropy)),
    ("reduction", lambda **options: losses.distillation_loss(SCORES, SCORES, 8, **options)),
    ("weighting", GENERALIZED["generalized_dice_loss"]),
    ("over", Convention),
]


@pytest.mark.parametrize(("name", "call"), WORDS)
def test_words_that_are_none_are_refused(name: str, call: Callable[..., Any]) -> None:
    for value in (np.array(["mean", "sum"]), np.array("mean"), ["mean"], None, 1, "all", b"mean"):
        with pytest.raises(ValueError, match=f"^{name} must be '.*' or '.*', got "):
            call(**{name: value})
