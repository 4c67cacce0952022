"""Answers of the server, unpacked."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np


def unpacked(data: bytes) -> dict[str, Any]:
    """The header, with arrays ``labels`` and ``probability`` and the bytes ``mask`` of each set."""
    (length,) = struct.unpack("<I", data[:4])
    header: dict[str, Any] = json.loads(data[4 : 4 + length])
    size = (header["height"], header["width"])
    start = 4 + length
    for one in header["sets"]:
        parts = []
        for part in one["lengths"]:
            parts.append(data[start : start + part])
            start += part
        one["labels"], one["probability"] = (
            np.frombuffer(part, np.uint8).reshape(size) for part in parts[:2]
        )
        one["mask"] = parts[2]
    assert start == len(data)
    return header
