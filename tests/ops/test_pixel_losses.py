"""The losses that are made of the cross-entropy of pixels: focal, hardest pixels, other means,
several heads, accuracy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import losses, nn, ops, reference_losses
from fcn_ext.geometry import Deconvolution, Resize
from fcn_ext.losses._focal import focused

from .contract import LAYOUTS
from .heads import CASES, LABEL_TYPES, PLAIN, SCORE_TYPES, Case, trained_like
from .losses import GRADIENT, near

REDUCTIONS = ["none", "sum", "mean", "mean_all"]


def loss_and_gradient(
    function: Callable[..., Tensor], scores: Tensor, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    scores = scores.detach().clone().requires_grad_()
    loss = function(scores, *args, **options)
    loss.sum().backward()
    assert scores.grad is not None
    return loss.detach(), scores.grad


def assert_matches(name: str, case: Case, scores: Tensor, target: Tensor, **options: Any) -> Tensor:
    """Against float64 plain PyTorch of the same, rounded, scores; returns the gradient."""
    wide = {k: v.double() if isinstance(v, Tensor) else v for k, v in options.items()}
    plain, ours = (getattr(module, name) for module in (reference_losses, losses))
    expected, expected_gradient = loss_and_gradient(
        plain, scores.double(), target, case.geometry, **wide
    )
    loss, gradient = loss_and_gradient(ours, scores, target, case.geometry, **options)
    assert loss.dtype == (torch.float64 if scores.dtype == torch.float64 else torch.float32)
    assert gradient.dtype == scores.dtype
    near(loss, expected, 1e-12 if scores.dtype == torch.float64 else 1e-5)
    terms = float(case.weights().sum((1, 2)).max()) if loss.dim() != 0 else 0.01
    near(gradient, expected_gradient, GRADIENT[scores.dtype], 0.1 * terms)
    return gradient


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "focal_loss": [
        {},
        {"gamma": 0.0},
        {"gamma": 0.5},
        {"gamma": 3.5, "alpha": torch.tensor([0.25, 0.75, 2.0, 0.0, 1.0])},
    ],
    "ohem_cross_entropy": [
        {"min_kept": 7},
        {"threshold": 0.1, "min_kept": 20},
        {"threshold": None, "min_kept": 0.3},
        {"threshold": 0.3, "min_kept": 1 / 16, "per_image": True},
        {"threshold": 0.0, "min_kept": 11, "per_image": True},
        {"threshold": 0.4, "min_kept": 0, "weight": torch.tensor([0.5, 2.0, 0.0, 1.0, 0.25])},
    ],
    "cross_entropy": [{}, {"weight": torch.tensor([0.5, 2.0, 0.5, 1.0, 0.25])}],
}
CALLS = [(name, options) for name, all_options in OPTIONS.items() for options in all_options]


@pytest.mark.parametrize("case", CASES[1::4], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_matches_reference(name: str, case: Case, device: torch.device) -> None:
    target = case.labels(2, 5).to(device)
    for place, given in enumerate(OPTIONS[name]):
        if given.get("min_kept") and _has_level_pixels(case):
            continue
        options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in given.items()}
        dtype = (torch.float64, torch.float32)[place % 2]
        scores = case.scores(2, 5, dtype).to(device)
        reduction = REDUCTIONS[place % len(REDUCTIONS)]
        assert_matches(name, case, scores, target, **options, reduction=reduction)


def _has_level_pixels(case: Case) -> bool:
    """Whether pixels read the same, at a clamped border or as mirror images: level but for
    rounding, which decides whether all of them are kept."""
    return case.coarse == (1, 1) or case.geometry == Resize()


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_every_reduction_type_and_layout(name: str, options: dict[str, Any]) -> None:
    case = PLAIN[0]
    for place, dtype in enumerate(SCORE_TYPES):
        scores = LAYOUTS[place % len(LAYOUTS)](case.scores(2, 5, dtype))
        labels = case.labels(2, 5).to(LABEL_TYPES[place])
        reduction = REDUCTIONS[place]
        assert_matches(name, case, scores, labels, **options, reduction=reduction)
    trained = trained_like(case, 2, 5)
    assert_matches(name, case, trained, case.labels(2, 5), **options)


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_void_and_nothing(name: str, options: dict[str, Any]) -> None:
    """All void, NaN under void, no images, one pixel, void labels that the type cannot hold."""
    case, function = PLAIN[1], getattr(losses, name)
    scores = case.scores(1, 5)
    void = torch.full((1, *case.fine), 255, dtype=torch.uint8)
    for reduction in REDUCTIONS:
        loss, gradient = loss_and_gradient(
            function, scores * torch.nan, void, case.geometry, **options, reduction=reduction
        )
        assert not gradient.any()
        if reduction != "mean" or name != "cross_entropy":
            assert not loss.any()
    empty = torch.zeros((0, 5, 3, 3), requires_grad=True)
    loss = function(empty, torch.zeros((0, 9, 9), dtype=torch.uint8), **options, reduction="sum")
    loss.backward()
    assert loss.item() == 0
    pixel = torch.zeros((1, 1, 1), dtype=torch.int64)
    assert function(scores[:, :, :1, :1], pixel, **options).isfinite()
    case = PLAIN[0]
    labels = case.labels(1, 5, void=None).to(torch.uint8)
    for ignore_index in (-1, 256):
        scores = case.scores(1, 5)
        assert_matches(name, case, scores, labels, **options, ignore_index=ignore_index)


def test_focal_loss_of_certain_pixels_is_a_number() -> None:
    """Rounding leaves some of their cross-entropies below zero, where powers are NaN."""
    generator = torch.Generator().manual_seed(0)
    scores = 8 * torch.randn((3, 3, 12, 17), generator=generator)
    target = scores.argmax(1).repeat_interleave(8, 1).repeat_interleave(8, 2)
    pixels = ops.cross_entropy(scores, target, reduction="none")
    assert pixels.min() < 0
    for gamma in (0.5, 1.0, 3.5):
        loss, gradient = loss_and_gradient(
            losses.focal_loss, scores, target, gamma=gamma, reduction="none"
        )
        assert loss.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_focal_values_and_slopes_are_those_of_the_plain_formula(
    gamma: float, dtype: torch.dtype
) -> None:
    """From probabilities of nearly one to nearly zero, and the limits at either end."""
    spread = torch.logspace(-12, 2.5, 200, dtype=dtype)
    ends = torch.tensor([0.0, -1e-8, torch.inf], dtype=dtype)
    loss = torch.cat([spread, ends]).view(1, 1, -1).requires_grad_()
    value = focused(loss, gamma)
    (slope,) = torch.autograd.grad(value.sum(), loss)
    exact = spread.double().requires_grad_()
    expected = (-(-exact).expm1()) ** gamma * exact
    (expected_slope,) = torch.autograd.grad(expected.sum(), exact)
    close = {"rtol": 1e-13 if dtype == torch.float64 else 2e-6, "atol": 1e-38}
    torch.testing.assert_close(value[0, 0, :-3].double(), expected, **close)
    torch.testing.assert_close(slope[0, 0, :-3].double(), expected_slope, **close)
    at_one = 1.0 if gamma == 0 else 0.0
    assert slope[0, 0, -3:].tolist() == [at_one, at_one, 1.0]
    assert value[0, 0, -3:].tolist() == [0.0, pytest.approx(-1e-8 * at_one), torch.inf]


@pytest.mark.parametrize("gamma", [2e38, 1e300])
def test_focal_slopes_of_any_gamma_are_numbers(gamma: float) -> None:
    """Nothing is left of a loss but where the probability is zero."""
    loss = torch.tensor([[[0.0, 1e-30, 1.0, 30.0, 200.0, torch.inf]]], requires_grad=True)
    value = focused(loss, gamma)
    (slope,) = torch.autograd.grad(value.sum(), loss)
    assert value.tolist() == [[[0.0, 0.0, 0.0, 30.0, 200.0, torch.inf]]]
    assert slope[0, 0, [0, 1, 2, 4, 5]].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert slope.isfinite().all()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("of_masks", [False, True])
def test_focal_maps_are_the_same_by_every_way(gamma: float, of_masks: bool) -> None:
    """With a gradient, without, of vmap, of torch.func, and of a map that is a view."""
    case, options = PLAIN[0], {"gamma": gamma}
    scores = case.scores(2, 5, torch.float64)
    target = case.labels(2, 5).to(torch.uint8)
    if of_masks:
        target = (target.unsqueeze(1) == torch.arange(5).view(-1, 1, 1)).to(torch.uint8)
        function, options = losses.sigmoid_focal_loss, {**options, "reduction": "pixels"}
    else:
        function, options = losses.focal_loss, {**options, "reduction": "none"}
        options["alpha"] = torch.tensor([0.25, 0.75, 2.0, 0.0, 1.0], dtype=torch.float64)

    def of(scores: Tensor, target: Tensor) -> Tensor:
        return function(scores, target, case.geometry, **options)

    expected, expected_gradient = loss_and_gradient(of, scores, target)
    assert torch.equal(of(scores, target), expected)
    one = [torch.func.vmap(of)(scores.unsqueeze(1), target.unsqueeze(1)).squeeze(1)]
    one += [of(scores, target.transpose(-1, -2).contiguous().transpose(-1, -2))]
    for found in one:
        near(found, expected, 1e-14)
    # grad around vmap: what is batched does not tell that it will be differentiated.
    gradients = [
        torch.func.grad(lambda s: of(s, target).sum())(scores),
        torch.func.grad(lambda s: torch.func.vmap(of)(s.unsqueeze(1), target.unsqueeze(1)).sum())(
            scores
        ),
    ]
    for gradient in gradients:
        near(gradient, expected_gradient, 1e-13)


@pytest.mark.parametrize(("name", "options"), CALLS)
def test_the_same_bits_always(name: str, options: dict[str, Any], threads: None) -> None:
    case = CASES[4]
    scores, target = case.scores(2, 5), case.labels(2, 5)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(
            loss_and_gradient(getattr(losses, name), scores, target, case.geometry, **options)
        )
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("shape", [(1, 301, 407), (3, 257, 255), (40, 64, 33)], ids=str)
@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_all"])
def test_sums_of_large_maps_do_not_depend_on_threads(
    shape: tuple[int, int, int], reduction: str, threads: None
) -> None:
    """torch shares them among its threads."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(shape[0], 3, 9, 11, dtype=torch.float64, generator=generator)
    target = torch.randint(0, 3, shape, dtype=torch.uint8, generator=generator)
    found = set()
    for count in (1, 2, 3, 4, 7):
        torch.set_num_threads(count)
        found.add(losses.focal_loss(scores, target, reduction=reduction).item())
    assert len(found) == 1


def test_sums_of_many_masks_do_not_depend_on_threads(threads: None) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(40, 1200, 2, 2, generator=generator)
    masks = torch.randint(0, 2, (40, 1200, 3, 3), dtype=torch.uint8, generator=generator)
    for loss in (losses.sigmoid_cross_entropy, losses.sigmoid_dice_loss):
        found = set()
        for count in (1, 2, 3, 4, 7):
            torch.set_num_threads(count)
            found.add(loss(scores, masks, reduction="sum").item())
        assert len(found) == 1


def test_confident_pixels_have_finite_gradients() -> None:
    """Probabilities of exactly one and zero, for powers whose own slope is infinite there."""
    scores = torch.zeros(1, 3, 2, 2)
    scores[:, 0] = 200.0
    target = torch.zeros((1, 8, 8), dtype=torch.int64)
    for labels in (target, target + 1):
        for gamma in (0.0, 0.5, 1.0, 2.0):
            loss, gradient = loss_and_gradient(losses.focal_loss, scores, labels, gamma=gamma)
            assert loss.item() == (0.0 if labels is target else 200.0)
            assert gradient.isfinite().all()
    masked = scores.clone()
    masked[:, 2] = -torch.inf
    _, gradient = loss_and_gradient(losses.focal_loss, masked, target)
    assert gradient.isfinite().all()


# Of torch's own tracing of an autograd function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["focal_loss", "ohem_cross_entropy"])
def test_compiles_whole(name: str) -> None:
    case, function = PLAIN[1], getattr(losses, name)
    scores, target = case.scores(2, 5), case.labels(2, 5)
    options = OPTIONS[name][-1]
    compiled = torch.compile(
        lambda s: function(s, target, **options), backend="aot_eager", fullgraph=True
    )
    expected, expected_gradient = loss_and_gradient(function, scores, target, **options)
    loss, gradient = loss_and_gradient(compiled, scores)
    near(loss, expected, 1e-6)
    near(gradient, expected_gradient, 1e-6)


def test_accuracy_beside_the_loss(device: torch.device) -> None:
    for case in CASES:
        scores, target = case.scores(2, 5).to(device), case.labels(2, 5).to(device)
        loss, accuracy = losses.cross_entropy(scores, target, case.geometry, return_accuracy=True)
        assert torch.equal(loss, losses.cross_entropy(scores, target, case.geometry))
        expected = reference_losses.pixel_accuracy(scores.double(), target, case.geometry)
        near(accuracy, expected, 1e-6)
        assert not accuracy.requires_grad
    void = torch.full_like(target, 255)
    assert losses.pixel_accuracy(scores, void, case.geometry).isnan()


def test_accuracy_under_transforms() -> None:
    """Of examples that share a target, and beside gradients."""
    case = PLAIN[1]
    target = case.labels(2, 5)
    scores = torch.stack([case.scores(2, 5, seed=seed) for seed in range(3)])

    def both(given: Tensor) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = losses.cross_entropy(given, target, return_accuracy=True)
        return result

    expected = [both(given) for given in scores]
    loss, accuracy = torch.vmap(both)(scores)
    near(loss, torch.stack([of[0] for of in expected]), 1e-6)
    assert torch.equal(accuracy, torch.stack([of[1] for of in expected]))
    _, beside = torch.vmap(torch.func.grad(both, has_aux=True))(scores)
    assert torch.equal(beside, accuracy)


def test_several_heads_share_a_target() -> None:
    target = PLAIN[1].labels(2, 5)
    main, auxiliary = torch.randn(2, 5, 4, 5), torch.randn(2, 5, 2, 3)
    fcn = torch.randn(2, 5, 4, 5)
    heads = [(main, 1.0), [auxiliary, torch.tensor(0.4)], (fcn, 2, Deconvolution(4, offset=2))]
    for options in ({}, {"loss": losses.focal_loss, "gamma": 1.0}, {"reduction": "none"}):
        total = losses.deep_supervision(heads, target, **options)
        plain = dict(options)
        if "loss" in options:
            plain["loss"] = reference_losses.focal_loss
        near(total, reference_losses.deep_supervision(heads, target, **plain), 1e-5)
    module = nn.DeepSupervision(nn.CrossEntropyLoss(), [1.0, 0.4])
    near(
        module([main, auxiliary], target),
        losses.deep_supervision([(main, 1.0), (auxiliary, 0.4)], target),
        0.0,
    )
    assert "weights=(1.0, 0.4)" in repr(module)


def test_weights_of_heads_that_are_parameters_are_learned() -> None:
    """Whatever asks a module for its parameters finds them, and what replaces them is seen."""
    target = PLAIN[1].labels(2, 5)
    scores = [torch.randn(2, 5, 4, 5), torch.randn(2, 5, 2, 3), torch.randn(2, 5, 4, 4)]
    learned = torch.nn.ParameterList([torch.tensor(1.0), torch.tensor(0.5)])
    module = nn.DeepSupervision(nn.CrossEntropyLoss(), [learned[0], 0.4, learned[1]])
    assert list(module.parameters()) == list(learned)
    module(scores, target).backward()
    of_heads = [losses.cross_entropy(of, target) for of in scores]
    for parameter, loss in zip(learned, of_heads[::2], strict=True):
        near(parameter.grad, loss, 1e-6)
    copied = copy.deepcopy(module).double()
    copied.load_state_dict({"weight_0": torch.tensor(3.0), "weight_2": torch.tensor(0.0)})
    assert copied.weights[0].dtype == torch.float64
    near(copied(scores, target).detach().float(), 3 * of_heads[0] + 0.4 * of_heads[1], 1e-6)
    replaced = {"weight_0": torch.tensor(0.0), "weight_2": torch.tensor(2.0)}
    total = torch.func.functional_call(module, replaced, (scores, target))
    near(total.detach(), 0.4 * of_heads[1] + 2 * of_heads[2], 1e-6)
    assert len(list(nn.DeepSupervision(nn.CrossEntropyLoss(), learned).parameters())) == 2


@pytest.mark.parametrize(
    ("module", "function"),
    [(nn.FocalLoss, losses.focal_loss), (nn.OhemCrossEntropyLoss, losses.ohem_cross_entropy)],
)
def test_modules_are_their_functions(module: Any, function: Any) -> None:
    case = PLAIN[0]
    scores, target = case.scores(2, 5), case.labels(2, 5)
    for options in OPTIONS[function.__name__]:
        made = module(case.geometry, **options)
        assert torch.equal(made(scores, target), function(scores, target, case.geometry, **options))
        tensors = {name for name, value in options.items() if isinstance(value, Tensor)}
        assert set(made.state_dict()) == tensors
        assert repr(case.geometry) in repr(made)
    assert nn.CrossEntropyLoss(reduction="mean_all")(scores, target) == losses.cross_entropy(
        scores, target, reduction="mean_all"
    )


def test_resize_is_the_default() -> None:
    case = PLAIN[1]
    assert case.geometry == Resize()
    scores, target = case.scores(1, 5), case.labels(1, 5)
    assert losses.focal_loss(scores, target) == losses.focal_loss(scores, target, case.geometry)
