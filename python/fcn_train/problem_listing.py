"""Prints the problems that `fcn data check` finds, however many there are."""

from __future__ import annotations

import bisect
import os
from array import array
from collections import Counter
from collections.abc import Callable

import numpy as np

from fcn_train.data import Problem
from fcn_train.data.problems import Problems
from fcn_train.words import counted

__all__ = ["ProblemListing"]


class ProblemListing:
    """Prints the problems of one split after the other as they are found, unless an earlier split
    had them, and only the first few of a kind. It keeps none but 8 bytes for each.

    Args:
        print_line: called with each line.
        limit: how many of a kind to show in a split; 0 is all.
    """

    def __init__(self, print_line: Callable[[str], None], limit: int) -> None:
        self._print = print_line
        self._limit = limit
        self._before = np.empty(0, dtype=np.int64)  # hashes, sorted, of earlier splits
        self._begin()

    def _begin(self) -> None:
        self._hashes = array("q")
        self._found: Counter[str] = Counter()  # in this split, by kind
        self._new: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    def add(self, problem: Problem) -> None:
        self._found[problem.kind] += 1
        key = hash((os.fspath(problem.path), problem.message))
        self._hashes.append(key)
        place = bisect.bisect_left(self._before, key)
        if place < len(self._before) and self._before[place] == key:
            return
        self._new[problem.kind] += 1
        if not problem.kind or not self._limit or self._new[problem.kind] <= self._limit:
            self._print(str(problem))

    def add_all(self, problems: Problems) -> None:
        for problem in problems:
            self.add(problem)
        self._dropped += problems.dropped()
        self._found += self._dropped
        self._new += self._dropped

    def end_split(self) -> tuple[int, str]:
        """Print how many problems of the split were left out; returns how many it has that no
        earlier split had, and a text of how many it has in all."""
        for kind, count in self._new.items():
            more = count - self._limit if self._limit else self._dropped[kind]
            if kind and more > 0:
                text = f"... and {more} more of this sort ({kind})"
                if self._limit:
                    text += "; --limit 0 shows " + ("more" if self._dropped[kind] else "them all")
                self._print(text)
        self._before = np.sort(np.concatenate([self._before, self._hashes]))
        total = self._found.total()
        text = counted(total, "problem")
        if total >= 4 and set(self._found) != {""}:
            kinds = Counter({kind or "other": count for kind, count in self._found.items()})
            text += ": " + ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
        new = self._new.total()
        self._begin()
        return new, text
