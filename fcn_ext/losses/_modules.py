"""The losses as modules, which fcn_ext.nn exports."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fcn_ext._arguments import is_list, shown
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.losses._deep_supervision import deep_supervision, head_weight, is_loss
from fcn_ext.losses._distillation import distillation_loss
from fcn_ext.losses._focal import focal_loss
from fcn_ext.losses._ohem import ohem_cross_entropy
from fcn_ext.losses._sigmoid import (
    sigmoid_cross_entropy,
    sigmoid_dice_loss,
    sigmoid_focal_loss,
)
from fcn_ext.ops._common import flag, is_geometry

_FLAGS = ("per_image", "squared", "log")


class LossModule(nn.Module):
    """A loss with all but scores and target fixed; the options called ``weights`` are buffers.

    ``torch.compile`` keeps at most 8 compilations of a code object
    (``torch._dynamo.config.recompile_limit``), so each class has its own ``forward``.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        forward: Any = LossModule.forward
        if cls.forward is forward:
            own = types.FunctionType(forward.__code__.replace(), forward.__globals__, "forward")
            own.__annotations__ = forward.__annotations__
            own.__qualname__ = f"{cls.__qualname__}.forward"
            cls.forward = own  # type: ignore[method-assign]

    def __init__(
        self,
        function: Callable[..., Any],
        geometry: Geometry,
        options: dict[str, Any],
        weights: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.function = function
        self.geometry = is_geometry(geometry)
        self.names = tuple(options)
        for name, value in options.items():
            if name in _FLAGS:
                flag(value, name)
            # Of others None is no buffer, which could be set to nothing but a tensor later.
            if name in weights and (value is None or isinstance(value, Tensor)):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.names}

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.function(input, target, self.geometry, **self.options())
        return loss

    def extra_repr(self) -> str:
        shown = [f"{n}={v!r}" for n, v in self.options().items() if not isinstance(v, Tensor)]
        return ", ".join([repr(self.geometry), *shown])


class FocalLoss(LossModule):
    """:func:`fcn_ext.losses.focal_loss` with all but scores and target fixed; ``alpha`` is a
    buffer."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        gamma: float = 2.0,
        alpha: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        group: Any = None,
    ) -> None:
        options = {
            "gamma": gamma,
            "alpha": alpha,
            "ignore_index": ignore_index,
            "reduction": reduction,
            "group": group,
        }
        super().__init__(focal_loss, geometry, options, ["alpha"])


class OhemCrossEntropyLoss(LossModule):
    """:func:`fcn_ext.losses.ohem_cross_entropy` with all but scores and target fixed; ``weight``
    is a buffer."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        threshold: float | None = 0.9,
        min_kept: float = 131072,
        per_image: bool = False,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
        group: Any = None,
    ) -> None:
        options = {
            "threshold": threshold,
            "min_kept": min_kept,
            "per_image": per_image,
            "weight": weight,
            "ignore_index": ignore_index,
            "reduction": reduction,
            "group": group,
        }
        super().__init__(ohem_cross_entropy, geometry, options, ["weight"])


class SigmoidCrossEntropyLoss(LossModule):
    """:func:`fcn_ext.losses.sigmoid_cross_entropy` with all but scores and target fixed;
    ``pos_weight`` is a buffer, as in ``nn.BCEWithLogitsLoss``."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        pos_weight: Tensor | None = None,
        ignore_index: int = 255,
        reduction: str = "mean",
    ) -> None:
        options = {
            "pos_weight": pos_weight,
            "ignore_index": ignore_index,
            "reduction": reduction,
        }
        super().__init__(sigmoid_cross_entropy, geometry, options, ["pos_weight"])


class SigmoidFocalLoss(LossModule):
    """:func:`fcn_ext.losses.sigmoid_focal_loss` with all but scores and target fixed."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        ignore_index: int = 255,
        reduction: str = "mean",
    ) -> None:
        options = {
            "gamma": gamma,
            "alpha": alpha,
            "ignore_index": ignore_index,
            "reduction": reduction,
        }
        super().__init__(sigmoid_focal_loss, geometry, options)


class SigmoidDiceLoss(LossModule):
    """:func:`fcn_ext.losses.sigmoid_dice_loss` with all but scores and target fixed."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        smooth: float = 1.0,
        ignore_index: int = 255,
        reduction: str = "mean",
    ) -> None:
        options = {"smooth": smooth, "ignore_index": ignore_index, "reduction": reduction}
        super().__init__(sigmoid_dice_loss, geometry, options)


class DeepSupervision(nn.Module):
    """:func:`fcn_ext.losses.deep_supervision` with fixed weights of the heads.

        >>> import torch
        >>> from fcn_ext.nn import CrossEntropyLoss
        >>> criterion = DeepSupervision(CrossEntropyLoss(), [1.0, 0.4])
        >>> scores = [torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 8, 8)]
        >>> criterion(scores, torch.zeros(1, 64, 64, dtype=torch.uint8)).shape
        torch.Size([])

    Args:
        loss: a module of (scores, target), such as :class:`fcn_ext.nn.CrossEntropyLoss`.
        weights: those of the heads, in the order of their scores: finite numbers, or real tensors
            (). Parameters among them become parameters of the module, ``weight_0`` and so on by
            position.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: there are no weights, or one is not finite, or a tensor of another shape.
    """

    def __init__(self, loss: nn.Module, weights: Iterable[Tensor | float]) -> None:
        super().__init__()
        is_loss(loss, "a module of (scores, target)")
        # The keys of a dict are no weights, and a tensor () claims to be iterable.
        if (
            not is_list(weights, or_text=True)
            or isinstance(weights, Mapping)
            or (isinstance(weights, Tensor) and weights.dim() == 0)
        ):
            raise TypeError(f"weights must be a list of numbers, got {shown(weights)}")
        self.loss = loss
        given = [head_weight(weight, f"weights[{i}]") for i, weight in enumerate(weights)]
        if not given:
            raise ValueError("weights must have one for each head, got none")
        for place, weight in enumerate(given):
            if isinstance(weight, nn.Parameter):
                self.register_parameter(f"weight_{place}", weight)
        self._fixed = tuple(None if isinstance(w, nn.Parameter) else w for w in given)

    @property
    def weights(self) -> tuple[Tensor | float, ...]:
        """The weights of the heads, in order."""
        return tuple(
            getattr(self, f"weight_{place}") if weight is None else weight
            for place, weight in enumerate(self._fixed)
        )

    def forward(self, scores: Sequence[Tensor], target: Tensor) -> Tensor:
        if not isinstance(scores, (Sequence, Tensor)):
            raise TypeError(
                f"scores must be a list of the scores of each head, got {type(scores).__name__}"
            )
        weights = self.weights
        if len(scores) != len(weights):
            raise ValueError(
                f"scores must be those of each head, {len(weights)}, got {len(scores)}"
            )
        heads = list(zip(scores, weights, strict=True))
        return deep_supervision(heads, target, loss=lambda s, t, _: self.loss(s, t))

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


class DistillationLoss(nn.Module):
    """:func:`fcn_ext.losses.distillation_loss` in a fixed geometry, at a fixed temperature."""

    def __init__(
        self,
        geometry: Geometry = Resize(),
        *,
        temperature: float = 1.0,
        ignore_index: int = 255,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.geometry = is_geometry(geometry)
        self.temperature = temperature
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        size: int | Sequence[int] | None = None,
        target: Tensor | None = None,
    ) -> Tensor:
        return distillation_loss(
            student,
            teacher,
            size,
            self.geometry,
            temperature=self.temperature,
            target=target,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        return f"{self.geometry}, temperature={self.temperature}, reduction={self.reduction!r}"
