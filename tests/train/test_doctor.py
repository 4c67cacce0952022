"""What is installed, whether it works, and what a broken installation is told."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import losses, numpy, ops
from fcn_train.doctor import command as doctor_command
from fcn_train.doctor import diagnosis, facts
from fcn_train.doctor.command import examine, run_probe, text_of
from fcn_train.doctor.inputs import Check, checks
from fcn_train.doctor.self_test import Finding, self_test

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return examine()


def check_of(name: str) -> Check:
    (check,) = (check for check in checks(CPU) if check.name == name)
    return check


def finding_of(check: Check) -> Finding:
    (finding,) = self_test(CPU, tested=[check], seconds=0)
    return finding


def test_every_public_operator_is_tested() -> None:
    functions = {f"ops.{name}" for name in ops.__all__}
    functions |= {f"losses.{name}" for name in losses.__all__ if name.islower()}
    assert {check.name.split(" ")[0] for check in checks(CPU)} == functions


def test_a_sound_installation(found: dict[str, Any]) -> None:
    rows = found["probe"]["operators"]
    on_cpu = [row["name"] for row in rows if row["device"] == "cpu"]
    assert on_cpu == [check.name for check in checks(CPU)]
    assert found["problems"] == []
    for row in rows:
        assert row["forward"] <= 1e-5, row
        assert row["speed"] > 0
    exact = {row["name"] for row in rows if row["forward"] == 0}
    linear = {"upsample", "interpolate", "fuse_skip", "upsample_argmax", "interpolate_argmax"}
    counts = {name for name in ops.__all__ if "matrix" in name}
    assert {f"ops.{name}" for name in linear | counts} <= exact
    with_gradient = {row["name"] for row in rows if row["gradient"] is not None}
    assert {"ops.upsample", "ops.fuse_skip", "ops.region_sums", "losses.dice_loss"} <= with_gradient
    assert not {"ops.argmax", "ops.confusion_matrix", "losses.pixel_accuracy"} & with_gradient


def test_facts_are_those_of_this_process(found: dict[str, Any]) -> None:
    probe = found["probe"]
    assert probe["torch"]["torch"] == torch.__version__
    for name, value in numpy.build_info().items():
        assert probe["fcn_ext"][name] == value
    assert probe["fcn_ext"]["cpu_capability"] in probe["fcn_ext"]["cpu_capabilities"]
    assert found["packages"].keys() >= {"torch", "numpy", "tyro"}
    assert None not in found["packages"].values()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_text_has_what_a_bug_report_needs(found: dict[str, Any]) -> None:
    text = text_of(found)
    threads = f"{found['probe']['threads']} thread"
    for part in (torch.__version__, found["system"]["cpu"], threads, "ops.cross_entropy"):
        assert part in text
    assert text.splitlines()[-1].startswith(f"all {len(found['probe']['operators'])} operators")
    assert str(Path.cwd()) not in text


def test_facts_are_a_table(found: dict[str, Any]) -> None:
    """However long the name of an extra."""
    extras = {**found["extras"], "extra-of-a-long-name": {"package": None}}
    lines = text_of({**found, "extras": extras}).partition("\n\n")[0].splitlines()
    starts = [re.match(r"[a-z_ -]+: +", line) for line in lines]
    assert len({start and start.end() for start in starts}) == 1, lines
    for number, told in ((1, " 1 thread\n"), (2, " 2 threads\n")):
        assert told in text_of({**found, "probe": {**found["probe"], "threads": number}})


def test_command_prints_the_text_or_json(
    found: dict[str, Any], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_command, "examine", lambda: found)
    code, out, _ = command("doctor")
    assert (code, out) == (0, text_of(found) + "\n")
    code, out, _ = command("doctor", "--json")
    assert (code, json.loads(out)) == (0, found)


def test_a_reader_that_goes_ends_it_without_a_word(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `fcn doctor | head -1`: what is buffered must not fail when Python ends."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(doctor_command, "examine", lambda: found)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(BrokenPipeError):
            doctor_command.doctor(as_json=False)
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)


def wrong_value(input: Tensor, size: Any) -> Tensor:
    return 1.001 * ops.interpolate(input, size)


def not_a_number(input: Tensor, size: Any) -> Tensor:
    return math.nan * ops.interpolate(input, size)


def wrong_gradient(input: Tensor, size: Any) -> Tensor:
    return ops.interpolate(input, size) + input.sum() - input.sum().detach()


def no_gradient(input: Tensor, size: Any) -> Tensor:
    return ops.interpolate(input.detach(), size)


def wrong_size(input: Tensor, size: Any) -> Tensor:
    return ops.interpolate(input, (size[0] + 1, size[1]))


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (wrong_value, "result is wrong: it differs from plain PyTorch by 0.001"),
        (not_a_number, "result is wrong: it differs from plain PyTorch by inf"),
        (wrong_gradient, "gradient is wrong"),
        (no_gradient, "gradient is wrong"),
        (wrong_size, "result is wrong"),
    ],
)
def test_an_operator_that_is_wrong(function: Callable[..., Tensor], what: str) -> None:
    finding = finding_of(replace(check_of("ops.interpolate"), ours=function))
    assert what in finding.problem
    assert json.dumps(finding.values(), allow_nan=False)


def test_an_operator_that_counts_one_pixel_wrong() -> None:
    def off_by_one(*arguments: Any) -> Tensor:
        matrix = ops.confusion_matrix(*arguments)
        matrix[3, 4] += 1
        return matrix

    finding = finding_of(replace(check_of("ops.confusion_matrix"), ours=off_by_one))
    assert "result is wrong" in finding.problem


def test_an_operator_that_raises() -> None:
    def broken(*arguments: Any, **keywords: Any) -> Tensor:
        raise RuntimeError("no kernel\nfor this")

    finding = finding_of(replace(check_of("ops.upsample"), ours=broken))
    assert finding.problem == "RuntimeError: no kernel for this"


def report(probe: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Facts around what a probe told."""
    needed, extras, commands = facts.packages()
    found: dict[str, Any] = {
        "system": facts.system(),
        "packages": needed,
        "extras": extras,
        "extras_bring": commands,
        "storage": facts.storage(),
        "driver": "",
        "cuda_visible_devices": None,
        "probe": {"operators": [], "crash": "", **probe},
        "seconds": 0.0,
        **more,
    }
    found["why_no_cuda"] = diagnosis.why_no_cuda(found)
    found["problems"] = diagnosis.problems(found)
    found["notes"] = diagnosis.notes(found)
    return found


def test_operators_that_do_not_load(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real process that cannot import fcn_ext: what is wrong, what to do, and exit code 1."""
    monkeypatch.setenv("FCN_EXT_CPU_CAPABILITY", "sse")
    code, out, err = command("doctor")
    assert (code, err) == (1, "")
    assert out.splitlines()[-1].startswith("PROBLEM: fcn_ext does not load: the environment var")
    assert torch.__version__ in out
    assert facts.cpu_model() in out


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("libc10.so: cannot open shared object file", f"; {diagnosis.REINSTALL}"),
        ("fcn_ext's operators are not installed: run `pip install .` there", ""),
    ],
)
def test_a_library_that_does_not_load_has_one_remedy(message: str, remedy: str) -> None:
    (problem,) = report({"fcn_ext_problem": message})["problems"]
    assert problem == f"fcn_ext does not load: {message}{remedy}"


def test_a_process_that_is_killed_names_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os; print('not json'); print('{\"begin\": \"ops.argmax on cpu\"}', flush=True); "
    monkeypatch.setattr(doctor_command, "PROBE", text + "os.abort()")
    probe = run_probe()
    assert probe["crash"] == "ops.argmax on cpu: ended the process with SIGABRT"
    (problem,) = report(probe)["problems"]
    assert "FCN_EXT_CPU_CAPABILITY=plain" in problem
    monkeypatch.setattr(doctor_command, "PROBE", text + "import time; time.sleep(60)")
    assert run_probe(0.3)["crash"] == "ops.argmax on cpu: did not come back"
    monkeypatch.setattr(doctor_command, "PROBE", "raise SystemExit('gone')")
    assert run_probe()["crash"] == "start Python: ended the process with code 1: gone"


TORCH = {"torch": "2.13.0+cu130", "torch_cuda": "13.0", "cuda_available": False}
GPU = {**TORCH, "cuda_available": True}


@pytest.mark.parametrize(
    ("torch_facts", "driver", "visible", "reason"),
    [
        ({**TORCH, "torch": "2.13.0+cpu", "torch_cuda": None}, "", None, "no GPU found, and torch"),
        ({**TORCH, "torch_cuda": None}, "580.1", None, "is a CPU build; for the GPU here install"),
        (TORCH, "580.1", "", "CUDA_VISIBLE_DEVICES hides"),
        ({**TORCH, "cuda_warnings": ["driver too old"]}, "470.1", None, "use: driver too old"),
        (TORCH, "", None, "nvidia-smi is missing"),
        (TORCH, "580.1", None, "though the driver 580.1 is there"),
        (GPU, "580.1", None, ""),
    ],
)
def test_why_no_gpu_is_used(
    torch_facts: dict[str, Any], driver: str, visible: str | None, reason: str
) -> None:
    probe = {"torch": {"cuda_warnings": [], **torch_facts}}
    why = report(probe, driver=driver, cuda_visible_devices=visible)["why_no_cuda"]
    assert reason in why
    assert bool(why) == bool(reason)


def test_a_gpu_that_fcn_ext_cannot_serve_is_a_problem() -> None:
    own = {"cuda_problem": "fcn_ext was built without its CUDA operators", "warnings": []}
    (problem,) = report({"torch": GPU, "fcn_ext": own})["problems"]
    assert problem.startswith("CUDA tensors are refused: fcn_ext was built without")
    idle = {**TORCH, "cuda_warnings": []}
    assert report({"torch": idle, "fcn_ext": own})["problems"] == []


def test_missing_packages_and_the_command_that_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requirements = ["torch>=2.11", "no-such-thing>=3", 'no-other[a]>=1; extra == "web"', "numpy"]
    requirements += ['torch; extra == "web"', 'pytest>=8; extra == "dev"']
    monkeypatch.setattr(facts.importlib.metadata, "requires", lambda name: requirements)
    needed, extras, commands = facts.packages()
    assert list(needed) == ["torch", "no-such-thing", "numpy"]
    assert needed["no-such-thing"] is None
    assert list(extras) == ["web"]
    assert commands == {"web": "pip install 'no-other[a]>=1'"}
    found = report({"fcn_ext_problem": "x"})
    assert "no-such-thing missing: pip install no-such-thing" in found["problems"]
    assert "no-other missing, torch" in text_of(found)


def test_little_room_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    little = {"writable": False, "disk_free_gib": 0.2, "shared_memory_free_gib": 0.06}
    notes = report({}, storage=little)["notes"]
    assert len(notes) == 3
    assert "--shm-size" in notes[2]
    assert report({}, storage={**little, "writable": True, "shared_memory_free_gib": None})["notes"]
    monkeypatch.chdir(tmp_path)
    assert facts.storage()["writable"]
    monkeypatch.setattr(facts, "SHARED_MEMORY", tmp_path / "absent")
    assert facts.storage()["shared_memory_free_gib"] is None
    assert list(tmp_path.iterdir()) == []
