"""The weights that a network starts from: a classifier's, a coarser network's, or any other's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fcn_ext import models
from fcn_train.by_name import by_name
from fcn_train.classes import classes_of
from fcn_train.data import SegmentationDataset
from fcn_train.errors import UsageError
from fcn_train.foreign_weights import from_weights, kind_of
from fcn_train.heads import Net
from fcn_train.network import network_of
from fcn_train.options import TrainOptions
from fcn_train.run import TrainedRun, check_classes, load_run
from fcn_train.score_rows import scores_from_classifier
from fcn_train.weight_files import read_state_dict, some, source_of

# The networks of stride 32 that start from each classifier.
NETS = {
    "vgg16": "fcn32s",
    "alexnet": "fcn-alexnet",
    "alexnet-torchvision": "fcn-alexnet-torchvision",
    "googlenet": "fcn-googlenet",
    "squeezenet": "fcn-squeezenet",
}


def initial_network(
    options: TrainOptions,
    train_set: SegmentationDataset,
    from_sources: bool,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> Net:
    """The network of step 0, with the weights that the options name if ``from_sources``."""
    torch.manual_seed(options.seed)
    model = network_of(options.model, classes_of(train_set), train_set.channels)
    if from_sources:
        if options.init_classifier:
            state = from_classifier(model, options.init_classifier)
            if options.init_scores:
                scores_from_classifier(
                    model,
                    options.init_classifier,
                    state,
                    options.init_scores,
                    options.init_scores_scale,
                    [labels.class_names for labels in train_set.label_sets],
                )
            whose, wants = source_of(state)
            if wants != options.model.input:
                warn(
                    f"{options.init_classifier}: has {whose}'s names of layers, and --model.input "
                    f"is {options.model.input}; give --model.input {wants} if its weights are "
                    f"{whose}'s, too"
                )
        if options.init_coarser:
            from_coarser(model, options.init_coarser, train_set)
        if options.init_streams:
            from_streams(model, options.init_streams, train_set)
        if options.init_weights:
            names = [labels.class_names for labels in train_set.label_sets]
            say(from_weights(model, options.init_weights, names))
    if options.optim.layers == "scores":
        model.freeze_trunks()
    return model


def from_classifier(model: Net, path: Path) -> dict[str, Tensor]:
    """Load the trunk from a classifier's file; returns what the file holds.

    Raises:
        UsageError: the file cannot be read, or is another network's.
    """
    state = read_state_dict(path)
    if len(model.trunks) > 1:
        raise UsageError(
            f"--init-classifier is of networks of one stream, got {', '.join(model.trunks)}: train "
            "each from it, and late fusion from their runs (--init-streams)"
        )
    try:
        models.load_classifier(model, state)
    except (KeyError, ValueError, RuntimeError) as error:
        text = re.sub(r"\[((?:'[^']*', ){3})'[^\]]*\]", r"[\1...]", str(error))
        raise UsageError(
            f"{path}: does not fit the network: {text}; the file holds {some(state)}"
            f"{_what_fits(model, state)}"
        ) from None
    return state


def _what_fits(model: Net, state: Mapping[str, Tensor]) -> str:
    """The end of the message that the classifier in ``state`` is not that of ``model``."""
    (trunk,) = model.trunks.values()
    with contextlib.suppress(TypeError, ValueError), torch.device("meta"):
        name = models.classifier_name(state)
        other = models.build_classifier(name).trunk
        if kind_of(other) != kind_of(trunk):
            return f"; that is {name}, which --model {NETS[name]} starts from"
    narrow = getattr(trunk, "width", 1) != 1 or getattr(trunk, "batch_norm", False)
    return "; --recipe paper has the network of published classifiers" if narrow else ""


def from_coarser(model: Net, path: Path, train_set: SegmentationDataset) -> None:
    """Load every layer that the coarser network of the run ``path`` has, too.

    Raises:
        UsageError: ``path`` is not a run, has other classes or channels, or is not of a coarser
            network.
    """
    coarser = load_run(path)
    check_classes(coarser, train_set)
    _check_channels(coarser, train_set.channels, "--init-coarser")
    try:
        models.initialize_from_coarser(model, coarser.model)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"{path}: does not fit the network: {error}") from None


def from_streams(model: Net, text: str, train_set: SegmentationDataset) -> None:
    """Load each stream from the run of a network with this stream alone: ``color=run,hha=run``.

    Raises:
        UsageError: a path is not a run, has other classes or channels, or is another network's; or
            the streams are not those of ``model``.
    """
    paths = by_name(text)
    if paths is None:
        raise UsageError(
            "--init-streams must be a run for each stream, such as "
            f"color=runs/color,hha=runs/hha, got {text!r}"
        )
    if paths.keys() != model.trunks.keys():
        raise UsageError(
            f"--init-streams must be a run for each stream, {' and '.join(model.trunks)}, got "
            f"{' and '.join(paths)}"
        )
    nets = {}
    for stream, path in paths.items():
        run = load_run(Path(path))
        check_classes(run, train_set)
        # Streams are named by the channels that they see.
        _check_channels(run, stream, f"--init-streams: {stream}")
        nets[stream] = run.model
    try:
        models.initialize_from_streams(model, nets)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"--init-streams: {error}") from None


def _check_channels(run: TrainedRun, channels: str, option: str) -> None:
    """Refuse a run whose network sees other channels. Shapes may not tell: color and HHA have three
    channels each."""
    seen = run.options.data.channels
    if seen != channels:
        raise UsageError(
            f"{option}: {run.path} sees {seen}, and what starts from it sees {channels}; give a "
            "run that sees the same"
        )
