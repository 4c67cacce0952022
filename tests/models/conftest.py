"""The published nets once more, layer by layer in plain PyTorch, their crops typed in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 5
WIDTH = 1 / 32  # channels 2, 4, 8, 16, 16 and 128; AlexNet's 4, 8, 12, 12, 8 and 128


def dense_bilinear(channels: int, size: int) -> Tensor:
    weight = torch.zeros(channels, channels, size, size, dtype=torch.float64)
    factor = (size + 1) // 2
    for y in range(size):
        for x in range(size):
            wy = 1 - abs(y - (size - 1) / 2) / factor
            wx = 1 - abs(x - (size - 1) / 2) / factor
            for c in range(channels):
                weight[c, c, y, x] = wy * wx
    return weight


class PublishedNet(nn.Module):
    """``name`` as in build_model; every layer, size and crop as in the published definitions."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.conv1_1 = nn.Conv2d(3, 2, 3, padding=100)
        self.conv1_2 = nn.Conv2d(2, 2, 3, padding=1)
        self.conv2_1 = nn.Conv2d(2, 4, 3, padding=1)
        self.conv2_2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3_1 = nn.Conv2d(4, 8, 3, padding=1)
        self.conv3_2 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv3_3 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv4_1 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv4_2 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv4_3 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv5_1 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv5_2 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv5_3 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc6 = nn.Conv2d(16, 128, 7)
        self.fc7 = nn.Conv2d(128, 128, 1)
        self.score_fr = nn.Conv2d(128, CLASSES, 1)
        if name == "fcn32s":
            self.upscore = self.deconv(32)
            return
        self.score_pool4 = nn.Conv2d(16, CLASSES, 1)
        self.upscore2 = self.deconv(2)
        if name == "fcn16s":
            self.upscore16 = self.deconv(16)
            return
        self.score_pool3 = nn.Conv2d(8, CLASSES, 1)
        self.upscore_pool4 = self.deconv(2)
        self.upscore8 = self.deconv(8)

    @staticmethod
    def deconv(stride: int) -> nn.ConvTranspose2d:
        layer = nn.ConvTranspose2d(CLASSES, CLASSES, 2 * stride, stride=stride, bias=False)
        layer.weight = nn.Parameter(dense_bilinear(CLASSES, 2 * stride), requires_grad=False)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]

        def crop(map: Tensor, offset: int, height: int, width: int) -> Tensor:
            assert map.shape[2] >= offset + height
            assert map.shape[3] >= offset + width
            return map[:, :, offset : offset + height, offset : offset + width]

        def pool(map: Tensor) -> Tensor:
            return F.max_pool2d(map, 2, 2, ceil_mode=True)

        h = self.conv1_2(self.conv1_1(x).relu()).relu()
        h = self.conv2_2(self.conv2_1(pool(h)).relu()).relu()
        h = self.conv3_3(self.conv3_2(self.conv3_1(pool(h)).relu()).relu()).relu()
        pool3 = pool(h)
        h = self.conv4_3(self.conv4_2(self.conv4_1(pool3).relu()).relu()).relu()
        pool4 = pool(h)
        h = self.conv5_3(self.conv5_2(self.conv5_1(pool4).relu()).relu()).relu()
        h = self.fc7(self.fc6(pool(h)).relu()).relu()
        h = self.score_fr(h)
        if self.name == "fcn32s":
            return crop(self.upscore(h), 19, height, width)

        if self.name == "fcn8s-atonce":
            pool4, pool3 = pool4 * 0.01, pool3 * 0.0001
        h = self.upscore2(h)
        h = h + crop(self.score_pool4(pool4), 5, *h.shape[2:])
        if self.name == "fcn16s":
            return crop(self.upscore16(h), 27, height, width)

        h = self.upscore_pool4(h)
        h = h + crop(self.score_pool3(pool3), 9, *h.shape[2:])
        return crop(self.upscore8(h), 31, height, width)


class PublishedAlexNet(nn.Module):
    """FCN-AlexNet on CaffeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 11, stride=4, padding=100)
        self.conv2 = nn.Conv2d(4, 8, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(8, 12, 3, padding=1)
        self.conv4 = nn.Conv2d(12, 12, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(12, 8, 3, padding=1, groups=2)
        self.fc6 = nn.Conv2d(8, 128, 6)
        self.fc7 = nn.Conv2d(128, 128, 1)
        self.score_fr = nn.Conv2d(128, CLASSES, 1)
        self.upscore = nn.ConvTranspose2d(CLASSES, CLASSES, 63, stride=32, bias=False)
        self.upscore.weight = nn.Parameter(dense_bilinear(CLASSES, 63), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]

        def pool(map: Tensor) -> Tensor:
            return F.max_pool2d(map, 3, 2, ceil_mode=True)

        def normalize(map: Tensor) -> Tensor:
            """Caffe's LRN: by the squares of five channels, 1e-4 / 5 of each."""
            squares = F.pad(map.square(), (0, 0, 0, 0, 2, 2))
            around = sum(squares[:, c : c + map.shape[1]] for c in range(5))
            return map / (1 + 1e-4 / 5 * around) ** 0.75

        h = normalize(pool(self.conv1(x).relu()))
        h = normalize(pool(self.conv2(h).relu()))
        h = self.conv5(self.conv4(self.conv3(h).relu()).relu()).relu()
        h = self.fc7(self.fc6(pool(h)).relu()).relu()
        return self.upscore(self.score_fr(h))[:, :, 18 : 18 + height, 18 : 18 + width]


@pytest.fixture
def published_net():
    """Builds a published net in float64, every parameter random, scores included."""

    def build(name: str) -> nn.Module:
        torch.manual_seed(len(name))
        net = PublishedAlexNet() if name == "fcn-alexnet" else PublishedNet(name)
        net.double()
        for key, parameter in net.named_parameters():
            if not key.startswith("upscore"):
                fan_in = parameter[0].numel()
                nn.init.normal_(parameter, std=(2 / fan_in) ** 0.5 if parameter.dim() > 1 else 0.1)
        return net

    return build


@pytest.fixture
def narrow() -> dict[str, float]:
    """The options that make build_model's nets as narrow as the published ones here."""
    return {"num_classes": CLASSES, "width": WIDTH, "dropout": 0.0}
