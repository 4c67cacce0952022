"""The model card in Markdown: what the weights are, how they were made, and their scores."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_train.classes import Classes
from fcn_train.config import flat, to_dict
from fcn_train.data import Normalization
from fcn_train.data.licenses import license_of
from fcn_train.errors import UsageError
from fcn_train.files import write_text
from fcn_train.history import SCORES
from fcn_train.network import normalization_of
from fcn_train.optim_options import OptimOptions
from fcn_train.options import TrainOptions
from fcn_train.report_page import LABELS
from fcn_train.run_folder import TECHNICAL, RunFolder
from fcn_train.run_scores import best_row, read_evaluations, read_json, scores_by_set
from fcn_train.schedule import planned_length
from fcn_train.shown import shown
from fcn_train.words import counted, counted_each


@dataclass(frozen=True, eq=False)
class Subject:
    """What a card is about.

    Attributes:
        folder: the run's.
        options: it was trained with.
        label_sets: its classes.
        parameters: how many its network has.
        checksum: SHA-256 of the weights.
        weights: which of the run's weights, ``last`` or ``best``.
    """

    folder: RunFolder
    options: TrainOptions
    label_sets: Sequence[Classes]
    parameters: int
    checksum: str
    weights: str = "last"


def write_card(subject: Subject, metrics: Mapping[str, Any]) -> None:
    """``model_card.md`` of a run folder. ``metrics`` is the content of ``metrics.json``."""
    write_text(subject.folder.card, model_card(subject, metrics))


def write_file_card(path: Path, subject: Subject, facts: Mapping[str, Any]) -> Path:
    """The card of the exported file ``path``, beside it; ``facts`` are those of the file alone."""
    card = path.with_name(f"{path.name}.md")
    write_text(card, model_card(subject, _saved_metrics(subject), facts))
    return card


def model_card(
    subject: Subject,
    metrics: Mapping[str, Any] | None,
    file: Mapping[str, Any] | None = None,
) -> str:
    """The card.

    Args:
        metrics: scores, as in ``metrics.json``; None if there are none.
        file: facts of an exported file.
    """
    options = subject.options
    data = options.data
    counts = counted_each((len(classes.names) for classes in subject.label_sets), "class")
    parts = [
        f"# {_text(options.model.name)} on {_text(data.kind)}",
        f"A fully convolutional network for semantic segmentation: it gives each pixel of an image "
        f"one of {counts}.",
    ]
    if file is not None:
        parts += ["## This file", _table(file.items())]
    parts += [
        "## Network",
        _table(_network(subject)),
        "## Data",
        _table(_data(subject)),
        "## Training",
        _table(_training(subject, metrics)),
        "<details><summary>Options that change the result</summary>",
        f"```json\n{json.dumps(_options(options), indent=1)}\n```",
        "</details>",
        "## Scores",
        *_scores(metrics),
        "The scores are those of one training on the images named above. Images unlike these, in "
        "content, camera or scale, get worse labels. How sure to be of the probabilities, "
        "`fcn evaluate --calibration` tells.",
    ]
    return "\n\n".join(parts) + "\n"


def _network(subject: Subject) -> list[tuple[str, Any]]:
    options = subject.options
    normalization = normalization_of(options.model)
    return [
        ("name", options.model.name),
        ("parameters", f"{subject.parameters:,}"),
        ("sees", options.data.channels),
        ("normalization", _normalization(normalization)),
        *(
            (f"classes {classes.label_set}".rstrip(), ", ".join(classes.names))
            for classes in subject.label_sets
        ),
        ("weights", subject.weights),
        ("SHA-256 of the weights", subject.checksum),
    ]


def _normalization(normalization: Normalization) -> str:
    order = "BGR" if normalization.bgr else "RGB"
    return f"{order}, (value - {normalization.mean}) / {normalization.std}, of R, G, B in 0..255"


def _data(subject: Subject) -> list[tuple[str, Any]]:
    data = subject.options.data
    rows: list[tuple[str, Any]] = [("kind", data.kind)]
    splits = _read_json(subject.folder.splits)
    for name in ("train", "val"):
        split = splits.get(name)
        if isinstance(split, dict):
            text = (
                f"{_last(str(split.get('split')))}, {counted(split.get('images', 0), 'image')}, "
                f"fingerprint {split.get('fingerprint')}"
            )
            rows.append((name, text))
    rows.append(("license", license_of(data.kind)))
    if data.val_kind not in (None, data.kind):
        rows.append(("license of val", license_of(str(data.val_kind))))
    return rows


def _training(subject: Subject, metrics: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    options = subject.options
    optim = options.optim
    started = {
        "classifier": options.init_classifier,
        "coarser network": options.init_coarser,
        "weights": options.init_weights,
        "streams": options.init_streams,
    }
    sources = [f"{what} {_last(str(path))}" for what, path in started.items() if path]
    if options.init_scores:
        sources.append("scores from rows of its last layer")
    environment = _read_json(subject.folder.environment)
    made_by = ", ".join(f"{key} {environment[key]}" for key in environment if key != "threads")
    return [
        ("recipe", options.recipe),
        ("started from", ", ".join(sources) or "random weights"),
        ("seed", options.seed),
        ("length", _length(optim, metrics)),
        ("optimizer", f"{optim.method}, learning rate {optim.lr:g}, {optim.schedule}"),
        ("made by", made_by or "unknown"),
    ]


def _length(optim: OptimOptions, metrics: Mapping[str, Any] | None) -> str:
    """The number of steps taken, if the metrics have it."""
    images = f"{counted(optim.batch * optim.accumulate, 'image')} per step"
    if metrics is not None and "steps" in metrics:
        return f"{counted(metrics['steps'], 'step')}, {images}"
    return f"{planned_length(optim)} planned, {images}"


def _options(options: TrainOptions) -> dict[str, Any]:
    """The options by name, without the folders of the machine."""
    values = flat(to_dict(options))
    return {
        name: _last(value) if isinstance(value, str) else value
        for name, value in values.items()
        if name not in TECHNICAL
    }


def _last(text: str) -> str:
    """``text`` with every path in it shortened to its last part; some have spaces."""
    return re.sub(r"[^,=]*/", "", text.rstrip("/"))


def _scores(metrics: Mapping[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["None: these weights were not scored, as their training has not ended."]
    of_sets = scores_by_set(metrics)
    parts = []
    for name, scores in of_sets.items():
        if name:
            parts.append(f"### {_text(name)}")
        found = [(LABELS[key], scores.get(key)) for key in SCORES if key in scores]
        parts.append(_table((key, _number(value)) for key, value in found))
        if rows := scores.get("classes"):
            header = ("class", "IU", "accuracy", "pixels in the target")
            cells = (
                (
                    *(row["class"], _number(row["iu"]), _number(row["accuracy"])),
                    f"{row['target_pixels']:,}",
                )
                for row in rows
            )
            parts.append(_table(cells, header))
    return parts


def _saved_metrics(subject: Subject) -> Mapping[str, Any] | None:
    """The scores of the weights: those at the end, or those of the best evaluation."""
    if subject.weights == "last":
        return _read_json(subject.folder.metrics) or None
    names = [classes.label_set for classes in subject.label_sets]
    try:
        of_sets = read_evaluations(subject.folder.path, names)
    except UsageError:
        return None
    best = best_row(of_sets[0])
    if best is None:
        return None
    found = {name: rows[best] for name, rows in zip(names, of_sets, strict=True)}
    return {"label_sets": found} if len(names) > 1 else found[names[0]]


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file of the run folder; empty if it is absent or damaged."""
    try:
        return read_json(path)
    except UsageError:
        return {}


def _number(value: Any) -> str:
    if isinstance(value, (int, float)) and value == value:
        return f"{value:.4f}"
    return "absent"


def _table(rows: Iterable[Sequence[Any]], header: Sequence[str] = ("", "")) -> str:
    lines = [header, ["---"] * len(header), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    """``value`` as text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", shown(str(value)))
