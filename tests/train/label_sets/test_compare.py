"""`fcn compare` of runs of two sets of labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from fcn_train.compare.records import read_records

Command = Callable[..., tuple[int, str, str]]


def test_a_run_that_logged_no_losses_of_heads_at_first(
    both: Path, command: Command, tmp_path: Path
) -> None:
    """As one that was continued from a checkpoint of a time before there were any."""
    old = Path(shutil.copytree(both, tmp_path / "old"))
    (old / "training.csv").write_text(
        "step,epoch,lr,loss,loss_SemanticLabels,loss_GeoLabels\n2,0.5,0.1,2,,\n4,1,0.1,1.5,0.5,1\n"
    )
    page = tmp_path / "page.html"
    code, out, err = command("compare", both, old, "--images", "0", "--output", page)
    assert (code, err) == (0, "")
    assert out.count("\nscores, ") == 2
    assert page.is_file()
    _, record = read_records([both, old])
    assert record.training == [(2, 2), (4, 1.5)]
    assert len(record.evaluations) > 0
