"""Runs the program on the disk of disk.c, which stands before the C library:

    LD_PRELOAD=disk.so python driver.py FOLDER DATA < trials.json

A trial is [name, k, errno or 0 for a kill, whether the disk stays refused]. Each is a run in a
process of its own, forked from this one, that ends somehow, and another that continues it on a
sound disk. One line of JSON for each: the codes of both, what they said, and the operations of the
first.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import tyro  # noqa: F401

# What a run imports, so that no child has to.
from fcn_train import cli, evaluate, failures, files, pictures, report, train, training  # noqa: F401

OPTIONS = [
    *("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32"),
    *("--optim.batch", "1", "--optim.steps", "3", "--threads", "1", "--data.workers", "0"),
    *("--checkpoint-every", "1", "--evaluate-every", "0.4"),
]


def in_child(folder: Path, arguments: list[str], disk: tuple[int, int, int] | None) -> Any:
    """Exit code (negative: the signal), standard error, operations on the disk."""
    said, log = folder.with_suffix(".said"), folder.with_suffix(".log")
    said.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        text = io.StringIO()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        at, error, stays = disk or (0, 0, 0)
        ctypes.CDLL(None).disk_arm(os.fsencode(folder), ctypes.c_long(at), error, stays, descriptor)
        with redirect_stderr(text), redirect_stdout(io.StringIO()):
            code = cli.main(arguments)
        ctypes.CDLL(None).disk_arm(b"", ctypes.c_long(0), 0, 0, -1)
        said.write_text(text.getvalue())
        os._exit(code)
    _, status = os.waitpid(child, 0)
    text = said.read_text() if said.exists() else ""
    return os.waitstatus_to_exitcode(status), text, log.read_text().split()


def draw(*arguments: Any) -> None:
    """In place of a picture, which takes most of the time of a tiny run, one that is written."""
    (path,) = (argument for argument in arguments if isinstance(argument, Path))
    with files.atomic_path(path) as temporary:
        temporary.write_bytes(b"picture")


def main() -> None:
    folder, data = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    for name in ("draw_curves", "draw_class_bars", "draw_confusion", "draw_overlays"):
        setattr(pictures, name, draw)
    for name, *disk in json.load(sys.stdin):
        run = folder / name
        arguments = ["train", "--data.root", str(data), "--output", str(run), *OPTIONS]
        first = in_child(run, arguments, (disk[0], disk[1], disk[2]))
        left = sorted(path.name for path in run.rglob(".*")) if run.exists() else []
        again = in_child(run, [*arguments, "--resume", "auto"], None)
        print(json.dumps({"name": name, "first": first, "left": left, "again": again}), flush=True)


if __name__ == "__main__":
    main()
