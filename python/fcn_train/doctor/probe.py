"""The process that loads torch and the operators for `fcn doctor`.

It is a process of its own: a library that cannot be loaded may end it with a signal. It tells what
it finds as lines of JSON on standard output, each one a dict with one key, so that whatever comes
before its end is known.
"""

from __future__ import annotations

import json
import platform
import warnings
from typing import Any


def main() -> int:
    """Tell of torch, then of fcn_ext, then of every operator on every device."""
    begin("import torch")
    try:
        import torch
    except Exception as error:
        return tell("torch_problem", _text(error))
    tell("torch", _torch())
    begin("import fcn_ext")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import fcn_ext  # noqa: F401
            from fcn_ext import _host, _library, numpy
    except Exception as error:
        return tell("fcn_ext_problem", _text(error))
    best = _host.best_cpu_capability()
    order = _library.CAPABILITIES
    tell(
        "fcn_ext",
        {
            **numpy.build_info(),
            "cpu_capabilities": list(order[: order.index(best) + 1]),
            "cuda_problem": _library.cuda_problem,
            "warnings": [str(warning.message) for warning in caught],
        },
    )
    from fcn_train import runtime
    from fcn_train.doctor.self_test import self_test

    runtime.set_threads(0, lambda warning: None)
    tell("threads", torch.get_num_threads())
    devices = [torch.device("cpu")]
    if torch.cuda.is_available() and _library.cuda_problem is None:
        devices.append(torch.device("cuda"))
    for device in devices:
        for finding in self_test(device, begin):
            tell("operator", finding.values())
    return tell("done", True)


def tell(key: str, value: Any) -> int:
    """Print a line that the parent reads; returns 0."""
    print(json.dumps({key: value}), flush=True)
    return 0


def begin(what: str) -> None:
    """Say what is tried next, for the case that it ends the process."""
    tell("begin", what)


def _torch() -> dict[str, Any]:
    """What torch is, and what it sees of GPUs."""
    import numpy as np
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda_available": available,
        "cuda_warnings": [_text(warning.message) for warning in caught],
        "devices": [],
    }
    for index in range(torch.cuda.device_count() if available else 0):
        properties = torch.cuda.get_device_properties(index)
        found["devices"].append(
            {
                "name": properties.name,
                "capability": f"{properties.major}.{properties.minor}",
                "memory_gib": round(properties.total_memory / 2**30, 1),
            }
        )
    return found


def _text(error: BaseException | str) -> str:
    """One line; torch's error of a library that does not load has the linker's words behind it."""
    text = " ".join(str(error).split()) or type(error).__name__
    cause = getattr(error, "__cause__", None)
    return f"{text} ({_text(cause)})" if cause else text
