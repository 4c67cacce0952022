from __future__ import annotations

import inspect
import pickle

import pytest
import torch

from fcn_ext import nn, ops
from fcn_ext.geometry import Deconvolution, Resize


def test_modules_are_their_functions() -> None:
    coarse, skip = torch.randn(1, 2, 5, 6), torch.randn(1, 2, 20, 22)
    assert torch.equal(nn.Upsample(2, offset=1)(coarse), ops.upsample(coarse, 2, offset=1))
    assert torch.equal(
        nn.Upsample(4, kernel_size=7, offset=(1, 2))(coarse, output_size=(9, 8)),
        ops.upsample(coarse, 4, kernel_size=7, offset=(1, 2), output_size=(9, 8)),
    )
    assert torch.equal(nn.FuseSkip(3)(coarse, skip), ops.fuse_skip(coarse, skip, 3))
    assert torch.equal(
        nn.Interpolate(align_corners=True)(coarse, (9, 8)),
        ops.interpolate(coarse, (9, 8), align_corners=True),
    )
    assert torch.equal(nn.Interpolate((9, 8))(coarse), ops.interpolate(coarse, (9, 8)))
    with pytest.raises(ValueError, match="size must be given"):
        nn.Interpolate()(coarse)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses_are_their_functions(reduction: str) -> None:
    scores, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 9, 11))
    target[0, 0] = 7
    weight = torch.tensor([1.0, 0.5, 2.0])
    options = {
        "weight": weight,
        "ignore_index": 7,
        "reduction": reduction,
        "label_smoothing": 0.1,
    }
    upsampled = nn.UpsampleCrossEntropyLoss(3, kernel_size=5, offset=(1, 2), **options)
    expected = ops.upsample_cross_entropy(
        scores, target, 3, kernel_size=5, offset=(1, 2), **options
    )
    assert torch.equal(upsampled(scores, target), expected)
    interpolated = nn.InterpolateCrossEntropyLoss(align_corners=True, **options)
    expected = ops.interpolate_cross_entropy(scores, target, align_corners=True, **options)
    assert torch.equal(interpolated(scores, target), expected)


def test_modules_take_a_geometry() -> None:
    scores, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 9, 11))
    for geometry in (Deconvolution(3, 5, (1, 2)), Resize(align_corners=True)):
        loss = nn.CrossEntropyLoss(geometry, label_smoothing=0.1)
        expected = ops.cross_entropy(scores, target, geometry, label_smoothing=0.1)
        assert torch.equal(loss(scores, target), expected)
        labels = nn.Argmax(geometry, size=(9, 11))
        assert torch.equal(labels(scores), ops.argmax(scores, (9, 11), geometry))
        assert torch.equal(labels(scores, (8, 7)), ops.argmax(scores, (8, 7), geometry))
        assert repr(geometry) in repr(loss)
        assert repr(geometry) in repr(labels)
    for module in (nn.CrossEntropyLoss, nn.Argmax):
        with pytest.raises(TypeError, match=r"geometry must be .*Deconvolution\(8\), got 8"):
            module(8)  # type: ignore[arg-type]


def test_losses_replace_the_two_usual_lines() -> None:
    scores, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 16, 20))
    target[0, 0] = 255
    weight = torch.tensor([1.0, 0.5, 2.0])
    plain = torch.nn.CrossEntropyLoss(weight=weight, ignore_index=255)
    logits = torch.nn.functional.interpolate(scores, target.shape[1:], mode="bilinear")
    ours = nn.InterpolateCrossEntropyLoss(weight=weight)
    torch.testing.assert_close(ours(scores, target), plain(logits, target))
    assert ours.state_dict().keys() == plain.state_dict().keys()
    ours.load_state_dict(plain.state_dict())
    assert ours.double().weight.dtype == torch.float64
    assert not nn.UpsampleCrossEntropyLoss(2).state_dict()
    assert ours.half()(scores.half(), target).dtype == torch.float32


def test_argmax_modules_are_their_functions() -> None:
    scores = torch.randn(2, 3, 4, 5)
    assert torch.equal(
        nn.UpsampleArgmax(4, kernel_size=7, offset=1)(scores, output_size=(9, 8)),
        ops.upsample_argmax(scores, 4, kernel_size=7, offset=1, output_size=(9, 8)),
    )
    assert torch.equal(
        nn.InterpolateArgmax(align_corners=True)(scores, (9, 8)),
        ops.interpolate_argmax(scores, (9, 8), align_corners=True),
    )
    wide = nn.InterpolateArgmax(9, dtype=torch.int64)(scores)
    assert torch.equal(wide, ops.interpolate_argmax(scores, 9, dtype=torch.int64))
    with pytest.raises(ValueError, match="size must be given to InterpolateArgmax"):
        nn.InterpolateArgmax()(scores)
    cropping = Resize(uncropped_size=9, offset=(1, 2))  # says what is left of it
    assert torch.equal(nn.Argmax(cropping)(scores), ops.argmax(scores, (8, 7), cropping))


def test_modules_say_what_they_are() -> None:
    net = torch.nn.Sequential(
        nn.Upsample(8, offset=4),
        nn.Interpolate(3),
        nn.FuseSkip((1, 2)),
        nn.UpsampleCrossEntropyLoss(16, label_smoothing=0.5),
        nn.InterpolateCrossEntropyLoss(ignore_index=9, reduction="sum"),
        nn.UpsampleArgmax(32),
        nn.InterpolateArgmax(align_corners=True, dtype=torch.int16),
    )
    for text in (
        "stride=8",
        "offset=4",
        "size=3",
        "offset=(1, 2)",
        "stride=16",
        "label_smoothing=0.5",
        "ignore_index=9",
        "reduction='sum'",
        "stride=32",
        "Resize(align_corners=True), size=None, dtype=torch.int16",
    ):
        assert text in repr(net)
    assert not list(net.parameters())


LOSSES = [getattr(nn, name) for name in nn.__all__ if name.endswith("Loss")]


def test_each_loss_has_a_forward_of_its_own() -> None:
    """``torch.compile`` keeps eight compilations of one code object."""

    class Doubled(nn.DiceLoss):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input, target)

    class Named(Doubled):
        pass

    made_of = [loss for loss in LOSSES if not issubclass(loss, nn.CrossEntropyLoss)]
    forwards = [loss.forward for loss in (*made_of, nn.CrossEntropyLoss, Doubled)]
    assert len({id(forward.__code__) for forward in forwards}) == len(forwards)
    assert nn.FocalLoss.forward.__qualname__ == "FocalLoss.forward"
    assert list(inspect.signature(nn.FocalLoss.forward).parameters) == ["self", "input", "target"]
    scores, target = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 8, 8))
    for kind in (Doubled, Named):
        assert torch.equal(kind()(scores, target), 2 * nn.DiceLoss()(scores, target))
    loss = pickle.loads(pickle.dumps(nn.FocalLoss(gamma=1.0)))
    assert torch.equal(loss(scores, target), nn.FocalLoss(gamma=1.0)(scores, target))


# Of torch's own tracing of an autograd function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_all_losses_are_compiled_in_one_process() -> None:
    scores, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 8, 8))
    masks = torch.randint(0, 2, (2, 3, 8, 8))
    torch.compiler.reset()
    for kind in LOSSES:
        loss = kind(2) if kind is nn.UpsampleCrossEntropyLoss else kind()
        target = masks if kind.__name__.startswith("Sigmoid") else labels
        inputs = (scores, scores, (8, 8)) if kind is nn.DistillationLoss else (scores, target)
        compiled = torch.compile(loss, backend="eager", fullgraph=True)
        assert torch.equal(compiled(*inputs), loss(*inputs)), kind
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (nn.OhemCrossEntropyLoss(threshold=None, min_kept=0.1), "threshold", 0.3),
        (nn.SigmoidFocalLoss(alpha=None), "alpha", 0.75),
        *((loss(), "group", False) for loss in (nn.FocalLoss, nn.DiceLoss, nn.GeneralizedDiceLoss)),
        (nn.FocalLoss(), "alpha", torch.tensor([0.5, 1.0, 2.0])),
        (nn.TverskyLoss(), "class_weight", torch.tensor([0.5, 1.0, 2.0])),
    ],
)
def test_options_that_were_left_out_can_be_set_later(
    module: torch.nn.Module, name: str, value: object
) -> None:
    """And back again; those that are weights are buffers, no others."""
    scores = torch.linspace(-2, 2, 96).reshape(2, 3, 4, 4)
    target = torch.arange(512).reshape(2, 16, 16) % 3
    if isinstance(module, nn.SigmoidFocalLoss):
        target = (target.unsqueeze(1) == torch.arange(3).view(3, 1, 1)).to(torch.uint8)
    before = module(scores, target)
    given = {key: getattr(module, key) for key in module.names}
    setattr(module, name, value)
    expected = module.function(scores, target, module.geometry, **{**given, name: value})
    assert torch.equal(module(scores, target), expected)
    assert (name in dict(module.named_buffers())) == isinstance(value, torch.Tensor)
    setattr(module, name, None)
    assert torch.equal(module(scores, target), before)
