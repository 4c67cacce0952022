"""What torch has called once before the losses call it on several threads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import fcn_ext
import fcn_train
from fcn_ext import _first_calls
from tests.test_package import run

# What torch may compute with MKL; sigmoid, softmax and pow it computes itself.
OF_MKL = (
    r"acos|asin|atan|cosh?|erf|erfc|erfinv|exp|exp2|expm1|log|log10|log1p|log2|sinh?|sqrt|tanh?"
)

RECORD = """
import json, torch
from torch.utils._python_dispatch import TorchDispatchMode

class Record(TorchDispatchMode):
    calls = []
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() == 1:
            name = function.overloadpacket.__name__
            self.calls.append((name, str(result.dtype), str(result.device)))
        return result

torch.set_default_device("meta")
torch.set_default_dtype(torch.float16)
with Record():
    import fcn_ext
print(json.dumps(Record.calls))
"""


def test_importing_calls_each_function_once_alone() -> None:
    calls = [tuple(call) for call in json.loads(run(RECORD))]
    for name in _first_calls.FUNCTIONS:
        for dtype in ("torch.float32", "torch.float64"):
            assert calls.count((name, dtype, "cpu")) == 1, (name, dtype)


@pytest.mark.parametrize("package", [fcn_ext, fcn_train])
def test_no_function_of_mkl_is_first_called_by_a_loss(package: object) -> None:
    folder = Path(package.__file__).parent  # type: ignore[attr-defined]
    word = re.compile(rf"(?<!math)(?<!np)(?<!numpy)\.({OF_MKL})_?\(")
    used = {
        found
        for path in folder.rglob("*.py")
        if "reference" not in path.name and path.name != "_first_calls.py"
        for found in word.findall(path.read_text())
    }
    assert used <= set(_first_calls.FUNCTIONS)
    if package is fcn_ext:
        assert {"exp", "expm1", "log"} <= used
