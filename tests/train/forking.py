"""Tests that fork, in a process of their own.

A fork has but the thread that made it, and for ever waits for what another one held at that moment.
Who has run other tests has such threads: those of torch, of NumPy's BLAS, of pytest-xdist. So a
module of tests that fork is one test of its own, which runs them in a new pytest, unless the module
is named on the command line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# All that use several.py, which test_forking.py sees to.
MODULES = {
    "test_processes.py",
    "test_restart.py",
    "test_shared_options.py",
    "test_shared_step.py",
}


def is_named(path: Path, config: pytest.Config) -> bool:
    """Whether the command line has the module, or a test of it."""
    names = (Path(str(argument).split("::")[0]) for argument in config.args)
    return any(name.resolve() == path.resolve() for name in names)


class ForkingModule(pytest.File):
    """A module whose tests fork."""

    def collect(self) -> Iterator[pytest.Item]:
        yield AllOfThem.from_parent(self, name="all")


class AllOfThem(pytest.Item):
    """Its tests, in a new pytest."""

    def runtest(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(self.path)],
            cwd=self.config.rootpath,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"all of {self.path.name}"
