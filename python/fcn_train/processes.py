"""Several processes that train or score one network together.

torchrun starts them; this module is how they work together. The first one (rank 0) decides, writes
and prints. Numbers that all need are added up or compared by collective operations, over Gloo or,
for tensors on GPUs, NCCL. A single process (``ALONE``) needs none of this: each of its methods is
the identity, or does nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fcn_train.errors import Elsewhere, LostProcess, UsageError
from fcn_train.launcher import Place, place
from fcn_train.notices import GRACE, Board
from fcn_train.run_folder import CONFIG

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)  # for operations that all start at about the same time
NOTICED = 0.5  # seconds within which who ends the work has said so, where its connection closes
WORD = 2.0  # seconds that the first process has to tell of a process that was lost
LAUNCHER_GONE = "torchrun, which started this process, was killed"
RUN = "fcn/run"  # in the launcher's store: the run that is trained, from one attempt to the next
# What Gloo and NCCL report when a process is gone.
GONE = re.compile(r"\bgloo\b|\bNCCL\b", re.I)


class Processes:
    """This process and the others that it works with.

    Args:
        where: its rank and the number of processes.
        store: the launcher's store; None for a process that was started without one.

    Attributes:
        group: the process group for tensors on the network's device, for torch's own modules.
    """

    def __init__(self, where: Place, store: Any = None) -> None:
        self.rank, self.size = where.rank, where.size
        self.local_rank, self.local_size = where.local_rank, where.local_size
        self.attempt, self.keeps = where.attempt, where.keeps
        self.group: Any = None
        self._store = store
        self._parent = os.getppid()
        self._calls = 0
        self.board: Board | None = None
        if self.several:
            prefixed: Any = dist.PrefixStore  # type: ignore[attr-defined]
            kept = prefixed(f"fcn/{where.attempt}", store)
            dist.init_process_group(
                "gloo", store=kept, rank=self.rank, world_size=self.size, timeout=PATIENCE
            )
            self.board = Board(prefixed("board", kept), self.rank, self.size)

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.size > 1

    def launcher_is_gone(self) -> bool:
        """Whether the torchrun that started this process, and its store, are gone, as after
        SIGKILL. Other launchers may leave their processes on purpose."""
        return self.keeps and os.getppid() != self._parent

    def use(self, device: torch.device) -> None:
        """Use the collective library that is made for ``device``."""
        if self.several and device.type == "cuda" and self.group is None:
            torch.cuda.set_device(device)
            self.group = dist.new_group(backend="nccl", timeout=PATIENCE)

    def from_first(self, make: Callable[[], T]) -> T:
        """The result of ``make`` on the first process; the others wait as long as it takes."""
        if self.board is None:
            return make()
        self._calls += 1
        notice = f"call {self._calls}"
        box: list[Any] = [None]
        with self.noticing():
            if self.first:
                box = [make()]
                self.board.post(notice)
            else:
                self.board.wait_for(notice)
            dist.broadcast_object_list(box, src=0)
        value: T = box[0]
        return value

    def gather(self) -> None:
        """Wait for all, as long as it takes."""
        if self.board is not None:
            self._calls += 1
            with self.noticing():
                self.board.gather(f"gathering {self._calls}")

    @contextlib.contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The block runs on the first process, then on the first of each machine, then on the
        others, so that earlier ones may write files that later ones read."""
        turn = 0 if self.first else 1 if self.local_rank == 0 else 2
        for _ in range(turn if self.several else 0):
            self.most(0)
        yield
        for _ in range(turn, 2 if self.several else 0):
            self.most(0)

    def most(self, value: int) -> int:
        """The greatest value of all processes; waits for them."""
        return self.most_of([value])[0]

    def most_of(self, values: Sequence[int]) -> list[int]:
        """The greatest of each value."""
        if not self.several:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.int64)
        with self.noticing():
            dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return numbers.tolist()

    def add(self, numbers: Tensor) -> Tensor:
        """``numbers``, which are replaced by their sums over all processes."""
        if self.several:
            if numbers.is_cuda:  # who waits for a GPU does not notice that others are gone
                self.most(0)
            with self.noticing():
                dist.all_reduce(numbers, group=self.group if numbers.is_cuda else None)
        return numbers

    def total(self, counts: np.ndarray) -> np.ndarray:
        """The sum of all processes' ``counts``, int64."""
        return self.add(torch.from_numpy(counts.copy())).numpy()

    def collected(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * self.size
        with self.noticing():
            dist.all_gather_object(values, value)
        return values

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Copy the first process's ``tensors`` to all others."""
        if self.several:
            with self.noticing(), torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, 0, group=self.group if tensor.is_cuda else None)

    @contextlib.contextmanager
    def together(self, kind: type[Exception]) -> Iterator[None]:
        """If one process raises an exception of this ``kind`` in the block, all raise it, after all
        have left the block."""
        raised = False
        try:
            yield
        except kind:
            if not self.several:
                raise
            raised = True
        if self.most(raised):
            raise kind

    @contextlib.contextmanager
    def noticing(self) -> Iterator[None]:
        """Turns the errors of Gloo and NCCL, when a process is gone, into one that says what
        happened.

        Raises:
            Elsewhere: it ended the work and said why.
            LostProcess: it was killed, or cannot be reached, or so was torchrun.
        """
        try:
            yield
        except RuntimeError as error:
            gone = isinstance(error, dist.DistError) or GONE.search(str(error))
            if self.board is None or not gone:
                raise
            if self.launcher_is_gone():
                raise LostProcess(LAUNCHER_GONE) from error
            with contextlib.suppress(RuntimeError):  # the store is gone, too
                self.board.wait_for_end(NOTICED)
                self.board.check()
            raise LostProcess(
                "another process of this training was killed or cannot be reached"
            ) from error

    def let_go(self) -> None:
        """Abort operations on GPUs, which would wait for processes that are gone."""
        if self.group is not None:
            with contextlib.suppress(Exception):
                dist.distributed_c10d._abort_process_group(self.group)

    def remember(self, run: Path) -> None:
        """Record the run's folder in the launcher's store, in case it restarts the processes."""
        if self.keeps and self.first:
            self._store.set(RUN, os.fsencode(run).hex())

    def run_before(self, *, resumes: bool = False) -> Path | None:
        """The run that the processes were training before the launcher started them again.

        Raises:
            UsageError: there was one, but neither the launcher nor the user (``resumes`` is false)
                says which.
        """
        if self._store is not None and self.keeps and self._store.check([RUN]):
            run = Path(os.fsdecode(bytes.fromhex(self._store.get(RUN).decode())))
            return run if (run / CONFIG).is_file() else None  # it had not begun yet
        if self.attempt and not self.keeps and not resumes:
            raise UsageError(
                "started again by a launcher that does not say which run it was "
                f"(TORCHELASTIC_RESTART_COUNT is {self.attempt}); continue it with "
                "fcn train --resume RUN, or give --output and --resume auto from the start"
            )
        return None

    def leave(self, code: int, *, lost: bool = False) -> tuple[bool, int]:
        """End this process's part; returns whether it should report the reason, and the exit code.

        A process that is done waits for the first one, which has more to do.

        Args:
            code: how the part ends.
            lost: whether it ends because another process was lost.
        """
        board = self.board
        if board is None:
            return True, code
        if self.launcher_is_gone():  # torch would report at length that its store is
            return self.first, code
        try:
            if code == 0 and not self.first:
                while not board.wait_for_end(60.0):
                    pass
            rank, said = board.end(code, WORD if lost else GRACE)
            if said:
                self.let_go()
            elif self.group is not None:
                dist.destroy_process_group()
            if not self.keeps:  # the store is the first process's own, and ends with it
                board.say_goodbye(WORD)
        except RuntimeError:  # the launcher is gone, and its store with it
            return self.first, code
        return rank == self.rank, said


ALONE = Processes(Place())
_joined: Processes | None = None


def joined() -> Processes:
    """This process and those that it was launched with; the first call connects to them.

    Raises:
        UsageError: they cannot be reached.
    """
    global _joined
    if _joined is not None:
        return _joined
    where = place()
    if not where.launched:
        return ALONE
    from torch.distributed.rendezvous import rendezvous  # which not every build of torch has

    try:
        store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
        _joined = Processes(where, store)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UsageError(
            f"process {where.rank} of {where.size} cannot meet the others by {address} "
            f"({str(error).splitlines()[0]})"
        ) from None
    _joined.most(0)  # one that ended early would break connections that are being made
    return _joined


def leave(code: int, error: BaseException | None) -> tuple[str, int]:
    """End this process's part, because of ``error`` if it is not None; returns the name under which
    to report it, "" for no report, and the exit code."""
    if _joined is None:
        return "fcn", code
    causes = (error, error.__cause__ if error is not None else None)
    speaks = True
    if any(isinstance(cause, Elsewhere) for cause in causes):
        _joined.let_go()
    else:
        lost = any(isinstance(cause, LostProcess) for cause in causes)
        speaks, code = _joined.leave(code, lost=lost)
    name = "fcn" if _joined.first else f"fcn: rank {_joined.rank}"
    return name if speaks else "", code
