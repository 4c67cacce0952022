"""The log of a run. It is part of checkpoints, so a resumed run's log has no gap."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fcn_ext.metrics import Scores
from fcn_train.files import write_text
from fcn_train.words import counted

TRAINING = ("step", "epoch", "lr", "loss")
SCORES = (
    "pixel_accuracy",
    "mean_accuracy",
    "mean_iu",
    "mean_iu_present",
    "frequency_weighted_iu",
)


@dataclass
class History:
    """Rows of ``training.csv`` and ``evaluations.csv``, losses not yet in a row, and the best
    score.

    With several sets of labels, a row has the scores of each, and the mean IU of the first decides
    which evaluation is the best.
    """

    label_sets: list[str] = field(default_factory=lambda: [""])
    training: list[list[float]] = field(default_factory=list)
    evaluations: list[list[float]] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    head_losses: list[list[float]] = field(default_factory=list)
    """For each row of ``training``, the loss of each head, if there are several."""
    pending_heads: list[list[float]] = field(default_factory=list)
    best_mean_iu: float = -1.0
    extended: int = -1
    """The steps that the run had taken when it was last made longer; -1 for never."""

    def note_heads(self, losses: list[float]) -> None:
        """Record the loss of each head in the next step; empty for a network with one head."""
        if losses:
            self.pending_heads.append(losses)

    def add_loss(self, step: int, epoch: float, lr: float, loss: float, every: int) -> None:
        """Record the loss of ``step``; the mean of every ``every`` losses becomes a row."""
        self.pending.append(loss)
        if len(self.pending) >= every:
            self.training.append([step, epoch, lr, _mean(self.pending)])
            heads = zip(*self.pending_heads, strict=True)
            self.head_losses.append([_mean(losses) for losses in heads])
            self.pending, self.pending_heads = [], []

    @property
    def training_header(self) -> tuple[str, ...]:
        """The columns of ``training.csv``."""
        several = len(self.label_sets) > 1
        return (*TRAINING, *(f"loss_{name}" for name in self.label_sets if several))

    @property
    def evaluations_header(self) -> tuple[str, ...]:
        """The columns of ``evaluations``."""
        names = (score_column(name, score) for name in self.label_sets for score in SCORES)
        return ("step", "epoch", *names)

    def is_best(self, scores: Scores) -> bool:
        """Whether no evaluation so far had this mean IU or more."""
        return float(scores.mean_iu) > self.best_mean_iu

    def add_scores(self, step: int, epoch: float, scores: Scores, *more: Scores) -> None:
        """Record an evaluation, with the scores of each set of labels."""
        values = (float(getattr(one, name)) for one in (scores, *more) for name in SCORES)
        self.evaluations.append([step, epoch, *values])
        self.best_mean_iu = max(self.best_mean_iu, float(scores.mean_iu))

    def evaluated(self, step: int) -> bool:
        return any(row[0] == step for row in self.evaluations)

    def stale(self, patience: int, every: int = 1) -> bool:
        """Whether the last ``patience`` evaluations did not raise the mean IU; never for 0.

        Only those after a multiple of ``every`` steps count: others were made at a former end,
        where a run that was this long from the start has none. A run that was stale when it was
        made longer is not stale there; counting begins anew.
        """
        best, since, before = -1.0, 0, 0
        for row in self.evaluations:
            step, mean_iu = int(row[0]), row[2 + SCORES.index("mean_iu")]
            if step % every:
                continue
            if since >= patience and before <= self.extended < step:
                since = 0
            best, since = (mean_iu, 0) if mean_iu > best else (best, since + 1)
            before = step
        return 0 < patience <= since and self.extended < before

    def state(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(state: dict[str, Any], label_sets: Sequence[str] = ("",)) -> History:
        """The history of ``label_sets`` whose ``state()`` this is. Raises ValueError if it is not
        one."""
        names = {item.name for item in fields(History)}
        if isinstance(state, dict):  # from versions with a single set of labels
            rows = state.get("training")
            lost: list[list[float]] = [[] for _ in rows] if isinstance(rows, list) else []
            added = {"label_sets": [""], "head_losses": lost, "pending_heads": [], "extended": -1}
            state = {**added, **state}
        if not isinstance(state, dict) or state.keys() != names:
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise ValueError(f"the history must hold {sorted(names)}, got {found}")
        history = History(**state)
        if history.label_sets != list(label_sets):
            raise ValueError(
                f"the history must be of the sets of labels {list(label_sets)}, "
                f"got {history.label_sets}"
            )
        numbers = [*history.pending, history.best_mean_iu, history.extended]
        for row in (*history.head_losses, *history.pending_heads):
            if len(row) not in (0, len(label_sets)):
                raise ValueError(
                    "the history must hold the losses of "
                    f"{counted(len(label_sets), 'head')}, got {len(row)}"
                )
            numbers += row
        if len(history.head_losses) != len(history.training):
            raise ValueError(
                "the history must hold losses of heads of each of "
                f"{counted(len(history.training), 'row')}, "
                f"got {len(history.head_losses)}"
            )
        tables = (
            (history.training, TRAINING),
            (history.evaluations, history.evaluations_header),
        )
        for table, header in tables:
            for row in table:
                if len(row) != len(header):
                    raise ValueError(
                        f"the history must hold rows of {', '.join(header)}, got "
                        f"{counted(len(row), 'value')}"
                    )
                numbers += row
        for value in numbers:
            if not isinstance(value, (int, float)):
                raise ValueError(f"the history must hold numbers, got a {type(value).__name__}")
        return history

    def write(self, folder: Path) -> None:
        missing = [""] * (len(self.training_header) - len(TRAINING))
        rows = zip(self.training, self.head_losses, strict=True)
        training = [[*row, *(heads or missing)] for row, heads in rows]
        write_csv(folder / "training.csv", self.training_header, training)
        write_csv(folder / "evaluations.csv", self.evaluations_header, self.evaluations)


def score_column(label_set: str, score: str) -> str:
    """The column of ``evaluations.csv`` for a score of a set of labels; "" is the only set."""
    return f"{label_set}_{score}" if label_set else score


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in (header, *rows))
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    """A number in few digits, or a text made safe from being read as a formula by a spreadsheet."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return f"{value:.8g}" if isinstance(value, float) else value
