"""How other libraries smooth and average their region losses, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fcn_ext._arguments import flag, not_negative, one_of, shown

__all__ = ["CONVENTIONS", "Convention", "convention_of"]


@dataclass(frozen=True)
class Convention:
    """How Dice and related losses smooth their fractions and average them.

    A region's score is ``(numerator + smooth_numerator) / max(denominator + smooth_denominator,
    least_denominator)``, for each class, and one if the denominator is zero. Make one of your own
    with ``dataclasses.replace``::

        >>> from dataclasses import replace
        >>> from fcn_ext.losses import CONVENTIONS
        >>> mine = replace(CONVENTIONS["monai"], over="batch", background=False)

    All numbers must be >= 0 and finite.

    Raises:
        TypeError: a field is of the wrong type.
        ValueError: a field breaks a rule above; the message names it and the value found.
    """

    smooth_numerator: float = 0.0
    smooth_denominator: float = 0.0
    least_denominator: float = 0.0
    over: Literal["image", "batch"] = "batch"
    """What the sums are over before the division: the pixels of each image, or those of the
    batch."""
    absent: bool = True
    """Whether classes without a pixel have a loss; if not, they enter the mean with a loss of
    zero."""
    background: bool = True
    """Whether class 0 counts; if not, it is left out of the mean."""
    jaccard_smoothing: float = 1.0
    """The factor on the smoothing in the Jaccard loss."""
    power_of_mean: bool = False
    """Whether Tversky's ``gamma`` is applied to the mean; if not, to the loss of each class."""
    normalize_weights: bool = False
    """Whether a mean weighted by ``class_weight`` is divided by the sum of the weights (zero if the
    sum is); if not, by the number of classes."""

    def __post_init__(self) -> None:
        for name in (
            "smooth_numerator",
            "smooth_denominator",
            "least_denominator",
            "jaccard_smoothing",
        ):
            object.__setattr__(self, name, not_negative(getattr(self, name), name))
        for name in ("absent", "background", "power_of_mean", "normalize_weights"):
            flag(getattr(self, name), name)
        one_of(self.over, ("image", "batch"), "over")


CONVENTIONS = {
    "smp": Convention(
        least_denominator=1e-7, absent=False, power_of_mean=True, normalize_weights=True
    ),
    "monai": Convention(1e-5, 1e-5, over="image", jaccard_smoothing=0.5),
    "nnunet": Convention(1e-5, 1e-5, 1e-8, background=False),
    "ultralytics": Convention(1.0, 1.0),
}
"""The defaults of segmentation_models.pytorch, MONAI, nnU-Net (its two-dimensional plans; it
minimizes ``-dice``, which has the same gradient) and ultralytics (its semantic segmentation)."""


def convention_of(value: Any) -> Convention:
    """``value`` as a convention, given as one or by its name."""
    if isinstance(value, Convention):
        return value
    if isinstance(value, str) and value in CONVENTIONS:
        return CONVENTIONS[value]
    names = ", ".join(map(repr, CONVENTIONS))
    raise ValueError(
        f"convention must be a losses.Convention or one of {names}, got {shown(value)}"
    )
