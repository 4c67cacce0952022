"""Loss, labels and counts from the scores, against the same from the logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcn_ext import ops
from fcn_ext.geometry import Deconvolution, Resize
from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.models import CoarseNet, CoarseScores, build_model

from .common import randomize

NAMES = ["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"]
SIZES = [(1, 1), (33, 47), (64, 5)]
every_net = pytest.mark.parametrize("name", NAMES)
every_padding = pytest.mark.parametrize("padding", ["published", "same"])


def random_net(name: str, **options) -> nn.Module:
    return randomize(build_model(name, **options).double())


def random_batch(size: tuple[int, int], dtype: torch.dtype = torch.uint8):
    """Two images and their target, a quarter of it void, and valid at (0, 0)."""
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    target = torch.randint(0, 5, (2, *size)).to(dtype)
    target[torch.rand(target.shape) < 0.25] = 255
    target[:, 0, 0] = 1
    return images, target


def plain_loss(model, images, target, weight=None, **options):
    return F.cross_entropy(model(images), target.long(), weight, **options)


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(loss.sum(), list(model.parameters()))
    return dict(zip(dict(model.named_parameters()), found, strict=True))


@every_padding
@every_net
@pytest.mark.parametrize("size", SIZES)
def test_loss_is_that_of_the_logits(size, name, padding, narrow):
    model = random_net(name, padding=padding, **narrow)
    images, target = random_batch(size)
    expected = plain_loss(model, images, target, ignore_index=255)
    loss = model.loss(images, target)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)

    wanted = gradients(model, expected)
    for key, gradient in gradients(model, loss).items():
        assert (gradient - wanted[key]).abs().max() <= 1e-11 * wanted[key].abs().max(), key


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_loss_takes_the_options_of_cross_entropy(reduction, dtype, narrow):
    model = random_net("fcn8s", padding="same", **narrow)
    images, target = random_batch((33, 47), dtype)
    options = {
        "weight": torch.tensor([1.0, 0.0, 2.0, 0.5, 3.0], dtype=torch.float64),
        "ignore_index": 3,
        "reduction": reduction,
        "label_smoothing": 0.1,
    }
    target[target == 255] = 3
    expected = plain_loss(model, images, target, **options)
    loss = model.loss(images, target, **options)
    assert loss.shape == expected.shape
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-12)
    wanted = gradients(model, expected)
    for key, gradient in gradients(model, loss).items():
        assert (gradient - wanted[key]).abs().max() <= 1e-11 * wanted[key].abs().max(), key


@every_padding
@every_net
@pytest.mark.parametrize("size", SIZES)
def test_labels_and_counts_are_those_of_the_logits(size, name, padding, narrow):
    model = random_net(name, padding=padding, **narrow).eval()
    images, target = random_batch(size)
    logits = model(images).detach()
    labels, probability = model.predict(images, return_probability=True)
    assert torch.equal(labels, model.predict(images))
    assert labels.dtype == torch.uint8
    assert torch.equal(labels, logits.argmax(1).to(torch.uint8))
    torch.testing.assert_close(probability, logits.softmax(1).amax(1), rtol=1e-11, atol=0)

    matrix, expected = ConfusionMatrix(5), ConfusionMatrix(5)
    for _ in range(2):
        model.evaluate(images, target, matrix)
        expected.update(logits, target)
    assert torch.equal(matrix.matrix, expected.matrix)
    assert matrix.compute().num_pixels == 2 * (target != 255).sum()


def test_counts_go_into_a_tensor_too(narrow):
    model = random_net("fcn16s", **narrow).eval()
    images, target = random_batch((20, 31))
    expected = ops.confusion_matrix(model(images).detach(), target, 5, ignore_index=1)
    counts = torch.zeros(5, 5, dtype=torch.int64)
    model.evaluate(images, target, counts, ignore_index=1)
    assert torch.equal(counts, expected)
    assert counts[1].sum() == 0
    assert 0 < counts.sum() < target.numel()


def test_void_and_invalid_labels_follow_the_matrix(narrow):
    model = random_net("fcn32s", **narrow).eval()
    images, target = random_batch((9, 14))
    matrix = ConfusionMatrix(5, ignore_index=1)
    model.evaluate(images, target, matrix)
    assert matrix.invalid == (target == 255).sum()
    assert matrix.matrix.sum() == ((target != 255) & (target != 1)).sum()
    with pytest.raises(ValueError, match="pixels that are not"):
        matrix.compute()


def test_evaluation_leaves_no_trace_in_the_net(narrow):
    model = random_net("fcn8s", padding="same", batch_norm=True, **narrow).eval()
    images, target = random_batch((32, 32))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert not model.predict(images).requires_grad
    matrix = torch.zeros(5, 5, dtype=torch.int64)
    model.evaluate(images, target, matrix)
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_mode_is_the_callers(narrow):
    model = random_net("fcn32s", **{**narrow, "dropout": 0.5})
    images, _ = random_batch((40, 40))

    def seeded():
        torch.manual_seed(0)
        return model.predict(images, return_probability=True)[1]

    training = seeded()
    assert model.training
    assert not torch.equal(training, model.predict(images, return_probability=True)[1])
    assert not torch.equal(training, model.eval().predict(images, return_probability=True)[1])
    assert not model.training


def test_autocast_sums_in_float32(narrow):
    model = random_net("fcn8s", padding="same", **narrow).float()
    images, target = random_batch((96, 80))
    images = images.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.loss(images, target)
        scores = model.scores(images)
    assert scores.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    # No rounding but that of the scores.
    exact = ops.upsample(
        scores.double(), model.last_stride, offset=model.last_offset, output_size=(96, 80)
    )
    expected = F.cross_entropy(exact, target.long(), ignore_index=255)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)


def test_methods_compile_as_one_graph(narrow):
    model = random_net("fcn16s", padding="same", **narrow).float().eval()
    loss = torch.compile(model.loss, backend="eager", fullgraph=True, dynamic=True)
    predict = torch.compile(model.predict, backend="eager", fullgraph=True, dynamic=True)
    for size in [(33, 47), (64, 65)]:
        images, target = random_batch(size)
        images = images.float()
        torch.testing.assert_close(loss(images, target), model.loss(images, target))
        assert torch.equal(predict(images), model.predict(images))


def test_empty_batch(narrow):
    model = build_model("fcn8s", **narrow)
    images, target = torch.empty(0, 3, 20, 30), torch.empty(0, 20, 30, dtype=torch.uint8)
    assert model.loss(images, target, reduction="sum") == 0
    assert model.loss(images, target).isnan()
    assert model.predict(images).shape == (0, 20, 30)
    matrix = ConfusionMatrix(5)
    model.evaluate(images, target, matrix)
    assert matrix.matrix.sum() == 0


IMAGES = torch.zeros(2, 3, 8, 9)
LABELS = torch.zeros(2, 8, 9, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (LABELS[:, :, :8], ValueError, r"\(N, H, W\) = \(2, 8, 9\), got \(2, 8, 8\)"),
        (LABELS[:1], ValueError, r"\(N, H, W\) = \(2, 8, 9\), got \(1, 8, 9\)"),
        (LABELS[:, None], ValueError, r"got \(2, 1, 8, 9\)"),
        (LABELS.numpy(), TypeError, "target must be a torch.Tensor, got ndarray"),
    ],
)
def test_wrong_targets_are_refused(target, error, message, narrow):
    model = build_model("fcn32s", **narrow)
    with pytest.raises(error, match=message):
        model.loss(IMAGES, target)
    with pytest.raises(error, match=message):
        model.evaluate(IMAGES, target, ConfusionMatrix(5))


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[:, :2], IMAGES[0, 0, 0]])
def test_wrong_images_are_refused(images, narrow):
    model = build_model("fcn32s", **narrow)
    calls = [
        lambda: model.loss(images, LABELS),
        lambda: model.predict(images),
        lambda: model.evaluate(images, LABELS, ConfusionMatrix(5)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"images must have shape \(N, 3, H, W\)"):
            call()


def test_what_is_no_tensor_is_refused(narrow):
    model = build_model("fcn32s", **narrow)
    for call in (
        model,
        model.scores,
        model.predict,
        lambda images: model.loss(images, LABELS),
        lambda images: model.evaluate(images, LABELS, ConfusionMatrix(5)),
    ):
        with pytest.raises(TypeError, match=r"images must be a torch.Tensor, got ndarray"):
            call(IMAGES.numpy())


@pytest.mark.parametrize("flag", [1, "no", None])
def test_what_is_no_flag_is_refused(flag, narrow):
    with pytest.raises(TypeError, match=r"^return_probability must be a bool, got"):
        build_model("fcn32s", **narrow).predict(IMAGES, return_probability=flag)


def test_wrong_matrices_are_refused(narrow):
    model = build_model("fcn32s", **narrow)
    for wrong, kind in (([[0]], "list"), (None, "NoneType"), (IMAGES.numpy(), "ndarray")):
        with pytest.raises(
            TypeError, match=rf"^matrix must be a ConfusionMatrix or a torch\.Tensor, got {kind}$"
        ):
            model.evaluate(IMAGES, LABELS, wrong)
    with pytest.raises(ValueError, match="matrix must count the net's classes, 5, got 6"):
        model.evaluate(IMAGES, LABELS, ConfusionMatrix(6))
    with pytest.raises(ValueError, match="ConfusionMatrix, whose is 255, got 0"):
        model.evaluate(IMAGES, LABELS, ConfusionMatrix(5), ignore_index=0)
    with pytest.raises(ValueError, match=r"^matrix must have shape .* \(5, 5\), got \(6, 6\)"):
        model.evaluate(IMAGES, LABELS, torch.zeros(6, 6, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^matrix must be int64, got torch\.float32"):
        model.evaluate(IMAGES, LABELS, torch.zeros(5, 5))
    with pytest.raises(ValueError, match=r"^target and matrix .* same device, got cpu and meta"):
        model.evaluate(IMAGES, LABELS, torch.zeros(5, 5, dtype=torch.int64, device="meta"))


# ------------------------------------------------------------------ any module

GEOMETRIES = [Deconvolution(4, offset=1), Deconvolution(4, 7, (1, 2)), Resize(), Resize(True)]


def any_module() -> nn.Module:
    return randomize(nn.Conv2d(3, 5, 6, stride=4, padding=4)).double()


def at_full_size(scores, size, geometry):
    if isinstance(geometry, Resize):
        align_corners = geometry.align_corners
        return F.interpolate(scores, size, mode="bilinear", align_corners=align_corners)
    return ops.upsample(
        scores,
        geometry.stride,
        kernel_size=geometry.kernel_size,
        offset=geometry.offset,
        output_size=size,
    )


class OfItsOwn(CoarseScores):
    """A net that derives from the class, and names its void."""

    num_classes, geometry, ignore_index = 5, Deconvolution(4, offset=1), 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = any_module()

    def scores(self, images):
        return self.conv(images)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_any_module_of_coarse_scores_has_loss_labels_and_counts(geometry):
    net = CoarseNet(any_module(), geometry, 5)
    assert list(net.state_dict()) == ["module.weight", "module.bias"]
    images, target = random_batch((33, 47))
    logits = at_full_size(net.module(images), (33, 47), geometry)
    torch.testing.assert_close(net(images), logits, rtol=1e-12, atol=1e-12)
    loss = net.loss(images, target)
    expected = F.cross_entropy(logits, target.long(), ignore_index=255)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    loss.backward()
    assert net.module.weight.grad.count_nonzero() > 0
    labels, probability = net.predict(images, return_probability=True)
    assert torch.equal(labels, net(images).argmax(1))
    torch.testing.assert_close(probability, logits.softmax(1).amax(1), rtol=1e-11, atol=0)
    matrix, wanted = ConfusionMatrix(5), ConfusionMatrix(5)
    counts = torch.zeros(5, 5, dtype=torch.int64)
    net.evaluate(images, target, matrix)
    net.evaluate(images, target, counts)
    wanted.update(net(images).detach(), target)
    assert torch.equal(matrix.matrix, wanted.matrix)
    assert torch.equal(counts, wanted.matrix)


def test_the_nets_void_is_the_default():
    images, target = random_batch((33, 47))
    target[target == 255] = 3
    for net in (OfItsOwn(), CoarseNet(any_module(), Deconvolution(4, offset=1), 5, ignore_index=3)):
        expected = F.cross_entropy(net(images), target.long(), ignore_index=3)
        torch.testing.assert_close(net.loss(images, target), expected, rtol=1e-12, atol=1e-12)
        counts = torch.zeros(5, 5, dtype=torch.int64)
        net.evaluate(images, target, counts)
        assert counts.sum() == (target != 3).sum()
        expected = F.cross_entropy(net(images), target.long(), ignore_index=1)
        loss = net.loss(images, target, ignore_index=1)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_any_module_compiles_and_exports(geometry):
    net = CoarseNet(any_module().float(), geometry, 5)
    images = torch.randn(2, 3, 32, 48)
    compiled = torch.compile(net, backend="eager", fullgraph=True, dynamic=True)
    torch.testing.assert_close(compiled(images), net(images))
    program = torch.export.export(net, (images,))
    torch.testing.assert_close(program.module()(images), net(images))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((lambda x: x, Resize(), 5), TypeError, "module must be a torch.nn.Module, got function"),
        ((nn.Identity(), 8, 5), TypeError, "geometry must be a fcn_ext.geometry"),
        ((nn.Identity(), Resize(), 0), ValueError, "num_classes must be >= 1, got 0"),
        ((nn.Identity(), Resize(), 2**31), ValueError, r"num_classes must be < 2\*\*31, got 2147"),
    ],
)
def test_wrong_modules_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        CoarseNet(*arguments)


def test_modules_that_give_no_scores_are_refused():
    images = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"num_classes = 5 channels, got \(1, 3, 8, 8\)"):
        CoarseNet(nn.Identity(), Resize(), 5)(images)
    with pytest.raises(ValueError, match=r"scores must have shape \(N, C, H, W\), got \(1, 192\)"):
        CoarseNet(nn.Flatten(), Resize(), 5).predict(images)

    class Pair(nn.Module):
        def forward(self, images):
            return images, images

    with pytest.raises(TypeError, match=r"scores must be a torch.Tensor, got tuple"):
        CoarseNet(Pair(), Resize(), 3)(images)
