"""What a wheel and a source archive hold: ``python tools/check_wheel.py FILE.whl FILE.tar.gz ...``.

Exits with 1 if one holds a path of the machine that built it, a library that belongs to torch,
tests or their data, or lacks what it needs.
"""

from __future__ import annotations

import os
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {
    ".whl": [
        *(r"fcn_ext/__init__\.py", r"fcn_ext/py\.typed", r"fcn_ext/_host[^/]*\.so"),
        *(r"fcn_ext/lib/libfcn_ext_cpu\.so", r"fcn_train/__main__\.py"),
        *(r"fcn_ext-[^/]+\.dist-info/METADATA", r"fcn_ext-[^/]+\.dist-info/licenses/LICENSE"),
    ],
    ".gz": [
        *(r"CMakeLists\.txt", r"pyproject\.toml", r"LICENSE", r"README\.md", r"PKG-INFO"),
        *(r"tools/build_backend\.py", r"csrc/library\.cpp", r"cmake/torch_stable\.cmake"),
        *(r"fcn_ext/__init__\.py", r"python/fcn_train/__main__\.py"),
    ],
}
# Folders that a wheel may have, and folders that a source archive may not.
PACKAGES = re.compile(r"(fcn_ext|fcn_train|fcn_ext\.libs|fcn_ext-[^/]+\.dist-info)/")
NOT_SOURCE = re.compile(
    r"(tests|benchmarks/results|build|dist|runs|\.venv|\.ci|\.git|docs/_build)/"
)
TORCHS = re.compile(r"lib(torch|c10|cuda|cudart|gomp|mkl|stdc\+\+)[^/]*\.so")
STRAY = re.compile(r"__pycache__/|\.(o|pyc|orig|rej|mat|safetensors|pt)$")


def builder_paths() -> list[bytes]:
    """Paths of this machine, as far as they tell it from another one."""
    found = {ROOT, Path.home(), Path(sys.prefix), Path(tempfile.gettempdir())}
    found |= {Path(os.path.realpath(path)) for path in found}
    return sorted(f"{path}/".encode() for path in found if len(path.parts) > 1)


def contents(archive: Path) -> Iterable[tuple[str, bytes]]:
    """Names, without the first folder of a source archive, and contents of the files."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                yield name, packed.read(name)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield str(PurePosixPath(*PurePosixPath(member.name).parts[1:])), file.read()


def problems(archive: Path, paths: Iterable[bytes]) -> list[str]:
    """Everything that is wrong with an archive, in words."""
    kind = archive.suffix
    if kind not in NEEDED:
        return ["is neither a wheel nor a source archive"]
    found, names = [], []
    for name, content in contents(archive):
        names.append(name)
        if kind == ".whl" and not PACKAGES.match(name):
            found.append(f"{name} belongs to no package")
        if kind == ".gz" and NOT_SOURCE.match(name):
            found.append(f"{name} is no source")
        if TORCHS.search(name):
            found.append(f"{name} is torch's or the system's")
        if STRAY.search(name):
            found.append(f"{name} is left over")
        for path in paths:  # not as the end of a longer one
            if re.search(rb"(?<![\w./-])" + re.escape(path), content):
                found.append(f"{name} holds the path {path.decode()}")
    for pattern in NEEDED[kind]:
        if not any(re.fullmatch(pattern, name) for name in names):
            found.append(f"nothing is called {pattern}")
    return found


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    is_good = True
    for archive in map(Path, arguments):
        found = problems(archive, builder_paths())
        counted = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
        print(f"{archive.name}: {counted if found else 'as it should be'}")
        for problem in found:
            print(f"  {problem}")
        is_good &= not found
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
