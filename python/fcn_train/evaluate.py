"""`fcn evaluate`: score a run on a split, and write the report."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

from fcn_ext.calibration import Calibration
from fcn_ext.metrics import Scores
from fcn_train.config import of_types, to_dict
from fcn_train.console import Console, Silent
from fcn_train.data import check_split
from fcn_train.data.contents import refuse_folder_of_files
from fcn_train.data.opening import SAMPLE_ROOT, of_kind, open_split, validation_options
from fcn_train.errors import UsageError
from fcn_train.evaluator import Evaluator, scores_of
from fcn_train.failures import by_options_of_evaluate
from fcn_train.files import check_folder
from fcn_train.network import normalization_of
from fcn_train.options import DataOptions, EvaluateOptions
from fcn_train.per_image import ImageCounts
from fcn_train.processes import joined
from fcn_train.real_paths import real_path
from fcn_train.report import summary, write_report
from fcn_train.run import check_classes, load_run
from fcn_train.run_argument import chosen_run
from fcn_train.run_folder import RunFolder, refuse_folder_of_run
from fcn_train.runtime import open_runtime
from fcn_train.views import Views
from fcn_train.words import counted


def evaluate_run(
    options: EvaluateOptions, console: Console | None = None
) -> Scores | dict[str, Scores]:
    """`fcn evaluate`: score a run on a split and write the report folder.

    Returns:
        The scores; those of several sets of labels by name.

    Raises:
        UsageError, DataError: options or files that cannot be used.
        WriteError: the disk refuses a file.
    """
    here = joined()
    console = (console or Console()) if here.first else Silent()
    options = of_types(options, EvaluateOptions)
    if options.batch < 1:
        raise UsageError(f"--batch must be >= 1, got {options.batch}")
    views = Views(tta=options.tta)
    views.check()
    place = chosen_run("evaluate", options.folder, options.run)
    if (output := options.output) is not None:
        here.from_first(lambda: refuse_folder_of_run(output, "--output", evaluated=place))
    if views.several and options.logits != "coarse":
        raise UsageError(f"--tta averages coarse scores, got --logits {options.logits}")
    runtime = open_runtime(options.device, options.threads, options.amp, console.warn)
    run = here.from_first(lambda: load_run(place, options.weights))
    own = data = validation_options(run.options.data)
    if options.data_kind is not None:
        data = of_kind(data, options.data_kind)
    if options.data_root is not None:
        data = replace(data, root=options.data_root)
    split = data.val_split if options.split is None else options.split
    with here.first_ahead():
        dataset = open_split(data, split)
    if output is not None:
        refuse_folder_of_files(output, dataset, "--output")
    check_classes(run, dataset)
    check_split(
        dataset,
        training=False,
        warn=lambda text: console.warn(by_options_of_evaluate(text)),
    )
    model = runtime.place(run.model)
    evaluator = Evaluator(
        dataset,
        runtime,
        normalization_of(run.options.model),
        batch=options.batch,
        logits=options.logits,
        workers=runtime.workers(data.workers),
        views=views,
        as_bytes=run.options.data.transfer == "uint8",
    )
    name = shown_name(split)
    folder = output or RunFolder(place).evaluation(folder_name(own, data, split, dataset.source))
    here.from_first(lambda: check_folder(folder))
    calibrations = [Calibration(labels.num_classes) for labels in dataset.label_sets]
    calibrations = calibrations if options.calibration else []
    began = time.monotonic()
    per_image = ImageCounts()
    here.gather()
    with console.progress("evaluating", len(dataset), images=1) as advance:
        counts = evaluator.count(model, advance, per_image, calibrations)
    if calibrations and not per_image.finite:
        raise UsageError(
            f"{place}: its network gives scores that are not finite, so there is nothing "
            "for --calibration to compare; train it with a lower --optim.lr"
        )
    if not here.first:
        return scores_of(counts)
    for remark in evaluator.remarks(counts, per_image):
        console.warn(remark)
    scores = scores_of(counts)
    write_report(
        folder,
        title=f"{run.options.model.name} on {dataset.name}, {name}",
        facts={
            "run": str(place),
            "data": data.kind,
            "source": str(real_path(dataset.source)),  # the folder's name may end in its checksum
            "split": split,
            "images": len(dataset),
            "weights": options.weights,
            "logits": options.logits,
            "test-time augmentation": options.tta,
            "amp": options.amp,  # this may differ from the run's
            "seconds": round(time.monotonic() - began, 1),
        },
        results=evaluator.results(model, counts, per_image, calibrations),
        config=to_dict(run.options),
        environment=runtime.environment(),
    )
    console.line(f"{counted(len(dataset), 'image')} of {dataset.name}, {name}: {summary(scores)}")
    console.line(f"{folder / 'report.html'}: written")
    return scores


def shown_name(split: str) -> str:
    """The name of a split in reports, from a list's name or its path."""
    return Path(split).name.removesuffix(".txt") or "all"


def folder_name(own: DataOptions, data: DataOptions, split: str, source: Path) -> str:
    """The name for the folder of a split's report, different for different splits.

    The run's own val split, and other splits of its data that are given by name, keep their names.
    For others (lists given by path and splits of other data), the name is followed by a checksum of
    their path, as it may be that of one of the former.

    Args:
        own: how the run was scored.
        data: how it is scored now.
        split: the name of the split in ``data``.
        source: its list or folder.
    """
    name, own_name = shown_name(split), shown_name(own.val_split)
    by_name = Path(split).name == split and not split.endswith(".txt")
    taken = name == own_name or (name == "all" and split != "")
    if _place(own) == _place(data) and (split == own.val_split or (by_name and not taken)):
        return name
    place = f"{data.kind} {real_path(source)}"
    return f"{name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


def _place(data: DataOptions) -> tuple[str, Path]:
    return data.kind, real_path(data.root or SAMPLE_ROOT)
