"""Heads score the maps of a trunk for a set of classes, and sum the scores from coarse to fine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from .._arguments import finite, flag, integer, is_list, number, shown
from ..geometry import Deconvolution, Grid
from .levels import last_level, skip_levels
from .parts import named_parts
from .trunk import Trunk, count
from .upsampling import (
    FixedUpsampling,
    LearnedUpsampling,
    Upsampling,
    UpsamplingKind,
    upsampling_kinds,
)

__all__ = ["Head"]

_CONTEXT = "score_context"


class Head(nn.Module):
    """Score layers for one set of classes, the skips they fuse, and the upsampling between them.

    The top map's scores are upsampled to the grid of the first skip and summed with its scores,
    and so on to the last skip (Long et al., section 4.2). A last upsampling brings the sum to the
    size of the image. The offsets of all crops follow from the layers' geometry
    (:mod:`fcn_ext.geometry`), and so does the side of each kernel: ``2 * stride``, or one less if
    only that makes the crop a whole number of cells. Score layers are 1x1 convolutions that start
    from zero, as Caffe leaves them.

    On several trunks each has its own score layers, of the same maps; their scores are summed,
    by default in equal shares (late fusion, section 5, "NYUDv2").

    With ``context``, the mean of the top map is also scored, and the result is added to the scores
    of all cells. This is global context (Liu et al., "ParseNet: Looking Wider to See Better",
    2015), without their normalization. Its score layer is ``score_context``.

    The published layer names: ``score_fr`` of the last map of a whole trunk, ``score_pool4`` of
    pool4; ``upscore2`` the first upsampling of several, ``upscore_pool4`` the one after pool4,
    ``upscore8`` the last; ``upscore`` the only one.

        >>> from fcn_ext.models import VGG16Trunk
        >>> trunk = VGG16Trunk(width=1 / 32)
        >>> head = Head(trunk, 21, skips=["pool4", "pool3"], upsampling={"upscore2": "dense"})
        >>> head.skip_offsets
        {'pool4': 5, 'pool3': 9}

    Args:
        trunks: the trunk to score, or several by name. Only their channels and grids are read.
        num_classes: channels of the scores.
        skips: names of the maps to fuse, from coarse to fine; or a dict with a factor for each map
            before it is scored.
        top: the map that is scored first; by default each trunk's own top map.
        ignore_index: void label of this head's targets.
        loss_weight: factor on this head's loss, in nets with several heads.
        trunk_weights: share of each trunk's scores in the sum, by its name.
        upsampling: ``"fixed"`` is bilinear and has no parameters; ``"depthwise"`` learns a kernel
            per class and ``"dense"`` one per pair of classes, as an ``nn.ConvTranspose2d`` does,
            and both start bilinear. One kind for all layers, or a dict by layer name, where missing
            layers are fixed, ``"inner"`` stands for all layers but the last, and ``"last"`` for the
            last. In the paper's text the inner ones are learned (section 4.3), ``{"inner":
            "dense"}``; in the published code, none.
        context: also score the mean of the top map, for all cells at once.

    Attributes:
        context: whether the mean of the top map is scored.
        skip_scales: the factor on each skip's map.
        skip_offsets: where the scores of each skip are cropped.
        score_grid: where the cells of the scores lie in the image.
        geometry: how the scores reach the size of the image. With a learned last upsampling the
            scores have that size already.
        streams: the score layers, by trunk.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; a trunk has no such map; the maps do not go from
            coarse to fine; trunks differ in where a map's cells lie; no kernel fits two grids.
    """

    def __init__(
        self,
        trunks: Trunk | Mapping[str, Trunk],
        num_classes: int,
        *,
        skips: Iterable[str] | Mapping[str, float] = (),
        top: str | None = None,
        ignore_index: int = 255,
        loss_weight: float = 1.0,
        trunk_weights: Mapping[str, float] | None = None,
        upsampling: UpsamplingKind | Mapping[str, UpsamplingKind] = "fixed",
        context: bool = False,
    ) -> None:
        super().__init__()
        trunks = named_parts(trunks, Trunk, "trunks")  # type: ignore[type-abstract]
        self.num_classes = count(num_classes, "num_classes")
        self.ignore_index = integer(ignore_index, "ignore_index")
        self.loss_weight = number(loss_weight, "loss_weight")
        self.trunk_weights = _trunk_weights(trunk_weights, trunks)
        self.context = flag(context, "context")
        if not 0 <= self.loss_weight < math.inf:
            raise ValueError(f"loss_weight must be finite and >= 0, got {self.loss_weight!r}")
        self.skip_scales = _skip_scales(skips)
        if not isinstance(top, str | None):
            raise TypeError(f"top must be the name of a map, got {shown(top)}")
        self.tops = {name: trunk.top if top is None else top for name, trunk in trunks.items()}

        self._places = self._grids(trunks)
        top_grid, *skip_grids = self._places
        skips = list(self.skip_scales)
        levels = skip_levels(top_grid, list(zip(skips, skip_grids, strict=True)))
        self.skip_offsets = {skip: level.offset for skip, level in zip(skips, levels, strict=True)}
        self.score_grid = levels[-1].grid if levels else top_grid
        last = last_level(self.score_grid, levels, skips)
        self.last_offset = last.offset

        paddings = [0, *(level.padding for level in levels)]
        self.streams = nn.ModuleDict()
        for name, trunk in trunks.items():
            layers = zip(self.maps(name), paddings, strict=True)
            self.streams[name] = _score_layers(
                trunk, dict(layers), self.num_classes, context=self.context
            )

        levels.append(last)
        self.upsampling = upsampling_kinds(upsampling, [level.name for level in levels])
        for level in levels:
            kind = self.upsampling[level.name]
            self.add_module(level.name, _upsampling(kind, self.num_classes, level.step))
        self.geometry = Deconvolution(last.step.stride, last.step.kernel_size, last.offset)
        if self.upsampling[last.name] != "fixed":
            self.geometry, self.score_grid = Deconvolution(1), Grid()

    def _grids(self, trunks: Mapping[str, Trunk]) -> list[Grid]:
        """Where the cells of the top map and of each skip lie, which is the same for all trunks."""
        grids: list[Grid] = []
        for name, trunk in trunks.items():
            if len(set(self.maps(name))) < len(self.maps(name)):
                raise ValueError(f"skips must leave out top, {self.tops[name]}, got it among them")
            for map in self.maps(name):
                if map not in trunk.channels:
                    raise ValueError(
                        "skips and top must name maps of the trunk, "
                        f"{', '.join(trunk.channels)}, got {map!r}"
                    )
            of_trunk = trunk.grids()
            found = [of_trunk[map] for map in self.maps(name)]
            for map, grid, first in zip(self.maps(name), found, grids or found, strict=True):
                if (grid.scale, grid.shift) != (first.scale, first.shift):
                    raise ValueError(
                        f"trunks must agree where the cells of a map lie, got {map} of {name!r} "
                        f"at stride {grid.stride} from pixel {grid.center(0)}, and stride "
                        f"{first.stride} from pixel {first.center(0)} in another"
                    )
            grids = grids or found
        return grids

    def check_fits(self, trunks: Mapping[str, Trunk]) -> None:
        """Raises ValueError unless the maps to be scored are those that this head was made for."""
        for name, trunk in trunks.items():
            grids = trunk.grids()
            layers = zip(self.maps(name), self._layers(name), self._places, strict=True)
            for map, layer, place in layers:
                if map not in trunk.channels:
                    problem = f"one that scores {map}"
                elif trunk.channels[map] != layer.in_channels:
                    problem = f"one for {layer.in_channels} channels of {map}"
                elif (grids[map].scale, grids[map].shift) != (place.scale, place.shift):
                    problem = f"one whose {map} has its first cell at pixel {place.center(0)}"
                else:
                    continue
                raise ValueError(
                    f"heads must be made for the net's trunks, got {problem}, beside "
                    f"{_described(trunk, map)}"
                )

    def maps(self, trunk: str) -> list[str]:
        """The maps of ``trunk`` that are scored: the top one, then the skips."""
        return [self.tops[trunk], *self.skip_scales]

    def forward(
        self, maps: Mapping[str, Mapping[str, Tensor]], image_size: tuple[int, int]
    ) -> Tensor:
        """The scores.

        Args:
            maps: by trunk and by name, those that :meth:`maps` names.
            image_size: height and width of the images; also of the scores, if the last upsampling
                is learned.

        Returns:
            ``(N, num_classes, h, w)``, its cells placed as ``score_grid`` says.
        """
        *inner, last = [getattr(self, name) for name in self.upsampling]
        score = self._summed(0, maps)
        for level, (skip, upsampling) in enumerate(zip(self.skip_scales, inner, strict=True), 1):
            skip_score = self._summed(level, maps)
            score = upsampling.fuse(score, skip_score, self.skip_offsets[skip])
        if self.upsampling[self.last_upsampling] != "fixed":
            score = last.crop(score, image_size, self.last_offset)
        return score

    @property
    def last_upsampling(self) -> str:
        """The name of the last upsampling layer."""
        return list(self.upsampling)[-1]

    def _summed(self, level: int, maps: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """The scores of the top map (level 0) or of a skip, over all trunks."""
        total: Tensor | None = None
        for trunk in self.streams:
            name = self.maps(trunk)[level]
            map = maps[trunk][name]
            scale = self.skip_scales[name] if level else 1.0
            score: Tensor = self._layers(trunk)[level](map if scale == 1 else map * scale)
            if level == 0 and self.context:
                of_mean = cast(nn.ModuleDict, self.streams[trunk])[_CONTEXT]
                score = score + of_mean(map.mean((2, 3), keepdim=True))
            weight = self.trunk_weights[trunk]
            score = score if weight == 1 else weight * score
            total = score if total is None else total + score
        assert total is not None
        return total

    @property
    def score_layers(self) -> dict[str, nn.Module]:
        """The layers that depend on the classes, by their path in the head."""
        return {
            f"streams.{trunk}.{name}": layer
            for trunk, layers in self.streams.items()
            for name, layer in layers.named_children()
        }

    def _layers(self, trunk: str) -> list[nn.Conv2d]:
        """The score layers of ``trunk``, as :meth:`maps`."""
        layers = self.streams[trunk].named_children()
        return [cast(nn.Conv2d, layer) for name, layer in layers if name != _CONTEXT]


def _described(trunk: Trunk, map: str) -> str:
    kind = type(trunk).__name__
    if map not in trunk.channels:
        return f"a {kind} of {', '.join(trunk.channels)}"
    first = trunk.grids()[map].center(0)
    return f"a {kind} whose {map} has {trunk.channels[map]}, the first cell at pixel {first}"


def _skip_scales(skips: Any) -> dict[str, float]:
    """The factor on each skip, by the skip's name."""
    if not is_list(skips):
        such = f", such as [{skips!r}]" if isinstance(skips, str) else ""
        raise TypeError(f"skips must be a list of names{such}, got {shown(skips)}")
    if isinstance(skips, Mapping):
        return {skip: finite(scale, "skips") for skip, scale in skips.items()}
    names = list(skips)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"skips must be a list of names, got {shown(name)} in it")
        if names.count(name) > 1:
            raise ValueError(f"skips must be different names, got {shown(name)} more than once")
    return dict.fromkeys(names, 1.0)


def _score_layers(
    trunk: Trunk, paddings: Mapping[str, int], num_classes: int, *, context: bool
) -> nn.ModuleDict:
    """The score layers of the maps in ``paddings``, with these paddings, and of the context."""
    layers = nn.ModuleDict()
    for map, padding in paddings.items():
        conv = nn.Conv2d(trunk.channels[map], num_classes, 1, padding=padding)
        layers["score_fr" if map == trunk.top and trunk.whole else f"score_{map}"] = conv
    if context:
        # Without a bias, as the top map's score layer has one already.
        top = next(iter(paddings))
        layers[_CONTEXT] = nn.Conv2d(trunk.channels[top], num_classes, 1, bias=False)
    for parameter in layers.parameters():
        nn.init.zeros_(parameter)
    return layers


def _upsampling(kind: UpsamplingKind, channels: int, geometry: Deconvolution) -> Upsampling:
    if kind == "fixed":
        return FixedUpsampling(channels, geometry)
    return LearnedUpsampling(channels, geometry, dense=kind == "dense")


def _trunk_weights(
    weights: Mapping[str, float] | None, trunks: Mapping[str, Trunk]
) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(trunks, 1 / len(trunks))
    if not isinstance(weights, Mapping):
        raise TypeError(f"trunk_weights must be a dict by trunk, got {type(weights).__name__}")
    if weights.keys() != trunks.keys():
        raise ValueError(
            f"trunk_weights must have a number for each of {', '.join(trunks)}, "
            f"got {', '.join(weights) or 'none'}"
        )
    return {name: finite(weights[name], "trunk_weights") for name in trunks}
