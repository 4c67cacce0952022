"""Sphinx, for ``make docs``.

The project's root is the source folder, so that README.md and the other pages are read where they
lie, and their links work on a code host as they do here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import fcn_ext

sys.path.insert(0, str(Path(__file__).parent))

project = "fcn_ext"
author = "the fcn_ext authors"
copyright = f"2026, {author}"
version = release = fcn_ext.__version__

root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/api/*.md",
    "benchmarks/README.md",
    "examples/README.md",
]
exclude_patterns = ["docs/_build", ".github"]
# Pages lie below docs/, README.html above it: index.html leads to the first.
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]

extensions = ["docstrings", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
# A default is shown as it stands in the source: `Resize()`.
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
add_module_names = False

# No inventory of another project is fetched: pages are built without a network. Names of other
# projects stay plain text; those of this one must resolve.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|nn|np|npt|numpy|dist|F)(\..*)?"),
    (r"py:.*", r"(Tensor|Any|Array|Fraction|fractions\.Fraction|Path|pathlib\.Path|optional)"),
    (r"py:.*", r"(collections|typing)(\..*)?"),
    (r"py:class", r"fcn_ext\.models\.following\.Found"),  # what a Layer holds, no page has it
    (r"py:class", r"fcn_ext\.losses\._modules\.LossModule"),  # what modules of losses share
    (r"py:class", r"fcn_ext\.ops\._region_sums\.RegionSums"),  # its function tells of it
    (r"py:class", r"fcn_train\.(console\.Console|data\.labels\.LabelReader|options\..*)"),
    (r"py:class", r"Window|Geometry"),  # as overloads spell them
    (r"py:exc", r"(TypeError|ValueError|RuntimeError)"),
]

html_theme = "furo"
html_title = f"fcn_ext {release}"
html_copy_source = False
html_show_sourcelink = False
