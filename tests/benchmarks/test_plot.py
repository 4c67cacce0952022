"""The pictures of the loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import cli
from benchmarks.cases import rows


@pytest.fixture
def document() -> dict[str, Any]:
    return made_up(grid="sweep")


def made_up(grid: str) -> dict[str, Any]:
    """A document such as the program writes, of made-up figures."""
    found = []
    for row in rows(grid=grid):
        (n, channels, h, w), (height, width) = (1, row.case.channels, 64, 64), row.case.size  # type: ignore[union-attr]
        entries = [
            {"name": "fcn_ext", "median_ms": 0.1 * channels, "peak_mib": 0.0},
            {
                "name": "F.interpolate + F.cross_entropy",
                "median_ms": 2.0 * channels,
                "peak_mib": 1e-5 * channels * height * width,
            },
        ]
        found.append(
            {
                "name": row.name,
                "operator": row.operator,
                "case": row.case.name,
                "shapes": [[n, channels, h, w], [n, height, width]],
                "implementations": entries,
            }
        )
    environment = {"device_name": "a CPU", "threads": 2, "torch": "2"}
    return {"environment": environment, "rows": found}


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("grid", ["sweep", "heads"])
def test_picture(grid: str, memory: bool, tmp_path: Path) -> None:
    document = made_up(grid)
    if not memory:
        for row in document["rows"]:
            for entry in row["implementations"]:
                entry["peak_mib"] = None
    source = tmp_path / "sweep.json"
    source.write_text(json.dumps(document))
    path = tmp_path / "docs" / "heads.png"
    assert cli.main(["--plot", str(source), "--output", str(path)]) == 0
    with Image.open(path) as picture:
        assert min(picture.size) > 500
        assert len(picture.convert("L").getcolors() or ()) > 10


def test_no_sweep(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document["rows"] = [row for row in document["rows"] if row["case"].startswith("size")]
    source = tmp_path / "sweep.json"
    source.write_text(json.dumps(document))
    with pytest.raises(SystemExit) as caught:
        cli.main(["--plot", str(source), "--output", str(tmp_path)])
    assert caught.value.code == 2
    assert "has no row interpolate_cross_entropy/classes-*" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]
