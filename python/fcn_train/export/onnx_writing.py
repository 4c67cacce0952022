"""Networks as ONNX files."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from fcn_train.errors import UsageError
from fcn_train.export.metadata import KEY, Metadata
from fcn_train.export.quiet import quiet
from fcn_train.export.seal import SEAL, UNSEALED, sealed
from fcn_train.extras import import_extra

OPSET = 20
INPUT = "images"
LARGEST_FILE = 2**31 - 2**20  # bytes; protobuf reads no more, and the graph needs some


def import_writers() -> None:
    """Raises UsageError where what writes ONNX files is not installed."""
    for name in ("onnx", "onnxscript"):
        import_extra(name, "--format onnx", "export")


def onnx_bytes(program: ExportedProgram, metadata: Metadata) -> bytes:
    """The file: input ``images``, outputs ``metadata.output_names``, the metadata and a seal.

    Raises:
        UsageError: the network is too large for one file, or onnxscript is too old for torch.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > LARGEST_FILE:
        raise UsageError(
            f"the network has {size / 2**30:.1f} GiB of weights, and an ONNX file holds 2 GiB; "
            "use --format torch-export"
        )
    with quiet():
        try:
            made: Any = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=metadata.output_names,
                dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except ModuleNotFoundError as error:
            # torch imports a module of onnxscript that is named after its own version.
            if not (error.name or "").startswith("onnxscript."):
                raise
            raise UsageError(
                f"torch {torch.__version__} needs a newer onnxscript than {version('onnxscript')}: "
                "pip install --upgrade onnxscript"
            ) from error
    model = made.model_proto
    model.producer_name, model.producer_version = "fcn_ext", metadata.version
    del model.metadata_props[:]
    for key, value in ((KEY, metadata.to_json()), (SEAL, UNSEALED)):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return sealed(model.SerializeToString())


def write_onnx(program: ExportedProgram, path: Path, metadata: Metadata) -> None:
    """``onnx_bytes`` as a file."""
    path.write_bytes(onnx_bytes(program, metadata))
