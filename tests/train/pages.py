"""Pages of HTML as tests read them."""

from __future__ import annotations

from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from fcn_train import pictures

ALONE = ("meta", "br", "img")


class Page(HTMLParser):
    """The text of a page, the addresses of its pictures, and the attributes of its figures.

    Every tag must be closed, and nothing may be asked of a network: pictures lie in their
    addresses, and nothing else has one.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.script = "", ""
        self.images: list[str] = []
        self.figures: list[dict[str, str | None]] = []
        self.names: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []
        assert "http" not in text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert not given.keys() & {"href", "srcset", "onclick", "onload", "onerror"}
        assert tag == "img" or "src" not in given
        if tag == "img":
            self.images.append(str(given["src"]))
            assert given["alt"]
        if tag == "figure":
            self.figures.append(given)
        if "data-names" in given:
            self.names.append(str(given["data-names"]))
        if tag not in ALONE:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.script += data
        elif self._open[-1:] != ["style"]:
            self.text += data

    def pictures(self) -> list[Image.Image]:
        """All of ``images``."""
        return [picture_at(address) for address in self.images]


def picture_at(address: str) -> Image.Image:
    """The picture that lies in an address."""
    head, _, content = address.partition(";base64,")
    assert head in ("data:image/png", "data:image/jpeg")
    return Image.open(BytesIO(b64decode(content, validate=True)))


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of reports are empty files: they take most of the time of a tiny run."""

    def empty(path: Path, *arguments: object) -> None:
        open(path, "wb").close()

    for name in ("draw_curves", "draw_class_bars", "draw_confusion", "draw_overlays"):
        monkeypatch.setattr(pictures, name, empty)
