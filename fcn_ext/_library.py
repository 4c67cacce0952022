"""Finds and loads the operator libraries, and says in one sentence what is missing and why."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

from fcn_ext import _first_calls, _host

_LIBRARIES = Path(_host.__file__).parent / "lib"
_CPU = _LIBRARIES / "libfcn_ext_cpu.so"
_CUDA = _LIBRARIES / "libfcn_ext_cuda.so"

CAPABILITIES = ("plain", "avx2", "avx512")

OPERATORS = (
    "upsample",
    "upsample_backward",
    "interpolate",
    "interpolate_backward",
    "fuse_skip",
    "confusion_matrix_labels",
    "confusion_matrix_logits",
    "cross_entropy",
    "cross_entropy_hits",
    "scale_gradient",
    "cross_entropy_pixels",
    "cross_entropy_pixels_hits",
    "cross_entropy_pixels_backward",
    "region_sums",
    "region_sums_backward",
    "argmax",
    "score_confusion_matrix",
    "sigmoid_loss",
    "sigmoid_sums",
    "sigmoid_sums_backward",
)


class SettingError(ValueError):
    """An environment variable has a value without a meaning."""


def check_capability(wanted: str, best: str) -> None:
    """Refuses an unknown value of FCN_EXT_CPU_CAPABILITY, and warns if the processor lacks it: on a
    mixed cluster, one setting may be too much for some machines."""
    if wanted in ("", *CAPABILITIES[: CAPABILITIES.index(best) + 1]):
        return
    if wanted not in CAPABILITIES:
        raise SettingError(
            "the environment variable FCN_EXT_CPU_CAPABILITY must be plain, avx2 or avx512, or "
            f"unset for the best that the processor has, got {wanted!r}"
        )
    warnings.warn(
        f"FCN_EXT_CPU_CAPABILITY={wanted} asks for instructions that this processor or this build "
        f"of fcn_ext lacks: {best} is used",
        RuntimeWarning,
        stacklevel=2,
    )


def _cuda_problem() -> str | None:
    """Why CUDA tensors cannot be used, with the remedy; None if they can."""
    if torch.version.cuda is None:
        return None  # this torch has no CUDA tensors to serve
    if not _CUDA.is_file():
        return (
            f"fcn_ext was built without its CUDA operators ({_host.cuda_build}): install the CUDA "
            "toolkit (or set CUDACXX to its nvcc) and reinstall fcn_ext with FCN_EXT_CUDA=on."
        )
    try:
        torch.ops.load_library(_CUDA)
    except OSError as error:
        return (
            f"fcn_ext's CUDA operators ({_host.cuda_build}) do not load under torch "
            f"{torch.__version__}: {error}. Reinstall fcn_ext in this environment."
        )
    return None


def _refuse_cuda(problem: str) -> torch.library.Library:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError(problem)

    library = torch.library.Library("fcn_ext", "IMPL")
    for name in OPERATORS:
        library.impl(name, refuse, "CUDA")
    return library


def load() -> str | None:
    """Loads the libraries once; returns the reason if CUDA tensors will be refused."""
    global _refusal
    if not _CPU.is_file():
        raise ImportError(
            f"fcn_ext's operators are not installed ({_CPU.name} is missing beside "
            f"{Path(_host.__file__).name}): run `pip install .` in the project's folder."
        )
    check_capability(os.environ.get("FCN_EXT_CPU_CAPABILITY", ""), _host.best_cpu_capability())
    torch.ops.load_library(_CPU)
    _first_calls.settle()
    problem = _cuda_problem()
    if problem is not None:
        _refusal = _refuse_cuda(problem)
    return problem


_refusal: torch.library.Library | None = None
cuda_problem = load()
