"""Reads what torchrun, or another launcher, tells a process about its rank and the others.

Needs no torch, so that commands in one process start as fast as before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from fcn_train.errors import UsageError


@dataclass(frozen=True)
class Place:
    """A process among those that work together.

    Attributes:
        rank: its number, from 0; ``size`` is the number of processes.
        local_rank: its number on its machine; ``local_size`` is the number of processes there.
        attempt: how often the launcher has restarted the processes.
        keeps: whether the launcher keeps a store from one attempt to the next, as torchrun does.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    attempt: int = 0
    keeps: bool = False

    @property
    def launched(self) -> bool:
        """Whether there is anything to communicate with: other processes, or a launcher's store."""
        return self.size > 1 or self.keeps


def place() -> Place:
    """This process's place, from the environment variables that launchers set.

    Raises:
        UsageError: there are several processes, and a variable is missing or out of range.
    """
    keeps = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = _number("TORCHELASTIC_RESTART_COUNT", 0)
    size = _number("WORLD_SIZE", 1)
    if size <= 1:
        return Place(attempt=attempt, keeps=keeps)
    found = {name: _number(name, None) for name in ("RANK", "MASTER_PORT")}
    rank = found["RANK"]
    missing = [name for name, value in found.items() if value is None]
    missing += [] if os.environ.get("MASTER_ADDR") else ["MASTER_ADDR"]
    if rank is None or missing:
        raise UsageError(
            f"started as {size} processes (WORLD_SIZE), but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set; start them with torchrun"
        )
    if rank >= size:
        raise UsageError(f"RANK must be less than WORLD_SIZE = {size}, got {rank}")
    local_rank = _number("LOCAL_RANK", rank)
    return Place(rank, size, local_rank, _number("LOCAL_WORLD_SIZE", size), attempt, keeps)


def _number(name: str, default: int | None) -> int:
    """The variable ``name``, a number from 0; ``default`` if it is not one."""
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdigit() else default  # type: ignore[return-value]
