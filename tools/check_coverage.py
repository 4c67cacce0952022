"""What a run of the tests has reached: ``python tools/check_coverage.py coverage.json [PERCENT]``.

Reads the report that ``pytest --cov --cov-report=json`` leaves. Exits with 1 if less than PERCENT
(90) of the lines of a package were run, or if no test reached one of its argument checks: a
``raise`` of TypeError, ValueError or UsageError.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

PACKAGES = {"fcn_ext": "fcn_ext/", "fcn_train": "python/fcn_train/"}
REFUSALS = {"TypeError", "ValueError", "UsageError"}


def refusals(source: str) -> dict[int, str]:
    """The lines on which argument checks raise, and what they raise."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func)
            if name in REFUSALS:
                found[node.lineno] = name
    return found


def unreached(files: dict[str, Any], root: Path) -> list[str]:
    """The argument checks that no test reached, as `file:line: source`."""
    found = []
    for name, file in sorted(files.items()):
        source = (root / name).read_text(encoding="utf-8")
        missing = set(file["missing_lines"])
        lines = source.splitlines()
        for line in sorted(refusals(source).keys() & missing):
            found.append(f"{name}:{line}: {lines[line - 1].strip()}")
    return found


def percent(files: dict[str, Any]) -> float:
    """The percentage of covered lines in all files together."""
    counts = [file["summary"] for file in files.values()]
    statements = sum(count["num_statements"] for count in counts)
    return 100 * sum(count["covered_lines"] for count in counts) / max(1, statements)


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print(__doc__)
        return 2
    least = float(arguments[1]) if len(arguments) == 2 else 90.0
    root = Path(__file__).resolve().parents[1]
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))["files"]
    is_good = True
    for package, folder in PACKAGES.items():
        files = {name: file for name, file in report.items() if name.startswith(folder)}
        if not files:
            print(f"{package}: not measured; give pytest --cov={package}")
            is_good = False
            continue
        share = percent(files)
        checks = unreached(files, root)
        print(f"{package}: {share:.1f} % of the lines, {len(checks)} argument checks not reached")
        for check in checks:
            print(f"  {check}")
        is_good &= share >= least and not checks
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
