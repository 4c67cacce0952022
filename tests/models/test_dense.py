"""Shift-and-stitch and the rarefied net: equal to each other, and to the coarse net where it has
cells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcn_ext.models import (
    build_model,
    rarefied,
    receptive_fields,
    shift_and_stitch,
)

# Without padding but of the image itself, so that no cell sees any.
NETS: dict[str, tuple[nn.Sequential, int]] = {
    "pooled": (
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 3, 3),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(3, 2, 2),
        ),
        4,
    ),
    "strided": (nn.Sequential(nn.Conv2d(2, 4, 5, stride=3), nn.Tanh(), nn.Conv2d(4, 2, 3)), 3),
    "averaged": (nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 2, (1, 3)), nn.AvgPool2d(3, 2)), 4),
    "dilated": (nn.Sequential(nn.Conv2d(2, 2, 2, stride=2), nn.Conv2d(2, 2, 3, dilation=2)), 2),
    "plain": (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)), 1),
    "skipping": (nn.Sequential(nn.Conv2d(2, 2, 2, stride=5), nn.BatchNorm2d(2)), 5),
}


def double(net: nn.Module) -> nn.Module:
    return net.double().eval()


def padded(images: Tensor, pixels: int) -> Tensor:
    return F.pad(images, (pixels,) * 4)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(23, 30), (24, 19)])
def test_both_are_equal_without_padding_inside(name: str, size: tuple[int, int]) -> None:
    net, stride = NETS[name]
    double(net)
    images = torch.randn(2, 2, *size, dtype=torch.float64)
    stitched = shift_and_stitch(net, images, stride)
    dense = rarefied(net, images.shape)(padded(images, stride - 1))
    coarse = net(images)
    on_canvas = net(F.pad(images, (0, stride - 1, 0, stride - 1))).shape
    assert stitched.shape == (2, 2, *(stride * side for side in on_canvas[2:]))
    torch.testing.assert_close(
        stitched, dense[:, :, : stitched.shape[2], : stitched.shape[3]], rtol=0, atol=1e-12
    )
    rows, columns = coarse.shape[2:]
    unmoved = stitched[:, :, stride - 1 :: stride, stride - 1 :: stride]
    torch.testing.assert_close(unmoved[:, :, :rows, :columns], coarse, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [1, 2])
def test_part_of_a_stride(kept: int) -> None:
    net = double(NETS["pooled"][0])
    images = torch.randn(1, 2, 29, 40, dtype=torch.float64)
    stitched = shift_and_stitch(net, images, 4 // kept, step=kept)
    dense = rarefied(net, images.shape, kept)
    layer = list(receptive_fields(dense, images.shape).values())[-1]
    assert layer.grids is not None
    assert layer.grids[0].stride == kept
    result = dense(padded(images, 4 - kept))
    torch.testing.assert_close(
        stitched, result[:, :, : stitched.shape[2], : stitched.shape[3]], rtol=0, atol=1e-12
    )


def coarse_scores(name: str, padding: str) -> nn.Module:
    """The trunk of a published net and random scores on it."""
    net = build_model(name, 3, width=0.03, padding=padding, dropout=0.0).double()
    torch.nn.init.normal_(net.score_fr.weight)
    for parameter in net.trunk.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.1, 0.5)  # units stay alive

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.score = net.trunk, net.score_fr

        def forward(self, images: Tensor) -> Tensor:
            scores: Tensor = self.score(self.trunk(images)[net.trunk.top])
            return scores

    return Scores().eval()


@pytest.mark.parametrize(
    ("name", "padding"), [("fcn-squeezenet", "same"), ("fcn-alexnet", "published")]
)
@torch.no_grad()
def test_published_nets_are_equal_where_no_padding_inside_is_seen(name: str, padding: str) -> None:
    net = coarse_scores(name, padding)
    side = 270 if name == "fcn-squeezenet" else 380
    images = torch.randn(1, 3, side, side, dtype=torch.float64)
    stitched = shift_and_stitch(net, images, 2, step=16)
    framed = padded(images, 16)
    dense = rarefied(net, framed.shape, 16)
    result = dense(framed)
    layer = list(receptive_fields(dense, framed.shape).values())[-1]
    assert layer.grids is not None
    inside = [
        cell
        for cell in range(min(result.shape[2], stitched.shape[2]))
        if abs(2 * layer.grids[0].center(cell) - framed.shape[2] + 1)
        <= framed.shape[2] - layer.grids[0].receptive_field
    ]
    assert len(inside) >= 2
    window = slice(inside[0], inside[-1] + 1)
    found, expected = stitched[..., window, window], result[..., window, window]
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.std()))


def test_cells_of_the_coarse_net_are_among_those_of_the_rarefied() -> None:
    """Padding inside included: it lies at the coarse cells' distance."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(4, 3, 3, padding=(2, 0)),
        nn.AvgPool2d(2),
    )
    double(net)
    images = torch.randn(1, 2, 47, 63, dtype=torch.float64)
    for kept in (1, 2, 4, 8):
        dense = rarefied(net, images.shape, kept)(images)[:, :, :: 8 // kept, :: 8 // kept]
        coarse = net(images)
        rows, columns = (
            min(sides) for sides in zip(dense.shape[2:], coarse.shape[2:], strict=True)
        )
        assert rows >= 5
        torch.testing.assert_close(
            dense[:, :, :rows, :columns], coarse[:, :, :rows, :columns], rtol=0, atol=1e-12
        )


def test_the_copy_shares_its_weights_and_the_original_stays() -> None:
    net, _ = NETS["pooled"]
    before = repr(net)
    dense = rarefied(net, (1, 2, 30, 30))
    assert repr(net) == before
    for (name, own), (other, copied) in zip(
        net.named_parameters(), dense.named_parameters(), strict=True
    ):
        assert name == other
        assert own is copied
    assert isinstance(dense, nn.Sequential)
    assert [dense[i].stride for i in (2, 4)] == [(1, 1), (1, 1)]
    assert [dense[i].dilation for i in (3, 4, 5)] == [(2, 2), (2, 2), (4, 4)]
    assert "dilation=(2, 2)" in repr(dense[4])


def test_shifts_of_tiny_images_and_of_none() -> None:
    net = nn.Conv2d(1, 1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1)
    image = torch.full((1, 1, 1, 1), 7.0)
    stitched = shift_and_stitch(net, image, 3)
    expected = torch.zeros(1, 1, 3, 3)
    expected[..., 2, 2] = 7
    assert stitched.shape == (1, 1, 9, 9)
    assert torch.equal(stitched[..., 0:3, 0:3], expected)
    assert stitched.sum() == 63
    assert shift_and_stitch(net, image[:0], 2).shape == (0, 1, 4, 4)
    images = torch.randn(1, 1, 5, 6)
    assert torch.equal(shift_and_stitch(net, images, 1), net(images))
    view = torch.randn(1, 1, 6, 10)[..., ::2].transpose(2, 3)
    assert torch.equal(shift_and_stitch(net, view, 2), shift_and_stitch(net, view.contiguous(), 2))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(self.conv(x)))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.last = nn.MaxPool2d(2), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.avg_pool2d(self.pool(x), 3, stride=1))


@pytest.mark.parametrize(
    ("net", "stride", "error", "message"),
    [
        (Twice(), 1, ValueError, r"conv \(2\) is called at two strides"),
        (Functional(), 1, ValueError, "module must be made of nn.Conv2d, .* in last"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2)), 1, ValueError, "in 1"),
        (nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)), 1, ValueError, "in 1"),
        (nn.Sequential(nn.MaxPool2d(2), nn.InstanceNorm2d(2)), 1, ValueError, "in 1"),
        (nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(3)), 4, ValueError, "got 4, which lies"),
        (
            nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(3, padding=1, count_include_pad=False)),
            *(1, ValueError, "1 must include its padding"),
        ),
        (
            nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")),
            *(1, ValueError, "1 must pad with zeros, got 'reflect'"),
        ),
        (nn.ReLU(), 0, ValueError, "stride must be >= 1, got 0"),
        (nn.ReLU(), 1.5, TypeError, "stride must be an integer, got 1.5"),
        ("net", 1, TypeError, "module must be"),
    ],
)
def test_what_cannot_be_rarefied(
    net: Any, stride: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rarefied(net, (1, 2, 24, 24), stride)


@pytest.mark.parametrize(
    ("images", "factor", "step", "error", "message"),
    [
        (torch.zeros(1, 2, 4, 4), 0, 1, ValueError, "factor must be >= 1, got 0"),
        (torch.zeros(1, 2, 4, 4), 2, 0, ValueError, "step must be >= 1, got 0"),
        (torch.zeros(1, 2, 4, 4), "2", 1, TypeError, "factor must be an integer"),
        (torch.zeros(2, 4, 4), 2, 1, ValueError, "images"),
        ([1], 2, 1, TypeError, "images"),
    ],
)
def test_what_cannot_be_stitched(
    images: Any, factor: Any, step: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        shift_and_stitch(nn.Identity(), images, factor, step=step)


@pytest.mark.parametrize(
    ("name", "field"),
    [("fcn32s", 404), ("fcn-alexnet", 355), ("fcn-googlenet", 715), ("fcn-squeezenet", 239)],
)
def test_every_trunk_can_be_rarefied(name: str, field: int) -> None:
    dense = rarefied(coarse_scores(name, "same"), (1, 3, 64, 64), 8)
    score = list(receptive_fields(dense, (1, 3, 64, 64)).values())[-1]
    assert score.grids is not None
    assert [grid.stride for grid in score.grids] == [8, 8]
    assert score.receptive_field == (field, field)


@pytest.mark.parametrize("model", [None, "net", 3])
def test_what_cannot_be_called_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match=r"^model must be a module or a function, got"):
        shift_and_stitch(model, torch.zeros(1, 3, 8, 8), 2)
