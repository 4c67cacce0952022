from __future__ import annotations

import copy
import os
import pickle
import tracemalloc
from pathlib import Path

import pytest

from fcn_train.data import path_list
from fcn_train.data.path_list import PathList

PATHS = [
    Path("images/a.png"),
    Path("/data/images/b.png"),
    Path("c.png"),
    Path("."),
    Path(".."),
    Path("/"),
    Path("../up.png"),
    Path("/top.png"),
    Path("images/a.png"),
    Path("images/Straße 7 \u2028\n.png"),
    Path(os.fsdecode(b"images/\xff\xfe.png")),
    Path("images/\ud800.png"),
]


def test_every_path_comes_back() -> None:
    paths = PathList(iter(PATHS))
    assert (len(paths), list(paths)) == (len(PATHS), PATHS)
    assert [paths[index] for index in range(-len(PATHS), 0)] == PATHS
    assert list(paths[-3:1:-2]) == PATHS[-3:1:-2]
    assert [str(path) for path in pickle.loads(pickle.dumps(paths))] == [str(p) for p in PATHS]
    for index in (len(PATHS), -len(PATHS) - 1):
        with pytest.raises(IndexError):
            paths[index]
    other = copy.deepcopy(paths)
    other.append(Path("more.png"))
    assert (len(other), other[-1], len(paths)) == (len(PATHS) + 1, Path("more.png"), len(PATHS))
    assert list(PathList()) == []


def test_a_path_takes_little_more_than_its_name() -> None:
    tracemalloc.start()
    try:
        paths = PathList(Path(f"/data/images/2007_{number:06}.png") for number in range(10_000))
        # Not what other threads take meanwhile.
        own = tracemalloc.Filter(True, path_list.__file__)
        taken = tracemalloc.take_snapshot().filter_traces([own])
        assert 10 < sum(trace.size for trace in taken.traces) / len(paths) < 40
    finally:
        tracemalloc.stop()
