"""Guesses the kind of data in a folder."""

from __future__ import annotations

from pathlib import Path

from fcn_train.data.camvid import find_camvid_folder
from fcn_train.data.kinds import KINDS
from fcn_train.data.lists import find_folder
from fcn_train.data.nyud_labeled import find_labeled
from fcn_train.data.sample import is_sample
from fcn_train.data.voc import find_voc_folder

__all__ = ["looks_like", "which_kind"]


def looks_like(root: Path) -> list[str]:
    """The kinds whose folders lie below `root`."""
    if is_sample(root):
        return ["sample"]
    found = [
        kind
        for kind, candidates, needed in (
            ("sbd", ("", "dataset", "benchmark_RELEASE/dataset"), ("img", "cls")),
            ("nyud", ("", "nyud"), ("segmentation", "data/images")),
            ("sift-flow", ("", "SiftFlowDataset"), ("Images", "SemanticLabels")),
            ("cityscapes", ("", "cityscapes"), ("leftImg8bit",)),
            (
                "ade20k",
                ("", "ADEChallengeData2016", "sampleData"),
                ("images", "annotations"),
            ),
            ("folder", ("", "train"), ("images", "labels")),
        )
        if not find_folder(root, candidates, needed)[1]
    ]
    if find_labeled(root) is not None and "nyud" not in found:
        found.append("nyud")
    if (find_camvid_folder(root) / "trainannot").is_dir():
        found.append("camvid")
    if (root / "trainval").is_dir() and (root / "labels.txt").is_file():
        found += ["pascal-context", "pascal-context-33"]
    elif (find_voc_folder(root) / "JPEGImages").is_dir():
        found.append("voc")
    return found


def which_kind(root: Path, prefix: str) -> str:
    """The message for a user who gave a folder but no kind; `prefix` is that of the options."""
    found = looks_like(root)
    if found:
        return (
            f"it looks like {prefix}kind {' or '.join(found)}; give that, or another of "
            f"{', '.join(KINDS)}"
        )
    return (
        f"say how it is laid out with {prefix}kind, one of {', '.join(KINDS)}; images and labels "
        "of your own are voc or folder (images, labels, classes.txt)"
    )
