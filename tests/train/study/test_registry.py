"""`fcn study`: its list, and names that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fcn_train.study.findings import Findings, cell_text
from fcn_train.study.registry import STUDIES

Command = Callable[..., tuple[int, str, str]]


def test_all_are_listed_and_can_be_run(command: Command) -> None:
    code, out, _ = command("study")
    assert code == 0
    for name, study in STUDIES.items():
        assert f"{name} " in out
        assert study.line in out
        assert callable(study.run)


@pytest.mark.parametrize("name", STUDIES)
def test_help(command: Command, name: str) -> None:
    code, out, _ = command("study", name, "--help")
    assert code == 0
    assert f"fcn study {name}" in out


def test_help_of_all(command: Command) -> None:
    assert "study" in command("--help")[1]
    assert "experiment of the paper" in command("study", "--help")[1]


def test_an_unknown_study(command: Command) -> None:
    code, _, err = command("study", "nothing")
    assert code == 2
    assert err.startswith("fcn: fcn study must be followed by one of label-downsampling, ")
    assert "got 'nothing'" in err
    assert err.count("\n") == 1


def test_findings(tmp_path: Path) -> None:
    findings = Findings(
        title="Of what",
        paper="so and so.",
        header=("name", "score", "paper"),
        rows=[["a", 0.5, None], ["b", 12, 70.25]],
        facts={"seeds": 2},
        more={"curves": (("step", "loss"), [[1, 0.25]])},
    )
    findings.write(tmp_path / "new")
    assert (tmp_path / "new" / "table.txt").read_text() == (
        "Of what\n\nname   score  paper\na     0.5000      -\nb         12   70.2\n\n"
        "The paper: so and so.\n"
    )
    assert (tmp_path / "new" / "table.csv").read_text() == "name,score,paper\na,0.5,\nb,12,70.25\n"
    assert (tmp_path / "new" / "curves.csv").read_text() == "step,loss\n1,0.25\n"
    assert '"seeds": 2' in (tmp_path / "new" / "study.json").read_text()


def test_cells_of_tables() -> None:
    assert [cell_text(value) for value in (None, 1234, 0.12345, 12.345, "x")] == [
        *("-", "1,234", "0.1235", "12.3", "x")
    ]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Of what", "mean IU (%)"),
        ("Mean IU (%) of labels", "nearest"),
        ("", "range"),
        ("", "paper"),
    ],
)
def test_percents_have_as_many_digits(title: str, name: str) -> None:
    values = (0.0, 4.0241, 17.68, 100.0, None, "x", 7)
    findings = Findings(title, "nothing.", (name,), [[value] for value in values])
    lines = findings.text().split("\n\n")[1].splitlines()[1:]
    assert [line.strip() for line in lines] == ["0.0", "4.0", "17.7", "100.0", "-", "x", "7"]
