"""How this project's docstrings, plain text first, become reStructuredText."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

# The star of a shape such as (N, *size) is not the beginning of an emphasis.
_STAR = re.compile(r"(``.*?``)|(?<![\w*`\\])\*(?=\w+[^\w*])")
# Names that share a line of "Attributes:"; Sphinx takes what is before a space for a type.
_NAMES = re.compile(r"^ +\w+(, \w+)+(?=: )")


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    # Before napoleon, which listens at 500.
    app.connect("autodoc-process-docstring", _prepare, priority=400)
    app.connect("missing-reference", _find)
    return {"parallel_read_safe": True}


def _prepare(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _literal_blocks([_STAR.sub(lambda m: m[1] or r"\*", line) for line in lines])
    if "Attributes:" in lines:
        first = lines.index("Attributes:")
        lines[first:] = [_NAMES.sub(lambda m: m[0].replace(", ", ","), s) for s in lines[first:]]
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


def _find(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.reference | None:
    """A name without its module, or broken over two lines: where one object is called so."""
    if node.get("refdomain") != "py":
        return None
    target = "".join(node["reftarget"].split())
    objects = env.domains.python_domain.objects
    found = [name for name in objects if f".{name}".endswith(f".{target}")]
    if len(found) != 1:
        return None
    entry = objects[found[0]]
    return make_refnode(
        app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, found[0]
    )
