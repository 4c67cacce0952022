"""How this project's docstrings, plain text first, become reStructuredText."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

# The star of a shape such as (N, *size) is not the beginning of an emphasis.
_STAR = re.compile(r"(``.*?``)|(?<![\w*`\\])\*(?=\w+[^\w*])")


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    # Before napoleon, which listens at 500.
    app.connect("autodoc-process-docstring", _prepare, priority=400)
    return {"parallel_read_safe": True}


def _prepare(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _literal_blocks([_STAR.sub(lambda m: m[1] or r"\*", line) for line in lines])
    if what in ("attribute", "property", "data"):
        # Napoleon takes what is before a colon in the first line for a type: an empty comment.
        lines[:0] = ["..", ""]


def _literal_blocks(lines: list[str]) -> list[str]:
    """Indented paragraphs after one that is not: formulas and code, to be shown as they stand."""
    found: list[str] = []
    paragraph = ""  # the last line that was not blank
    for index, line in enumerate(lines):
        begins = index > 0 and not lines[index - 1].strip()
        if (
            begins
            and line.startswith("    ")
            and not line.lstrip().startswith(">>>")
            and paragraph
            and not paragraph.startswith((" ", "*", "-", ".."))
            and not paragraph.endswith("::")
        ):
            found += ["::", ""]
        found.append(line)
        paragraph = line if line.strip() else paragraph
    return found
