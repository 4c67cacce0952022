"""The loss of several heads, against plain functions in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.models import MultiHeadFCN, build_multi_head_model
from fcn_train.heads import by_head, head_names, in_order
from fcn_train.history import History
from fcn_train.loss import pixel_loss
from fcn_train.options import Logits
from fcn_train.sampling import sampled

HEADS = {"semantic": 7, "geometric": 3}
WEIGHTS = {"semantic": 1.0, "geometric": 0.3}


@pytest.fixture
def model() -> MultiHeadFCN:
    torch.manual_seed(0)
    heads = {name: {"num_classes": HEADS[name], "loss_weight": WEIGHTS[name]} for name in HEADS}
    options = {"width": 1 / 32, "padding": "same", "dropout": 0.0}
    model = build_multi_head_model("fcn16s", heads, **options).double()
    for parameter in model.parameters():
        std = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
        torch.nn.init.normal_(parameter, std=std)
    return model


@pytest.fixture
def batch() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 33, 47, generator=generator, dtype=torch.float64)
    target = {
        name: torch.randint(0, count, (2, 33, 47), generator=generator, dtype=torch.uint8)
        for name, count in HEADS.items()
    }
    target["semantic"][0, :9] = 255
    target["geometric"][1] = 255
    return images, target


def gradients(loss: Tensor, model: MultiHeadFCN) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True))


@pytest.mark.parametrize("logits", ["coarse", "full"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_the_weighted_sum_of_the_heads(
    weighted: bool,
    reduction: str,
    logits: Logits,
    model: MultiHeadFCN,
    batch: tuple[Tensor, dict[str, Tensor]],
) -> None:
    images, target = batch
    classes = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) if weighted else None
    weight = {"semantic": None, "geometric": classes} if weighted else None
    found = pixel_loss(model, images, target, reduction, weight, logits)
    expected = torch.zeros((), dtype=torch.float64)
    for name, values in model(images).items():
        of_head = classes if name == "geometric" else None
        if reduction == "mean":
            loss = F.cross_entropy(values, target[name].long(), of_head, ignore_index=255)
        else:
            loss = F.cross_entropy(
                values, target[name].long(), of_head, ignore_index=255, reduction="sum"
            ) / len(images)
        expected = expected + WEIGHTS[name] * loss
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for mine, wanted in zip(gradients(found, model), gradients(expected, model), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max().item())


@pytest.mark.parametrize("logits", ["coarse", "full"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_set_of_void_alone_teaches_nothing(
    reduction: str, logits: Logits, model: MultiHeadFCN, batch: tuple[Tensor, dict[str, Tensor]]
) -> None:
    """The other set is learned as ever; where all are void, loss and gradients are 0."""
    images, target = batch
    target["geometric"].fill_(255)
    alone = pixel_loss(model, images, target, reduction, None, logits)
    semantic = model.losses(images, target, reduction="sum")["semantic"]
    divisor = len(images) if reduction == "sum" else (target["semantic"] != 255).sum()
    torch.testing.assert_close(alone, semantic / divisor, rtol=1e-12, atol=0)
    target["semantic"].fill_(255)
    nothing = pixel_loss(model, images, target, reduction, None, logits)
    assert nothing == 0
    assert not any(gradient.any() for gradient in gradients(nothing, model))


def test_values_by_head(model: MultiHeadFCN) -> None:
    assert head_names(model) == ["semantic", "geometric"]
    assert by_head(model, [1, 2]) == {"semantic": 1, "geometric": 2}
    assert in_order(by_head(model, [1, 2])) == [1, 2]
    single = torch.nn.Identity()
    assert head_names(single) == [""]
    assert in_order(by_head(single, [1])) == [1]
    for values in ([], [1, 2]):
        with pytest.raises(ValueError, match="values to unpack"):
            by_head(single, values)
    with pytest.raises(ValueError, match="shorter"):
        by_head(model, [1])


def test_histories_of_one_set_and_of_several() -> None:
    """Those of a time before there were several are read; those of other sets are not."""
    former = History().state()
    del former["label_sets"]
    assert History.of(former) == History()
    both = History(label_sets=["semantic", "geometric"])
    assert len(both.evaluations_header) == 2 + 2 * 5
    assert History.of(both.state(), ["semantic", "geometric"]) == both
    for state, sets in ((former, ["a", "b"]), (both.state(), [""]), (both.state(), ["a", "b"])):
        with pytest.raises(ValueError, match="the history must be of the sets of labels"):
            History.of(state, sets)


def test_what_counts_is_drawn_for_each_head(
    model: MultiHeadFCN, batch: tuple[Tensor, dict[str, Tensor]]
) -> None:
    """Cells of every head, and pixels of the classes of one."""
    images, target = batch
    shares = {"semantic": None, "geometric": torch.tensor([0.0, 1.0, 0.5])}
    torch.manual_seed(3)
    found = pixel_loss(model, images, target, "sum", cells=0.5, shares=shares)
    torch.manual_seed(3)
    drawn = {
        name: sampled(target[name], getattr(model.heads, name), 0.5, shares[name]) for name in HEADS
    }
    assert not (drawn["geometric"] == 0).any()
    assert all((drawn[name] != target[name]).any() for name in HEADS)
    torch.testing.assert_close(found, pixel_loss(model, images, drawn, "sum"))
