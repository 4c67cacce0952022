"""Images that two splits have in common, by their files."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from pathlib import Path

from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.images import IMAGE_SUFFIXES
from fcn_train.real_paths import real_path

__all__ = ["overlap_warning", "shared_images"]

_Key = tuple[Path, str]


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
        f"{val.source}: {len(shared)} of {len(val)} images {'is' if len(shared) == 1 else 'are'} "
        f"in {train.source}, too, {shared[0]} the first; a score on images that were trained on "
        "says nothing of others: take them off one of the two"
    )


def shared_images(first: SegmentationDataset, second: SegmentationDataset) -> list[str]:
    """The ids in ``second`` of images that ``first`` has, too.

    They are one where they are one file, whatever their paths, or files of one name and the same
    bytes: sets that were published apart share photographs, and ``0001.png`` of two videos are two
    images.
    """
    folders: dict[Path, Path] = {}

    def key(dataset: SegmentationDataset, index: int) -> _Key:
        path = dataset.image_path(index)
        parent = path.parent
        if parent not in folders:
            folders[parent] = real_path(parent)
        # A file that is no picture holds many.
        is_picture = path.suffix.lower() in IMAGE_SUFFIXES
        return folders[parent] / path.name, "" if is_picture else dataset.ids[index]

    known = {key(first, index) for index in range(len(first))}
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path, name in known:
        if not name:
            by_name[path.name].append(path)
    sizes: dict[Path, int] = {}
    return [
        second.ids[index]
        for index in range(len(second))
        if (own := key(second, index)) in known
        or any(_alike(own[0], other, sizes) for other in by_name.get(own[0].name, ()))
    ]


def _alike(one: Path, other: Path, sizes: dict[Path, int]) -> bool:
    """Whether two files have the same bytes; not where one is missing, which others tell."""
    try:
        for path in (one, other):
            if path not in sizes:
                sizes[path] = path.stat().st_size
        return sizes[one] == sizes[other] and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
