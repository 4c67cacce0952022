"""The oldest dependencies that are allowed: read from pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from .loading import load_tool

oldest_requirements = load_tool("oldest_requirements")

PYPROJECT = """
[project]
dependencies = [
  "torch>=2.11",  # a comment
  "pillow>=10",
]

[project.optional-dependencies]
dev = ["ruff>=0.6"]
# Another comment.
matlab = ["h5py>=3.8", "tyro>=1.0.12"]
more = ["h5py>=3.8"]

[project.scripts]
"""


def test_minor_versions_in_any_patch_and_patches_themselves() -> None:
    assert oldest_requirements.oldest(PYPROJECT) == [
        *("h5py==3.8.*", "pillow==10.0.*", "torch==2.11.*", "tyro==1.0.12")
    ]


def test_every_dependency_of_users_is_found() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    found = {line.partition("==")[0] for line in oldest_requirements.oldest(pyproject)}
    assert found >= {
        "torch",
        "numpy",
        "tyro",
        "scipy",
        "requests",
        "onnx",
        "waitress",
        "tensorboard",
    }
    assert not found & {"ruff", "sphinx", "pytest"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("torch>=2.11", "torch", "dependencies: a requirement must be name>=version, got 'torch'"),
        ("h5py>=3.8", "h5py<4", "matlab: a requirement must be name>=version, got 'h5py<4'"),
        ('more = ["h5py>=3.8"]', 'more = ["h5py>=3.9"]', "h5py is required from 3.8 on and from"),
        ("[project.optional-dependencies]", "[other]", "no dependencies, or no extras"),
    ],
)
def test_what_it_cannot_read_is_an_error(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        oldest_requirements.oldest(PYPROJECT.replace(old, new, 1))
