"""Networks as programs of torch.export, and their files."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from fcn_train.errors import ExportError
from fcn_train.export.metadata import KEY, Metadata
from fcn_train.export.plain import ExportedNet
from fcn_train.export.quiet import quiet
from fcn_train.real_paths import real_path

# What another process does: it runs a file where neither of our packages can be imported.
_WITHOUT_US = 'import sys; sys.modules["fcn_ext"] = sys.modules["fcn_train"] = None'
_RUN = """
import torch
program, batches, results, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
net = torch.export.load(program).module()
with torch.no_grad():
    found = [net(images) for images in torch.load(batches, weights_only=True)]
torch.save([list(one.values()) if isinstance(one, dict) else [one] for one in found], results)
"""


def program_of(net: ExportedNet, channels: int) -> ExportedProgram:
    """``net`` as a graph of torch's operators, for batches, rows and columns of any number."""
    dtype = torch.uint8 if net.pixels == "uint8" else net.mean.dtype
    example = torch.zeros(2, channels, 96, 80, dtype=dtype)
    sizes = {axis: Dim.DYNAMIC for axis in (0, 2, 3)}
    with torch.no_grad(), quiet(), _any_size():
        return torch.export.export(net, (example,), dynamic_shapes=(sizes,))


def _any_size() -> contextlib.AbstractContextManager[None]:
    """Maps of one row or column are not taken for a case of their own, which the program would
    refuse: without this, images narrower than 33 pixels."""
    config: Any = _config
    if hasattr(config, "backed_size_oblivious"):
        patched: contextlib.AbstractContextManager[None] = config.patch(backed_size_oblivious=True)
        return patched
    return contextlib.nullcontext()


def save_program(program: ExportedProgram, path: Path, metadata: Metadata) -> None:
    """The file that ``torch.export.load`` reads; its extra file ``fcn_ext`` is the metadata."""
    # In memory first: torch reports a full disk with stack traces.
    data = io.BytesIO()
    with quiet():
        torch.export.save(program, data, extra_files={KEY: metadata.to_json()})
    path.write_bytes(data.getbuffer())


def run_elsewhere(path: Path, batches: Sequence[Tensor]) -> list[list[Tensor]]:
    """What the file gives for each batch, of each head, in a process without our packages.

    Raises:
        ExportError: it fails there.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "batches.pt", Path(folder) / "results.pt"
        torch.save(list(batches), inputs)
        arguments = [real_path(path), inputs, outputs, torch.get_num_threads()]
        done = subprocess.run(
            [sys.executable, "-c", f"{_WITHOUT_US}\n{_RUN}", *map(str, arguments)],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode < 0:
            raise ExportError(
                f"the process that ran it was killed by signal {-done.returncode}, as the system "
                "does when memory runs out"
            )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ExportError(f"it does not run without fcn_ext: {last}")
        found: list[list[Tensor]] = torch.load(outputs, weights_only=True)
    return found
