"""The source lines of instructions, in a cubin that was compiled with -lineinfo."""

from __future__ import annotations

import re
from pathlib import Path

from sass.disassembly import output

Place = tuple[str, int]  # the file's name, without folders, and the line
_SECTION = re.compile(r"^\.text\.(\S+):")
_MARK = re.compile(r'//## File "([^"]+)", line (\d+)( inlined at)?')
_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,6})\*/")


def sources(cubin: Path, cuobjdump: str) -> dict[str, dict[int, tuple[Place, ...]]]:
    """For every function and address: the line, then where its function was inlined, and so on."""
    nvdisasm = Path(cuobjdump).with_name("nvdisasm")
    return parsed(output([str(nvdisasm), "-gi", "-c", str(cubin)]))


def parsed(text: str) -> dict[str, dict[int, tuple[Place, ...]]]:
    """sources(), from nvdisasm's text."""
    found: dict[str, dict[int, tuple[Place, ...]]] = {}
    places: dict[int, tuple[Place, ...]] = {}
    stack: list[Place] = []
    open_stack = False
    for line in text.splitlines():
        if match := _SECTION.match(line):
            places = found.setdefault(match[1], {})
            stack, open_stack = [], False
        elif match := _MARK.search(line):
            if not open_stack:
                stack = []
            stack.append((Path(match[1]).name, int(match[2])))
            open_stack = True
        elif match := _INSTRUCTION.match(line):
            open_stack = False
            places[int(match[1], 16)] = tuple(stack)
    return found
