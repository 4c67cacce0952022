"""Plain lines where nobody watches, bars where somebody does."""

from __future__ import annotations

import io
import sys
import time
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch

from fcn_train import console, machine, pace
from fcn_train.console import Console
from fcn_train.pace import Pace, duration, memory_in_use


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_file_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = io.StringIO(), Clock(monkeypatch)
    monkeypatch.setattr(pace, "memory_in_use", lambda: "1.5 GiB")
    plain = Console(stream)
    plain.line("[bold]kept[/bold]")
    with plain.progress("training", 10, start=2, images=8) as advance:
        for _ in range(4):
            clock.now += 6
            advance(1, "loss 1")
    assert stream.getvalue() == (
        "[bold]kept[/bold]\ntraining 5/10 loss 1, 1.33 images/s, 0:30 left, 1.5 GiB\n"
    )


def test_a_stream_that_only_writes_gets_plain_lines() -> None:
    """As programs make that copy what is printed into a log."""

    class Log:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    log: Any = Log()
    plain = Console(log)
    plain.line("said")
    with plain.progress("training", 10) as advance:
        advance(1)
    assert log.text == "said\n"


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    lively = Console(stream)
    monkeypatch.setenv("COLUMNS", "200")
    with lively.progress("training", 10, images=4) as advance:
        advance(3, "loss [1]")
        lively.line("[bold]kept[/bold]")
    text = stream.getvalue()
    assert "\x1b[" in text
    for part in ("3/10", "images/s", " left", " GiB", "loss [1]"):
        assert part in text
    assert "[bold]kept[/bold]" in text


def test_ci_log_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    stream = Terminal()
    with Console(stream).progress("training", 10) as advance:
        advance()
    assert stream.getvalue() == ""


def test_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Console(plain=True).warn("look")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: look\n")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_beyond_the_encoding_are_escaped(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    Console(stream, plain=True).line("caf\udce9 \u9ed2")
    expected = "caf\\udce9 \u9ed2\n".encode(encoding, "backslashreplace")
    assert raw.getvalue() == expected


def test_speed_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    followed = Pace(1000, 0, 4)
    assert followed.speed == 0
    assert "left" not in followed.words()
    for seconds, count in ((10, 1), (10, 1)):
        clock.now += seconds
        followed.move(count)
    assert followed.speed == 0.1
    for _ in range(60):
        clock.now += 1
        followed.move(2)
    assert followed.speed == 2
    assert followed.words().startswith("8 images/s, 7:19 left")


def test_other_work_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations amid a training, which move it by nothing."""
    clock = Clock(monkeypatch)
    followed = Pace(10, 5, 0)
    for seconds, count in ((2, 1), (100, 0), (100, 0), (2, 1)):
        clock.now += seconds
        followed.move(count)
    assert (followed.done, followed.speed) == (7, 0.5)
    assert followed.words().startswith("0:06 left")


def test_work_that_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    followed = Pace(3, 0, 1)
    followed.move(3)
    assert followed.speed == 0
    assert "images" not in followed.words()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (200000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_memory_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = machine.resident_memory()
    assert resident is not None
    assert 10 * 2**20 < resident < 2**40
    assert float(memory_in_use().removesuffix(" GiB")) == pytest.approx(resident / 2**30, abs=0.1)
    (tmp_path / "statm").write_text("100\n")
    for path in (tmp_path / "absent", tmp_path / "statm"):
        monkeypatch.setattr(machine, "STATM", path)
        assert machine.resident_memory() is None
        assert memory_in_use() == ""


def test_memory_is_that_of_a_gpu_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 3 * 2**30)
    assert memory_in_use() == "3.0 GiB of GPU memory"


class ZMQInteractiveShell:
    """What IPython gives in a notebook."""


class Widget:
    """A cell's output that is written over."""

    shown = 0

    def __enter__(self) -> None:
        Widget.shown += 1

    def __exit__(self, *error: object) -> None:
        pass

    def clear_output(self, wait: bool) -> None:
        pass

    def close(self) -> None:
        pass


def test_notebook_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    displayed: list[object] = []
    ipython, display, widgets = (
        types.ModuleType(name) for name in ("IPython", "IPython.display", "ipywidgets")
    )
    for module, names in (
        (ipython, {"get_ipython": ZMQInteractiveShell, "display": display}),
        (display, {"display": displayed.append}),
        (widgets, {"Output": Widget, "__spec__": ModuleSpec("ipywidgets", None)}),
    ):
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delenv("CI", raising=False)
    lively = Console()
    assert not lively.plain
    with lively.progress("training", 10, images=4) as advance:
        advance(3)
    assert isinstance(displayed[0], Widget)
    assert Widget.shown > 0
    monkeypatch.delitem(sys.modules, "ipywidgets")
    monkeypatch.setattr(console.importlib.util, "find_spec", lambda name: None)
    assert Console().plain
