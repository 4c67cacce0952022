"""Losses of processes that hold parts of one batch: with ``group`` they are that of the batch."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from fcn_ext import losses, nn
from fcn_ext.losses import CONVENTIONS
from fcn_ext.ops import _autograd, _observers

ROOT = Path(__file__).parents[2]
SIZE = 2
# torch.func.grad imports torch._dynamo.
FORKS = """
import torch._dynamo, torch.multiprocessing
from tests.ops.test_losses_of_processes import SIZE, work
torch.multiprocessing.start_processes(work, ARGUMENTS, nprocs=SIZE, start_method="fork")
"""
WEIGHT = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
NNUNET = {over: replace(CONVENTIONS["nnunet"], over=over) for over in ("batch", "image")}
LOSSES: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "cross-entropy": (losses.cross_entropy, {}),
    "cross-entropy, weighed": (losses.cross_entropy, {"weight": WEIGHT, "label_smoothing": 0.1}),
    "cross-entropy, all pixels": (losses.cross_entropy, {"reduction": "mean_all"}),
    "focal": (losses.focal_loss, {"alpha": WEIGHT}),
    "focal, all pixels": (losses.focal_loss, {"reduction": "mean_all"}),
    "top-k": (losses.ohem_cross_entropy, {"threshold": None, "min_kept": 0.1}),
    "ohem": (losses.ohem_cross_entropy, {"threshold": 0.2, "min_kept": 300, "weight": WEIGHT}),
    "ohem, few": (losses.ohem_cross_entropy, {"threshold": 1.0, "min_kept": 0}),
    "ohem, all pixels": (losses.ohem_cross_entropy, {"min_kept": 0.5, "reduction": "mean_all"}),
    "ohem, per image": (losses.ohem_cross_entropy, {"min_kept": 100, "per_image": True}),
    "dice": (losses.dice_loss, {"convention": NNUNET["batch"]}),
    "dice, squared": (losses.dice_loss, {"squared": True, "class_weight": WEIGHT}),
    "jaccard": (losses.jaccard_loss, {"log": True}),
    "tversky": (losses.tversky_loss, {"alpha": 0.3, "beta": 0.7, "gamma": 0.75}),
    "generalized dice": (losses.generalized_dice_loss, {"convention": "nnunet"}),
    "dice and cross-entropy": (losses.dice_cross_entropy_loss, {"weight": WEIGHT}),
    "dice of images": (losses.dice_loss, {"convention": NNUNET["image"]}),
    "dice of images and cross-entropy": (
        losses.dice_cross_entropy_loss,
        {"convention": NNUNET["image"], "cross_entropy_weight": 2.0},
    ),
}
# Which images the processes have, so that their valid pixels differ; none, too, where no mean is
# taken over a process's own images.
SHARES = {"equal": ([0, 2], [1, 3]), "unequal": ([0, 1, 2, 3], [])}


def batch() -> tuple[Tensor, Tensor]:
    """Of four images; in the last but one half the pixels are void, in the last nearly all."""
    generator = torch.Generator().manual_seed(7)
    scores = 3 * torch.randn(4, 3, 5, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (4, 20, 27), generator=generator, dtype=torch.uint8)
    target[2, :10] = 255
    target[3, :, 1:] = 255
    return scores, target


def found(loss: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(loss, scores)
    return loss.detach(), gradient


def of_void(function: Callable[..., Tensor], scores: Tensor, target: Tensor) -> Any:
    """The gradient where every pixel of every process is void, and what a backward pass raised
    because it made a NaN."""
    with warnings.catch_warnings(), torch.autograd.detect_anomaly():
        try:
            return found(function(scores, torch.full_like(target, 255)), scores)
        except RuntimeError as error:
            return str(error)


def cases() -> list[tuple[str, str]]:
    own = [name for name in LOSSES if "of images" in name]
    return [(n, s) for n in LOSSES for s in SHARES if s == "equal" or n not in own]


def work(rank: int, store: str, answers: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=SIZE)
    scores, target = batch()
    results = {}
    for name, share in cases():
        function, options = LOSSES[name]
        mine = SHARES[share][rank]
        part = scores[mine].requires_grad_()
        loss = function(part, target[mine], group=dist.group.WORLD, **options)
        results[name, share] = found(loss, part)

        def of(
            given: Tensor, labels: Tensor, f: Any = function, o: dict[str, Any] = options
        ) -> Tensor:
            result: Tensor = f(given, labels, group=True, **o)
            return result

        plain, labels = part.detach(), target[mine]
        gradient = torch.func.grad(of)
        results[name, share, "functional"] = of(plain, labels), gradient(plain, labels)
        if share == "equal":
            stacked = torch.stack([plain, -plain])
            alone = torch.stack([of(given, labels) for given in stacked])
            results[name, share, "vmap"] = torch.vmap(of, (0, None))(stacked, labels), alone
            slopes = torch.vmap(gradient, (0, None))(stacked, labels)
            results[name, share, "vmap of gradients"] = slopes[0], results[name, share][1]
            results[name, share, "void"] = of_void(of, part, labels)
    part = scores[SHARES["equal"][rank]].requires_grad_()
    module = nn.CrossEntropyLoss(group=True)
    results["module", "equal"] = found(module(part, target[SHARES["equal"][rank]]), part)
    torch.save(results, f"{answers}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    # Forks of a process that has imported all, but not of this one, which has threads.
    program = FORKS.replace("ARGUMENTS", repr((str(folder / "store"), str(folder))))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(SIZE)]


@pytest.mark.parametrize(("name", "share"), [*cases(), ("module", "equal")])
def test_processes_that_average_gradients_learn_from_the_whole_batch(
    name: str, share: str, answers: list[dict[Any, Any]]
) -> None:
    function, options = LOSSES.get(name, LOSSES["cross-entropy"])
    scores, target = batch()
    scores.requires_grad_()
    whole, gradient = found(function(scores, target, **options), scores)
    found_losses = [answer[name, share][0] for answer in answers]
    if "of images" in name:  # a mean over images, of which each process has its own
        torch.testing.assert_close(torch.stack(found_losses).mean(), whole, rtol=1e-12, atol=0)
    else:
        for loss in found_losses:
            torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
    for answer, mine in zip(answers, SHARES[share], strict=True):
        mean = answer[name, share][1] / SIZE  # which DistributedDataParallel takes
        torch.testing.assert_close(mean, gradient[mine], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_but_void_has_no_gradient(name: str, answers: list[dict[Any, Any]]) -> None:
    """As where there is one process; in no backward pass is anything divided by zero."""
    function, options = LOSSES[name]
    scores, target = batch()
    alone = function(scores, torch.full_like(target, 255), **options)
    for answer in answers:
        assert not isinstance(answer[name, "equal", "void"], str), answer[name, "equal", "void"]
        loss, gradient = answer[name, "equal", "void"]
        assert torch.equal(loss.nan_to_num(-1), alone.nan_to_num(-1))
        assert gradient.numel() > 0
        assert not gradient.any()


@pytest.mark.parametrize(("name", "share"), cases())
def test_transforms_of_torch_func(name: str, share: str, answers: list[dict[Any, Any]]) -> None:
    """They see through the sums over processes."""
    for answer in answers:
        for ours, plain in zip(answer[name, share, "functional"], answer[name, share], strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-15)
        for how in ("vmap", "vmap of gradients") if share == "equal" else ():
            ours, plain = answer[name, share, how]
            torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("weight", [[0.0, 1.0, 1.0], [1.0, -1.0, 0.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_that_add_up_to_nothing(
    weight: list[float], smoothing: float, tmp_path: Path
) -> None:
    """Of a group as of no group: the mean is not finite, its gradient is zero."""
    scores = batch()[0].requires_grad_()
    target = torch.zeros(4, 20, 27, dtype=torch.uint8)
    target[:, :10] = 1 if weight[0] else 0
    options = {"weight": torch.tensor(weight), "label_smoothing": smoothing}
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        results = [
            found(losses.cross_entropy(scores, target, group=group, **options), scores)
            for group in (None, True)
        ]
    finally:
        dist.destroy_process_group()
    for loss, gradient in results:
        assert not loss.isfinite()
        assert torch.equal(loss.nan_to_num(), results[0][0].nan_to_num())
        assert not gradient.any()


def test_without_the_private_helpers_of_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which a torch that lacks them is asked nothing else."""
    for module in (_autograd, _observers):
        monkeypatch.setattr(module, "_transforms_active", lambda: True)
    scores, target = batch()
    scores.requires_grad_()
    expected = [found(f(scores, target, **options), scores) for f, options in LOSSES.values()]
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        for (function, options), alone in zip(LOSSES.values(), expected, strict=True):
            together = found(function(scores, target, group=True, **options), scores)
            torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-15)
    finally:
        dist.destroy_process_group()


def test_a_group_that_is_gone_is_refused(tmp_path: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    group = dist.group.WORLD
    dist.destroy_process_group()
    message = r"group must be None after .*destroy_process_group, got <.*ProcessGroup object"
    for name in ("cross-entropy", "focal", "top-k", "dice"):
        function, options = LOSSES[name]
        with pytest.raises(ValueError, match=message):
            function(*batch(), group=group, **options)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_no_group_is_refused(name: str) -> None:
    function, options = LOSSES[name]
    scores, target = batch()
    with pytest.raises(TypeError, match=r"group must be a process group, True or None, got str 'w"):
        function(scores, target, group="world", **options)
    with pytest.raises(ValueError, match=r"group must be None before .*init_process_group, got T"):
        function(scores, target, group=True, **options)
    alone = function(scores, target, **options)
    assert torch.equal(function(scores, target, group=False, **options), alone)
