"""The execution unit of a scheduler that an instruction occupies, and for how many cycles per warp.

Throughputs are those of the CUDA programming guide's table of arithmetic instructions for compute
capability 9.0, divided by the four schedulers of a multiprocessor.
"""

from __future__ import annotations

from sass.disassembly import Instruction

UNITS = {
    "fma": {"FFMA", "FADD", "FMUL", "HFMA2", "HADD2", "HMUL2"},
    # Half as wide as the rest of the fma unit; for integers.
    "fma heavy": {"IMAD", "UIMAD", "I2FP"},
    "conversions": {"MUFU", "I2F", "F2I", "F2F", "FRND", "POPC", "UPOPC", "FLO", "UFLO", "BREV",
                    "UBREV"},
    "double": {"DADD", "DMUL", "DFMA", "DSETP"},
    "memory": {"LDG", "STG", "LDS", "STS", "LDGSTS", "LDC", "ATOMS", "ATOMG", "RED", "SHFL",
               "MATCH", "LDL", "STL"},
    "branches": {"BRA", "BSSY", "BSYNC", "BREAK", "CALL", "RET", "EXIT", "WARPSYNC", "BAR", "NOP",
                 "DEPBAR", "LDGDEPBAR", "YIELD"},
}  # fmt: skip
CYCLES = {"fma": 1, "fma heavy": 2, "conversions": 8, "double": 2, "memory": 4, "branches": 1}
_UNIT_OF = {name: unit for unit, names in UNITS.items() for name in names}


def unit_of(instruction: Instruction) -> str:
    # IMAD.MOV and IMAD.SHL take the same unit as other IMAD.
    return _UNIT_OF.get(instruction.name, "alu")


def cycles_of(instruction: Instruction) -> int:
    """How many cycles a warp's instruction occupies its unit."""
    return CYCLES.get(unit_of(instruction), 2)
