"""docs/integrations.md, made of what a run of ``make integrations`` has found.

    python -m tests.integrations.table FOUND PAGE

FOUND is what ``test_convergence.py`` has kept. Time and memory of a training step are measured
here, each net in processes of its own, as memory must be handed back when it is freed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import RETURNING, peak_on_host
from fcn_ext import fused_upsampling

from .nets import NETS
from .training import FIRST_STEP, TOLERANCE, batch

ROOT = Path(__file__).parents[2]
CLASSES, SIZE, REPEATS = 150, 256, 2

PAGE = Path(__file__).with_name("page.md")


def measure(number: int) -> dict[str, Any]:
    """Seconds and peak bytes of a step, plain and in the context.

    On one thread, whose processor time does not depend on what else the machine is doing.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, loss_of, _ = NETS[number].made(CLASSES, SIZE)
    model.train()
    images, target = batch(0, CLASSES, SIZE, torch.float32)

    def step(fused: bool) -> None:
        model.zero_grad()
        with fused_upsampling() if fused else nullcontext():
            loss_of(model, images, target).backward()

    found: dict[str, Any] = {"bytes": [], "seconds": []}
    for fused in (False, True):
        found["bytes"].append(peak_on_host(lambda fused=fused: step(fused)))
        seconds = []
        for _ in range(REPEATS):
            begin = time.process_time()
            step(fused)
            seconds.append(time.process_time() - begin)
        found["seconds"].append(min(seconds))
    return found


def measured(number: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--measure", str(number)],
        env={**os.environ, "GLIBC_TUNABLES": RETURNING},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{NETS[number]} could not be measured:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def row(found: dict[str, Any], measured: dict[str, Any]) -> str:
    cells = (
        found["name"],
        f"{found['library']} {found['version']}",
        f"{found['first']:.0e}",
        f"{found['difference']:.0e}",
        *(f"{seconds:.2f} s" for seconds in measured["seconds"]),
        *(f"{peak / 2**20:.0f} MiB" for peak in measured["bytes"]),
    )
    return "| " + " | ".join(cells) + " |"


def main(kept: Path, page: Path) -> None:
    lines = kept.read_text("utf-8").splitlines()
    found = {(entry["library"], entry["name"]): entry for entry in map(json.loads, lines)}
    if not found:
        raise SystemExit(f"{kept} has no model: was any library installed?")
    any_found = next(iter(found.values()))
    rows = []
    for number, net in enumerate(NETS):
        entry = found.get((net.distribution, net.name))
        if entry is None:
            continue
        rows.append(row(entry, measured(number)))
        print(rows[-1], flush=True)
        # After each, so that a run that is stopped leaves a page of what it had.
        text = PAGE.read_text("utf-8").format(
            steps=any_found["steps"],
            first=FIRST_STEP,
            tolerance=TOLERANCE,
            size=SIZE,
            classes=CLASSES,
            torch=any_found["torch"],
            rows="\n".join(rows),
        )
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        print(json.dumps(measure(int(sys.argv[2]))))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
