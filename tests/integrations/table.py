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
from .training import TOLERANCE, batch

ROOT = Path(__file__).parents[2]
CLASSES, SIZE, REPEATS = 150, 256, 5

PAGE = Path(__file__).with_name("page.md")


def measure(number: int, fused: bool) -> dict[str, float]:
    """Seconds and peak bytes of a step."""
    torch.manual_seed(0)
    model, loss_of, _ = NETS[number].made(CLASSES, SIZE)
    model.train()
    images, target = batch(0, CLASSES, SIZE, torch.float32)

    def step() -> None:
        model.zero_grad()
        with fused_upsampling() if fused else nullcontext():
            loss_of(model, images, target).backward()

    peak = peak_on_host(step)
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": min(seconds), "bytes": peak}


def measured(number: int, fused: bool) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--measure", str(number), str(int(fused))],
        env={**os.environ, "GLIBC_TUNABLES": RETURNING},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{NETS[number]} could not be measured:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def row(found: dict[str, Any], plain: dict[str, Any], fused: dict[str, Any]) -> str:
    cells = (
        found["name"],
        f"{found['library']} {found['version']}",
        f"{found['difference']:.0e}",
        f"{plain['seconds']:.2f} s",
        f"{fused['seconds']:.2f} s",
        f"{plain['bytes'] / 2**20:.0f} MiB",
        f"{fused['bytes'] / 2**20:.0f} MiB",
    )
    return "| " + " | ".join(cells) + " |"


def main(kept: Path, page: Path) -> None:
    lines = kept.read_text("utf-8").splitlines()
    found = {(entry["library"], entry["name"]): entry for entry in map(json.loads, lines)}
    rows = []
    for number, net in enumerate(NETS):
        entry = found.get((net.library, net.name))
        if entry is not None:
            rows.append(row(entry, *(measured(number, fused) for fused in (False, True))))
            print(rows[-1], flush=True)
    if not rows:
        raise SystemExit(f"{kept} has no model: was any library installed?")
    first = next(iter(found.values()))
    threads = torch.get_num_threads()
    text = PAGE.read_text("utf-8").format(
        steps=first["steps"],
        tolerance=TOLERANCE,
        size=SIZE,
        classes=CLASSES,
        threads=f"{threads} CPU thread{'s' if threads > 1 else ''}",
        torch=first["torch"],
        rows="\n".join(rows),
    )
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        print(json.dumps(measure(int(sys.argv[2]), sys.argv[3] == "1")))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
