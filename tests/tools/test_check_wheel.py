"""The judge of wheels and source archives finds what it is for."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from .loading import load_tool

check_wheel = load_tool("check_wheel")

WHEEL = {
    "fcn_ext/__init__.py": b"",
    "fcn_ext/py.typed": b"",
    "fcn_ext/_host.cpython-311-x86_64-linux-gnu.so": b"\x7fELF",
    "fcn_ext/lib/libfcn_ext_cpu.so": b"\x7fELF",
    "fcn_train/__main__.py": b"",
    "fcn_ext-0.1.0.dist-info/METADATA": b"",
    "fcn_ext-0.1.0.dist-info/licenses/LICENSE": b"",
}
SOURCES = {
    name: b""
    for name in (
        *("CMakeLists.txt", "pyproject.toml", "LICENSE", "README.md", "PKG-INFO"),
        *("tools/build_backend.py", "csrc/library.cpp", "cmake/torch_stable.cmake"),
        *("fcn_ext/__init__.py", "python/fcn_train/__main__.py"),
    )
}


def packed(folder: Path, kind: str, files: dict[str, bytes]) -> Path:
    if kind == "wheel":
        path = folder / "fcn_ext-0.1.0-cp311-cp311-linux_x86_64.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    path = folder / "fcn_ext-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"fcn_ext-0.1.0/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["wheel", "sources"])
def test_good_archives_pass(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = packed(tmp_path, kind, WHEEL if kind == "wheel" else SOURCES)
    assert check_wheel.main([str(path)]) == 0
    assert capsys.readouterr().out.endswith("as it should be\n")


BUILT_HERE = b"\0" + str(check_wheel.ROOT).encode() + b"/csrc/common/check.h\0"


@pytest.mark.parametrize(
    ("kind", "name", "content", "said"),
    [
        ("wheel", "fcn_ext/lib/libfcn_ext_cpu.so", BUILT_HERE, "holds the path"),
        ("wheel", "fcn_ext/ops/x.py", b"# " + BUILT_HERE, "holds the path"),
        ("wheel", "tests/test_x.py", b"", "tests/test_x.py belongs to no package"),
        ("wheel", "fcn_ext.libs/libtorch_cpu-1.so", b"", "is torch's or the system's"),
        ("wheel", "fcn_ext/__pycache__/x.pyc", b"", "is left over"),
        ("wheel", "fcn_ext/py.typed", None, "nothing is called"),
        ("sources", "tests/data/image.png", b"", "tests/data/image.png is no source"),
        ("sources", "benchmarks/results/a.json", b"", "is no source"),
        ("sources", "docs/notes.md", BUILT_HERE, "holds the path"),
        ("sources", "csrc/library.cpp", None, "nothing is called"),
        ("sources", "examples/net.safetensors", b"", "is left over"),
    ],
)
def test_what_does_not_belong_is_found(
    kind: str,
    name: str,
    content: bytes | None,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = dict(WHEEL if kind == "wheel" else SOURCES)
    if content is None:
        del files[name]
    else:
        files[name] = content
    assert check_wheel.main([str(packed(tmp_path, kind, files))]) == 1
    printed = capsys.readouterr().out
    # A project that lies within another such folder is found for both.
    folders = [path for path in check_wheel.builder_paths() if BUILT_HERE.startswith(b"\0" + path)]
    count = len(folders) if content and BUILT_HERE in content else 1
    assert f": {count} problem{'s' if count > 1 else ''}\n" in printed
    assert said in printed


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_wheel.main([]) == 2
    assert check_wheel.main([str(tmp_path / "a.zip")]) == 1
    assert "neither a wheel nor" in capsys.readouterr().out
