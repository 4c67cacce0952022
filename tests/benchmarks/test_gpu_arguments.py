"""gpu.sh refuses what it does not know, and says what it would do without doing it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from .gpu_call import ROOT, Call

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@pytest.mark.parametrize(
    ("arguments", "environment", "refusal"),
    [
        (["tests", "testing"], {}, "no stage is called testing; there are install tests heads"),
        (["tests=soon"], {}, "tests=soon: the limit must be whole seconds"),
        ([], {"FCN_EXT_GPU_SH_DEVICE": "tpu"}, "must be cuda or cpu, got tpu"),
        ([], {"FCN_EXT_GPU_SH_SECONDS": "0"}, "must be whole seconds, got 0"),
        ([], {"FCN_EXT_GPU_SH_SITE": "/no/site.tar"}, "no such file: /no/site.tar"),
        ([], {"FCN_EXT_GPU_SH_WHEELS": "/no/wheels"}, "no such folder: /no/wheels"),
        (["--unknown"], {}, "benchmarks/gpu.sh OUTDIR"),
    ],
)
def test_wrong_arguments(
    call: Call, arguments: list[str], environment: dict[str, str], refusal: str
) -> None:
    assert call.run(*arguments, **environment) == 2
    assert refusal in call.said
    assert not call.out.exists()


def test_results_are_not_mixed(call: Call) -> None:
    call.out.mkdir()
    (call.out / "summary.txt").touch()
    assert call.run("tests") == 2
    assert "OUTDIR must be new or empty" in call.said


def stages_of(said: str) -> dict[str, int]:
    """The stages of a dry run, and their limits."""
    return {
        name: int(limit)
        for name, limit in re.findall(r"^(\w+), at most (\d+) s:", said, re.MULTILINE)
    }


def test_dry_run(call: Call) -> None:
    assert call.run("--dry-run", FCN_EXT_GPU_SH_DEVICE="cuda") == 0, call.said
    assert list(stages_of(call.said)) == [
        "install",
        "tests",
        "heads",
        "operators",
        "memcheck",
        "synccheck",
        "racecheck",
        "profile",
        "ncu",
        "compile",
        "train",
    ]
    lines = {line.split(",")[0]: line for line in call.said.splitlines() if " at most " in line}
    assert "-m cuda" in lines["tests"]
    for tool in ("memcheck", "synccheck", "racecheck"):
        assert f"compute-sanitizer --tool {tool} " in lines[tool]
        assert "--kernel-name kns=fcn_ext" in lines[tool]
    assert "--report-api-errors no" in lines["memcheck"]
    assert "ncu --clock-control none" in lines["ncu"]
    assert not call.out.exists()
    assert not list((call.out.parent / "tmp").iterdir())


def test_threads_and_workers_fit_the_cores(call: Call) -> None:
    assert call.run("tests", "--dry-run", FCN_EXT_GPU_SH_DEVICE="cuda") == 0
    threads = re.search(r"OMP_NUM_THREADS=(\d+)", call.said)
    workers = re.search(r" -n (\d+)", call.said)
    assert threads is not None
    assert 1 <= int(threads[1]) * int(workers[1] if workers else 1) <= len(os.sched_getaffinity(0))


def test_the_calls_of_the_page_fit_their_time(call: Call, tmp_path: Path) -> None:
    """Its stages cannot take longer together than one call has, and none is forgotten."""
    page = (ROOT / "benchmarks" / "README.md").read_text()
    calls = re.findall(r"^((?:\w+=\S+ )*)benchmarks/gpu\.sh out\d((?: \w+)+)$", page, re.MULTILINE)
    assert len(calls) == 3
    (tmp_path / "site.tar").touch()
    seen: set[str] = set()
    for variables, names in calls:
        site = {"FCN_EXT_GPU_SH_SITE": str(tmp_path / "site.tar")}
        packed = site if "FCN_EXT_GPU_SH_SITE" in variables else {}
        assert call.run(*names.split(), "--dry-run", FCN_EXT_GPU_SH_DEVICE="cuda", **packed) == 0
        limits = stages_of(call.said)
        assert sum(limits.values()) <= 570
        seen |= set(limits)
    assert call.run("--dry-run") == 0
    assert seen == set(stages_of(call.said))
