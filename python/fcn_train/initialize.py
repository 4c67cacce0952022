"""The weights that a network starts from: a classifier's, a coarser network's, or any other's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fcn_ext import models
from fcn_ext.models.names import renamed
from fcn_ext.models.upsampling import FixedUpsampling, LearnedUpsampling, Upsampling
from fcn_train.by_name import by_name
from fcn_train.classes import classes_of
from fcn_train.data import SegmentationDataset
from fcn_train.errors import UsageError
from fcn_train.heads import Net, head_names
from fcn_train.network import network_of
from fcn_train.options import TrainOptions
from fcn_train.run import TrainedRun, check_classes, load_run
from fcn_train.score_rows import scores_from_classifier
from fcn_train.weight_files import read_state_dict, some, source_of

# What starts from each classifier, at stride 32.
NETS = {
    "vgg16": "fcn32s",
    "alexnet": "fcn-alexnet",
    "alexnet-torchvision": "fcn-alexnet-torchvision",
    "googlenet": "fcn-googlenet",
    "squeezenet": "fcn-squeezenet",
}
CAFFE_HEADS = {"semantic": "sem", "geometric": "geo"}  # of the published nets of SIFT Flow


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
    """The trunk from the file of its classifier; returns what the file holds.

    Raises:
        UsageError: the file cannot be read, or is of another network.
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
    """How a message goes on that the classifier in ``state`` is not that of ``model``."""
    (trunk,) = model.trunks.values()
    with contextlib.suppress(TypeError, ValueError), torch.device("meta"):
        name = models.classifier_name(state)
        other = models.build_classifier(name).trunk
        if _build(other) != _build(trunk):
            return f"; that is {name}, which --model {NETS[name]} starts from"
    narrow = getattr(trunk, "width", 1) != 1 or getattr(trunk, "batch_norm", False)
    return "; --recipe paper has the network of published classifiers" if narrow else ""


def _build(trunk: nn.Module) -> tuple[type, str]:
    """The sort of a trunk; there are two of AlexNet."""
    return type(trunk), getattr(trunk, "variant", "")


def from_coarser(model: Net, path: Path, train_set: SegmentationDataset) -> None:
    """Every layer that the coarser network of the run ``path`` has.

    Raises:
        UsageError: ``path`` is no run, of other classes or channels, or not of a coarser network.
    """
    coarser = load_run(path)
    check_classes(coarser, train_set)
    _check_channels(coarser, train_set.channels, "--init-coarser")
    try:
        models.initialize_from_coarser(model, coarser.model)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"{path}: does not fit the network: {error}") from None


def from_streams(model: Net, text: str, train_set: SegmentationDataset) -> None:
    """Each stream from the run of a network that sees nothing else: ``color=run,hha=run``.

    Raises:
        UsageError: a path is no run, of other classes, channels or another network; or the streams
            are not those of ``model``.
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
        # The names of streams are those of what they see.
        _check_channels(run, stream, f"--init-streams: {stream}")
        nets[stream] = run.model
    try:
        models.initialize_from_streams(model, nets)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"--init-streams: {error}") from None


def _check_channels(run: TrainedRun, channels: str, option: str) -> None:
    """Refuse a run whose network sees something else, of which shapes may tell nothing: color and
    HHA have three channels each."""
    seen = run.options.data.channels
    if seen != channels:
        raise UsageError(
            f"{option}: {run.path} sees {seen}, and what starts from it sees {channels}; give a "
            "run that sees the same"
        )


@torch.no_grad()
def from_weights(model: Net, path: Path, class_names: Sequence[Sequence[str]]) -> str:
    """Every layer of a run folder or a file of weights that ``model`` has, too.

    Score layers and learned upsampling are taken where they are of the same classes: of as many,
    and of the same names where a run tells them. Of several heads, there or here, each takes those
    of its classes, whatever the heads are called.

    Args:
        class_names: the classes of each head.

    Returns:
        A sentence of what was taken, what was left out, and what stays at its initial values.

    Raises:
        UsageError: nothing can be read there, or it is another network's.
    """
    known: _Heads | None = None
    if path.is_dir():
        run = load_run(path)
        source: Mapping[str, Tensor] = run.model.state_dict()
        known = _heads(run.model, [classes.names for classes in run.label_sets])
    else:
        names = _caffe_names(model)
        source = {renamed(key, names) or key: value for key, value in read_state_dict(path).items()}
    target = model.state_dict()
    heads = _heads(model, class_names)
    taken: dict[str, Tensor] = {}
    left_out: list[str] = []
    learned: list[str] = []
    for name, value in source.items():
        places = _places(name, known, heads) if of_classes(name) else [name]
        fitting = {
            place: fitted
            for place in places
            if place in target
            and (fitted := _as_learned(model, place, value)).shape == target[place].shape
        }
        if fitting and (known is not None or len(fitting) == 1):
            taken |= fitting
        elif name in target and not of_classes(name):
            raise UsageError(
                f"{path}: is of another network: {name} must have shape "
                f"{tuple(target[name].shape)}, got {tuple(value.shape)}; "
                "give the same --model.width and --model.fc-channels"
            )
        else:
            left_out.append(name)
            if any(_was_learned(model, place, value) for place in places):
                learned.append(name)
    initial = [name for name in target if name not in taken]
    trunk = [name for name in target if not of_classes(name)]
    if 2 * sum(name in taken for name in trunk) <= len(trunk):
        raise UsageError(
            f"{path}: is of another network: it holds {some(source)}, not {some(trunk)}"
        )
    for name, value in taken.items():
        target[name].copy_(value)
    text = f"{path}: {len(taken)} of {len(target)} tensors taken"
    if left_out:
        text += f"; left out: {some(left_out, 12)}"
    if learned:
        text += f" ({some(learned)}: learned, to be taken with --model.upsampling dense)"
    if initial:
        text += f"; at their initial values: {some(initial, 12)}"
    return text


def of_classes(name: str) -> bool:
    """Whether a tensor depends on the classes: those of score layers and of upsampling do."""
    layer = name.rpartition(".")[0].rpartition(".")[2]
    return layer.startswith(("score_", "upscore"))


def _caffe_names(model: Net) -> dict[str, str]:
    """The names of layers in ``model``, by those in Caffe's published nets of several parts:
    conv1_1color, score_fr_sem."""
    here = {path: name for name, path in model.published_names().items()}
    names = {alias: here[path] for alias, path in model.aliases().items()}
    for head, short in CAFFE_HEADS.items():
        ours = {alias for alias in names if alias.endswith(f"_{head}")}
        names |= {alias.removesuffix(head) + short: names[alias] for alias in ours}
    return names


_Heads = dict[str, tuple[str, ...]]  # what the names of a head's layers begin with: its classes


def _heads(model: Net, class_names: Sequence[Sequence[str]]) -> _Heads:
    beginnings = [f"{name}." if name else "" for name in head_names(model)]
    return dict(zip(beginnings, map(tuple, class_names), strict=True))


def _places(name: str, known: _Heads | None, heads: _Heads) -> list[str]:
    """What a tensor of a head is called in those of ``heads`` that have its classes.

    Args:
        name: of the tensor, where it comes from.
        known: the heads there; None for a file, which does not tell its classes: its names are
            taken as they are, and those of a network of one head for any head.
    """
    if known is None:
        own = any(name.startswith(head) for head in heads if head)
        return [name] if own or "" in heads else [head + name for head in heads]
    for there, classes in known.items():
        if name.startswith(there):
            same = [head for head, names in heads.items() if names == classes]
            layer = name.removeprefix(there)
            return [head + layer for head in ([there] if there in same else same)]
    return []


def _as_learned(model: Net, name: str, value: Tensor) -> Tensor:
    """``value``, in the shape of the learned kernels called ``name`` if it can have it."""
    layer = _upsampling(model, name)
    if isinstance(layer, LearnedUpsampling):
        with contextlib.suppress(ValueError):
            return layer.fitting(value)
    return value


def _was_learned(model: Net, name: str, value: Tensor) -> bool:
    """Whether ``value`` are learned kernels where ``model`` has bilinear ones of its classes."""
    layer = _upsampling(model, name)
    if not isinstance(layer, FixedUpsampling) or len(value) != layer.channels:
        return False
    return layer.difference_from_bilinear(value) is not None


def _upsampling(model: Net, name: str) -> Upsampling | None:
    """The upsampling layer that has a tensor called ``name``, if it is one's."""
    layer = name.removesuffix(".weight")
    return getattr(model, layer) if layer in model.upsampling_layers else None
