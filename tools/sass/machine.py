"""Runs threads of some blocks of a launch by single instructions, as warps would issue them.

All threads that are at the same instruction take it together. The lowest address goes first, so
that threads that part at a branch meet again after it, where the convergence barriers (BSSY, BSYNC)
make the lanes of a warp wait for each other. `issued` counts, for each instruction, the warps in
which a lane took it: an instruction whose guard is false in all lanes takes an issue slot, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sass import operands
from sass.disassembly import Instruction
from sass.instructions import Step, compile_instruction
from sass.memory import GlobalMemory, SharedMemory, Traffic

Array = NDArray[Any]
Dim3 = tuple[int, int, int]

WARP = 32
RUNNING, AT_BARRIER, CONVERGING, EXITED = range(4)


@dataclass(frozen=True)
class Launch:
    """`parameters` as the kernel finds them in its constant bank."""

    function: str
    grid: Dim3
    block: Dim3
    shared_bytes: int
    parameters: bytes


@dataclass
class Layout:
    """Where an architecture has a launch's parameters, and where its shared memory begins."""

    parameters: int = 0x210
    shared_begin: int = 0x400


LAYOUTS = {
    "sm_75": Layout(0x160, 0),
    "sm_80": Layout(0x160, 0),
    "sm_86": Layout(0x160, 0),
    "sm_90": Layout(0x210, 0x400),
}


class State:
    """The values that lanes hold."""

    def __init__(self, lanes: int, banks: dict[int, bytes]) -> None:
        self.registers = np.zeros((256, lanes), np.uint32)
        self.uniforms = np.zeros((256, lanes), np.uint32)
        self.predicates = np.zeros((8, lanes), bool)
        self.uniform_predicates = np.zeros((8, lanes), bool)
        self.predicates[operands.TRUE] = self.uniform_predicates[operands.TRUE] = True
        self.barriers = np.zeros((16, lanes), np.uint32)
        self._banks = {number: np.frombuffer(bank, np.uint8) for number, bank in banks.items()}

    def constant(self, bank: int, offset: int, dtype: Any) -> Any:
        return self._bank(bank)[offset : offset + np.dtype(dtype).itemsize].view(dtype)[0]

    def constants(self, bank: int, offsets: Array, dtype: Any) -> Array:
        at = np.asarray(offsets)[..., None] + np.arange(np.dtype(dtype).itemsize)
        return np.ascontiguousarray(self._bank(bank)[at]).view(dtype)[..., 0]

    def _bank(self, number: int) -> Array:
        if number not in self._banks:
            raise operands.UnknownOperand(f"constant bank {number}")
        return self._banks[number]


class Group:
    """Lanes that take an instruction together; `ix` are their columns, or a slice if all do."""

    def __init__(self, columns: Array, lanes: int) -> None:
        self.columns = columns
        self.count = len(columns)
        self.total = lanes
        self.ix: Any = slice(None) if self.count == lanes else columns

    @cached_property
    def warps(self) -> Array:
        """The warp of each lane."""
        return self.columns // WARP

    @cached_property
    def first(self) -> Array:
        """For each warp, the position in `columns` of its first lane here."""
        return np.flatnonzero(np.diff(self.warps, prepend=-1))

    @cached_property
    def masks(self) -> Array:
        """For each lane, which lanes of its warp are here."""
        bits = np.uint32(1) << (self.columns % WARP).astype(np.uint32)
        return np.repeat(np.bitwise_or.reduceat(bits, self.first), self._sizes)

    @cached_property
    def _sizes(self) -> Array:
        return np.diff(np.append(self.first, self.count))

    @cached_property
    def whole(self) -> Group:
        """All lanes of these warps, since uniform registers belong to the warp."""
        if self.count == self.total:
            return self
        distinct = self.warps[self.first]
        return Group((distinct[:, None] * WARP + np.arange(WARP)).ravel(), self.total)

    def spread(self, values: Array) -> Array:
        """Repeats a number of each warp for every lane of `whole`."""
        return np.repeat(values, WARP)

    def where(self, mask: Array) -> Group:
        return self if mask.all() else Group(self.columns[mask], self.total)


class Deadlock(RuntimeError):
    pass


@dataclass
class Machine:
    """Blocks of a launch, given by their linear numbers."""

    program: Sequence[Instruction]
    launch: Launch
    blocks: Sequence[int]
    layout: Layout = field(default_factory=Layout)
    jump_targets: bytes = b""  # constant bank 2
    memory: GlobalMemory = field(default_factory=GlobalMemory)

    def __post_init__(self) -> None:
        x, y, z = self.launch.block
        self.threads = x * y * z
        self.padded = -(-self.threads // WARP) * WARP  # lanes in a block's warps
        self.lanes = self.padded * len(self.blocks)
        bank = bytearray(self.layout.parameters)
        dims = np.array([*self.launch.block, *self.launch.grid], np.uint32).tobytes()
        bank[: len(dims)] = dims
        banks = {0: bytes(bank) + self.launch.parameters + bytes(64), 2: self.jump_targets}
        self.state = State(self.lanes, banks)
        self.shared = SharedMemory(
            len(self.blocks), self.layout.shared_begin + self.launch.shared_bytes
        )
        lane = np.arange(self.lanes)
        self.block_of = lane // self.padded
        self.thread_of = lane % self.padded
        self.pc = np.zeros(self.lanes, np.int64)
        self.status = np.where(self.thread_of < self.threads, RUNNING, EXITED)
        self.waits_for = np.zeros(self.lanes, np.uint32)
        self.issued = np.zeros(len(self.program), np.int64)
        self.issued_by_block = np.zeros(len(self.blocks), np.int64)
        self.traffic = Traffic()
        self.index_of = {each.address: k for k, each in enumerate(self.program)}
        self.steps: list[Step | None] = [None] * len(self.program)
        self.is_part = len(self.blocks) < math.prod(self.launch.grid)  # of the launch
        self._random = np.random.default_rng(len(self.blocks))

    def drawn(self, most: int) -> int:
        """A number, 0 to `most`, that depends on blocks that are not run."""
        return int(self._random.integers(0, most, endpoint=True))

    # ------------------------------------------------------------------ running

    def run(self) -> None:
        while True:
            running = self.status == RUNNING
            if not running.any():
                if (self.status == EXITED).all():
                    return
                self._release_blocks()
                continue
            pcs = self.pc[running]
            pc = int(pcs.min())
            columns = np.flatnonzero(running & (self.pc == pc))
            others = pcs[pcs > pc]
            self._advance(Group(columns, self.lanes), pc, int(others.min()) if len(others) else -1)

    def _advance(self, group: Group, pc: int, limit: int) -> None:
        """Runs a group until it meets others, diverges, waits or ends."""
        warps = len(group.first)
        taken_steps = 0
        following: int | None = pc
        while following is not None and (limit < 0 or following < limit):
            pc = following
            step = self.steps[pc]
            if step is None:
                step = self.steps[pc] = compile_instruction(self, self.program[pc])
            self.issued[pc] += warps
            taken_steps += 1
            taken = group
            if step.guard is not None:
                mask = step.guard(group.ix)
                taken = group if mask.all() else Group(group.columns[mask], self.lanes)
            if step.control is not None:
                following = step.control(self, group, taken, pc)
            else:
                if taken.count and step.work is not None:
                    step.work(taken)
                following = pc + 1
        if following is not None:
            self.pc[group.ix] = following
        of_block = group.warps[group.first] * WARP // self.padded
        self.issued_by_block += taken_steps * np.bincount(of_block, minlength=len(self.blocks))

    def _release_blocks(self) -> None:
        """Releases the blocks in which all live threads wait at the barrier."""
        waiting = (self.status == AT_BARRIER).reshape(len(self.blocks), -1)
        gone = (self.status == EXITED).reshape(len(self.blocks), -1)
        ready = (waiting | gone).all(1) & waiting.any(1)
        if not ready.any():
            stuck = np.flatnonzero(self.status != EXITED)[0]
            text = self.program[int(self.pc[stuck])].text
            raise Deadlock(f"{self.launch.function}: threads wait for ever, one at {text}")
        lanes = np.repeat(ready, self.padded) & (self.status == AT_BARRIER)
        self.status[lanes] = RUNNING
        self.pc[lanes] += 1

    # ------------------------------------------------------------------ control

    def wait_together(self, group: Group, pc: int, masks: Array) -> int | None:
        """Makes the lanes of `group` wait here until all lanes of their masks are here or gone."""
        if (group.masks == masks).all():
            return pc + 1
        self.pc[group.ix] = pc
        self.status[group.ix] = CONVERGING
        self.waits_for[group.ix] = masks
        self.release_warps(group)
        return None

    def release_warps(self, group: Group) -> None:
        """Releases lanes that wait for lanes that are all here by now."""
        columns = group.whole.columns
        status = self.status[columns].reshape(-1, WARP)
        waiting = status == CONVERGING
        if not waiting.any():
            return
        bits = np.uint32(1) << np.arange(WARP, dtype=np.uint32)
        gone = np.bitwise_or.reduce(np.where(status == EXITED, bits, 0), 1)[:, None]
        pc = self.pc[columns].reshape(-1, WARP)
        # For each lane, which lanes wait at the same place.
        alike = (pc[:, :, None] == pc[:, None, :]) & waiting[:, None, :]
        here = np.bitwise_or.reduce(np.where(alike, bits, 0), 2).astype(np.uint32)
        wanted = self.waits_for[columns].reshape(-1, WARP)
        free = columns[(waiting & ((wanted & ~(here | gone)) == 0)).ravel()]
        self.status[free] = RUNNING
        self.pc[free] += 1
