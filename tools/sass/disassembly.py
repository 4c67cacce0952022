"""The functions of a CUDA library, an object file or a cubin, as cuobjdump prints them."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"/\*([0-9a-f]{4,6})\*/\s+([^;]+);\s*/\*\s*0x([0-9a-f]{16})\s*\*/")
_GUARD = re.compile(r"^@(!?)(UP|P)(\d|T)\s+")


@dataclass(frozen=True)
class Instruction:
    """``@!P0 LDG.E.64 R2, desc[UR4][R6.64]`` has the name LDG, the modifiers E and 64, and two
    operands; its guard is ("P", 0, True)."""

    address: int
    text: str
    name: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    guard: tuple[str, int, bool] | None


def find_cuobjdump(given: str | None) -> str:
    folders = [
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin",
        Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin",
    ]
    candidates = [given, shutil.which("cuobjdump"), *(folder / "cuobjdump" for folder in folders)]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return str(candidate)
    sys.exit(
        f"{Path(sys.argv[0]).name}: no cuobjdump found (it comes with the CUDA toolkit, or as the "
        "packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm)"
    )


def output(command: Sequence[str], folder: str | None = None) -> str:
    # cuobjdump calls nvdisasm, which lies beside it.
    path = f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PATH": path},
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def disassemble(binary: Path, arch: str, cuobjdump: str) -> str:
    """The disassembly for one architecture; a cubin holds only one."""
    chosen = [] if binary.suffix == ".cubin" else ["-arch", arch]
    return output([cuobjdump, *chosen, "-sass", str(binary)])


def functions(sass: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """The name and the (address, text) list of every kernel."""
    for part in re.split(r"\n\s*Function : ", sass)[1:]:
        name, _, body = part.partition("\n")
        found = _LINE.findall(body)
        yield (
            name.strip(),
            [(int(at, 16), _with_bits(text.strip(), int(word, 16))) for at, text, word in found],
        )


def _with_bits(text: str, word: int) -> str:
    """The instruction with a constant that prints as NaN replaced by its bits, from the upper half
    of its first word. The text does not tell NaNs apart, and some of them are upper halves of
    infinite doubles, which FSEL and HFMA2 move, too."""
    if "QNAN" not in text:
        return text
    bits = word >> 32
    if "HFMA2" in text:  # two halves
        kept = text.split(",")[:-2]
        return ", ".join([*kept, hex(bits >> 16), hex(bits & 0xFFFF)])
    return re.sub(r"[+-]?QNAN", hex(bits), text)


def registers(binary: Path, arch: str, cuobjdump: str) -> dict[str, int]:
    """The number of registers per thread of each function."""
    chosen = [] if binary.suffix == ".cubin" else ["-arch", arch]
    text = output([cuobjdump, *chosen, "-res-usage", str(binary)])
    return {name: int(n) for name, n in re.findall(r"Function (\S+?):\s+REG:(\d+)", text)}


def constant_banks(binary: Path, arch: str, cuobjdump: str) -> dict[str, bytes]:
    """Constant bank 2 of each function: the targets of its jumps by a register."""
    with tempfile.TemporaryDirectory() as folder:
        if binary.suffix == ".cubin":
            cubins = [binary]
        else:
            output([cuobjdump, "-xelf", arch, str(binary.resolve())], folder)
            cubins = sorted(Path(folder).glob("*.cubin"))
        banks: dict[str, bytes] = {}
        for cubin in cubins:
            banks |= _sections(cubin.read_bytes(), ".nv.constant2.")
        return banks


def _sections(elf: bytes, prefix: str) -> dict[str, bytes]:
    """Contents of the sections whose names begin with `prefix`, by the rest of the name."""
    (offset,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, offset + k * size) for k in range(count)]
    names = headers[names_at][4]
    found = {}
    for header in headers:
        begin = names + header[0]
        name = elf[begin : elf.index(b"\0", begin)].decode()
        if name.startswith(prefix):
            found[name[len(prefix) :]] = elf[header[4] : header[4] + header[5]]
    return found


def decode(address: int, text: str) -> Instruction:
    guard = None
    bare = text
    if match := _GUARD.match(text):
        bare = text[match.end() :]
        guard = (match[2], 7 if match[3] == "T" else int(match[3]), match[1] == "!")
    name, _, rest = bare.partition(" ")
    first, *modifiers = name.split(".")
    return Instruction(address, text, first, tuple(modifiers), tuple(_split(rest.strip())), guard)


def _split(text: str) -> Iterator[str]:
    """Splits at commas outside brackets; drops reuse hints, which do not affect values."""
    for part in re.split(r",\s*(?![^\[]*\])", text.replace(".reuse", "")):
        if part.strip():
            yield part.strip()
