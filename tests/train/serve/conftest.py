"""A run of two sets of labels, and the application that shows it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from werkzeug.test import Client

from fcn_train.run import TrainedRun, load_run
from fcn_train.runtime import Runtime
from fcn_train.serve.app import App, Limits

from ..export.runs import untrained, write_run

LIMITS = Limits(file_bytes=100_000, pixels=10_000)


@pytest.fixture(scope="session")
def served_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    run = untrained("fcn-pool4", sets=(5, 3))
    return load_run(write_run(run, tmp_path_factory.mktemp("served") / "two <sets>"))


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def client(served_run: TrainedRun, warned: list[str]) -> Client:
    runtime = Runtime(torch.device("cpu"))
    return Client(App(served_run, runtime, LIMITS, "127.0.0.1", warned.append))


def picture(height: int = 37, width: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(picture()))
    return path
