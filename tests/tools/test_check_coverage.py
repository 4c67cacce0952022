"""The judge of coverage reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .loading import load_tool

ROOT = Path(__file__).resolve().parents[2]
check_coverage = load_tool("check_coverage")

SOURCE = """
def check(value):
    if value < 0:
        raise ValueError(
            f"value must be >= 0, got {value}"
        )
    raise RuntimeError("no check of an argument")
    raise
"""


def test_refusals_are_found() -> None:
    assert check_coverage.refusals(SOURCE) == {4: "ValueError"}


def report(missing: list[int], covered: int) -> dict[str, Any]:
    summary = {"num_statements": 100, "covered_lines": covered}
    return {"missing_lines": missing, "summary": summary}


@pytest.mark.parametrize(
    ("covered", "misses_check", "code", "said"),
    [
        (95, False, 0, "fcn_ext: 95.0 % of the lines, 0 argument checks not reached"),
        (89, False, 1, "fcn_ext: 89.0 % of the lines, 0"),
        (95, True, 1, "fcn_ext/geometry.py:"),
    ],
)
def test_reports_are_judged(
    covered: int,
    misses_check: bool,
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "fcn_ext/geometry.py"
    checks = sorted(check_coverage.refusals((ROOT / name).read_text()))
    assert checks
    files = {
        name: report(checks[:1] if misses_check else [], covered),
        "python/fcn_train/cli.py": report([], 95),
    }
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps({"files": files}))
    assert check_coverage.main([str(path)]) == code
    assert said in capsys.readouterr().out
    del files[name]
    path.write_text(json.dumps({"files": files}))
    assert check_coverage.main([str(path)]) == 1
    assert "fcn_ext: not measured" in capsys.readouterr().out
