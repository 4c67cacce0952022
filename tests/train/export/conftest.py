"""One run and one exported file, shared by the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_train.export.command import export
from fcn_train.export_options import ExportOptions
from fcn_train.run import TrainedRun, load_run

from .runs import untrained, write_run


@pytest.fixture(scope="session")
def two_sets(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run of two sets of labels, with Caffe's normalization, on the disk."""
    run = untrained("fcn16s", sets=(5, 3), input="caffe", batch_norm=False)
    return load_run(write_run(run, tmp_path_factory.mktemp("exported") / "two-sets"))


@pytest.fixture(scope="session")
def onnx_file(two_sets: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labels of ``two_sets``, of RGB from 0 to 255."""
    file = tmp_path_factory.mktemp("onnx") / "net.onnx"
    return export(ExportOptions(two_sets.path, output="labels", pixels="uint8", file=file))
