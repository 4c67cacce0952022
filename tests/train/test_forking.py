"""That the list of tests that fork has them all."""

from __future__ import annotations

import ast
from pathlib import Path

from . import forking

HERE = Path(__file__).resolve().parent
# One is a process of its own, and what the other forks decodes a picture, without torch.
OTHERS = {"tests.train.faults.driver", "tests.train.data.test_cache"}


def mentioned(path: Path) -> set[str]:
    """Full names of what a module imports, wherever in its text, and what it takes of modules."""
    package = ["tests", "train", *path.parent.relative_to(HERE).parts]
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
    return names


def test_tests_that_fork_run_in_a_process_of_their_own() -> None:
    mentions = {
        ".".join(["tests", "train", *path.relative_to(HERE).with_suffix("").parts]): mentioned(path)
        for path in HERE.rglob("*.py")
    }
    fork = {name for name, names in mentions.items() if "os.fork" in names}
    assert fork == {"tests.train.several", *OTHERS}
    fork -= OTHERS
    while users := {name for name, names in mentions.items() if names & fork} - fork:
        fork |= users
    found = sorted(f"{name.rpartition('.')[2]}.py" for name in fork if ".test_" in name)
    assert found == sorted(forking.MODULES)
    # Modules are told by their names alone, so no other may have one of these.
    names = [path.name for path in HERE.rglob("test_*.py")]
    assert [names.count(name) for name in forking.MODULES] == [1] * len(forking.MODULES)
