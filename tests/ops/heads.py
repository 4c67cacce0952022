"""What the tests of the fused heads share: geometries, scores, labels, and calls of both modules.

A head takes coarse scores to the size of a label map in a geometry; everything else about it is
the same whatever the geometry, and so are the questions it is asked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from fcn_ext import reference
from fcn_ext.geometry import Deconvolution, Geometry, Resize

LABEL_TYPES = [torch.uint8, torch.int16, torch.int32, torch.int64]
SCORE_TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@dataclass(frozen=True)
class Case:
    """Coarse (h, w), fine (H, W), and the geometry between them."""

    name: str
    coarse: tuple[int, int]
    fine: tuple[int, int]
    geometry: Geometry

    def __str__(self) -> str:
        return self.name

    def head(self, module: ModuleType, name: str, *tensors: Tensor, **options: Any) -> Any:
        """`module`'s head called `name`: cross_entropy, argmax, score_confusion_matrix."""
        size = (self.fine,) if name == "argmax" else ()
        return getattr(module, name)(*tensors, *size, self.geometry, **options)

    def shorthand(self, module: ModuleType, name: str, *tensors: Tensor, **options: Any) -> Any:
        """The same head by its shorthand for this geometry, of a resize that crops nothing."""
        name = name.removeprefix("score_")
        if isinstance(self.geometry, Resize):
            size = {"size": self.fine} if name == "argmax" else {}
            options |= {"align_corners": self.geometry.align_corners, **size}
            return getattr(module, f"interpolate_{name}")(*tensors, **options)
        size = {"output_size": self.fine} if name == "argmax" else {}
        options |= {**asdict(self.geometry), **size}
        return getattr(module, f"upsample_{name}")(*tensors, **options)

    def materialized(self, module: ModuleType, scores: Tensor) -> Tensor:
        """The scores at full size."""
        if module is reference:
            return reference.at_full_size(scores, self.fine, self.geometry)
        result: Tensor
        if isinstance(self.geometry, Resize):
            result = module.interpolate(scores, self.fine, **asdict(self.geometry))
        else:
            result = module.upsample(scores, output_size=self.fine, **asdict(self.geometry))
        return result

    @property
    def numbers(self) -> tuple[int, ...]:
        """The geometry as the operators are told of it."""
        return self.geometry.numbers

    def scores(
        self, n: int, c: int, dtype: torch.dtype = torch.float32, seed: int = 1, scale: float = 2.0
    ) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (n, c, *self.coarse)
        return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    def labels(self, n: int, c: int, *, void: int | None = 255, seed: int = 2) -> Tensor:
        """int64, piecewise constant with single pixels in between; a tenth of them void."""
        generator = torch.Generator().manual_seed(seed)
        height, width = self.fine
        patches = torch.randint(0, c, (n, height // 3 + 1, width // 5 + 1), generator=generator)
        labels = patches.repeat_interleave(3, 1).repeat_interleave(5, 2)[:, :height, :width]
        chance = torch.rand((n, height, width), generator=generator)
        single = torch.randint(0, c, (n, height, width), generator=generator)
        labels = torch.where(chance < 0.15, single, labels)
        return labels if void is None else torch.where(chance > 0.9, void, labels)

    def weights(self) -> Tensor:
        """What each pixel reads of each node: (h * w, H, W), float64."""
        nodes = self.coarse[0] * self.coarse[1]
        one_hot = torch.eye(nodes, dtype=torch.float64).reshape(1, nodes, *self.coarse)
        return self.materialized(reference, one_hot)[0]


def upsampled(
    coarse: tuple[int, int],
    stride: int,
    *,
    kernel_size: int | None = None,
    offset: tuple[int, int] = (0, 0),
    fine: tuple[int, int] | None = None,
) -> Case:
    """By `stride`, cut to `fine` at `offset`."""
    k = kernel_size or (2 * stride if stride > 1 else 1)
    whole = [(size - 1) * stride + k - first for size, first in zip(coarse, offset, strict=True)]
    fine = fine or (whole[0], whole[1])
    name = f"{coarse}-s{stride}-k{k}-o{offset}-{fine}"
    return Case(name, coarse, fine, Deconvolution(stride, kernel_size, offset))


def interpolated(
    coarse: tuple[int, int], fine: tuple[int, int], *, align_corners: bool = False
) -> Case:
    name = f"{coarse}-to-{fine}-{align_corners}"
    return Case(name, coarse, fine, Resize(align_corners))


def cropped(
    coarse: tuple[int, int],
    uncropped: tuple[int, int],
    offset: tuple[int, int],
    fine: tuple[int, int],
    *,
    align_corners: bool = False,
) -> Case:
    name = f"{coarse}-to-{uncropped}-{align_corners}-o{offset}-{fine}"
    return Case(name, coarse, fine, Resize(align_corners, uncropped, offset))


def drawn(data: st.DataObject, most_columns: int = 7, widest: int = 60) -> Case:
    """Any geometry, of at most so many coarse and, where interpolated, fine columns."""
    coarse = (data.draw(st.integers(1, 7)), data.draw(st.integers(1, most_columns)))
    if data.draw(st.booleans(), label="upsample"):
        stride = data.draw(st.integers(1, 33), label="stride")
        k = 2 * stride - data.draw(st.integers(0, 1), label="odd")
        whole = [(size - 1) * stride + k for size in coarse]
        top, left = (data.draw(st.integers(0, size - 1)) for size in whole)
        fine = (
            data.draw(st.integers(1, whole[0] - top)),
            data.draw(st.integers(1, whole[1] - left)),
        )
        return upsampled(coarse, stride, kernel_size=k, offset=(top, left), fine=fine)
    fine = (data.draw(st.integers(1, 60)), data.draw(st.integers(1, widest)))
    align_corners = data.draw(st.booleans())
    if data.draw(st.booleans(), label="whole"):
        return interpolated(coarse, fine, align_corners=align_corners)
    offset = (data.draw(st.integers(0, fine[0] - 1)), data.draw(st.integers(0, fine[1] - 1)))
    own = (
        data.draw(st.integers(1, fine[0] - offset[0])),
        data.draw(st.integers(1, fine[1] - offset[1])),
    )
    return cropped(coarse, fine, offset, own, align_corners=align_corners)


CASES = [
    upsampled((4, 5), 1),
    upsampled((5, 4), 2, offset=(1, 1), fine=(8, 7)),
    upsampled((3, 4), 3, offset=(2, 0)),
    upsampled((4, 5), 4, offset=(3, 5), fine=(9, 11)),
    upsampled((4, 7), 8, offset=(4, 4), fine=(23, 49)),
    upsampled((3, 3), 16, offset=(9, 27), fine=(31, 21)),
    upsampled((2, 3), 32, kernel_size=63, offset=(19, 18), fine=(33, 61)),
    upsampled((1, 1), 5),
    interpolated((4, 5), (8, 10)),
    interpolated((3, 6), (12, 24)),
    interpolated((3, 5), (24, 40)),
    interpolated((5, 4), (9, 13)),
    interpolated((3, 4), (11, 17), align_corners=True),
    interpolated((9, 13), (4, 5)),
    interpolated((5, 1), (1, 6), align_corners=True),
    interpolated((2, 2), (64, 33)),
    cropped((5, 6), (20, 24), (6, 3), (9, 13)),
    cropped((5, 4), (13, 11), (0, 4), (13, 6), align_corners=True),
]

# One of each kind, for questions that do not depend on the geometry.
PLAIN = [upsampled((4, 5), 4, offset=(2, 2), fine=(13, 15)), interpolated((4, 5), (16, 20))]


def loss_and_gradient(
    module: ModuleType, case: Case, scores: Tensor, target: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of its sum."""
    scores = scores.detach().clone().requires_grad_()
    loss: Tensor = case.head(module, "cross_entropy", scores, target, **options)
    loss.sum().backward()
    assert scores.grad is not None
    return loss.detach(), scores.grad


def trained_like(
    case: Case, n: int, c: int, dtype: torch.dtype = torch.float32, seed: int = 3
) -> Tensor:
    """Scores as a trained net's: patches where one class is well ahead, the others much alike."""
    generator = torch.Generator().manual_seed(seed)
    h, w = case.coarse
    patches = torch.randint(0, c, (n, h // 2 + 1, w // 2 + 1), generator=generator)
    winner = patches.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :h, :w]
    return case.scores(n, c, dtype, seed, 1.0).scatter_add_(
        1, winner.unsqueeze(1), torch.full((n, 1, h, w), 9.0, dtype=dtype)
    )
