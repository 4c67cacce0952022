"""Published sets without lists: each split is a folder of images and one of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fcn_train.data.coding import LabelCoding
from fcn_train.data.dataset import SegmentationDataset
from fcn_train.data.images import files_below
from fcn_train.data.labels import PictureLabels
from fcn_train.data.problems import Problem, Problems

__all__ = ["SplitFolders"]


class SplitFolders(SegmentationDataset):
    """The images below `<images>/<split>`, sorted, with the labels at the same place below
    `<labels>/<split>`.

    Args:
        name: what reports call the data set.
        images, labels: the two folders, whose sub-folders are the splits.
        split: a folder below both, at any depth (`train/aachen`); "" is every image.
        suffixes: how the names of images end, and those of their labels, as `.jpg`, `.png`.
        class_names, palette, strict: see `SegmentationDataset`.
        coding: the published one; values beyond it are refused.

    Raises:
        DataError: with `strict`, if a folder is missing or holds no image, or a label has none.
    """

    def __init__(
        self,
        name: str,
        images: Path,
        labels: Path,
        split: str,
        *,
        suffixes: tuple[str, str],
        class_names: tuple[str, ...],
        palette: np.ndarray,
        coding: LabelCoding,
        strict: bool = True,
    ) -> None:
        problems = Problems(
            Problem(folder / split, f"folder is missing; {_splits_of(folder)}")
            for folder in (images, labels)
            if not (folder / split).is_dir()
        )
        image_suffix, label_suffix = suffixes
        found = _ending_in(image_suffix, images, split)
        drawn = _ending_in(label_suffix, labels, split)
        for place in sorted(drawn.keys() - found.keys()) if not problems else ():
            message = (
                f"label has no image {images / place}{image_suffix}; add it or remove the label"
            )
            problems.append(Problem(drawn[place], message, "label without an image"))
        super().__init__(
            name,
            [place.name for place in found],
            found.values(),
            (drawn.get(place) or labels / f"{place}{label_suffix}" for place in found),
            class_names=class_names,
            palette=palette,
            source=images / split,
            reader=PictureLabels(len(class_names), coding, palette, published=name),
            problems=problems,
            strict=strict,
        )


def _ending_in(suffix: str, folder: Path, split: str) -> dict[Path, Path]:
    """The files of a split whose names end so, in lower or upper case, by their places below
    ``folder`` without that ending."""
    files = files_below(folder / split) if (folder / split).is_dir() else []
    return {
        path.relative_to(folder).with_name(path.name[: -len(suffix)]): path
        for path in files
        if path.name.lower().endswith(suffix.lower()) and len(path.name) > len(suffix)
    }


def _splits_of(folder: Path) -> str:
    known = sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())
    if not known:
        return f"give the folder that holds {folder.name}"
    return f"give a split that is there: {', '.join(known)}"
