"""Programs that tests run in processes of their own, without each importing torch again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# Reads the programs, and what to do before them, from standard input. Each gets a fork of this
# process, in a folder of its own, and leaves there what it says.
RUNNER = """
import json, os, sys, traceback
asked = json.load(sys.stdin)
exec(asked["first"], {"__name__": "first"})
ends = {}
for number, (name, program) in enumerate(asked["programs"].items()):
    folder = os.path.join(asked["folder"], str(number))
    os.mkdir(folder)
    child = os.fork()
    if not child:
        code = 1
        try:
            for descriptor in (1, 2):
                to = os.open(f"{folder}.{descriptor}", os.O_WRONLY | os.O_CREAT)
                os.dup2(to, descriptor)
            if asked["moves"]:
                os.chdir(folder)
            sys.argv = [name]
            exec(compile(program, name, "exec"), {"__name__": "__main__"})
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ends[name] = [code, *(open(f"{folder}.{number}").read() for number in (1, 2))]
print(json.dumps(ends))
"""


class Ended(NamedTuple):
    """How a program ended: its exit code, and what it said."""

    code: int
    out: str
    err: str


def run_each(
    programs: Mapping[str, str],
    folder: Path,
    *,
    first: str = "import torch, fcn_ext",
    cwd: Path | None = None,
    **environment: str,
) -> dict[str, Ended]:
    """Each program, by its name, in a fork of one process that has done ``first``.

    A fork has no threads of the process it is from, so ``first`` may compute nothing with several.
    Programs run in folders of their own below ``folder``, or in ``cwd``.
    """
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(
            {"first": first, "programs": programs, "folder": str(folder), "moves": cwd is None}
        ),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return {name: Ended(*end) for name, end in json.loads(done.stdout.splitlines()[-1]).items()}
