"""The package as installed: names, imports, binaries."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fcn_ext
from fcn_ext import _library, ops, reference

LIBRARIES = Path(_library._host.__file__).parent / "lib"


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_public_names_resolve() -> None:
    for name in fcn_ext.__all__:
        module = getattr(fcn_ext, name)
        for public in getattr(module, "__all__", ()):
            assert getattr(module, public).__doc__ or inspect.isclass(getattr(module, public))
    assert set(fcn_ext.__all__) == set(dir(fcn_ext))


def test_every_operator_has_its_twin_in_plain_torch() -> None:
    for name in ops.__all__:
        ours = inspect.signature(getattr(ops, name)).parameters
        plain = inspect.signature(getattr(reference, name)).parameters
        assert [p for p in ours if p in plain] == list(plain)


def test_every_schema_is_known_and_traceable() -> None:
    schemas = {
        schema.name.split("::")[1]
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("fcn_ext::")
    }
    assert schemas == set(_library.OPERATORS)
    for name in schemas:
        qualified = f"fcn_ext::{name}"
        assert torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "CPU")
        assert torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "Meta")
        floating = "confusion_matrix" not in name
        assert floating == torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "Autograd")


def test_import_needs_torch_and_numpy_alone() -> None:
    """None of the training program's dependencies is imported by the library."""
    loaded = run(
        "import sys, fcn_ext; [getattr(fcn_ext, n) for n in fcn_ext.__all__];"
        "print([m for m in ('PIL', 'matplotlib', 'rich', 'tyro', 'safetensors', 'fcn_train')"
        " if m in sys.modules])"
    )
    assert loaded == "[]"


def test_types_are_shipped() -> None:
    """Type checkers read annotations only of a package that has this file."""
    found = run(
        "from importlib.resources import files;"
        "print([(files(p) / 'py.typed').is_file() for p in ('fcn_ext', 'fcn_train')])"
    )
    assert found == "[True, True]"


@pytest.mark.parametrize("capability", ["plain", "avx2", "avx512"])
def test_every_instruction_set_agrees(capability: str) -> None:
    """Each copy of the CPU kernels against the reference; a set the machine lacks falls back."""
    used = run(
        """
import itertools, torch
from fcn_ext import numpy, ops, reference
torch.manual_seed(0)
for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
    for stride, last in itertools.product((2, 3, 4, 8, 16, 32), (False, True)):
        x = torch.randn(2, 5, 9, 11).to(dtype).requires_grad_()
        y = x.contiguous(memory_format=torch.channels_last) if last else x
        wide = x.detach().double().requires_grad_()
        out = ops.upsample(y, stride, offset=1)
        expected = reference.upsample(wide, stride, offset=1)
        torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
        grad = torch.randn_like(out)
        out.backward(grad), expected.backward(grad.double())
        scale = wide.grad.abs().max()
        torch.testing.assert_close(
            x.grad.double() / scale, wide.grad / scale, rtol=tolerance, atol=tolerance)
logits, target = torch.randn(2, 21, 60, 70), torch.randint(0, 22, (2, 60, 70))
target[target == 21] = 255
for prediction in (logits, logits.half(), logits.argmax(1)):
    assert torch.equal(ops.confusion_matrix(prediction, target, 21),
                       reference.confusion_matrix(prediction, target, 21)[0])
print(numpy.build_info()["cpu_capability"])
""",
        FCN_EXT_CPU_CAPABILITY=capability,
    )
    assert used in ("plain", "avx2", "avx512")
    if capability == "plain":
        assert used == "plain"


def test_binaries_need_only_the_stable_abi() -> None:
    """Symbols from torch are the C shim's alone, so that one build outlives torch releases."""
    for library in LIBRARIES.glob("*.so"):
        table = subprocess.run(
            ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
        ).stdout
        names = {line.split()[-1].split("@")[0] for line in table.splitlines()}
        foreign = {n for n in names if "c10" in n or "3at" in n or "at6Tensor" in n}
        assert not foreign, (library.name, foreign)
        assert any(n.startswith(("aoti_torch_", "torch_")) for n in names)


def test_binaries_hold_no_path_of_the_machine_that_built_them() -> None:
    for library in [*LIBRARIES.glob("*.so"), Path(_library._host.__file__)]:
        held = library.read_bytes()
        for path in (Path(__file__).parents[1], Path(torch.__file__).parent):
            assert str(path).encode() not in held, (library.name, path)


def test_a_missing_cuda_part_is_said_in_one_sentence() -> None:
    """What a CUDA tensor would meet where the CUDA operators were not built."""
    message = run(
        """
import torch
torch.version.cuda = "13.0"
import fcn_ext._library as library
from pathlib import Path
library._CUDA = Path("no such file")
print(library._cuda_problem())
"""
    )
    assert "fcn_ext was built without its CUDA operators" in message
    assert "reinstall fcn_ext with FCN_EXT_CUDA=on" in message
    assert "\n" not in message
