"""The workflows of a public host run the commands of the Makefile, and nothing unpinned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def commands(workflow: Path) -> list[str]:
    return re.findall(r"^\s+(?:- )?run: (.+)$", workflow.read_text(), re.MULTILINE)


def test_there_are_workflows() -> None:
    assert {path.name for path in WORKFLOWS} >= {"tests.yml", "proofs.yml"}
    ran = {command.split()[1] for path in WORKFLOWS for command in commands(path)}
    assert ran >= {
        "lint",
        "docs",
        "test",
        "abi",
        "oldest",
        "wheel",
        "fuzz",
        "sanitize",
        "coverage",
        "faults",
    }


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_commands_are_targets_of_the_makefile(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = commands(workflow)
    assert found
    for command in found:
        program, target, *variables = re.sub(r"\$\{\{.*?\}\}", "value", command).split()
        assert program == "make", command
        assert target in targets, command
        for variable in variables:
            name = variable.partition("=")[0]
            assert f"$({name})" in (ROOT / "Makefile").read_text(), command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_nothing_is_secret(workflow: Path) -> None:
    text = workflow.read_text()
    actions = re.findall(r"uses: (\S+)", text)
    assert actions
    for action in actions:
        assert re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", action), action
    assert "secrets" not in text
    assert "permissions:\n  contents: read" in text
    assert "-latest" not in text


def test_every_python_that_is_tested_is_allowed() -> None:
    required = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert required is not None
    text = (ROOT / ".github/workflows/tests.yml").read_text()
    matrix = re.search(r"python: \[(.*)\]", text)
    assert matrix is not None
    minors = [int(minor) for minor in re.findall(r'"3\.(\d+)"', matrix[1])]
    assert min(minors) == int(required[1])
    assert len(minors) >= 3
