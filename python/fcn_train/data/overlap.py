"""Images that two splits have in common, by their files."""

from __future__ import annotations

import filecmp
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.images import IMAGE_SUFFIXES
from fcn_train.real_paths import real_path
from fcn_train.words import counted

__all__ = ["overlap_warning", "shared_images"]

_MOST_KNOWN = 2**16  # folders and files of which something is remembered


def overlap_warning(
    train: SegmentationDataset, val: SegmentationDataset, *, nested: bool = True
) -> str:
    """A sentence on the images of ``val`` that ``train`` has, too; "" where there are none.

    One split for both is a choice, and no mistake. Without ``nested`` neither is a split that holds
    all of the other, as ``trainval`` does.
    """
    if real_path(val.source) == real_path(train.source) and val.ids == train.ids:
        return ""
    shared = shared_images(train, val)
    if not shared or (not nested and len(shared) in (len(train), len(val))):
        return ""
    return (
        f"{val.source}: {len(shared)} of {counted(len(val), 'image')} "
        f"{'is' if len(shared) == 1 else 'are'} "
        f"in {train.source}, too, the first {shared[0]!r}; a score on images that were trained on "
        "says nothing of others: take them off one of the two"
    )


def shared_images(first: SegmentationDataset, second: SegmentationDataset) -> list[str]:
    """The ids in ``second`` of images that ``first`` has, too.

    They are one where they are one file, whatever their paths, or files of one name and the same
    bytes: sets that were published apart share photographs, and ``0001.png`` of two videos are two
    images.
    """
    real_folder = functools.lru_cache(_MOST_KNOWN)(real_path)
    size = functools.lru_cache(_MOST_KNOWN)(_size)

    def is_one(one: Path, other: Path) -> bool:
        return real_folder(one.parent) == real_folder(other.parent) or (
            one.suffix.lower() in IMAGE_SUFFIXES and _alike(one, other, size)
        )

    # Images of one name, by hashes: lists may name millions, or one millions of times.
    paths = _hashes(first, lambda index: f"{first.image_path(index)}/{_name(first, index)}")
    once = np.unique(paths, return_index=True)[1]
    names = _hashes(first, lambda index: _name(first, index))[once]
    order = np.argsort(names, kind="stable")
    own_names, names = _hashes(second, lambda index: _name(second, index)), names[order]
    order = once[order]
    begins = np.searchsorted(names, own_names, "left")
    ends = np.searchsorted(names, own_names, "right")
    return [
        second.ids[index]
        for index in np.flatnonzero(begins < ends).tolist()
        if any(
            _name(first, other) == _name(second, index)
            and is_one(second.image_path(index), first.image_path(other))
            for other in order[begins[index] : ends[index]].tolist()
        )
    ]


def _name(dataset: SegmentationDataset, index: int) -> str:
    """What images that are one have in common: the file's name and, where it is no picture, so
    that it holds many, the image's."""
    path = dataset.image_path(index)
    is_picture = path.suffix.lower() in IMAGE_SUFFIXES
    return path.name if is_picture else f"{path.name}/{dataset.ids[index]}"


def _hashes(dataset: SegmentationDataset, text: Callable[[int], str]) -> np.ndarray:
    """Of the text of each index."""
    hashes = (hash(text(index)) for index in range(len(dataset)))
    return np.fromiter(hashes, dtype=np.int64, count=len(dataset))


def _alike(one: Path, other: Path, size: Callable[[Path], int]) -> bool:
    """Whether two files have the same bytes; not where one is missing, which others tell."""
    try:
        return 0 <= size(one) == size(other) and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _size(path: Path) -> int:
    """In bytes; -1 where there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
