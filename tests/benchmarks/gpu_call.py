"""gpu.sh with a stand-in for Python, which answers for what a stage would run."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"

# Builds nothing, and runs what TESTS, HEADS and TRAIN say in the place of these stages.
STAND_IN = r"""#!/bin/bash
after() { local word="$1"; while [ "$2" != "$word" ]; do shift; done; echo "$3"; }
case "$*" in
  *"/probe.py"*) "$REAL_PYTHON" "$@"; [ -z "$LACKS" ] || echo "lacks=$LACKS" ;;
  *"-m pip wheel"*) folder="$(after --wheel-dir "$@")"; mkdir "$folder"; touch "$folder/x.whl" ;;
  *"-m pip install"*) echo "pip: $*" ;;
  *"import fcn_ext"*) ;;
  *"-m pytest"*) eval "$TESTS" ;;
  *"/benchmarks "*) OUTPUT="$(after --output "$@")"; eval "$HEADS" ;;
  *"-m fcn_train"*) eval "$TRAIN" ;;
  *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
FIGURES = {
    "rows": [
        {
            "name": "interpolate_cross_entropy/voc-s8/float32",
            "best_peer": "peer",
            "implementations": [
                {"name": "fcn_ext", "median_ms": 0.25, "share_of_copy": 0.5},
                {"name": "peer", "median_ms": 2.5, "times_fcn_ext": 10.0},
            ],
        }
    ],
    "skipped": [],
}
PASSING = "echo '===== 3 passed in 0.10s ====='"
MEASURING = f"echo '{json.dumps(FIGURES)}' >$OUTPUT; echo '5 of 6 promises kept'"


class Call:
    """One call of the script, with the stand-in."""

    def __init__(self, folder: Path, script: Path = SCRIPT) -> None:
        self.out = folder / "out"
        self.script = script
        self.said = ""
        python = folder / "python"
        python.write_text(STAND_IN)
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        (folder / "tmp").mkdir(exist_ok=True)
        self.environment = {
            **os.environ,
            "PYTHON": str(python),
            "REAL_PYTHON": sys.executable,
            "TMPDIR": str(folder / "tmp"),
            "FCN_EXT_GPU_SH_DEVICE": "cpu",
            "TESTS": PASSING,
            "HEADS": MEASURING,
            "TRAIN": "echo trained",
            "LACKS": "",
        }

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.script), str(self.out), *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> int:
        process = self.begin(*arguments, **environment)
        try:
            self.said = process.communicate(timeout=60)[0]
        finally:
            process.terminate()
        return process.returncode

    def results(self) -> dict[str, str]:
        """What summary.txt says of each stage: its result, seconds, limit and headline."""
        lines = (self.out / "summary.txt").read_text().splitlines()
        table = lines[next(i for i, line in enumerate(lines) if line.startswith("stage ")) + 1 :]
        return {line.split()[0]: line for line in table if not line.startswith(" ")}

    def is_running(self, name: str) -> bool:
        """Whether the process lives whose number a stage wrote to $TMPDIR/``name``."""
        pid = (self.out.parent / "tmp" / name).read_text().strip()
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"  # ended, and nobody has asked how

    def log(self, name: str) -> str:
        with tarfile.open(self.out / "logs.tar.gz") as logs:
            member = logs.extractfile(f"logs/{name}")
            assert member is not None
            return member.read().decode()
