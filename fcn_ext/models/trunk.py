"""Trunks turn images into named feature maps, which heads score."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from .._arguments import flag, integer, number, one_of_literal, shown
from ..geometry import Grid, square
from .block import Block

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "ClassifierTrunk",
    "FullyConnectedTrunk",
    "Padding",
    "Trunk",
    "count",
]

Padding = Literal["published", "same", "classifier"]

_FC_CHANNELS = 4096
_LARGEST_WIDTH = 65536  # beyond it the sizes of layers leave 64 bits


class Trunk(nn.Module):
    """A module that returns named feature maps of images, and knows where their cells lie.

    A trunk of your own is a subclass that sets the attributes below and defines ``forward`` and
    ``grids``; :class:`ClassifierTrunk` does so for lists of layers. ``caffe_layers`` and
    ``torchvision_layers``, if defined, are used to load weights.

    Attributes:
        in_channels: channels of the images.
        channels: channels of each map, by its name, from fine to coarse.
        top: the name of the map that a head scores first, the coarsest.
        whole: whether ``top`` is the last map of the whole trunk, whose score layer is
            ``score_fr``.
        frozen: whether :meth:`freeze` was called.
    """

    in_channels: int
    channels: dict[str, int]
    top: str
    whole: bool = True
    frozen: bool = False

    @abstractmethod
    def forward(self, images: Tensor, keep: Collection[str] | None = None) -> dict[str, Tensor]:
        """The maps named in ``keep``, by default only ``top``.

        Args:
            images: ``(N, in_channels, H, W)``.
            keep: names among those of ``channels``.

        Returns:
            ``(N, channels[name], h, w)`` for each name.
        """

    @abstractmethod
    def grids(self) -> dict[str, Grid]:
        """Where the cells of each map lie in the image."""

    def freeze(self) -> None:
        """Freezes the parameters: only the layers above the trunk are trained, as in FCN-32s-fixed
        (Long et al., section 4.3).

        Batch normalization uses its present statistics in training, too. Dropout stays active.
        """
        self.frozen = True
        self.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def caffe_layers(self) -> dict[str, str]:
        """The layers with parameters, first to last, and their names in Caffe's classifier."""
        return {}

    def torchvision_layers(self) -> dict[str, str]:
        """The same layers and their names in torchvision's classifier, if torchvision has the
        net."""
        return {}


class ClassifierTrunk(Trunk):
    """A classifier's layers, made fully convolutional, one after the other.

    Weights start from He's normal initialization, biases from zero. All layers share one ReLU,
    ``relu``.

    Args:
        in_channels: channels of the images.
        width: factor on the channel count of every layer, at most 65536.
        padding: ``"published"`` pads the image by 100 pixels at the first convolution, so that
            every later crop stays inside the map for any image size (Long et al., 2015, and the
            published net definitions). ``"same"`` pads each convolution and pooling so that it
            keeps the image's border, which takes about 40 % fewer operations at 500x500 pixels.
            Both accept images of any size, and both align every score with the center of the
            receptive field it was computed from. Within half a stride of the image's border
            ``"same"`` interpolates towards a border of zeros, as the published FCN-32s does too.
            ``"classifier"`` is that of the classifier before surgery, which needs images of a
            certain size; it is not meant for an FCN.
        batch_norm: batch normalization after the convolutions.
        dropout: probability that an element is zeroed in training, in the places where the
            classifier had dropout.
        top: the map to end with, by default the last; the layers after it are left out.

    Attributes:
        stages: the layers between each map and the one before, by the name of the map they end in.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        padding: Padding = "published",
        batch_norm: bool = False,
        dropout: float = 0.5,
        top: str | None = None,
    ) -> None:
        super().__init__()
        in_channels = count(in_channels, "in_channels")
        width, dropout = number(width, "width"), number(dropout, "dropout")
        if not (width > 0 and math.isfinite(width)):
            raise ValueError(f"width must be finite and > 0, got {width!r}")
        if width > _LARGEST_WIDTH:
            raise ValueError(f"width must be <= {_LARGEST_WIDTH}, got {width!r}")
        one_of_literal(padding, Padding, "padding")
        flag(batch_norm, "batch_norm")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must lie in [0, 1], got {dropout!r}")

        self.in_channels = in_channels
        self.width = width
        self.padding: Padding = padding
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.channels = {}
        self.stages: dict[str, list[str]] = {}
        self._stage: list[str] = []
        self._last = top
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor, keep: Collection[str] | None = None) -> dict[str, Tensor]:
        if isinstance(keep, str) or not isinstance(keep, Iterable | None):
            raise TypeError(f"keep must be a list of names of maps, got {shown(keep)}")
        wanted = [self.top] if keep is None else list(keep)
        for name in wanted:
            if not (isinstance(name, str) and name in self.stages):
                raise ValueError(
                    f"keep must name maps of {', '.join(self.stages)}, got {shown(name)}"
                )
        maps = {}
        x = images
        for name, layers in self.stages.items():
            for layer in layers:
                x = getattr(self, layer)(x)
            if name in wanted:
                maps[name] = x
                if len(maps) == len(wanted):
                    break
        return maps

    def grids(self) -> dict[str, Grid]:
        grids = {}
        grid = Grid()
        for name, layers in self.stages.items():
            for layer in layers:
                grid = self._grid_after(getattr(self, layer), grid)
            grids[name] = grid
        return grids

    def _grid_after(self, layer: nn.Module, grid: Grid) -> Grid:
        if isinstance(layer, Block):
            return layer.grid_after(grid)
        return grid.through(layer) if isinstance(layer, nn.Conv2d | nn.MaxPool2d) else grid

    def _add(self, name: str, layer: nn.Module) -> None:
        """Appends ``layer``."""
        self.add_module(name, layer)
        self._stage.append(name)

    def _add_conv(self, name: str, norm: str, conv: nn.Conv2d) -> None:
        """Appends ``conv``, batch normalization called ``norm``, if any, and a ReLU."""
        self._add(name, conv)
        if self.batch_norm:
            self._add(norm, nn.BatchNorm2d(conv.out_channels))
        self._stage.append("relu")

    def _end_stage(self, name: str, channels: int) -> None:
        """Names the map after all layers so far, and makes it the top map."""
        self.channels[name] = channels
        self.stages[name], self._stage = self._stage, []
        self.top = name

    @property
    def smallest_image(self) -> int:
        """The least height and width of an image for which the top map has a cell."""
        side = 1
        for layers in reversed(self.stages.values()):
            for layer in map(self.get_submodule, reversed(layers)):
                if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                    kernel, stride, padding = (
                        square(layer, name) for name in ("kernel_size", "stride", "padding")
                    )
                    # The last window of a pooling needs only one cell inside the map.
                    spare = stride - 1 if isinstance(layer, nn.MaxPool2d) else 0
                    side = max(1, (side - 1) * stride + kernel - 2 * padding - spare)
        return side

    def _finish(self) -> None:
        """Ends the trunk at the requested map, and initializes its layers."""
        if self._last is not None:
            self._end_in(self._last)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 4:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def _end_in(self, top: str) -> None:
        """Removes the layers after the map ``top``."""
        if not (isinstance(top, str) and top in self.stages):
            raise ValueError(f"top must name a map of {', '.join(self.stages)}, got {shown(top)}")
        self.whole = top == self.top
        while self.top != top:
            _, layers = self.stages.popitem()
            self.channels.popitem()
            for layer in set(layers) - {"relu"}:
                delattr(self, layer)
            self.top = next(reversed(self.stages))

    def _present(self, layers: dict[str, str]) -> dict[str, str]:
        """Those of ``layers`` that were not removed."""
        return {name: other for name, other in layers.items() if hasattr(self, name.split(".")[0])}


class FullyConnectedTrunk(ClassifierTrunk):
    """A trunk that ends in fc6 and fc7, now convolutions. Arguments as :class:`ClassifierTrunk`.

    ``padding="published"`` does not pad fc6; fc6 and fc7 have no batch normalization; dropout is on
    their elements.

    Args:
        fc_channels: channels of fc6 and fc7; by default ``4096 * width``.
    """

    def __init__(self, *, fc_channels: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        if fc_channels is not None:
            fc_channels = count(fc_channels, "fc_channels")
        self.fc_channels = fc_channels or max(1, round(_FC_CHANNELS * self.width))

    def caffe_layers(self) -> dict[str, str]:
        return {layer: layer for layer in self.torchvision_layers()}

    def _add_fully_connected(self, inputs: int, kernel_size: int, padding: int) -> None:
        """Appends fc6 and fc7."""
        for index, conv in (
            (6, nn.Conv2d(inputs, self.fc_channels, kernel_size, padding=padding)),
            (7, nn.Conv2d(self.fc_channels, self.fc_channels, 1)),
        ):
            self._add(f"fc{index}", conv)
            self._stage.append("relu")
            self._add(f"drop{index}", nn.Dropout(self.dropout))
            self._end_stage(f"fc{index}", self.fc_channels)


def count(value: Any, name: str) -> int:
    """``value`` as an int; raises unless it is an integer >= 1 and below 2**31."""
    number_of = integer(value, name)
    if number_of < 1:
        raise ValueError(f"{name} must be >= 1, got {number_of}")
    if number_of >= 2**31:  # no machine has memory for so many channels
        raise ValueError(f"{name} must be < 2**31, got {number_of}")
    return number_of
