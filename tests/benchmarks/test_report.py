"""The document of figures: what is in it, how it is shown, and what is promised of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmarks
from benchmarks import bench, cli, promises, report
from benchmarks.bench import COPY, READING, WRITING, Settings, make_clock, new_document, run_row
from benchmarks.cases import rows
from benchmarks.environment import describe
from benchmarks.implementations import UPSAMPLE
from benchmarks.promises import BEST_COMPILED, BEST_PEER, Promise

NAMES = (
    "upsample/voc-s8/float32",
    "upsample_backward/voc-s8/bfloat16",
    "fuse_skip/voc-pool3/float32",
    "confusion_matrix/voc/int64-regions",
    "interpolate_cross_entropy/voc-s8/float32",
    "interpolate_argmax/voc-s8/float32-trained",
)
SETTINGS = Settings(seconds=0.02, at_least=2, compiled=False)
FIGURES = {"median_ms", "minimum_ms", "gb_per_s", "share_of_copy", "times_fcn_ext"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    device = torch.device("cpu")
    document = new_document(SETTINGS, describe(device, torch.get_num_threads()))
    for name in NAMES:
        row = next(rows((name,))).shrunk()
        peaks = {(row.name, "fcn_ext"): 3 * 2**20}
        document["rows"].append(run_row(row, SETTINGS, make_clock(device), peaks))
    return document


def test_document(document: dict[str, Any]) -> None:
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert {"torch", "cpu", "threads", "date", "fcn_ext"} <= set(document["environment"])
    assert document["environment"]["fcn_ext"]["cpu_capability"]
    assert [row["name"] for row in document["rows"]] == list(NAMES)
    for row in document["rows"]:
        assert row["copy"]["median_ms"] > 0
        assert ("reading" in row) == (row["operator"] == "upsample_backward")
        assert ("writing" in row) == (row["operator"] == "upsample")
        entries = {entry["name"]: entry for entry in row["implementations"]}
        for entry in entries.values():
            assert entry["correct"]
            assert entry["minimum_ms"] <= entry["median_ms"]
            assert all(entry[key] > 0 for key in FIGURES)
            assert entry["samples"] >= 2
            for bound in ("reading", "writing"):
                assert (f"share_of_{bound}" in entry) == (bound in row)
            assert ("wrong_counts" in entry) == (row["operator"] == "confusion_matrix")
        assert entries["fcn_ext"]["times_fcn_ext"] == 1
        assert entries["fcn_ext"]["peak_mib"] == 3
        peers = [entry for entry in entries.values() if entry["kind"] == "peer"]
        assert row["best_peer"] == min(peers, key=lambda entry: entry["median_ms"])["name"]


@pytest.mark.parametrize("failing", ["fcn_ext", "F.interpolate"])
def test_a_failure_is_reported(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ArithmeticError("no such size\nand more")

    chosen = [
        replace(implementation, function=refuse)
        if implementation.name == failing
        else implementation
        for implementation in UPSAMPLE
        if implementation.name in ("fcn_ext", "F.interpolate")
    ]
    monkeypatch.setattr(bench, "implementations", lambda *_, **__: chosen)
    row = next(rows((NAMES[0],))).shrunk()
    found = run_row(row, SETTINGS, make_clock(torch.device("cpu")), {})
    entries = {entry["name"]: entry for entry in found["implementations"]}
    assert entries.pop(failing)["failed"] == "ArithmeticError: no such size"
    assert all(entry["correct"] for entry in entries.values())
    assert found["best_peer"] == (None if failing == "F.interpolate" else "F.interpolate")
    out = io.StringIO()
    document = new_document(SETTINGS, describe(torch.device("cpu"), 1)) | {"rows": [found]}
    report.print_document(document, out)
    report.print_promises(promises.check(document), out)
    assert "failed" in out.getvalue()
    assert not any(result["kept"] for result in promises.check(document)[:1])


@pytest.mark.parametrize("rich", [True, False])
def test_tables(document: dict[str, Any], rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    out = io.StringIO()
    report.print_document(document, out)
    report.print_promises(promises.check(document), out)
    text = out.getvalue()
    for name in (
        *NAMES,
        "grouped conv_transpose2d",
        COPY,
        READING,
        WRITING,
        "peak MiB",
        "promises kept",
    ):
        assert name in text


def fake(ratio: float, share: float, **changes: Any) -> dict[str, Any]:
    peer = {"name": "slow", "kind": "peer", "correct": True, "median_ms": ratio}
    ours = {"name": "fcn_ext", "kind": "project", "correct": True, "median_ms": 1.0}
    ours |= {"share_of_copy": share, "share_of_copy_minimum": share}
    peer |= {"times_fcn_ext": ratio, "times_fcn_ext_minimum": ratio / 2}
    row = {"operator": "upsample", "case": "a", "dtype": "float32", "layout": "nchw"}
    row |= {"name": "upsample/a/float32", "implementations": [ours, peer], "best_peer": "slow"}
    head = {"environment": {"device": "cpu"}, "settings": {"malloc": "keep"}}
    return head | {"rows": [row | changes]}


def test_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    promised = (
        Promise("upsample", BEST_PEER, 4),
        Promise("upsample", "slow", 6, cases=("a",)),
        Promise("upsample", "slow", 99, cases=("b",)),
        Promise("upsample", "slow", 99, device="cuda"),
        Promise("upsample", COPY, 0.5),
    )
    monkeypatch.setattr(promises, "PROMISES", promised)
    results = promises.check(fake(5.0, 0.6))
    assert [(r["ratio"], r["kept"]) for r in results] == [(5, True), (5, False), (0.6, True)]
    assert [r["kept"] for r in promises.check(fake(6.0, 0.4))] == [True, True, False]
    assert promises.check(fake(5.0, 0.6, dtype="bfloat16")) == []
    # A peer that did not run proves nothing.
    results = promises.check(fake(5.0, 0.6, best_peer=None))
    assert (results[0]["ratio"], results[0]["kept"]) == (None, False)


def test_promises_of_a_malloc_of_scores_and_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    promised = (
        Promise("upsample", "slow", 6, malloc="default"),
        Promise("upsample", "slow", 4, malloc="keep"),
        Promise("upsample", "slow", 3, scores="trained"),
        Promise("upsample", "slow", 99, scores="random"),
        Promise("upsample", "slow", 16, figure="memory"),
    )
    monkeypatch.setattr(promises, "PROMISES", promised)
    document = fake(5.0, 0.6, scores="trained")
    assert [(r["at_least"], r["kept"]) for r in promises.check(document)] == [(4, True), (3, True)]
    document["settings"]["malloc"] = "default"
    assert [(r["at_least"], r["kept"]) for r in promises.check(document)] == [
        (6, False),
        (3, True),
    ]
    ours, peer = document["rows"][0]["implementations"]
    for own, theirs, kept in ((1.0, 16.0, True), (1.1, 16.0, False), (0.0, 4.0, True)):
        ours["peak_mib"], peer["peak_mib"] = own, theirs
        assert promises.check(document)[-1]["kept"] == kept
    # Memory that the peer could not be asked for proves nothing.
    peer["peak_mib"] = None
    assert not promises.check(document)[-1]["kept"]


@pytest.mark.parametrize("bound", ["copy", "writing"])
def test_a_promise_is_kept_at_the_speed_of_memory(
    bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promise = Promise("upsample", BEST_PEER, 6, or_of=(bound, 0.9))
    monkeypatch.setattr(promises, "PROMISES", (promise,))

    def found(ratio: float, share: float, **changes: Any) -> dict[str, Any]:
        document = fake(ratio, 0.0, **changes)
        ours = document["rows"][0]["implementations"][0]
        ours[f"share_of_{bound}"] = share
        (result,) = promises.check(document)
        return result

    for ratio, share, kept in ((6.0, 0.5, True), (5.0, 0.9, True), (5.0, 0.8, False)):
        result = found(ratio, share)
        assert (result["ratio"], result["kept"]) == (ratio, kept)
    assert result["promise"] == f"6x best peer or 0.9x {bound}"
    # A peer that did not run proves nothing.
    assert not found(5.0, 0.95, best_peer=None)["kept"]


def test_promises_against_compiled_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "PROMISES", (Promise("upsample", BEST_COMPILED, 1),))
    document = fake(5.0, 0.6)
    assert promises.check(document) == []
    entries = document["rows"][0]["implementations"]
    entries.append({"name": "compile(a)", "kind": "peer", "median_ms": 2.0, "times_fcn_ext": 2.0})
    entries.append({"name": "compile(b)", "kind": "peer", "median_ms": 0.9, "times_fcn_ext": 0.9})
    (result,) = promises.check(document)
    assert (result["against"], result["kept"]) == ("compile(b)", False)
    del entries[2:]
    entries.append({"name": "compile(a)", "kind": "peer", "failed": "no compiler"})
    (result,) = promises.check(document)
    assert (result["ratio"], result["kept"]) == (None, False)


def test_every_promise_concerns_a_row() -> None:
    for promise in promises.PROMISES:
        found = [
            row
            for row in rows((f"{promise.operator}/",))
            if promise.concerns(
                {
                    "operator": row.operator,
                    "dtype": row.variant.dtype,
                    "layout": row.variant.layout,
                    "scores": row.variant.scores,
                    "case": row.case.name,
                },
                promise.device,
                promise.malloc,
            )
        ]
        assert found, promise
        if promise.against not in (BEST_PEER, BEST_COMPILED, COPY):
            names = [i.name for i in bench.implementations(promise.operator, "cpu", compiled=True)]
            assert promise.against in names


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line on one row of a few pixels, in this process."""
    row = next(rows((NAMES[3],))).shrunk()
    monkeypatch.setattr(cli, "rows", lambda *_: [row])
    monkeypatch.setattr(cli, "ensure_malloc", lambda policy: None)


COMMAND = ["--seconds", "0.02", "--no-memory", "--no-compile", "--threads"]


@pytest.mark.usefixtures("small", "threads")
def test_command(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*COMMAND, str(torch.get_num_threads()), "--output", str(tmp_path)]
    assert cli.main(command) == 0
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".json"
    assert "threads" in path.name
    capsys.readouterr()
    monkeypatch.setattr(
        promises, "PROMISES", (Promise("confusion_matrix", BEST_PEER, 1e9, dtype="int64"),)
    )
    assert cli.main(["--show", str(path), "--check"]) == 3
    shown = capsys.readouterr().out
    assert "mask + bincount" in shown
    assert "MISSED" in shown
    document = json.loads(path.read_text())
    document["rows"][0]["implementations"][0]["correct"] = False
    path.write_text(json.dumps(document))
    assert cli.main(["--show", str(path)]) == 1
    assert cli.main([*command, "--time-limit", "0"]) == 0
    assert json.loads(path.read_text())["skipped"] == [NAMES[3]]


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--filter", "nothing"], "--filter matches no row, got ['nothing']"),
        (["--filter", "upsample/", "--memory", "interpolate"], "--memory matches no row"),
        (["--filter", "upsample/", "--compile", "x"], "--compile matches no row, got ['x']"),
        (["--rows", "sweep", "--quick"], "--quick measures none of --rows sweep"),
        (["--threads", "0"], "--threads must be >= 1, got 0"),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("value", ["sse", "AVX2"])
def test_a_setting_that_fcn_ext_refuses_is_one_line(value: str) -> None:
    done = subprocess.run(
        [sys.executable, Path(benchmarks.__file__).parent, "--list"],
        env={**os.environ, "FCN_EXT_CPU_CAPABILITY": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "FCN_EXT_CPU_CAPABILITY must be plain, avx2 or avx512" in done.stderr
    assert repr(value) in done.stderr


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", "--filter", "fuse_skip/"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert "conv_transpose2d + crop + add" in lines[0]
    assert cli.main(["--list", "--rows", "sweep", "--compile", "classes-2/"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert "compile(" in lines[0]
    assert "compile(" not in lines[1]
