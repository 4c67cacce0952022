"""Inputs with the foreground or the background masked (the journal version's Table 8)."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fcn_train.console import Console
from fcn_train.data.opening import open_split, validation_options
from fcn_train.evaluator import Evaluator
from fcn_train.network import normalization_of
from fcn_train.runtime import open_runtime
from fcn_train.study.comparison import (
    CURVES,
    curve_rows,
    draw_curves,
    environment,
    study_facts,
)
from fcn_train.study.families import with_data
from fcn_train.study.findings import Findings
from fcn_train.study.options import TrainStudyOptions
from fcn_train.study.variants import Variant, base_options, network, train_all

# What is masked in training and in scoring, and the published mean IU.
ROWS: tuple[tuple[str, Any, Any, float], ...] = (
    ("reference", "none", "none", 84.8),
    ("reference, foreground alone", "none", "background", 81.0),
    ("reference, background alone", "none", "foreground", 19.8),
    ("foreground alone", "background", "background", 76.1),
    ("background alone", "foreground", "foreground", 37.8),
    ("shape", "shape", "shape", 29.1),
)
PAPER = (
    "Table 8 of the journal version, mean IU without the background, FCN-32s: 84.8 % as it is. "
    "Trained on whole images, 81.0 with the background masked and 19.8 with the foreground masked; "
    "trained on masked ones, 76.1 and 37.8; 29.1 from shapes alone. Decisions are made by the "
    "foreground, and the background helps a little."
)


def run(options: TrainStudyOptions, folder: Path, console: Console) -> Findings:
    """Train a network on each mask, and score it on the same and on others."""
    base = base_options(options)
    variants = {
        mask: Variant(f"trained, masked: {mask}", (with_data(base, mask=mask),))
        for mask in dict.fromkeys(row[1] for row in ROWS)
    }
    trained = train_all(list(variants.values()), options, folder, console)
    runtime = open_runtime(options.device, options.threads, "none", console.warn)
    normalization = normalization_of(options.model)
    rows = []
    for name, training, scoring, published in ROWS:
        data = validation_options(replace(options.data, mask=scoring))
        evaluator = Evaluator(open_split(data, data.val_split), runtime, normalization)
        ious = []
        for one in trained:
            if one.variant is variants[training]:
                console.line(f"scoring {name}, seed {one.seed}")
                scores = evaluator.count(runtime.place(network(one))).compute()
                ious.append(100 * float(np.nanmean(scores.class_iu[1:])))
        rows.append(
            [name, training, scoring, statistics.fmean(ious), max(ious) - min(ious), published]
        )
    title = f"Masked inputs: {base.model.name} on {base.data.kind}, seeds: {options.seeds}"
    draw_curves(folder / "picture.png", title, trained)
    return Findings(
        title=title,
        paper=PAPER,
        header=(
            *("input", "masked in training", "masked in scoring"),
            *("mean IU without background (%)", "range", "paper"),
        ),
        rows=rows,
        facts={**study_facts(options), "environment": environment(trained)},
        more={"curves": (CURVES, [row for one in trained for row in curve_rows(one)])},
    )
