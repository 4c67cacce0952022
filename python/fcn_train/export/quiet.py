"""Silences torch's messages to developers during an export."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LOGGERS = ("torch.fx", "torch.fx.experimental.symbolic_shapes", "torch.onnx", "onnxscript")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings in the block, and of what is logged the errors alone."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
