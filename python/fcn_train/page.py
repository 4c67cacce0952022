"""Self-contained HTML pages: text, tables and pictures in one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from fcn_train.shown import shown

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: left;
       border-bottom: 1px solid #e3e3e3; } td.number { text-align: right;
       font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; } code, pre { font-size: 13px; } pre { background: #f6f6f4;
       padding: .8rem; overflow-x: auto; } .swatch { display: inline-block; width: .9em;
       height: .9em; margin-right: .5em; border: 1px solid #888; vertical-align: -.1em; }
"""


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """A complete page; ``parts`` are HTML, ``title`` is text."""
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>',
            f"<style>{STYLE}{style}</style></head><body>",
            f"<h1>{text(title)}</h1>",
            *parts,
            "</body></html>",
            "",
        ]
    )


def text(value: Any) -> str:
    """Any text as HTML."""
    return escape(shown(str(value)))


def table(
    rows: Iterable[Sequence[Any]], header: Sequence[Any] = (), *, numbers: bool = False
) -> str:
    """Cells of any values; with ``numbers``, all but the first of a row are aligned to the
    right."""
    kind = ' class="number"' if numbers else ""
    lines = []
    if header:
        lines.append(f"<tr>{''.join(f'<th>{text(cell)}</th>' for cell in header)}</tr>")
    for first, *others in rows:
        cells = [f"<td>{text(first)}</td>", *(f"<td{kind}>{text(cell)}</td>" for cell in others)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def swatch(color: np.ndarray) -> str:
    """A small square of a color (3,), R, G and B in 0..255."""
    return f'<span class="swatch" style="background:rgb{tuple(color.tolist())}"></span>'


def jpeg(pixels: np.ndarray, longest: int) -> str:
    """(H, W, 3) uint8 as a data URI, made smaller if a side is longer than ``longest``."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((longest, longest))
    return _uri("jpeg", picture, quality=85)


def png(pixels: np.ndarray, longest: int, palette: np.ndarray | None = None) -> str:
    """(H, W, 3), or (H, W) indices of ``palette`` (256, 3), uint8, as a data URI without loss."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        picture.putpalette(palette.tobytes())
    picture.thumbnail((longest, longest), Image.Resampling.NEAREST)
    return _uri("png", picture, optimize=True)


def data_uri(kind: str, content: bytes) -> str:
    """A picture of the kind "png" or "jpeg" as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _uri(kind: str, picture: Image.Image, **options: Any) -> str:
    content = io.BytesIO()
    picture.save(content, format=kind, **options)
    return data_uri(kind, content.getvalue())
