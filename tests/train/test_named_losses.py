"""`fcn train --loss`: every name against its formula at full size, of one head and of several."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import reference_losses
from fcn_ext.models import Head, MultiHeadFCN, VGG16Trunk
from fcn_train.errors import UsageError
from fcn_train.history import History
from fcn_train.loss import HeadLosses, pixel_loss
from fcn_train.named_losses import NAMES, chosen_loss, chosen_losses, named_loss
from fcn_train.optim_options import OptimOptions
from fcn_train.options import Logits, TrainOptions
from fcn_train.processes import ALONE
from fcn_train.train import train

HEADS = {"semantic": 5, "geometric": 3}
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.25], dtype=torch.float64)


@pytest.fixture(scope="module")
def model() -> MultiHeadFCN:
    torch.manual_seed(0)
    trunk = VGG16Trunk(width=1 / 32)
    heads = {
        name: Head(trunk, count, loss_weight=weight)
        for (name, count), weight in zip(HEADS.items(), (1.0, 0.3), strict=True)
    }
    model = MultiHeadFCN(trunk, heads).double()
    for parameter in model.parameters():
        std = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


@pytest.fixture
def batch() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 33, 47, generator=generator, dtype=torch.float64)
    target = {
        name: torch.randint(0, count - 1, (2, 33, 47), generator=generator, dtype=torch.uint8)
        for name, count in HEADS.items()
    }
    target["semantic"][0, :9] = 255
    return images, target


def hardest(logits: Tensor, target: Tensor, weight: Any, threshold: float, share: float) -> Tensor:
    """The mean over pixels whose label has less than the threshold, or the share of the hardest."""
    valid = target != 255
    own = F.cross_entropy(logits, target.long(), ignore_index=255, reduction="none")[valid]
    least = own.sort(descending=True).values[int(share * valid.sum()) - 1]
    kept = own >= torch.minimum(least, -torch.tensor(threshold, dtype=own.dtype).log())
    loss = own[kept]
    if weight is None:
        return loss.mean()
    of_pixels = weight[target[valid].long()][kept]
    return (loss * of_pixels).sum() / kept.sum()


def expected(name: str, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    if name == "cross-entropy":
        return F.cross_entropy(logits, target.long(), weight, ignore_index=255)
    if name in ("ohem", "top-k"):
        numbers = {"ohem": (0.7, 1 / 16), "top-k": (1e-300, 0.1)}[name]
        return hardest(logits, target, weight, *numbers)
    plain: Callable[..., Tensor]
    plain, options = {
        "dice": (reference_losses.dice_loss, {"class_weight": weight}),
        "dice+cross-entropy": (reference_losses.dice_cross_entropy_loss, {"weight": weight}),
        "jaccard": (reference_losses.jaccard_loss, {"class_weight": weight}),
        "tversky": (
            reference_losses.tversky_loss,
            {"alpha": 0.3, "beta": 0.7, "class_weight": weight},
        ),
        "focal": (reference_losses.focal_loss, {"gamma": 2.0, "alpha": weight}),
    }[name]
    return plain(logits, target, **options)


@pytest.mark.parametrize("logits", ["coarse", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_each_name(
    name: str, logits: Logits, model: MultiHeadFCN, batch: tuple[Tensor, dict[str, Tensor]]
) -> None:
    """Of the first head, without and with class weights; the other keeps its cross-entropy."""
    images, target = batch
    full = model(images)
    other = F.cross_entropy(full["geometric"], target["geometric"].long())
    for weight in (None, WEIGHT):
        heads = HeadLosses()
        weights = None if weight is None else {"semantic": weight, "geometric": None}
        names = [name, "cross-entropy"]
        options: Any = {"names": names, "weight": weights, "logits": logits, "heads": heads}
        found = named_loss(model, images, target, **options)
        wanted = expected(name, full["semantic"], target["semantic"], weight)
        torch.testing.assert_close(found, wanted + 0.3 * other, rtol=1e-9, atol=1e-9)
        assert heads.taken(2, 1, ALONE) == pytest.approx([wanted.item(), other.item()], rel=1e-9)
        assert heads.taken(1, 1, ALONE) == []
        parameter = dict(model.named_parameters())["heads.semantic.streams.main.score_fr.weight"]
        gradients = [torch.autograd.grad(loss, parameter)[0] for loss in (found, wanted)]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
        full = model(images)


@pytest.mark.parametrize("name", NAMES)
def test_void_alone_teaches_nothing(
    name: str, model: MultiHeadFCN, batch: tuple[Tensor, dict[str, Tensor]]
) -> None:
    void = {key: torch.full_like(labels, 255) for key, labels in batch[1].items()}
    found = named_loss(model, batch[0], void, names=[name, name])
    assert found == 0
    gradients = torch.autograd.grad(found, list(model.parameters()), allow_unused=True)
    assert not any(gradient is not None and gradient.any() for gradient in gradients)


def test_heads_of_the_usual_loss(
    model: MultiHeadFCN, batch: tuple[Tensor, dict[str, Tensor]]
) -> None:
    heads = HeadLosses()
    losses = [pixel_loss(model, *batch, heads=heads) for _ in range(2)]
    first, second = heads.taken(2, 2, ALONE)
    assert losses[0].item() == pytest.approx(first + 0.3 * second)


def test_choices() -> None:
    optim, sets = OptimOptions(), ["semantic", "geometric"]
    assert chosen_losses("ohem", [""], optim) == ["ohem"]
    assert chosen_losses("ohem", sets, optim) == ["ohem", "ohem"]
    assert chosen_losses("geometric=dice, semantic=focal", sets, optim) == ["focal", "dice"]
    assert chosen_losses("cross-entropy", sets, replace(optim, loss="sum"))
    for choice in ("lovasz", "", "semantic=dice", "semantic=dice,geometric=lovasz"):
        with pytest.raises(
            UsageError, match=r"--loss must be one of cross-entropy, .* such as sem"
        ):
            chosen_losses(choice, sets, optim)
    with pytest.raises(UsageError, match=r"top-k, got 'lovasz'"):
        chosen_losses("lovasz", [""], optim)
    with pytest.raises(UsageError, match=r"--optim.loss sum is of the cross-entropy alone, got"):
        chosen_losses("dice", [""], replace(optim, loss="sum"))
    usual: Any = chosen_loss(TrainOptions(), [""])
    assert usual is pixel_loss


def test_a_run_and_its_continuation(
    tiny_options: TrainOptions, tmp_path: Path, no_pictures: None
) -> None:
    optim = replace(tiny_options.optim, steps=2)
    options = replace(
        tiny_options, loss="dice+cross-entropy", optim=optim, output=tmp_path / "run", log_every=1
    )
    run = train(options)
    with (run / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == ["step", "epoch", "lr", "loss"]
    assert all(0 < float(row["loss"]) < 10 for row in rows)
    with pytest.raises(UsageError, match=r"started with loss = 'dice\+cross-entropy', not 'focal'"):
        train(replace(options, loss="focal"), run)


def test_histories_with_losses_of_heads(tmp_path: Path) -> None:
    """Rows of a time before they were noted have none."""
    history = History(label_sets=["a", "b"])
    history.add_loss(1, 0.5, 0.1, 3.0, 1)
    for step, heads in ((2, [1.0, 2.0]), (3, [3.0, 6.0])):
        history.note_heads(heads)
        history.add_loss(step, 0.5, 0.1, 3.0, 2)
    state = history.state()
    assert History.of(state, ["a", "b"]) == history
    history.write(tmp_path)
    lines = (tmp_path / "training.csv").read_text().splitlines()
    assert lines == ["step,epoch,lr,loss,loss_a,loss_b", "1,0.5,0.1,3,,", "3,0.5,0.1,3,2,4"]
    former = {name: state[name] for name in ("label_sets", "training", "evaluations", "pending")}
    read = History.of({**former, "best_mean_iu": -1.0}, ["a", "b"])
    assert read.head_losses == [[], []]
