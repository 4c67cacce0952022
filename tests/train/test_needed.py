"""Packages that every command needs: one line where one is missing, and what `fcn doctor` says."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fcn_train.errors import StateSaved
from fcn_train.failures import explain
from fcn_train.needed import PACKAGES, what_is_missing

from .running import HANGS

# Starts the program as `fcn` does where the module named first is not found, neither here nor in
# the process that `fcn doctor` starts.
WITHOUT = """
import sys

module = sys.argv.pop(1)
hide = f'''
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name == "{module}" else find(name, *more)
'''
exec(hide)
from fcn_train.doctor import command

command.PROBE = hide + command.PROBE
from fcn_train.__main__ import main

sys.exit(main())
"""


def run_without(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT, module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=HANGS,
    )


def test_packages_are_those_of_the_project() -> None:
    requirements = importlib.metadata.requires("fcn_ext") or []
    names = [re.split(r"[<>=!~ ]", one)[0] for one in requirements if "extra" not in one]
    assert sorted(PACKAGES.values()) == sorted(names)


@pytest.mark.parametrize("module", sorted(PACKAGES))
def test_a_missing_package_is_one_line_before_all_work(module: str, tmp_path: Path) -> None:
    package = PACKAGES[module]
    done = run_without(module, "train", "--output", "run", cwd=tmp_path)
    line = f"fcn: {package} is missing; install it: pip install {package}\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, line, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", sorted(PACKAGES))
def test_the_doctor_works_without_any_of_them(module: str, tmp_path: Path) -> None:
    package = PACKAGES[module]
    done = run_without(module, "doctor", cwd=tmp_path)
    problems = [line for line in done.stdout.splitlines() if line.startswith("PROBLEM")]
    assert problems == [f"PROBLEM: {package} missing: pip install {package}"], done.stderr
    assert (done.returncode, done.stderr) == (1, "")


def test_the_doctor_without_a_parser_still_prints_json(tmp_path: Path) -> None:
    done = run_without("tyro", "doctor", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["packages"]["tyro"] is None


def test_other_imports() -> None:
    lost = ModuleNotFoundError("No module named 'docstring_parser'", name="docstring_parser")
    assert what_is_missing(lost).startswith("No module named 'docstring_parser'; pip check")
    for error in (
        ModuleNotFoundError("No module named 'fcn_train.gone'", name="fcn_train.gone"),
        ModuleNotFoundError("gone"),
        ImportError("cannot import name 'x'", name="torch"),
        ValueError("torch"),
    ):
        assert what_is_missing(error) == ""
    assert explain(ModuleNotFoundError(name="fcn_ext.gone")) is None


def test_a_package_that_goes_missing_in_a_run() -> None:
    saved = StateSaved("The state after step 3 is saved", "continue with: fcn train --resume run")
    saved.__cause__ = ModuleNotFoundError("No module named 'PIL'", name="PIL")
    failure = explain(saved)
    assert failure is not None
    assert failure.text == (
        "pillow is missing; install it: pip install pillow. The state after step 3 is saved; "
        "continue with: fcn train --resume run"
    )
