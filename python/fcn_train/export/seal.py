"""A checksum inside an ONNX file, of everything in the file but itself.

It is 64 hexadecimal digits in the metadata. They are zeros while the SHA-256 of the file's bytes is
taken, so reading it needs no parser, and no bit of the file can change unnoticed.
"""

from __future__ import annotations

import hashlib

SEAL = "fcn_ext.sha256"
UNSEALED = "0" * 64
# A StringStringEntryProto: field 1 is the key, field 2 the value, each after its length.
_ENTRY = b"\x0a" + bytes([len(SEAL)]) + SEAL.encode() + b"\x12" + bytes([len(UNSEALED)])


def sealed(data: bytes) -> bytes:
    """``data``, a file whose metadata have ``SEAL``, with its checksum there."""
    start = data.rindex(_ENTRY) + len(_ENTRY)
    end = start + len(UNSEALED)
    return data[:start] + _digest(data, start).encode() + data[end:]


def seal_is_whole(data: bytes) -> bool | None:
    """Whether ``data`` matches its checksum; None where it has none."""
    found = data.rfind(_ENTRY)
    if found < 0:
        return None
    start = found + len(_ENTRY)
    return data[start : start + len(UNSEALED)] == _digest(data, start).encode()


def _digest(data: bytes, start: int) -> str:
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(UNSEALED.encode())
    digest.update(memoryview(data)[start + len(UNSEALED) :])
    return digest.hexdigest()
