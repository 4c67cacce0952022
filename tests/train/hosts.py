"""Two hosts on this machine: network namespaces with a cable between them."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from .running import HANGS
from .several import forked

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
CABLE = ("fcn0", "fcn1")
ADDRESS = ("10.93.7.1", "10.93.7.2")
DENIED = 77


def on_two_hosts(work: Callable[[int], int]) -> list[int]:
    """Call ``work(0)`` on one host and ``work(1)`` on the other; gives their exit codes.

    Skips the test where the system does not let a user make network namespaces.
    """
    if sys.platform != "linux" or not shutil.which("ip"):
        pytest.skip("two hosts need Linux and its command ip")
    read, write = os.pipe()

    def first() -> int:
        code, other = _two_hosts(work)
        os.write(write, f"{code} {other}".encode())
        return code

    os.waitpid(forked(first), 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        codes = [int(code) for code in pipe.read().split()]
    if not codes or DENIED in codes:
        pytest.skip("this system does not allow network namespaces to be made")
    return codes


def _two_hosts(work: Callable[[int], int]) -> tuple[int, int]:
    """In a process of one thread: become the first host, start the second, work on both."""
    signal.alarm(int(HANGS))
    user = os.geteuid()
    if not _unshare(CLONE_NEWUSER | CLONE_NEWNET):
        return DENIED, DENIED
    with open("/proc/self/uid_map", "w") as table:
        table.write(f"0 {user} 1")
    apart, joined = os.pipe(), os.pipe()

    def second() -> int:
        signal.alarm(int(HANGS))
        made = _unshare(CLONE_NEWNET)
        os.write(apart[1], b"y" if made else b"n")
        return work(1) if made and os.read(joined[0], 1) == b"y" and _up(1) else DENIED

    child = forked(second)
    made = os.read(apart[0], 1) == b"y"
    cable = (*("link", "add", "name", CABLE[0], "type", "veth"), "peer", "name", CABLE[1])
    made = made and _ip(*cable, "netns", str(child)) and _up(0)
    os.write(joined[1], b"y" if made else b"n")
    code = work(0) if made else DENIED
    return code, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _up(host: int) -> bool:
    """Whether this host's end of the cable has its address and is up."""
    os.environ["GLOO_SOCKET_IFNAME"] = CABLE[host]
    return (
        _ip("link", "set", "lo", "up")
        and _ip("address", "add", f"{ADDRESS[host]}/24", "dev", CABLE[host])
        and _ip("link", "set", CABLE[host], "up")
    )


def _ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


def _unshare(what: int) -> bool:
    return ctypes.CDLL(None).unshare(what) == 0
