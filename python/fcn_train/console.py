"""Progress for people: moving bars on a terminal, plain lines elsewhere and under CI."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import IO, Protocol

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_SECONDS = 15.0


class Advance(Protocol):
    """Moves a progress by ``count`` and shows ``text`` beside it."""

    def __call__(self, count: int = 1, text: str = "") -> None: ...


class Console:
    """Lines and progress on ``stream`` (standard output), warnings on standard error.

    ``plain`` None decides by the stream: bars only on a terminal that is not a CI log.
    """

    def __init__(self, stream: IO[str] | None = None, *, plain: bool | None = None) -> None:
        self.stream = stream if stream is not None else sys.stdout
        if plain is None:
            plain = not self.stream.isatty() or bool(os.environ.get("CI"))
        self.plain = plain
        self._rich = None if plain else RichConsole(file=self.stream, highlight=False)

    def line(self, text: str) -> None:
        if self._rich is not None:
            self._rich.print(escape(_encodable(text, self.stream)), soft_wrap=True)
        else:
            print(_encodable(text, self.stream), file=self.stream, flush=True)

    def warn(self, text: str) -> None:
        if self._rich is not None:
            self._rich.print(
                f"[yellow]warning:[/] {escape(_encodable(text, self.stream))}", soft_wrap=True
            )
        else:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Advance]:
        """A context whose value, an ``Advance``, moves the progress.

        Plain: a line at most every 15 seconds, and none for what takes less.
        """
        if self._rich is None:
            yield self._plain_progress(title, total, start)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=self._rich, transient=True) as bars:
            task = bars.add_task(title, total=total, completed=start, text="")

            def advance(count: int = 1, text: str = "") -> None:
                bars.update(task, advance=count, text=escape(_encodable(text, self.stream)))

            yield advance

    def _plain_progress(self, title: str, total: int, start: int) -> Advance:
        done, last = start, time.monotonic()

        def advance(count: int = 1, text: str = "") -> None:
            nonlocal done, last
            done += count
            if time.monotonic() - last >= PLAIN_SECONDS:
                last = time.monotonic()
                self.line(f"{title} {done}/{total} {text}".rstrip())

        return advance


class Silent(Console):
    """Says nothing: of several processes, one speaks."""

    def line(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    @contextlib.contextmanager
    def progress(self, title: str, total: int, start: int = 0) -> Iterator[Advance]:
        yield lambda count=1, text="": None


def _encodable(text: str, stream: IO[str]) -> str:
    """``text`` with escapes for what ``stream`` cannot take, such as names that are not UTF-8."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
