"""The options of `fcn classify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class ClassifyOptions:
    """Say what images show, with one of the classifiers that networks start from."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, or folders to search. Photographs are rotated upright as their EXIF tag says."""
    weights: Path
    """The classifier: VGG16, AlexNet, GoogLeNet or SqueezeNet, as --init-classifier takes them."""
    names: Path | None = None
    """File with one class name per line, without WordNet's ids if it has them; default
    synset_words.txt beside the weights, if it is there."""
    top: int = 5
    """How many classes are shown, the most probable first."""
    resize: int = 256
    """Length to which the shorter side of images is resized first; 0 = no resizing."""
    crop: int | None = None
    """Side of the square cut from their middle; 0 = the whole image. Default: 224 or 227, as the
    classifier was trained."""
    input: Literal["auto", "imagenet", "caffe"] = "auto"
    """As --model.input of `fcn train`; auto: imagenet for torchvision's layer names, caffe
    for Caffe's."""
    device: str = "auto"
    """As --device of `fcn train`."""
    threads: int = 0
    """As --threads of `fcn train`."""
    traceback: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show Python's traceback of an error."""
