"""The oldest versions of the dependencies that pyproject.toml allows: prints a line for each.

    python tools/oldest_requirements.py

Of the package and of its extras for users; not of ``dev`` and ``docs``, whose tools
constraints.txt pins.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
TOOLS = ("dev", "docs")


def oldest(pyproject: str) -> list[str]:
    """``name==version`` for each ``name>=version``, sorted: the last patch of that minor version,
    which more often has a wheel for a newer Python, or the patch that is named.

    Raises:
        ValueError: a requirement that names no oldest version, or one that differs elsewhere.
    """
    found: dict[str, str] = {}
    for key, requirements in _lists(pyproject):
        for requirement in re.findall(r'"([^"]*)"', requirements) if key not in TOOLS else ():
            match = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement)
            if match is None:
                raise ValueError(f"{key}: a requirement must be name>=version, got {requirement!r}")
            name, version = match.groups()
            if found.setdefault(name, version) != version:
                raise ValueError(f"{name} is required from {found[name]} on and from {version} on")
    return [f"{name}=={_patch(version)}" for name, version in sorted(found.items())]


def _patch(version: str) -> str:
    """Any patch of a minor version; 3 is 3.0. A patch is itself."""
    dots = version.count(".")
    return version if dots > 1 else version + (".*" if dots else ".0.*")


def _lists(pyproject: str) -> list[tuple[str, str]]:
    """The lists of requirements: the package's, and those of its extras by name."""
    extras = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", pyproject, re.M | re.S)
    project = re.search(r"^dependencies = \[(.*?)^\]", pyproject, re.M | re.S)
    if extras is None or project is None:
        raise ValueError("pyproject.toml has no dependencies, or no extras")
    return [
        ("dependencies", project[1]),
        *re.findall(r"^([\w-]+) = \[(.*?)\]", extras[1], re.M | re.S),
    ]


def main() -> int:
    try:
        print("\n".join(oldest(PROJECT.read_text())))
    except ValueError as error:
        print(f"{PROJECT.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
