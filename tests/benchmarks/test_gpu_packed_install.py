"""gpu.sh takes a packed install only where it fits."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from .gpu_call import SCRIPT, Call

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


SOURCES = (
    "CMakeLists.txt",
    "pyproject.toml",
    "cmake/a.cmake",
    "csrc/b/c.cu",
    "fcn_ext/d.py",
    "python/fcn_train/e.py",
    "tools/build_backend.py",
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """site.tar of a project of the same files with little in them, beside that project."""
    folder = tmp_path_factory.mktemp("packed")
    project = folder / "project"
    (project / "benchmarks").mkdir(parents=True)
    shutil.copy(SCRIPT, project / "benchmarks")
    shutil.copytree(SCRIPT.with_suffix(""), project / "benchmarks" / "gpu")
    for name in SOURCES:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    call = Call(folder, project / "benchmarks" / "gpu.sh")
    assert call.run("install") == 0, call.said
    return call.out / "site.tar"


def take(packed: Path, project: Path, folder: Path) -> tuple[int, Call]:
    call = Call(folder, project / "benchmarks" / "gpu.sh")
    return call.run("tests", FCN_EXT_GPU_SH_SITE=str(packed)), call


def test_a_packed_install_is_taken(packed: Path, tmp_path: Path) -> None:
    code, call = take(packed, packed.parents[1] / "project", tmp_path)
    assert code == 0, call.said
    assert "taken from" in call.results()["install"]
    assert " passed " in call.results()["tests"]
    # It need not come back once more.
    assert not (call.out / "site.tar").exists()


@pytest.mark.parametrize("name", SOURCES)
def test_a_packed_install_of_other_sources(packed: Path, tmp_path: Path, name: str) -> None:
    project = tmp_path / "project"
    shutil.copytree(packed.parents[1] / "project", project)
    (project / name).write_text("changed")
    code, call = take(packed, project, tmp_path)
    assert code == 1
    assert "was built from other sources" in call.said
    assert "fcn_ext is not installed" in call.results()["tests"]


def changed_stamp(packed: Path, folder: Path, pattern: str, line: str) -> Path:
    """A copy of a packed install whose stamp says something else."""
    with tarfile.open(packed) as archive:
        archive.extractall(folder / "changed", filter="data")
    stamp = folder / "changed" / "stamp.txt"
    stamp.write_text(re.sub(pattern, line, stamp.read_text(), flags=re.MULTILINE))
    with tarfile.open(folder / "changed.tar", "w") as archive:
        archive.add(folder / "changed", ".")
    return folder / "changed.tar"


def test_a_packed_install_for_another_python(packed: Path, tmp_path: Path) -> None:
    changed = changed_stamp(packed, tmp_path, "^python .*$", "python cpython-39-x86_64")
    code, call = take(changed, packed.parents[1] / "project", tmp_path)
    assert code == 1
    assert "was built for cpython-39-x86_64; this Python is cpython-3" in call.said


def test_what_is_no_packed_install(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "site.tar").write_text("site")
    code, call = take(tmp_path / "site.tar", packed.parents[1] / "project", tmp_path)
    assert code == 1
    assert "is not a packed install: not a tar file" in call.said


@pytest.mark.parametrize(
    ("architectures", "fits"), [("off", False), ("80;86", False), ("80;90", True)]
)
def test_a_packed_install_for_another_gpu(
    packed: Path, tmp_path: Path, architectures: str, fits: bool
) -> None:
    changed = changed_stamp(packed, tmp_path, "^cuda .*$", f"cuda {architectures}")
    call = Call(tmp_path)
    project = packed.parents[1] / "project"
    (tmp_path / "work").mkdir()
    stamp = (tmp_path / "changed" / "stamp.txt").read_text()
    handed_down = {
        "root": str(project),
        "work": str(tmp_path / "work"),
        "python": call.environment["PYTHON"],
        "device": "cuda",
        "packed": str(changed),
        "abi": re.findall("^python (.*)$", stamp, re.MULTILINE)[0],
        "capability": "90",
        "FCN_EXT_CUDA": "on",
        "FCN_EXT_CUDA_ARCHITECTURES": "90",
    }
    done = subprocess.run(
        ["bash", str(project / "benchmarks" / "gpu" / "install.sh")],
        env={**call.environment, **handed_down},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == fits, done.stderr
    if not fits:
        assert f"architectures: {architectures}; this GPU is sm_90" in done.stderr
