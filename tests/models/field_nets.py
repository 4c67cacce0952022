"""Small nets whose cells see the image in different ways."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcn_ext import ops


class Branches(nn.Module):
    """Two ways of different sides and one around them, met by a sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 3, 5, padding=2)
        self.narrow = nn.Conv2d(2, 3, (1, 3), padding=(0, 1))
        self.off = nn.Conv2d(2, 3, 2)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x).relu_()
        both = self.wide(x) + self.narrow(x)
        return torch.cat([both, self.off(F.pad(x, (0, 1, 0, 1))), x], 1)


class Squeezed(nn.Module):
    """A mean over the image beside a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class Shared(nn.Module):
    """One layer called twice, a dense and a cropped upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.up = nn.ConvTranspose2d(2, 2, 4, stride=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        coarse = F.avg_pool2d(self.conv(self.conv(x)), 3)
        return self.up(coarse)[:, :, 2:, 1:-1]


class Zoomed(nn.Module):
    """A window of a resized map."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        return ops.interpolate(
            F.avg_pool2d(x, 3),
            (9, 11),
            align_corners=self.align_corners,
            uncropped_size=(19, 23),
            offset=(7, 4),
        )


class Written(nn.Module):
    """Results are written into parts of other tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = x.new_zeros(len(x), 4, *x.shape[2:])
        both[:, :2] = x
        both[:, 2:].copy_(self.conv(x))
        return self.last(both)


NETS: dict[str, nn.Module] = {
    "plain": nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(3, 3, 3)),
    "dilated": nn.Sequential(nn.Conv2d(2, 3, 3, dilation=3, padding=2), nn.Conv2d(3, 2, 2)),
    "asymmetric": nn.Sequential(nn.Conv2d(2, 3, (1, 5), stride=(2, 1), padding=(0, 4))),
    "skipping": nn.Sequential(nn.Conv2d(2, 3, 2, stride=5), nn.Conv2d(3, 2, 2, stride=3)),
    "ceil": nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True)),
    "far_padding": nn.Sequential(nn.Conv2d(2, 2, 5), nn.Conv2d(2, 2, 3, padding=6)),
    "same_even": nn.Sequential(nn.Conv2d(2, 2, 4, padding="same"), nn.ReLU(inplace=True)),
    "grouped": nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.LocalResponseNorm(3), nn.SiLU()),
    "reflected": nn.Sequential(nn.ReflectionPad2d(3), nn.ReplicationPad2d(1), nn.Conv2d(2, 2, 4)),
    "upsampled": nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4, mode="bilinear")),
    "corners": nn.Sequential(nn.AvgPool2d(3), nn.UpsamplingBilinear2d(size=(13, 9))),
    "nearest": nn.Sequential(nn.AvgPool2d(3), nn.Upsample(size=(13, 9))),
    "zoomed": Zoomed(False),
    "zoomed corners": Zoomed(True),
    "adaptive": nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d((5, 7))),
    "branches": Branches(),
    "squeezed": Squeezed(),
    "shared": Shared(),
    "classifier": nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 15 * 20, 4)),
}
