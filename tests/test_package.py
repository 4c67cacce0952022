"""The package as installed: names, imports, settings."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
import os
import pkgutil
import subprocess
import sys
import typing
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from numpy.typing import ArrayLike

import benchmarks
import fcn_ext
import fcn_ext.numpy as fnp
import fcn_train
from fcn_ext import _library, ops, reference

from .forked_programs import run_each


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
        floating = "confusion_matrix" not in name and name != "scale_gradient"
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


SIZES = {"size", "output_size", "input_size", "padded_size", "seen_size"}
PAIRS = {"offset", "tile", "overlap", *SIZES}


@pytest.mark.parametrize(
    "module", ["ops", "nn", "metrics", "losses", "prediction", "models", "geometry"]
)
def test_pairs_may_be_what_tensors_have(module: str) -> None:
    """For type checkers, too: ``target.shape[1:]`` is a torch.Size and no tuple of two integers."""
    public = [getattr(getattr(fcn_ext, module), name) for name in getattr(fcn_ext, module).__all__]
    functions = [function for function in public if inspect.isfunction(function)]
    for kind in filter(inspect.isclass, public):
        own = ("__init__", *(name for name in dir(kind) if not name.startswith("_")))
        functions += [getattr(kind, name) for name in own]
    for function in filter(inspect.isfunction, functions):
        pairs = {name for name in inspect.signature(function).parameters if name in PAIRS}
        if pairs and (function.__module__ or "").startswith("fcn_ext"):
            hints = typing.get_type_hints(function)
            for name in pairs:
                accepted = typing.get_args(hints[name])
                assert hints[name] is typing.Any or {int, Sequence[int]} <= {*accepted}, function


def test_arrays_may_be_lists_to_type_checkers() -> None:
    for function in (fnp.confusion_matrix, fnp.encode_palette, fnp.decode_palette):
        first = next(iter(inspect.signature(function).parameters))
        assert typing.get_type_hints(function)[first] == ArrayLike


def test_recipes_are_shipped() -> None:
    """Those of the published experiments are files of the package."""
    found = run(
        "from importlib.resources import files;"
        "print((files('fcn_train') / 'experiments' / 'voc-fcn32s-heavy.json').is_file())"
    )
    assert found == "True"


def failure(code: str, **environment: str) -> str:
    """What a process that must fail says last."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    return done.stderr.strip().splitlines()[-1]


def test_an_unknown_instruction_set_is_named(tmp_path: Path) -> None:
    values = {"AVX2": "fcn_ext", " plain": "fcn_ext", "0": "fcn_ext.numpy"}
    values |= {"plain,avx2": "fcn_ext.numpy"}
    given = "import os; os.environ['FCN_EXT_CPU_CAPABILITY'] ="
    programs = {value: f"{given} {value!r}; import {values[value]}" for value in values}
    for value, end in run_each(programs, tmp_path, first="import torch").items():
        assert end.err.strip().splitlines()[-1] == (
            "fcn_ext._library.SettingError: the environment variable FCN_EXT_CPU_CAPABILITY must "
            f"be plain, avx2 or avx512, or unset for the best that the processor has, got {value!r}"
        )


def test_an_empty_instruction_set_is_none() -> None:
    tell = "import fcn_ext.numpy; print(fcn_ext.numpy.build_info()['cpu_capability'])"
    assert run(tell, FCN_EXT_CPU_CAPABILITY="") == _library._host.best_cpu_capability()


def test_an_instruction_set_that_is_not_here_warns() -> None:
    sets = ("plain", "avx2", "avx512")
    for best, wanted in itertools.product(sets, sets):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _library.check_capability(wanted, best)
        if sets.index(wanted) <= sets.index(best):
            assert not caught
        else:
            (warning,) = caught
            assert f"FCN_EXT_CPU_CAPABILITY={wanted} asks for" in str(warning.message)
            assert str(warning.message).endswith(f"lacks: {best} is used")


def test_the_instruction_set_is_that_of_the_import() -> None:
    """One process has one answer: a variable that is set later changes nothing."""
    later = "import os, fcn_ext; os.environ['FCN_EXT_CPU_CAPABILITY'] = 'avx2';"
    tell = "print(fcn_ext.numpy.build_info()['cpu_capability'])"
    assert run(later + tell, FCN_EXT_CPU_CAPABILITY="plain") == "plain"


def test_a_saved_graph_loads_after_import_of_the_package_alone(tmp_path: Path) -> None:
    """Every operator, and geometries as constants of the graph."""
    path = tmp_path / "graph.pt2"

    class Heads(torch.nn.Module):
        def forward(self, scores: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
            full = ops.upsample(scores, 2)
            return (
                ops.fuse_skip(scores, full, 0),
                ops.interpolate(scores, 9),
                ops.upsample_cross_entropy(scores, target, 2),
                ops.interpolate_argmax(scores, 9),
                ops.confusion_matrix(full.argmax(1), target, 3),
                ops.confusion_matrix(full, target, 3),
                ops.interpolate_confusion_matrix(scores, target),
            )

    example = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 10, 10))
    torch.export.save(torch.export.export(Heads(), example), path)
    torch.save(example, tmp_path / "example.pt")
    loaded = run(
        f"""
import torch, fcn_ext
example = torch.load({str(tmp_path / "example.pt")!r})
module = torch.export.load({str(path)!r}).module()
print([tuple(result.shape) for result in module(*example)])
"""
    )
    assert loaded == str([tuple(result.shape) for result in Heads()(*example)])


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


@pytest.mark.parametrize("package", [fcn_ext, fcn_train, benchmarks])
def test_no_comparison_of_arrays_is_generated(package: ModuleType) -> None:
    """The ``==`` that dataclasses write raises where fields are arrays: "truth value ambiguous"."""
    compared = []
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.endswith("__main__"):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if not (dataclasses.is_dataclass(cls) and cls.__module__ == module.name):
                continue
            held = [str(field.type) for field in dataclasses.fields(cls)]
            if any(kind in text for text in held for kind in ("Tensor", "ndarray", "NDArray")):
                compared.append(cls)
    for cls in compared:
        code = getattr(cls.__eq__, "__code__", None)
        assert code is None or code.co_filename == inspect.getsourcefile(cls), cls
    assert compared


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (FutureWarning, "The pynvml package is deprecated. Please install nvidia-ml-py instead."),
        (UserWarning, "CUDA initialization: The NVIDIA driver on your system is too old (found 1)"),
    ],
    ids=["pynvml", "driver"],
)
def test_warnings_that_torch_has_on_machines_with_a_gpu_fail_no_test(
    kind: type[Warning], text: str
) -> None:
    """pytest turns warnings into errors: when tests import torch, or ask it for a GPU, all would
    fail."""
    warnings.warn(text, kind, stacklevel=1)
