"""The region losses against plain PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import losses, nn, reference_losses
from fcn_ext.geometry import Resize
from fcn_ext.losses import CONVENTIONS, Convention

from .heads import CASES, PLAIN, SCORE_TYPES, Case, trained_like
from .losses import GRADIENT, near

NAMES = ["dice_loss", "jaccard_loss", "tversky_loss", "generalized_dice_loss"]
PLAIN_OPTIONS: dict[str, dict[str, Any]] = {
    "dice_loss": {},
    "jaccard_loss": {},
    "tversky_loss": {"alpha": 0.3, "beta": 0.7, "gamma": 1.5},
    "generalized_dice_loss": {},
}


def both(
    name: str, case: Case, scores: Tensor, target: Tensor, **options: Any
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Loss and gradient of its sum: ours, and that of plain PyTorch in float64."""
    found = []
    for module, given in ((losses, scores), (reference_losses, scores.double())):
        leaf = given.detach().clone().requires_grad_()
        loss = getattr(module, name)(leaf, target, case.geometry, **options)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        found.append((loss.detach(), gradient))
    return found[0], found[1]


def assert_matches(name: str, case: Case, scores: Tensor, target: Tensor, **options: Any) -> None:
    (loss, gradient), (expected, slope) = both(name, case, scores, target, **options)
    assert loss.dtype == (torch.float64 if scores.dtype == torch.float64 else torch.float32)
    near(loss, expected, 1e-12 if scores.dtype == torch.float64 else 1e-6, 1.0)
    terms = float(case.weights().sum((1, 2)).max()) / target.shape[1:].numel()
    near(gradient, slope, GRADIENT[scores.dtype], 0.1 * terms)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_matches_reference(case: Case, name: str, convention: str, device: torch.device) -> None:
    target = case.labels(2, 5).to(device)
    for dtype in SCORE_TYPES:
        options = {**PLAIN_OPTIONS[name], "convention": convention}
        assert_matches(name, case, trained_like(case, 2, 5, dtype).to(device), target, **options)
    scores = case.scores(2, 5, torch.float64).to(device)
    for reduction in ("none", "sum"):
        assert_matches(name, case, scores, target, reduction=reduction, **options)


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_every_option(case: Case, name: str, device: torch.device) -> None:
    scores, target = case.scores(3, 4, torch.float64).to(device), case.labels(3, 4).to(device)
    weight = torch.rand(4, device=device, dtype=torch.float64)
    for convention in CONVENTIONS.values():
        for over in ("image", "batch"):
            for background in (True, False):
                how = replace(convention, over=over, background=background)
                for options in (
                    {"squared": True},
                    {"log": True, "reduction": "none"},
                    {"class_weight": weight, **PLAIN_OPTIONS[name]},
                    {"ignore_index": 2, "reduction": "sum"},
                ):
                    labels = torch.where(target == 255, 2, target)
                    assert_matches(name, case, scores, labels, convention=how, **options)


@pytest.mark.parametrize("jaccard_smoothing", [0.5, 2.0])
@pytest.mark.parametrize("least", [0.0, 1e-7, 40.0])
@pytest.mark.parametrize("smooth", [0.0, 0.3])
def test_any_convention_is_that_of_the_plain_formulas(
    jaccard_smoothing: float, least: float, smooth: float
) -> None:
    """What the named ones do not have together; of classes that do not count no logarithm."""
    case = PLAIN[0]
    scores, target = case.scores(2, 5, torch.float64), case.labels(2, 4)
    target[1] = 255
    for absent in (False, True):
        how = Convention(
            smooth,
            0.5 * smooth,
            least,
            over="image",
            absent=absent,
            jaccard_smoothing=jaccard_smoothing,
        )
        for name in NAMES[:3]:
            options: dict[str, Any] = {"convention": how, "reduction": "none"}
            log = not absent and max(least, smooth) > 0  # else plain slopes are NaN
            assert_matches(name, case, scores, target, log=log, **options)
            if not absent:
                loss = getattr(reference_losses, name)(scores, target, log=True, **options)
                assert not loss[1].any()


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_mean_over_nothing(name: str, convention: str) -> None:
    """Of no images: a number, ours and the plain one."""
    scores, target = torch.zeros((0, 3, 4, 4)), torch.zeros((0, 8, 8), dtype=torch.uint8)
    options = {**PLAIN_OPTIONS[name], "convention": convention}
    assert_matches(name, PLAIN[0], scores, target, **options)
    assert getattr(losses, name)(scores, target, **options).isfinite()


@pytest.mark.parametrize("weighting", ["square", "simple", "uniform"])
@pytest.mark.parametrize("over", ["image", "batch"])
def test_every_weighting(weighting: str, over: Any, device: torch.device) -> None:
    """Also of classes that no pixel of an image has."""
    case = PLAIN[1]
    scores, target = case.scores(3, 6, torch.float64).to(device), case.labels(3, 4).to(device)
    how = replace(CONVENTIONS["monai"], over=over)
    target[1] = 1
    for reduction in ("none", "mean", "sum"):
        assert_matches(
            "generalized_dice_loss",
            case,
            scores,
            target,
            convention=how,
            weighting=weighting,
            reduction=reduction,
        )


# ---- with the cross-entropy


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_dice_with_cross_entropy(case: Case, convention: str, device: torch.device) -> None:
    target = case.labels(2, 5).to(device)
    weight = torch.rand(5, device=device, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        scores = trained_like(case, 2, 5, dtype).to(device)
        options = {"convention": convention, "cross_entropy_weight": 0.5, "dice_weight": 2.0}
        assert_matches("dice_cross_entropy_loss", case, scores, target, **options)
        assert_matches("dice_cross_entropy_loss", case, scores, target, weight=weight, log=True)


@pytest.mark.parametrize(
    "weight", [[-1.0, -2.0, -3.0], [-4.0, 1.0, 1.0], [2e-300] * 3, [1e300] * 3]
)
def test_cross_entropy_beside_dice_of_any_total_weight(weight: list[float]) -> None:
    """The mean is by the sum of the weights, negative or however small."""
    scores = PLAIN[0].scores(2, 3, torch.float64)
    target, given = PLAIN[0].labels(2, 3), torch.tensor(weight, dtype=torch.float64)
    loss = losses.dice_cross_entropy_loss(scores, target, weight=given, dice_weight=0.0)
    near(loss, losses.cross_entropy(scores, target, weight=given), 1e-12)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_infinite_cross_entropy_beside_dice(convention: str) -> None:
    """That of a class that is masked stays infinite, and is no large number."""
    scores, target = PLAIN[0].scores(1, 3, torch.float64), PLAIN[0].labels(1, 3)
    scores[:, 1] = -torch.inf
    for module in (losses, reference_losses):
        loss = module.dice_cross_entropy_loss(
            scores, target, PLAIN[0].geometry, convention=convention
        )
        assert loss.item() == torch.inf


# ---- what has no region


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", [*NAMES, "dice_cross_entropy_loss"])
def test_void_everywhere(name: str, convention: str, device: torch.device) -> None:
    """A finite loss and a gradient of zero."""
    case = PLAIN[0]
    scores = case.scores(2, 4).to(device).requires_grad_()
    target = torch.full_like(case.labels(2, 4), 255).to(device)
    loss = getattr(losses, name)(scores, target, case.geometry, convention=convention)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad is not None
    assert scores.grad.abs().sum() == 0


OWN: dict[str, Convention] = {
    "not smoothed": Convention(),
    "of images": Convention(over="image"),
    "of classes that are there": Convention(absent=False),
    "smoothed above alone": Convention(smooth_numerator=1.0),
    "smoothed by less than Jaccard": Convention(smooth_denominator=1.0, jaccard_smoothing=0.0),
}


@pytest.mark.parametrize("log", [False, True], ids=["linear", "log"])
@pytest.mark.parametrize("convention", OWN)
@pytest.mark.parametrize("name", [*NAMES, "dice_cross_entropy_loss"])
def test_nothing_over_nothing(name: str, convention: str, log: bool, device: torch.device) -> None:
    """What has neither pixels nor a probability is met: no loss, and no NaN in any backward pass,
    of conventions without a denominator's least or a smoothing of it."""
    case = PLAIN[0]
    options: dict[str, Any] = {} if name == "generalized_dice_loss" else {"log": log}
    if name == "tversky_loss":
        options |= {"gamma": 0.75}
    scores = case.scores(2, 4).to(device).requires_grad_()
    target = torch.full_like(case.labels(2, 4), 255).to(device)
    with torch.autograd.set_detect_anomaly(True):
        loss = getattr(losses, name)(
            scores, target, case.geometry, convention=OWN[convention], **options
        )
        (gradient,) = torch.autograd.grad(loss, scores)
    if "above" not in convention and "less" not in convention:
        assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("convention", OWN)
@pytest.mark.parametrize("name", NAMES)
def test_conventions_of_ones_own(name: str, convention: str) -> None:
    """As the plain formulas, also of an image that is void and of a class that no pixel has."""
    case = PLAIN[1]
    scores, target = case.scores(2, 6, torch.float64), case.labels(2, 5)
    for void in (False, True):
        if void:
            target[1] = 255
        options = {**PLAIN_OPTIONS[name], "convention": OWN[convention]}
        assert_matches(name, case, scores, target, **options)


@pytest.mark.parametrize("name", ["dice_loss", "jaccard_loss", "tversky_loss"])
def test_absent_classes_have_no_slope(name: str) -> None:
    """Even where they do not count and the logarithm of their score is infinite."""
    case = PLAIN[1]
    scores, target = case.scores(2, 6).requires_grad_(), case.labels(2, 5)  # class 5 is absent
    convention = OWN["of classes that are there"]
    with torch.autograd.set_detect_anomaly(True):
        loss = getattr(losses, name)(scores, target, convention=convention, log=True)
        (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_prediction(name: str) -> None:
    """No loss, and a finite gradient even of a root."""
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    target[:, 8:] = 1
    scores = 2000 * (2 * F.one_hot(target.long(), 2).movedim(3, 1).double() - 1)
    scores.requires_grad_()
    options = {"gamma": 0.75} if name == "tversky_loss" else {}
    loss = getattr(losses, name)(scores, target, convention="ultralytics", **options)
    loss.backward()
    assert abs(float(loss.detach())) < 1e-12
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_scores_in_half_precision_lose_nothing() -> None:
    """Sums over 262,144 pixels that float16 could not hold."""
    scores = torch.randn(1, 3, 64, 64).half().requires_grad_()
    target = torch.randint(0, 3, (1, 512, 512))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = losses.dice_cross_entropy_loss(scores, target)
    (loss * 2**10).backward()
    plain = reference_losses.dice_cross_entropy_loss(scores.detach().double(), target)
    near(loss.detach(), plain, 1e-6)
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


# ---- modules and arguments

MODULES: list[tuple[type[torch.nn.Module], str, dict[str, Any]]] = [
    (nn.DiceLoss, "dice_loss", {"convention": "monai", "log": True, "class_weight": torch.ones(4)}),
    (nn.JaccardLoss, "jaccard_loss", {"squared": True, "reduction": "sum"}),
    (nn.TverskyLoss, "tversky_loss", {"alpha": 0.2, "beta": 0.8, "gamma": 0.75}),
    (nn.GeneralizedDiceLoss, "generalized_dice_loss", {"weighting": "simple"}),
    (nn.DiceCrossEntropyLoss, "dice_cross_entropy_loss", {"weight": torch.rand(4)}),
]


@pytest.mark.parametrize(("module", "name", "options"), MODULES)
def test_modules_are_their_functions(
    module: type[torch.nn.Module], name: str, options: dict[str, Any]
) -> None:
    case = PLAIN[0]
    scores, target = case.scores(2, 4), case.labels(2, 4)
    made = module(case.geometry, **options)
    assert torch.equal(
        made(scores, target), getattr(losses, name)(scores, target, case.geometry, **options)
    )
    tensors = {key for key, value in options.items() if isinstance(value, Tensor)}
    assert set(made.state_dict()) == tensors
    assert repr(case.geometry) in repr(made)


def test_arguments_are_named() -> None:
    scores, target = PLAIN[1].scores(2, 3), PLAIN[1].labels(2, 3)
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("dice_loss", {"convention": "keras"}, "convention must be .*'smp'.* got 'keras'"),
        ("dice_loss", {"reduction": "average"}, "reduction must be .* got 'average'"),
        ("dice_loss", {"class_weight": torch.ones(2)}, r"class_weight must have shape .*\(3,\)"),
        ("jaccard_loss", {"ignore_index": 0.5}, "ignore_index must be an integer"),
        ("tversky_loss", {"alpha": -1}, "alpha must be >= 0, got -1"),
        ("tversky_loss", {"gamma": 0}, "gamma must be > 0, got 0"),
        ("tversky_loss", {"beta": float("nan")}, "beta must be >= 0, got nan"),
        ("generalized_dice_loss", {"weighting": "cubic"}, "weighting must be .* got 'cubic'"),
        ("dice_cross_entropy_loss", {"dice_weight": "1"}, "dice_weight must be a number"),
    ]
    for name, options, message in wrong:
        with pytest.raises((TypeError, ValueError), match=message):
            getattr(losses, name)(scores, target, Resize(), **options)
    with pytest.raises(ValueError, match="over must be 'image' or 'batch', got 'pixel'"):
        Convention(over="pixel")  # type: ignore[arg-type]
