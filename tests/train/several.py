"""Several processes without the cost of starting them: forks of this one."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch._dynamo  # which each of the processes would import by itself
import torch.distributed as dist

from .running import HANGS


class Ended(NamedTuple):
    """How a process ended: its exit code, negative for a signal, and what it said."""

    code: int
    out: str
    err: str


class Launcher:
    """Starts processes, tells them what torchrun does, and keeps a store for them as it does, or,
    without ``keeps``, lets the first have one of its own."""

    def __init__(self, folder: Path, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._folder = folder
        self._attempt = -1

    def start(self, size: int, work: Callable[[int], int]) -> list[int]:
        """Begin ``work(rank)`` in ``size`` processes; gives their numbers."""
        self._attempt += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        told = {
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port if self._keeps else free_port()),
            "TORCHELASTIC_USE_AGENT_STORE": str(self._keeps),
            "TORCHELASTIC_RESTART_COUNT": str(self._attempt),
        }
        # None talks to the store before the last is made: a fork waits for ever for a lock that the
        # store's thread, busy with another, held at that moment.
        all_made, held_open = os.pipe()
        children = []
        for rank in range(size):
            children.append(self._forked(rank, work, told, (all_made, held_open)))
        os.close(all_made)
        os.close(held_open)
        return children

    def ended(self, children: Sequence[int]) -> list[Ended]:
        """How they end, all of them.

        Raises:
            AssertionError: some did not, and were killed.
        """
        until = time.monotonic() + HANGS
        codes: dict[int, int] = {}
        hung: list[int] = []
        while len(codes) < len(children):
            for child in set(children) - set(codes):
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    codes[child] = os.waitstatus_to_exitcode(status)
                elif time.monotonic() > until and child not in hung:
                    os.kill(child, signal.SIGKILL)
                    hung.append(child)
            time.sleep(0.01)
        ends = [
            Ended(codes[child], *(file.read_text() for file in self._files(rank)))
            for rank, child in enumerate(children)
        ]
        ranks = [rank for rank, child in enumerate(children) if child in hung]
        assert not ranks, f"ranks {ranks} were killed after {HANGS:g} s: {ends}"
        return ends

    def run(self, size: int, work: Callable[[int], int]) -> list[Ended]:
        return self.ended(self.start(size, work))

    def _files(self, rank: int) -> tuple[Path, Path]:
        return self._folder / f"{rank}.out", self._folder / f"{rank}.err"

    def _forked(
        self, rank: int, work: Callable[[int], int], told: dict[str, str], pipe: tuple[int, int]
    ) -> int:
        child = os.fork()
        if child:
            return child
        code = 70
        try:
            all_made, held_open = pipe
            os.close(held_open)
            os.read(all_made, 1)  # ends when no process holds the other end
            os.close(all_made)
            for number, path in zip((1, 2), self._files(rank), strict=True):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(descriptor, number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            os.environ.update(told, RANK=str(rank), LOCAL_RANK=str(rank))
            torch.set_num_threads(1)
            code = work(rank)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def torchrun(
    size: int,
    work: Callable[[], int],
    folder: Path,
    *,
    restarts: int = 0,
    node: int = 0,
    nodes: int = 1,
    endpoint: str = "localhost:0",
    address: str | None = None,
) -> int:
    """Call ``work()`` in ``size`` processes of torchrun's own making; gives its exit code.

    It is torchrun without its start: no process imports anything again. What they say lies below
    ``folder``. Runs in this process, and leaves its signal handlers there: fork before.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder.mkdir(parents=True, exist_ok=True)
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=size,
        run_id="test",
        local_addr=address,
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint,
        rdzv_configs={"is_host": node == 0} if nodes > 1 else {},
        max_restarts=restarts,
        monitor_interval=0.1,
        start_method="fork",
        logs_specs=DefaultLogsSpecs(log_dir=str(folder), redirects=Std.ALL),
    )
    try:
        elastic_launch(config, _worker)(work)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _worker(work: Callable[[], int]) -> None:
    torch.set_num_threads(1)
    code = work()
    if code:
        sys.exit(code)


def forked(work: Callable[[], int]) -> int:
    """The number of a new process that does ``work``, whose value is its exit code."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = work()
    finally:
        os._exit(code)
