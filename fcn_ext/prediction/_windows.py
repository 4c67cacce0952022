"""CoarseWindows: coarse scores of windows, flips and scales, averaged at full size tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from fcn_ext import ops
from fcn_ext._uncompiled import never_compiled
from fcn_ext.geometry import Geometry, Resize
from fcn_ext.ops import _common
from fcn_ext.prediction._arguments import full_size
from fcn_ext.prediction._importance import Importance, check_importance
from fcn_ext.prediction._place import Window, place
from fcn_ext.prediction._rows import Span, tiles
from fcn_ext.prediction._weight_table import WeightTable
from fcn_ext.prediction._window_scores import WindowScores, aligns_corners, mirrored
from fcn_ext.prediction._winners import below_each_other, winners

# Within these bounds, products of a window's weight, scores and importance fit in float32.
LEAST_WEIGHT, MOST_WEIGHT = 1e-20, 1e20


class CoarseWindows:
    """The average of a net's predictions for windows, flips and scales of images.

    Sliding-window inference and test-time augmentation usually add predictions to a full-size map
    of every class. Here the coarse scores are kept, and averaged for some rows of the image at a
    time, when results are asked for. The memory needed is that of the coarse scores and of these
    rows.

        >>> image = torch.randn(1, 3, 96, 128)
        >>> net = torch.nn.Conv2d(3, 5, 8, stride=8)
        >>> windows = CoarseWindows((96, 128))
        >>> for top, left, height, width in tile_windows((96, 128), 64, overlap=16):
        ...     crop = image[:, :, top : top + height, left : left + width]
        ...     windows.add(net(crop), (top, left, height, width))
        ...     windows.add(net(crop.flip(3)), (top, left, height, width), flip=True)
        >>> windows.argmax().shape
        torch.Size([1, 96, 128])

    Scores of the image at another scale are added as scores of the whole image:
    ``add(net(scaled))``, with ``seen_size=scaled.shape[2:]`` if they are to reach the size of the
    scaled image first.

    Args:
        size: rows and columns of the images, >= 1; one number or (height, width).
        average: "probability", the mean of the softmaxes (mmsegmentation's ``SegTTAModel``), or
            "score", the mean of the scores (its ``slide_inference``). The softmax is torch's: the
            last bit of probabilities may depend on the number of threads, that of scores does not.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument breaks a rule above; the message names it and the value found.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        average: Literal["probability", "score"] = "probability",
    ) -> None:
        self.size = _common.pair(size, "size")
        if min(self.size) < 1:
            raise ValueError(f"size must be >= 1, got {size!r}")
        _common.one_of(average, ("probability", "score"), "average")
        self.average = average
        self._windows: list[WindowScores] = []

    def __repr__(self) -> str:
        windows = "1 window" if len(self._windows) == 1 else f"{len(self._windows)} windows"
        return f"CoarseWindows({self.size}, average={self.average!r}): {windows}"

    @never_compiled
    def add(
        self,
        scores: Tensor,
        window: Window | None = None,
        geometry: Geometry = Resize(),
        *,
        flip: bool = False,
        weight: float = 1.0,
        seen_size: int | Sequence[int] | None = None,
        importance: Importance = "constant",
    ) -> None:
        """Adds the scores of a window. They are kept, not copied: do not change them.

        Args:
            scores: (N, C, h, w), float32, float64, float16 or bfloat16, with the N, C, dtype and
                device of the scores added before.
            window: (top, left, height, width) of the window in the image; by default the whole
                image.
            geometry: how the scores reach (height, width), a
                :class:`~fcn_ext.geometry.Deconvolution` or a :class:`~fcn_ext.geometry.Resize`.
            flip: whether the net saw the window mirrored left to right.
            weight: how much the window counts in the average, from 1e-20 to 1e20.
            seen_size: size at which the net saw the window, if another. Then ``geometry`` says how
                the scores reach that size, and from there they are resized to the window, with
                aligned corners if ``geometry`` is a ``Resize`` with aligned corners.
            importance: relative weights of the window's pixels: "constant"; "gaussian", nnU-Net's,
                with a standard deviation of 1/8 of the window's side; or "linear", the distance to
                the window's border. The last two are the product of a weight of the row and one of
                the column, greatest in the middle.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: an argument breaks a rule above; the message names it and the value found.
        """
        top, left, height, width = place(window, self.size)
        of_window = seen_size is None
        size = (height, width) if of_window else _common.pair(seen_size, "seen_size")
        name = "window" if of_window else "seen_size"
        given = geometry  # for deferred logits, full_size returns another
        scores, size, geometry = full_size(scores, size, geometry, name)
        aligned = aligns_corners(given)
        _common.flag(flip, "flip")
        weight = _common.number(weight, "weight")
        if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            raise ValueError(
                f"weight must be from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, got {weight:g}"
            )
        check_importance(importance)
        if self._windows:
            _check_alike(scores, self._windows[0].scores)
        scores = scores.detach()
        is_one_pixel = (aligned and width == 1) or (aligns_corners(geometry) and size[1] == 1)
        if flip and not is_one_pixel:
            scores, geometry = mirrored(scores, size, geometry)
        rows, columns = Span(top, top + height), Span(left, left + width)
        seen = None if of_window else size
        self._windows.append(
            WindowScores(scores, rows, columns, geometry, weight, seen, aligned, importance)
        )

    @never_compiled
    def mean(self, first_row: int = 0, last_row: int | None = None) -> Tensor:
        """The averages of rows ``[first_row, last_row)``: (N, C, rows, W).

        Probabilities, or scores if these are averaged; float32, or float64 for float64 scores.

        Raises:
            TypeError: a row is not an integer.
            ValueError: the rows are not rows of the image, or the windows leave a pixel out.
        """
        height = self.size[0]
        first = _common.integer(first_row, "first_row")
        last = height if last_row is None else _common.integer(last_row, "last_row")
        if not 0 <= first < last <= height:
            raise ValueError(
                f"first_row and last_row must be rows of the image's {height}, the first below the "
                f"last, got {first} and {last}"
            )
        return self._mean(Span(first, last), self._total_weights())

    @overload
    def argmax(
        self, *, dtype: torch.dtype | None = ..., return_probability: Literal[False] = ...
    ) -> Tensor: ...
    @overload
    def argmax(
        self, *, dtype: torch.dtype | None = ..., return_probability: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...
    @never_compiled
    def argmax(
        self, *, dtype: torch.dtype | None = None, return_probability: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The class with the greatest average in every pixel; of equal ones the lowest.

        Args:
            dtype: of the labels; default uint8 up to 256 classes, int16 beyond.
            return_probability: return the winner's average probability, too; if scores are
                averaged, its softmax probability for the averages.

        Returns:
            Labels (N, H, W); with ``return_probability`` also probabilities of the same shape.

        Raises:
            TypeError, ValueError: as :func:`fcn_ext.ops.argmax`, or the windows leave a pixel out.
        """
        _common.flag(return_probability, "return_probability")
        by_softmax = return_probability and self.average == "score"

        def labels(mean: Tensor) -> tuple[Tensor, ...]:
            size = (mean.shape[2], mean.shape[3])  # its own size, so that nothing is resized
            found = winners(mean, size, Resize(), dtype, by_softmax)
            if not return_probability or by_softmax:
                return found
            return (*found, mean.amax(1).clamp_(max=1))  # rounding may exceed one

        return below_each_other(labels(mean) for _, mean in self._tiles())  # type: ignore[no-any-return]

    @never_compiled
    def confusion_matrix(
        self,
        target: Tensor,
        *,
        ignore_index: int = 255,
        out: Tensor | None = None,
        invalid: Tensor | None = None,
    ) -> Tensor:
        """Counts of (target, class with the greatest average): what
        ``ops.confusion_matrix(windows.argmax(), target, C, ...)`` gives, without the labels.

        Args:
            target: labels (N, H, W), uint8, int16, int32 or int64.
            ignore_index, out, invalid: as of :func:`fcn_ext.ops.confusion_matrix`.

        Returns:
            int64 (C, C), rows = target, columns = prediction.

        Raises:
            TypeError, ValueError: as :func:`fcn_ext.ops.confusion_matrix`, or the windows leave a
                pixel out.
        """
        _common.is_tensor(target, "target")
        tiles = self._tiles()
        expected = (self._windows[0].scores.shape[0], *self.size)
        if tuple(target.shape) != expected:
            raise ValueError(
                f"target must have the images' (N, H, W) = {expected}, got {tuple(target.shape)}"
            )
        for rows, mean in tiles:
            out = ops.confusion_matrix(
                mean,
                target[:, rows.slice],
                mean.shape[1],
                ignore_index=ignore_index,
                out=out,
                invalid=invalid,
            )
        assert out is not None
        return out

    def _tiles(self) -> Iterator[tuple[Span, Tensor]]:
        """Rows and their averages, from top to bottom; errors are raised before the first."""
        total = self._total_weights()
        images, classes = self._windows[0].scores.shape[:2]
        height, width = self.size
        spans = tiles(height, images * classes * width)
        return ((rows, self._mean(rows, total)) for rows in spans)

    def _total_weights(self) -> WeightTable[WindowScores]:
        return WeightTable.of(self.size, self._windows)

    @torch.no_grad()
    def _mean(self, rows: Span, total: WeightTable[WindowScores]) -> Tensor:
        like = self._windows[0].scores
        shape = (*like.shape[:2], rows.length, self.size[1])
        sums = like.new_zeros(shape, dtype=_common.accumulate_dtype(like))
        for window in total.windows_with(rows):
            shared = rows.within(window.rows)
            values = window.full(shared.past(window.rows.first))
            if self.average == "probability":
                values = values.softmax(1)
            where = sums[:, :, shared.past(rows.first).slice, window.columns.slice]
            weights = window.weights(shared)
            if weights is None:
                where.add_(values, alpha=window.weight)
            else:
                where.addcmul_(values, torch.from_numpy(weights).to(sums.device, sums.dtype))
        total.divide(sums, rows)
        return sums


def _check_alike(scores: Tensor, before: Tensor) -> None:
    _common.on_same_device(scores, "scores", before, "the scores added before")
    if scores.shape[:2] != before.shape[:2] or scores.dtype != before.dtype:
        raise ValueError(
            f"scores must have N, C and dtype of those added before, {tuple(before.shape[:2])} and "
            f"{before.dtype}, got {tuple(scores.shape[:2])} and {scores.dtype}"
        )
