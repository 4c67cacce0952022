"""torch.fx.symbolic_trace records operators, losses and nets, whose results stay the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fcn_ext.nn
from fcn_ext import losses, ops
from fcn_ext.geometry import Deconvolution, Resize
from fcn_ext.models import CoarseNet, build_model, build_multi_head_model

SCORES = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
MASKS = (torch.arange(2 * 3 * 13 * 14).reshape(2, 3, 13, 14) % 3 == 0).to(torch.uint8)
LABELS = torch.arange(2 * 13 * 14).reshape(2, 13, 14) % 3


class Call(nn.Module):
    """A function of ``module``, by its name there, as user's code calls it."""

    def __init__(self, module: Any, name: str, *arguments: Any, **options: Any) -> None:
        super().__init__()
        self.module, self.name, self.arguments, self.options = module, name, arguments, options

    def forward(self, *tensors: Tensor) -> Any:
        return getattr(self.module, self.name)(*tensors, *self.arguments, **self.options)


class OfTwo(Call):
    def forward(self, first: Tensor, second: Tensor) -> Any:
        return super().forward(first, second)


class OfOne(Call):
    def forward(self, only: Tensor) -> Any:
        return super().forward(only)


OPERATORS: dict[str, tuple[Call, tuple[Tensor, ...]]] = {
    "upsample": (OfOne(ops, "upsample", 3, offset=(1, 2)), (SCORES,)),
    "interpolate": (OfOne(ops, "interpolate", (9, 7)), (SCORES,)),
    "fuse_skip": (OfTwo(ops, "fuse_skip", 1), (SCORES, torch.ones(2, 3, 13, 14))),
    "argmax": (OfOne(ops, "argmax", None, Deconvolution(4)), (SCORES,)),
    "cross_entropy": (OfTwo(ops, "cross_entropy", Resize(True)), (SCORES, LABELS)),
    "region_sums": (OfTwo(ops, "region_sums", squared=True), (SCORES, LABELS)),
    "sigmoid_sums": (OfTwo(ops, "sigmoid_sums"), (SCORES, MASKS)),
    "counts": (OfTwo(ops, "confusion_matrix", 3), (LABELS, LABELS)),
    "counts of scores": (OfTwo(ops, "score_confusion_matrix"), (SCORES, LABELS)),
    "distillation_loss": (OfTwo(losses, "distillation_loss", 9), (SCORES, SCORES.flip(0))),
} | {
    name: (OfTwo(losses, name), (SCORES, MASKS if name.startswith("sigmoid") else LABELS))
    for name in losses.__all__
    if name.endswith(("loss", "entropy")) and name != "distillation_loss"
}


@pytest.mark.parametrize("name", OPERATORS)
def test_functions_are_recorded(name: str) -> None:
    call, tensors = OPERATORS[name]
    traced = torch.fx.symbolic_trace(call)
    for graph in (traced, copy.deepcopy(traced)):
        torch.testing.assert_close(graph(*tensors), call(*tensors), rtol=0, atol=0)
    with pytest.raises((TypeError, ValueError), match=r"must be|must have"):
        traced(*(tensor[0] for tensor in tensors))


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        (fcn_ext.nn.Upsample(2), "output_size"),
        (fcn_ext.nn.Interpolate((7, 8)), "size"),
        (fcn_ext.nn.Argmax(Deconvolution(3)), "size"),
        (fcn_ext.nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0])), None),
    ],
)
def test_modules_are_recorded(module: nn.Module, absent: str | None) -> None:
    traced = torch.fx.symbolic_trace(module, concrete_args=absent and {absent: None})
    tensors = (SCORES,) if absent else (SCORES, LABELS)
    assert torch.equal(traced(*tensors), module(*tensors))


NETS: dict[str, Any] = {
    "fcn8s": lambda: build_model("fcn8s", 3, width=0.05),
    "learned": lambda: build_model("fcn16s", 3, width=0.05, upsampling="dense"),
    "context": lambda: build_model("fcn-pool4", 3, width=0.05, context=True, batch_norm=True),
    "streams": lambda: build_model("fcn32s", 3, width=0.05, streams=["color", "hha"]),
    "alexnet": lambda: build_model("fcn-alexnet", 3, width=0.05),
    "googlenet": lambda: build_model("fcn-googlenet-8s", 3, width=0.1),
    "squeezenet": lambda: build_model("fcn-squeezenet-8s", 3, width=0.1),
    "any module": lambda: CoarseNet(nn.Conv2d(3, 3, 8, 8), Resize(), 3),
    "two heads": lambda: build_multi_head_model("fcn32s", {"a": 2, "b": 3}, width=0.05),
}


@pytest.mark.parametrize("name", NETS)
def test_nets_are_recorded_for_images_of_any_size(name: str) -> None:
    net = NETS[name]().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    traced = torch.fx.symbolic_trace(net)
    channels = getattr(net, "in_channels", 3)
    for size in ((33, 50), (40, 65)):
        images = torch.randn(1, channels, *size)
        torch.testing.assert_close(traced(images), net(images), rtol=0, atol=0)
    if name != "any module":
        with pytest.raises(ValueError, match=r"^images must have shape"):
            traced(images[:, :1])


def test_a_module_with_other_scores_is_refused_by_what_was_recorded() -> None:
    traced = torch.fx.symbolic_trace(CoarseNet(nn.Conv2d(3, 4, 8, 8), Resize(), 3))
    with pytest.raises(ValueError, match=r"^the module's scores must have num_classes = 3"):
        traced(torch.zeros(1, 3, 16, 16))
