"""What is wrong with an installation, and how to repair it."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from typing import Any

REINSTALL = "reinstall fcn_ext in this environment (`pip install --force-reinstall --no-deps .`)"
LEAST_DISK_GIB = 1.0
# A batch of 20 images of 500 x 500 pixels is 60 MB; Docker's default is 64 MiB in all.
LEAST_SHARED_GIB = 0.25


def read_probe(output: str, returncode: int | None, errors: str) -> dict[str, Any]:
    """What the process of ``probe.py`` told, and how it ended.

    Args:
        output, errors: its standard output and error.
        returncode: None if it did not end in time.

    Returns:
        Its facts by key, ``operators`` a list, and ``crash``: "" where it came to its end.
    """
    found: dict[str, Any] = {"operators": []}
    begun = "start Python"
    for line in output.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue  # what a library prints
        if not isinstance(told, dict):
            continue
        for key, value in told.items():
            if key == "begin":
                begun = value
            elif key == "operator":
                found["operators"].append(value)
            else:
                found[key] = value
    ended = {"done", "torch_problem", "fcn_ext_problem"} & found.keys()
    found["crash"] = "" if ended else f"{begun}: {_end(returncode, errors)}"
    return found


def _end(returncode: int | None, errors: str) -> str:
    if returncode is None:
        return "did not come back"
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        return f"ended the process with {name}"
    last = errors.strip().splitlines()
    return f"ended the process with code {returncode}{': ' + last[-1] if last else ''}"


def problems(facts: Mapping[str, Any]) -> list[str]:
    """Each thing that is broken, with what to do: those that make `fcn doctor` fail."""
    found = []
    probe = facts["probe"]
    missing = [name for name, version in facts["packages"].items() if version is None]
    if missing:
        found.append(f"{', '.join(missing)} missing: pip install {' '.join(missing)}")
        told = (probe.get(key, "") for key in ("torch_problem", "fcn_ext_problem", "crash"))
        if "No module named" in " ".join(told):  # which says it again
            return found
    if "torch_problem" in probe:
        found.append(f"torch does not load: {probe['torch_problem']}. Reinstall torch")
    if "fcn_ext_problem" in probe:
        found.append(f"fcn_ext does not load: {probe['fcn_ext_problem']}{_remedy(probe)}")
    if probe["crash"]:
        remedy = "try again with FCN_EXT_CPU_CAPABILITY=plain"
        found.append(f"{probe['crash']}; {remedy}, and {REINSTALL}")
    cuda_problem = probe.get("fcn_ext", {}).get("cuda_problem")
    if cuda_problem and probe["torch"]["cuda_available"]:
        found.append(f"CUDA tensors are refused: {cuda_problem}")
    for row in probe["operators"]:
        if row["problem"]:
            found.append(f"{row['name']} on {row['device']}: {row['problem']}; {REINSTALL}")
    return found


def _remedy(probe: Mapping[str, Any]) -> str:
    """What to do, where the message of fcn_ext does not say it."""
    text = probe["fcn_ext_problem"]
    says_it = "install" in text or "FCN_EXT_CPU_CAPABILITY" in text
    return "" if says_it else f"; {REINSTALL}"


def notes(facts: Mapping[str, Any]) -> list[str]:
    """What is not broken and may still stop a training."""
    found = []
    storage, probe = facts["storage"], facts["probe"]
    if not storage["writable"]:
        found.append("no file can be written here: start fcn where runs/ can be made")
    if storage["disk_free_gib"] is not None and storage["disk_free_gib"] < LEAST_DISK_GIB:
        found.append(f"{storage['disk_free_gib']} GiB of disk are free; free some for a run")
    shared = storage["shared_memory_free_gib"]
    if shared is not None and shared < LEAST_SHARED_GIB:
        found.append(
            f"/dev/shm has {shared} GiB free, loader processes need more: --data.workers 0, or "
            "docker run --shm-size=1g"
        )
    return [*found, *probe.get("fcn_ext", {}).get("warnings", [])]


def why_no_cuda(facts: Mapping[str, Any]) -> str:
    """Why no GPU is used, with the remedy; "" where one is."""
    probe = facts["probe"]
    torch = probe.get("torch")
    if torch is None:
        return "torch does not load"
    if torch["cuda_available"]:
        return probe.get("fcn_ext", {}).get("cuda_problem") or ""
    if torch["torch_cuda"] is None:
        if facts["driver"]:
            return (
                f"torch {torch['torch']} is a CPU build; for the GPU here install a CUDA build of "
                "torch, then reinstall fcn_ext"
            )
        return f"no GPU found, and torch {torch['torch']} is a CPU build"
    if facts["cuda_visible_devices"] in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides all GPUs"
    if torch["cuda_warnings"]:
        return f"torch finds no GPU it can use: {torch['cuda_warnings'][0]}"
    if not facts["driver"]:
        return "no GPU found: nvidia-smi is missing or answers with an error"
    return f"torch finds no GPU, though the driver {facts['driver']} is there"
