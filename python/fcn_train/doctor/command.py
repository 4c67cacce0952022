"""`fcn doctor`: collect facts, diagnose, print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from fcn_train.doctor import diagnosis, facts
from fcn_train.shown import encodable
from fcn_train.tables import text_table
from fcn_train.terminal import printing_to
from fcn_train.words import counted

# Most operators take milliseconds; one that does not end must not stop the doctor.
TIME_LIMIT = 120.0
PROBE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from fcn_train.doctor.probe import main
main()
"""


def doctor(*, as_json: bool) -> int:
    """Tell of this installation; returns how many things are broken."""
    found = examine()
    text = json.dumps(found, indent=2) if as_json else text_of(found)
    with printing_to("standard output"):
        print(encodable(text, sys.stdout), flush=True)  # here, where a broken pipe is handled
    return len(found["problems"])


def examine() -> dict[str, Any]:
    """All facts, ``problems`` that make operators unusable, and ``notes``."""
    began = time.monotonic()
    needed, extras, commands = facts.packages()
    found: dict[str, Any] = {
        "system": facts.system(),
        "packages": needed,
        "extras": extras,
        "extras_bring": commands,
        "storage": facts.storage(),
        "driver": facts.driver(),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "probe": run_probe(),
    }
    found["why_no_cuda"] = diagnosis.why_no_cuda(found)
    found["problems"] = diagnosis.problems(found)
    found["notes"] = diagnosis.notes(found)
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


def run_probe(limit: float = TIME_LIMIT) -> dict[str, Any]:
    """What a process reports that loads torch and fcn_ext from where this one would."""
    command = [sys.executable, "-c", PROBE, json.dumps(sys.path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    returncode: int | None
    try:
        output, errors = process.communicate(timeout=limit)
        returncode = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        returncode = None
    return diagnosis.read_probe(output, returncode, errors)


def text_of(found: Mapping[str, Any]) -> str:
    """The facts as lines, what is wrong at the end."""
    told = [(f"{name}:", value) for name, value in _facts(found)]
    width = max(len(name) for name, _ in told)
    lines = [f"{name:{width}} {value}" for name, value in told]
    rows = [_row(row) for row in found["probe"]["operators"]]
    if rows:
        header = ("operator", "on", "error", "of gradient", "speed")
        lines += ["", text_table(header, rows)]
        lines += ["error: of the largest value; speed: times that of torch's own way, small case"]
    lines += [""]
    lines += [f"note: {note}" for note in found["notes"]]
    lines += [f"PROBLEM: {problem}" for problem in found["problems"]]
    count = len(found["probe"]["operators"])
    if not found["problems"]:
        lines += [f"all {count} operators are right ({found['seconds']} s)"]
    return "\n".join(lines)


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    system, storage, probe = found["system"], found["storage"], found["probe"]
    torch, own = probe.get("torch", {}), probe.get("fcn_ext", {})
    needed = found["packages"]
    lines = [
        ("system", f"{system['system']}, {system['libc']}"),
        ("cpu", f"{system['cpu']}, {system['cpus']} may be used"),
        ("memory", f"{_known(system['memory_free_gib'])} GiB free"),
        ("python", sys.version.split()[0]),
        ("torch", f"{torch.get('torch', needed.get('torch'))}, CUDA {torch.get('torch_cuda')}"),
    ]
    if own:
        possible = ", ".join(own["cpu_capabilities"])
        lines += [
            ("fcn_ext", f"{own['version']}, built against torch {own['built_against_torch']}"),
            (
                "kernels",
                f"{own['cpu_capability']} (possible: {possible}; torch uses "
                f"{torch['torch_cpu_capability']}), {_threads(probe)}",
            ),
            ("cuda", f"{own['cuda']}"),
        ]
    for device in torch.get("devices", []):
        gpu = f"{device['name']}, sm_{device['capability'].replace('.', '')}"
        lines += [("gpu", f"{gpu}, {device['memory_gib']} GiB, driver {found['driver']}")]
    if found["why_no_cuda"]:
        lines += [("no gpu", found["why_no_cuda"])]
    others = (f"{name} {version}" for name, version in needed.items() if name != "torch")
    lines += [("packages", ", ".join(others))]
    for extra, versions in found["extras"].items():
        have = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
        bring = found["extras_bring"].get(extra)
        lines += [(extra, f"{have}{': ' + bring if bring else ''}")]
    lines += [
        (
            "storage",
            f"this folder {'can' if storage['writable'] else 'CANNOT'} be written, "
            f"{_known(storage['disk_free_gib'])} GiB free; /dev/shm "
            f"{_known(storage['shared_memory_free_gib'])} GiB free",
        )
    ]
    return lines


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["problem"]:
        return row["name"], row["device"], "WRONG", "", ""
    return (
        row["name"],
        row["device"],
        _error(row["forward"]),
        "" if row["gradient"] is None else _error(row["gradient"]),
        f"{row['speed']:.1f}",
    )


def _error(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}"


def _threads(probe: Mapping[str, Any]) -> str:
    """Unknown where the process ended before it told."""
    return counted(probe["threads"], "thread") if "threads" in probe else "unknown threads"


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value)
