"""Pictures of labels and predictions: colors, overlays, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fcn_ext.numpy import encode_palette
from fcn_train.data.coding import IGNORE_INDEX
from fcn_train.data.dataset import SegmentationDataset

_TITLE_HEIGHT = 14


def colorize(label: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Class indices (H, W) uint8 in the colors of a (256, 3) palette: (H, W, 3) uint8."""
    return encode_palette(label, palette)


def overlay(
    image: np.ndarray, label: np.ndarray, palette: np.ndarray, alpha: float = 0.5
) -> np.ndarray:
    """The colors of a label over its image.

    Args:
        image: (H, W, 3) uint8.
        label: (H, W) uint8; void, and classes whose color is black (VOC's background), let the
            image through unchanged.
        palette: (256, 3) uint8.
        alpha: opacity of the colors, 0..1.

    Returns:
        (H, W, 3) uint8.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in 0..1, got {alpha}")
    if image.shape[:2] != label.shape:
        raise ValueError(f"label must have the image's size {image.shape[:2]}, got {label.shape}")
    colors = colorize(label, palette)
    mixed = np.rint((1 - alpha) * image + alpha * colors).astype(np.uint8)
    shown = colors.any(axis=2) & (label != IGNORE_INDEX)
    return np.where(shown[:, :, None], mixed, image)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    titles: Sequence[str] = (),
    margin: int = 4,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """Pictures in rows and columns, each centered in a cell of its column's and row's size.

    Args:
        rows: pictures (H, W, 3) uint8 of any sizes; rows may differ in length.
        titles: names written above the first columns.
        margin: pixels around each cell.
        background: color between the pictures.
    """
    columns = max((len(row) for row in rows), default=0)
    heights = [max((picture.shape[0] for picture in row), default=0) for row in rows]
    widths = [
        max((row[column].shape[1] for row in rows if column < len(row)), default=0)
        for column in range(columns)
    ]
    top = margin + (_TITLE_HEIGHT if titles else 0)
    size = (sum(widths) + margin * (columns + 1), sum(heights) + margin * len(rows) + top)
    sheet = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(sheet)
    lefts = [margin + sum(widths[:column]) + margin * column for column in range(columns)]
    for left, title in zip(lefts, titles, strict=False):
        draw.text((left, 2), title, fill=(0, 0, 0))
    for row, height in zip(rows, heights, strict=True):
        for left, width, picture in zip(lefts, widths, row, strict=False):
            place = (left + (width - picture.shape[1]) // 2, top + (height - picture.shape[0]) // 2)
            sheet.paste(Image.fromarray(np.ascontiguousarray(picture)), place)
        top += height + margin
    return sheet


def dataset_sheet(
    dataset: SegmentationDataset, indices: Sequence[int], *, pairs_per_row: int = 3
) -> Image.Image:
    """Images of a data set, each beside the colors of its label.

    Raises:
        DataError: if one of the pairs cannot be used.
    """
    cells: list[np.ndarray] = []
    for index in indices:
        image, label = dataset[index]
        cells += [image, colorize(label, dataset.palette)]
    step = 2 * pairs_per_row
    return contact_sheet([cells[start : start + step] for start in range(0, len(cells), step)])
