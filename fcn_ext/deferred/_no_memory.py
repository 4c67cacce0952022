"""Makes C++ raise an error when it asks for memory that a tensor does not have."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["READS_RAISE", "guard_memory"]

# Not public in torch. CPU-only builds lack the one that also refuses reading.
_refuse_writing = getattr(torch._C, "_set_throw_on_mutable_data_ptr", lambda tensor: None)
_refuse_access = getattr(torch._C, "_set_storage_data_ptr_access_error_msg", None)
_address = getattr(torch._C, "_storage_address", None)

_MESSAGE = (
    "Cannot access data pointer of deferred logits, which have no memory. Code that reads memory "
    "past torch's dispatcher must be given `logits + 0`"
)


def _reads_can_raise() -> bool:
    """Whether torch can make reads raise, for the storage at the address that it takes."""
    if _refuse_access is None or _address is None:
        return False
    tensor = torch.empty(0)
    return bool(_address(tensor) == tensor.untyped_storage()._cdata)


READS_RAISE = _reads_can_raise()
"""Whether reading raises. If not, only what writes or may write does."""


def guard_memory(tensor: Tensor) -> None:
    """Makes C++ code raise that takes the memory of ``tensor`` without the dispatcher."""
    if READS_RAISE:
        _refuse_access(_address(tensor), _MESSAGE)  # type: ignore[misc]
    else:
        _refuse_writing(tensor)
