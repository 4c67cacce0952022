"""`fcn export --format torch-export`: what is written runs without this package."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fcn_train.data import CAFFE
from fcn_train.errors import ExportError
from fcn_train.export import command as exporting
from fcn_train.export.metadata import metadata_from_json
from fcn_train.run import TrainedRun

Command = Callable[..., tuple[int, str, str]]


def test_the_file_runs_without_this_package(
    two_sets: TrainedRun, command: Command, tmp_path: Path
) -> None:
    """The command itself loads the file in a process of its own and compares."""
    file = tmp_path / "new" / "net.pt2"
    code, out, err = command(
        *("export", two_sets.path, "--format", "torch-export", "--output", "probabilities"),
        *("--pixels", "uint8", "--file", file, "--threads", "1"),
    )
    assert code == 0, err
    assert f"{file}: gives probabilities; differs from the network by at most" in out
    assert sorted(path.name for path in file.parent.iterdir()) == ["net.pt2", "net.pt2.md"]
    with zipfile.ZipFile(file) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("extra/fcn_ext"))
        metadata = metadata_from_json(archive.read(name).decode())
    assert (metadata.run, metadata.output, metadata.pixels) == (
        *("two-sets", "probabilities", "uint8"),
    )
    assert metadata.output_names == ["probabilities_semantic", "probabilities_geometric"]
    assert [one.names for one in metadata.label_sets] == [one.names for one in two_sets.label_sets]
    assert metadata.normalization == CAFFE
    weights = two_sets.path / "last.safetensors"
    assert metadata.weights in weights.read_bytes().decode("latin1")


def test_a_file_that_differs_is_not_left(
    two_sets: TrainedRun, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(path: Path, batches: list[Tensor]) -> list[list[Tensor]]:
        assert path.exists()
        shapes = [(len(images), *images.shape[2:]) for images in batches]
        return [[torch.zeros(shape, dtype=torch.uint8)] * 2 for shape in shapes]

    monkeypatch.setattr(exporting.torch_program, "program_of", lambda *arguments: None)
    monkeypatch.setattr(
        exporting.torch_program, "save_program", lambda program, path, _: path.write_text("")
    )
    monkeypatch.setattr(exporting.torch_program, "run_elsewhere", wrong)
    (tmp_path / "net.pt2").write_text("the one before")
    code, _, err = command(
        *("export", two_sets.path, "--format", "torch-export", "--file", tmp_path / "net.pt2")
    )
    assert code == 1
    assert err.startswith(f"fcn: {tmp_path / 'net.pt2'}: was not written: ")
    assert "labels differ for 1 image of 67 x 97 pixels" in err
    assert err.count("\n") == 1
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the one before"]


def test_what_needs_this_package_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.torch_program, "_RUN", "import fcn_ext")
    message = "it does not run without fcn_ext: ModuleNotFoundError: import of fcn_ext halted"
    with pytest.raises(ExportError, match=message):
        exporting.torch_program.run_elsewhere(tmp_path / "net.pt2", [torch.zeros(1)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "they are not JSON"),
        ("[]", "they are no JSON object"),
        ('{"run": "a", "version": "1"}', "they lack weights_sha256, output, pixels, channels"),
    ],
)
def test_other_metadata_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metadata_from_json(text)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("output", "boxes", "output must be one of labels, logits, probabilities, got 'boxes'"),
        ("pixels", 3, "pixels must be one of"),
        ("channels", "x-rays", "channels must be one of color, hha"),
        ("classes", {"classes": [{}]}, "classes cannot be read"),
        ("normalization", {"mean": [1, 2]}, "normalization cannot be read"),
        ("normalization", {"mean": [1] * 3, "std": [0] * 3, "bgr": 0}, "finite and > 0, got"),
    ],
)
def test_metadata_of_no_use_are_named(
    key: str, value: object, message: str, two_sets: TrainedRun
) -> None:
    values = json.loads(exporting.metadata_of(two_sets, "labels", "float").to_json())
    with pytest.raises(ValueError, match=message):
        metadata_from_json(json.dumps({**values, key: value}))
