"""Plain lines where nobody watches, bars where somebody does."""

from __future__ import annotations

import io
import time

import pytest

from fcn_train.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_file_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    plain = Console(stream)
    plain.line("[bold]kept[/bold]")
    with plain.progress("training", 10, start=2) as advance:
        for _ in range(4):
            advance(1, "loss 1")
    assert stream.getvalue() == "[bold]kept[/bold]\ntraining 5/10 loss 1\n"


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    lively = Console(stream)
    with lively.progress("training", 10) as advance:
        advance(3, "loss [1]")
        lively.line("[bold]kept[/bold]")
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "3/10" in text
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
