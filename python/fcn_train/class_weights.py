"""Class weights in the loss, and the shares of each class's pixels that count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcn_train.by_name import by_name
from fcn_train.data import SegmentationDataset, dataset_statistics
from fcn_train.data.problems import excerpt
from fcn_train.errors import UsageError
from fcn_train.json_text import parse_json
from fcn_train.optim_options import OptimOptions
from fcn_train.text_files import NOT_UTF8, read_text
from fcn_train.words import counted


def class_weights(choice: str, dataset: SegmentationDataset, device: torch.device) -> Tensor | None:
    """Weights of the classes in the loss, (C,) float32: ``--optim.class-weights``."""
    if choice == "none":
        return None
    if choice == "median-frequency":
        weights = dataset_statistics(dataset).median_frequency_weights()
    else:
        weights = weights_from_file(Path(choice), dataset.num_classes)
    return torch.tensor(weights, dtype=torch.float32, device=device)


def class_shares(choice: str, dataset: SegmentationDataset, device: torch.device) -> Tensor | None:
    """Shares of the pixels of each class that count, (C,) float32: ``--optim.class-sampling``."""
    weights = class_weights(choice, dataset, device)
    return None if weights is None else weights.clamp(max=1)


def weights_by_head(
    option: str,
    of_classes: Callable[[str, SegmentationDataset, torch.device], Tensor | None],
    choice: str,
    dataset: SegmentationDataset,
    device: torch.device,
) -> Any:
    """``class_weights`` or ``class_shares`` as ``pixel_loss`` takes them: by head where ``dataset``
    has several sets of labels; ``choice`` of ``option`` is then one for all sets, or one for each,
    ``a=median-frequency,b=none``.

    Raises:
        UsageError: it is neither, or names a file for all sets.
    """
    if len(dataset.label_sets) == 1:
        return of_classes(choice, dataset, device)
    names = [labels.name for labels in dataset.label_sets]
    choices: Mapping[str, str] | None = dict.fromkeys(names, choice)
    if choice not in ("none", "median-frequency"):
        choices = by_name(choice)
    if choices is None or choices.keys() != set(names):
        example = ",".join([f"{names[0]}=weights.txt", *(f"{name}=none" for name in names[1:])])
        raise UsageError(
            f"{option} must be none, median-frequency or, for several sets of labels, "
            f"one of these or a file for each, such as {example}, got {choice!r}"
        )
    return {
        name: of_classes(choices[name], dataset.only(which), device)
        for which, name in enumerate(names)
    }


def counting(
    optim: OptimOptions, dataset: SegmentationDataset, device: torch.device
) -> dict[str, Any]:
    """What ``optim`` says of how pixels count in a loss: keywords of ``pixel_loss``.

    Raises:
        UsageError: as :func:`weights_by_head`.
    """
    choices = {
        "weight": ("--optim.class-weights", class_weights, optim.class_weights),
        "shares": ("--optim.class-sampling", class_shares, optim.class_sampling),
    }
    by_head = {key: weights_by_head(*choice, dataset, device) for key, choice in choices.items()}
    return {"reduction": optim.loss, "cells": optim.cells, **by_head}


def weights_from_file(path: Path, num_classes: int) -> np.ndarray:
    """One number per class: a JSON list, or text separated by white space or commas."""
    try:
        text = read_text(path)
    except OSError as error:
        raise UsageError(
            f"{path}: class weights cannot be read ({error.strerror}); give a file of one number "
            "per class"
        ) from None
    except UnicodeError:
        raise UsageError(
            f"{path}: class weights cannot be read ({NOT_UTF8}); save them as UTF-8"
        ) from None
    except ValueError as error:
        raise UsageError(f"{path}: class weights cannot be read ({error})") from None
    try:
        values = parse_json(text) if path.suffix == ".json" else text.replace(",", " ").split()
        weights = np.array(values, dtype=np.float64)
    except (ValueError, TypeError):
        found = excerpt(" ".join(text.split()), 60)
        raise UsageError(
            f"{path}: class weights must be a list of numbers, got {found!r}"
        ) from None
    if weights.shape != (num_classes,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise UsageError(
            f"{path}: class weights must be {counted(num_classes, 'finite number')} >= 0, "
            f"got {weights.size} with minimum {weights.min(initial=np.inf):g}"
        )
    return weights
