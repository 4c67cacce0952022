"""Progress for people: moving bars on a terminal and in a notebook, plain lines elsewhere and under
CI."""

from __future__ import annotations

import contextlib
import importlib.util
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
)

from fcn_train.pace import Pace
from fcn_train.shown import encodable
from fcn_train.terminal import printing_to

PLAIN_SECONDS = 15.0


class Advance(Protocol):
    """Moves a progress by ``count`` and shows ``text`` beside it."""

    def __call__(self, count: int = 1, text: str = "") -> None: ...


class Console:
    """Lines and progress on ``stream`` (standard output), warnings on standard error.

    ``plain`` None decides by the stream: bars only on a terminal that is not a CI log, and in a
    notebook that has the widgets for them.
    """

    def __init__(self, stream: IO[str] | None = None, *, plain: bool | None = None) -> None:
        notebook = stream is None and in_notebook()
        self.stream = stream if stream is not None else sys.stdout
        if plain is None:
            isatty = getattr(self.stream, "isatty", bool)  # some that write to a log have none
            seen = notebook or isatty()
            plain = not seen or bool(os.environ.get("CI"))
        self.plain = plain
        self._warned: set[str] = set()
        self._rich = (
            None
            if plain
            else RichConsole(file=self.stream, highlight=False, force_jupyter=notebook)
        )

    def line(self, text: str) -> None:
        with printing_to("standard output"):
            if self._rich is not None:
                self._rich.print(escape(encodable(text, self.stream)), soft_wrap=True)
            else:
                print(encodable(text, self.stream), file=self.stream, flush=True)

    def warn(self, text: str) -> None:
        if self._rich is not None:
            shown = escape(encodable(text, self.stream))
            with printing_to("standard output"):
                self._rich.print(f"[yellow]warning:[/] {shown}", soft_wrap=True)
        else:
            with printing_to("standard error"):
                print(f"warning: {text}", file=sys.stderr, flush=True)

    def warn_once(self, text: str) -> None:
        """A warning, unless it was given in this way before."""
        if text not in self._warned:
            self._warned.add(text)
            self.warn(text)

    @contextlib.contextmanager
    def progress(
        self, title: str, total: int, start: int = 0, *, images: int = 0
    ) -> Iterator[Advance]:
        """A context whose value, an ``Advance``, moves the progress.

        Time left and memory are shown, and the speed where a unit has ``images``. Plain: a line at
        most every 15 seconds, and none for what takes less.
        """
        pace = Pace(total, start, images)
        if self._rich is None:
            yield self._plain_progress(title, pace)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=self._rich, transient=True) as bars:
            task = bars.add_task(title, total=total, completed=start, pace="", text="")

            def advance(count: int = 1, text: str = "") -> None:
                pace.move(count)
                shown = escape(encodable(text, self.stream))
                bars.update(task, advance=count, pace=pace.words(), text=shown)

            yield advance

    def _plain_progress(self, title: str, pace: Pace) -> Advance:
        last = time.monotonic()

        def advance(count: int = 1, text: str = "") -> None:
            nonlocal last
            now = pace.move(count)
            if now - last >= PLAIN_SECONDS:
                last = now
                parts = [part for part in (text, pace.words()) if part]
                self.line(f"{title} {pace.done}/{pace.total} {', '.join(parts)}".rstrip())

        return advance


def in_notebook() -> bool:
    """Whether this is a Jupyter notebook that can show bars: rich needs ipywidgets for them."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return (
        type(shell).__name__ == "ZMQInteractiveShell"
        and importlib.util.find_spec("ipywidgets") is not None
    )


class Silent(Console):
    """Says nothing: of several processes, one speaks."""

    def line(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    @contextlib.contextmanager
    def progress(
        self, title: str, total: int, start: int = 0, *, images: int = 0
    ) -> Iterator[Advance]:
        yield lambda count=1, text="": None
