"""The network that is exported equals the run's, and has no operator of ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fcn_train.data import CAFFE, IMAGENET, Normalization, image_to_tensor
from fcn_train.export.plain import ExportedNet, plain_network
from fcn_train.heads import in_order

from .runs import noise, untrained

NETS: list[tuple[str, dict[str, Any]]] = [
    ("fcn32s", {}),
    ("fcn16s-atonce", {"padding": "published"}),
    ("fcn8s", {"sets": (5, 3)}),
    ("fcn-googlenet-16s", {"context": True}),
    ("fcn8s", {"sets": (5, 3), "context": True, "channels": "color-hha", "fusion": "late"}),
    ("fcn8s", {"upsampling": "inner=dense,last=depthwise", "batch_norm": False}),
    ("fcn8s", {"sets": (5, 3), "upsampling": "upscore2=dense"}),
    ("fcn-alexnet", {"batch_norm": False, "padding": "published"}),
    ("fcn-alexnet-torchvision-8s", {}),
    ("fcn-googlenet-8s", {}),
    ("fcn-squeezenet-16s", {"padding": "published"}),
    ("fcn-pool4", {}),
    ("fcn16s", {"channels": "color-hha", "fusion": "late"}),
    ("fcn32s", {"channels": "color-depth"}),
]


class Ours(TorchDispatchMode):
    """Notes which operators of fcn_ext are called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace not in ("aten", "prim"):
            self.called.add(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "options"), NETS, ids=str)
@torch.no_grad()
def test_every_network_has_a_plain_one(name: str, options: dict[str, Any]) -> None:
    run = untrained(name, **options)
    run.model.double()
    plain = plain_network(run).double()
    for size in ((2, 37, 50), (1, 1, 9)):
        images = noise(run, *size).double()
        expected = in_order(run.model(images))
        with Ours() as ours:
            found = list(plain.head_scores(images).values())
        assert ours.called == set()
        assert len(found) == len(expected) == len(run.label_sets)
        for scores, logits in zip(found, expected, strict=True):
            assert logits.std() > 0.01 or size[1] == 1
            torch.testing.assert_close(scores, logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalization", [IMAGENET, CAFFE], ids=["imagenet", "caffe"])
@pytest.mark.parametrize("pixels", ["uint8", "float", "normalized"])
@torch.no_grad()
def test_normalization_may_be_inside(normalization: Normalization, pixels: Any) -> None:
    run = untrained("fcn-pool3")
    net = ExportedNet(plain_network(run), "logits", pixels, normalization)
    colors = torch.randint(0, 256, (2, 3, 20, 31), dtype=torch.uint8)
    normalized = torch.stack(
        [image_to_tensor(image.permute(1, 2, 0).numpy(), normalization) for image in colors]
    )
    given = {"uint8": colors, "float": colors / 255, "normalized": normalized}[pixels]
    expected = run.model(normalized)
    torch.testing.assert_close(net(given), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_outputs_are_what_they_are_called() -> None:
    run = untrained("fcn32s", sets=(5, 3))
    images = noise(run, 1, 40, 33)
    logits = run.model(images)
    for output, expected in (
        ("logits", lambda scores: scores),
        ("probabilities", lambda scores: scores.softmax(1)),
        ("labels", lambda scores: scores.argmax(1).to(torch.uint8)),
    ):
        net = ExportedNet(plain_network(run), output, "normalized", IMAGENET)  # type: ignore[arg-type]
        found = net(images)
        assert list(found) == ["semantic", "geometric"]
        for name, values in found.items():
            wanted = expected(logits[name])
            assert values.dtype == wanted.dtype
            torch.testing.assert_close(values, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_more_classes_than_a_byte_holds() -> None:
    run = untrained("fcn-pool3", sets=(300,))
    net = ExportedNet(plain_network(run), "labels", "normalized", IMAGENET)
    images = noise(run, 1, 24, 24)
    labels = net(images)
    assert isinstance(labels, torch.Tensor)
    assert labels.dtype == run.model.predict(images).dtype == torch.int16
    assert labels.max() > 255
