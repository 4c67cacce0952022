"""ONNX files that `fcn export` wrote, run by ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fcn_train.errors import ExportError, UsageError
from fcn_train.export.metadata import KEY, Metadata, metadata_from_json
from fcn_train.export.seal import seal_is_whole
from fcn_train.extras import import_extra
from fcn_train.failures import is_out_of_memory
from fcn_train.runtime import set_threads
from fcn_train.text_files import NO_FILE, is_special

ARCHIVE = b"PK\x03\x04"
"""How programs of torch begin, as all zip archives do."""
Provider = str | tuple[str, dict[str, str]]
"""What runs a file, and its options."""


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """An ONNX file that is loaded.

    Attributes:
        path: the file.
        metadata: what it says of itself.
    """

    path: Path
    metadata: Metadata
    session: Any

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """The output of each head for images (N, channels, H, W) as ``metadata.pixels`` says.

        Raises:
            MemoryError: they take more than there is.
            ExportError: ONNX Runtime fails, as on a file that another program changed.
        """
        given = {self.session.get_inputs()[0].name: np.ascontiguousarray(images)}
        try:
            outputs: list[np.ndarray] = self.session.run(self.metadata.output_names, given)
        except Exception as error:  # of its own, which no other package knows
            reason = " ".join(str(error).split())
            if is_out_of_memory(RuntimeError(reason)):
                raise MemoryError(reason) from error
            shape = " x ".join(map(str, images.shape))
            raise ExportError(
                f"{self.path}: ONNX Runtime does not run it on images of {shape} "
                f"({reason[:300]}); export it again"
            ) from error
        return outputs


def import_runtime() -> Any:
    """ONNX Runtime. Raises UsageError where it is not installed."""
    return import_extra("onnxruntime", "an ONNX file", "export")


def run_file(path: Path, batches: Sequence[Tensor]) -> list[list[Tensor]]:
    """What the file gives on the CPU for each batch, of each head.

    Raises:
        ExportError: it cannot be run.
    """
    try:
        file = open_onnx(path, "cpu", torch.get_num_threads(), warn=lambda text: None)
        return [[torch.from_numpy(one) for one in file(images.numpy())] for images in batches]
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ExportError(f"ONNX Runtime does not run it: {reason[:300]}") from error


def open_onnx(path: Path, device: str, threads: int, warn: Callable[[str], None]) -> OnnxFile:
    """Load the file ``path`` onto ``device``: auto, cpu or cuda.

    Raises:
        UsageError: ONNX Runtime is not installed or does not have the device; the file cannot be
            read, is damaged, or does not say what its outputs mean.
    """
    runtime = import_runtime()
    providers = _providers(runtime.get_available_providers(), device)
    set_threads(threads, warn)
    try:
        special = is_special(path)
        data = b"" if special else path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); give a file that fcn export wrote"
        ) from None
    if special:
        raise UsageError(f"{path}: cannot be read ({NO_FILE}); give a file that fcn export wrote")
    if data.startswith(ARCHIVE):
        raise UsageError(
            f"{path}: is no ONNX file but an archive, as --format torch-export writes; export the "
            "run with --format onnx"
        )
    whole = seal_is_whole(data)
    if whole is False:
        raise UsageError(
            f"{path}: is damaged, or was changed by another program: it does not match its "
            "checksum; export it again"
        )
    session = _session(runtime, path, data, providers, threads)
    found = session.get_modelmeta().custom_metadata_map.get(KEY)
    if found is None:
        raise UsageError(
            f"{path}: has no metadata of fcn export, which say the classes, their colors and the "
            "normalization of images; give a file that fcn export wrote"
        )
    try:
        metadata = metadata_from_json(found)
    except ValueError as error:
        raise UsageError(f"{path}: has metadata that cannot be used: {error}") from None
    _check_names(path, metadata, session)
    if whole is None:
        warn(f"{path}: has lost its checksum, so damage would not be noticed")
    return OnnxFile(path, metadata, session)


def _providers(available: Sequence[str], device: str) -> list[Provider]:
    """What runs a file on ``device``, as ONNX Runtime calls it, the first choice first."""
    known = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,4}))?", device)
    if known is None:
        raise UsageError(f"--device must be auto, cpu, cuda or cuda:N, got {device!r}")
    has_cuda = "CUDAExecutionProvider" in available
    if device.startswith("cuda") and not has_cuda:
        raise UsageError(
            f"--device {device}: this onnxruntime has no CUDA; install onnxruntime-gpu in its "
            "place, or use --device cpu"
        )
    cuda: Provider = ("CUDAExecutionProvider", {"device_id": known[1] or "0"})
    gpu = [cuda] if has_cuda and device != "cpu" else []
    return [*gpu, "CPUExecutionProvider"]


def _session(runtime: Any, path: Path, data: bytes, providers: list[Provider], threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone
    try:
        return runtime.InferenceSession(data, options, providers=providers)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{path}: cannot be read by ONNX Runtime ({reason[:200]}); give a file that fcn export "
            "wrote"
        ) from None


def _check_names(path: Path, metadata: Metadata, session: Any) -> None:
    given = {output.name for output in session.get_outputs()}
    lacking = [name for name in metadata.output_names if name not in given]
    if lacking or len(session.get_inputs()) != 1:
        raise UsageError(
            f"{path}: must have one input and the outputs {', '.join(metadata.output_names)} that "
            f"its metadata say, got {len(session.get_inputs())} and {', '.join(sorted(given))}"
        )
