"""Fully convolutional nets: one or more trunks with a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch.fx
from torch import Tensor, nn

from ..geometry import Grid
from ..ops import _common
from .coarse import CoarseScores, image_size
from .heads import Head
from .names import PublishedNames, part_names
from .parts import MAIN, name_prefix, named_parts
from .trunk import Trunk

__all__ = ["FCN", "TrunksAndHeads"]


class TrunksAndHeads(PublishedNames):
    """The base of nets with one head or several: parts, their names, scores of every head.

    In state dicts, the layers of a part that was given a name have it as a prefix
    (``depth.conv1_1``, ``semantic.score_fr``, ``semantic.depth.score_fr``). State dicts of Caffe's
    published nets load as well: :meth:`aliases`.

    Several trunks see different channels of the same images: each takes the next ``in_channels`` of
    them, in order.

    Attributes:
        trunks: by name.
        heads: by name.
    """

    def __init__(
        self, trunks: Trunk | Mapping[str, Trunk], heads: Head | Mapping[str, Head]
    ) -> None:
        super().__init__()
        trunks = named_parts(trunks, Trunk, "trunks")  # type: ignore[type-abstract]
        heads = named_parts(heads, Head, "heads")
        for name, head in heads.items():
            if list(head.streams) != list(trunks):
                raise ValueError(
                    f"heads must be made for the net's trunks, {', '.join(trunks)}, got one "
                    f"for {', '.join(head.streams)}" + ("" if name == MAIN else f" as {name!r}")
                )
            head.check_fits(trunks)
        self.trunks = nn.ModuleDict(trunks)
        self.heads = nn.ModuleDict(heads)
        self.published_names()  # raises where two layers would have one name

    @property
    def in_channels(self) -> int:
        """The channels of the images, for all trunks together."""
        return sum(trunk.in_channels for trunk in self._trunks().values())

    def head_scores(self, images: Tensor) -> dict[str, Tensor]:
        """The scores of each head, in the geometry of each.

        Raises:
            TypeError: ``images`` is not a tensor.
            ValueError: ``images`` has another shape than ``(N, in_channels, H, W)``, or is not
                floating point.
        """
        _check_images(images, self.in_channels)
        maps: dict[str, dict[str, Tensor]] = {}
        first = 0
        for name, trunk in self._trunks().items():
            own = images
            if len(self.trunks) > 1:
                own = images[:, first : first + trunk.in_channels]
                first += trunk.in_channels
            wanted = [map for head in self._heads().values() for map in head.maps(name)]
            maps[name] = trunk(own, keep=list(dict.fromkeys(wanted)))
        return {name: head(maps, image_size(images)) for name, head in self._heads().items()}

    def published_names(self) -> dict[str, str]:
        found: list[tuple[str, str]] = []
        for name, trunk in self.trunks.items():
            found += part_names(f"trunks.{name}.", name_prefix(name), trunk)
        for name, head in self._heads().items():
            prefix = name_prefix(name)
            for stream, layers in head.streams.items():
                path = f"heads.{name}.streams.{stream}."
                found += part_names(path, prefix + name_prefix(stream), layers)
            found += [(f"{prefix}{layer}", f"heads.{name}.{layer}") for layer in head.upsampling]
        names: dict[str, str] = {}
        for published, path in found:
            if published in names:
                raise ValueError(
                    f"trunks and heads must have names that tell their layers apart, got "
                    f"{published} for {names[published]} and {path}"
                )
            names[published] = path
        return names

    def aliases(self) -> dict[str, str]:
        """The names of Caffe's published nets of several parts: conv1_1color and score_frcolor of a
        trunk called color (nyud-fcn32s-color-hha), score_fr_sem of a head called sem (SIFT Flow),
        conv1_1_bgrd of color and depth in one image (nyud-fcn32s-color-d)."""
        names = {}
        for published, path in self.published_names().items():
            part, _, layer = published.rpartition(".")
            if part in self.trunks:
                names[f"{layer}{part}"] = path
            elif part in self.heads:
                names[f"{layer}_{part}"] = path
            elif published == "conv1_1" and self.in_channels == 4:
                names["conv1_1_bgrd"] = path
        return names

    @property
    def score_layers(self) -> tuple[str, ...]:
        """The published names of the layers that depend on the classes: score_fr, ..."""
        paths = [
            f"heads.{name}.{path}"
            for name, head in self._heads().items()
            for path in head.score_layers
        ]
        return tuple(name for name, path in self.published_names().items() if path in paths)

    @property
    def upsampling_layers(self) -> tuple[str, ...]:
        """The published names of the layers between the scores, and to the image: upscore2, ..."""
        return tuple(
            f"{name_prefix(name)}{layer}"
            for name, head in self._heads().items()
            for layer in head.upsampling
        )

    def freeze_trunks(self) -> None:
        """Freezes all but the score layers and learned upsampling:
        :meth:`fcn_ext.models.Trunk.freeze`."""
        for trunk in self._trunks().values():
            trunk.freeze()

    def _trunks(self) -> dict[str, Trunk]:
        return cast("dict[str, Trunk]", dict(self.trunks.items()))

    def _heads(self) -> dict[str, Head]:
        return cast("dict[str, Head]", dict(self.heads.items()))


@torch.fx.wrap  # a node of what torch.fx.symbolic_trace records, whose proxies have no values
def _check_images(images: Tensor, in_channels: int) -> None:
    _common.is_tensor(images, "images")
    if images.dim() != 4 or images.shape[1] != in_channels or 0 in images.shape[2:]:
        raise ValueError(
            f"images must have shape (N, {in_channels}, H, W) with H, W >= 1, "
            f"got {tuple(images.shape)}"
        )
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}")


class _SeveralTrunks(AttributeError, ValueError):
    """An AttributeError, too, so that code that goes through all attributes (torch.jit.trace,
    inspect) passes over it."""


class FCN(CoarseScores, TrunksAndHeads):
    """One head on a trunk, or on several whose scores are summed.

    ``model(images)`` returns the logits; ``model.loss``, ``model.predict`` and ``model.evaluate``
    (:class:`fcn_ext.models.CoarseScores`) do not need them.

        >>> import torch
        >>> from fcn_ext.models import VGG16Trunk
        >>> trunk = VGG16Trunk(width=1 / 32)
        >>> model = FCN(trunk, Head(trunk, 21, skips=["pool4", "pool3"]))
        >>> model(torch.zeros(1, 3, 50, 60)).shape
        torch.Size([1, 21, 50, 60])

    Two streams, of colors and of depth as three channels, fused late::

        >>> streams = {"color": trunk, "depth": VGG16Trunk(width=1 / 32)}
        >>> FCN(streams, Head(streams, 40))(torch.zeros(1, 6, 50, 60)).shape
        torch.Size([1, 40, 50, 60])

    Args:
        trunks: one, or several by name.
        head: made for these trunks.

    Attributes:
        num_classes, ignore_index, geometry: those of the head. ``model(images)`` is
            ``model.scores(images)`` upsampled in this geometry.

    Raises:
        TypeError: ``trunks`` or ``head`` is something else; several heads make a
            :class:`fcn_ext.models.MultiHeadFCN`.
        ValueError: the head was made for other trunks, or two layers would have one name.
    """

    def __init__(self, trunks: Trunk | Mapping[str, Trunk], head: Head) -> None:
        if isinstance(head, Mapping):
            raise TypeError("head must be one Head; MultiHeadFCN takes several, by name")
        if not isinstance(head, Head):
            raise TypeError(f"head must be a Head, got {type(head).__name__}")
        super().__init__(trunks, head)
        self.num_classes = head.num_classes
        self.ignore_index = head.ignore_index
        self.geometry = head.geometry

    def scores(self, images: Tensor) -> Tensor:
        """The map of scores before the last upsampling, or after it where that is learned.

        Args:
            images: ``(N, in_channels, H, W)``, floating point, any ``H, W >= 1``.

        Returns:
            ``(N, num_classes, h, w)``, its cells placed as ``score_grid`` says.

        Raises:
            TypeError: ``images`` is not a tensor.
            ValueError: ``images`` has another shape, or is not floating point.
        """
        return self.head_scores(images)[MAIN]

    @property
    def trunk(self) -> Trunk:
        """The only trunk.

        Raises:
            ValueError, AttributeError: there are several, in ``trunks``.
        """
        if len(self.trunks) > 1:
            raise AttributeError  # Python then calls __getattr__
        return next(iter(self._trunks().values()))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "trunk" and "trunks" in self.__dict__.get("_modules", ()):
                raise _SeveralTrunks(
                    f"trunk must be the only one, got trunks {', '.join(self.trunks)}"
                ) from None
            raise

    @property
    def head(self) -> Head:
        """The head."""
        return self._heads()[MAIN]

    @property
    def last_stride(self) -> int:
        """The factor by which the scores are upsampled at the end."""
        return self.head.geometry.stride

    @property
    def last_kernel_size(self) -> int:
        """The side of its kernel."""
        return cast(int, self.head.geometry.kernel_size)

    @property
    def last_offset(self) -> int:
        """Where its result is cropped."""
        return cast("tuple[int, int]", self.head.geometry.offset)[0]

    @property
    def score_grid(self) -> Grid:
        """Where the cells of the scores lie in the image."""
        return self.head.score_grid

    @property
    def skips(self) -> tuple[str, ...]:
        """The maps that are fused, from coarse to fine."""
        return tuple(self.head.skip_scales)

    @property
    def skip_scales(self) -> dict[str, float]:
        """The factor on each skip's map before it is scored."""
        return self.head.skip_scales

    @property
    def skip_offsets(self) -> dict[str, int]:
        """Where the scores of each skip are cropped."""
        return self.head.skip_offsets
