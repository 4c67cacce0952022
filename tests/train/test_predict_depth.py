"""`fcn predict` with the depth of the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_train.data import IMAGENET, input_to_tensor, open_dataset, write_sample_dataset
from fcn_train.run import load_run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sample_dataset(tmp_path / "data", layout="folder", train=3, val=1, size=48)


def trained(root: Path, channels: str, run: Path, command: Command) -> Path:
    data = ("--data.kind", "folder", "--data.root", root, "--data.channels", channels)
    small = ("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32")
    short = ("--optim.batch", "2", "--optim.steps", "2", "--threads", "1")
    code, _, err = command("train", *data, *small, *short, "--output", run)
    assert code == 0, err
    return run


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("channels", "folders"),
    [("color-depth", ("depth",)), ("hha", ("hha",)), ("color-hha", ("hha",))],
)
def test_depth_lies_beside_the_images(
    channels: str, folders: tuple[str, ...], root: Path, command: Command, tmp_path: Path
) -> None:
    run = trained(root, channels, tmp_path / "run", command)
    given = [argument for name in folders for argument in (f"--{name}", root / name)]
    flags = ("predict", root / "images", "--run", run, "--output", tmp_path / "out")
    code, out, err = command(*flags, *given)
    assert (code, err) == (0, "")
    assert "4 of 4 images segmented" in out
    dataset = open_dataset("folder", root, "train", channels=channels)
    model = load_run(run).model
    for index, name in enumerate(dataset.ids):
        seen = input_to_tensor(dataset[index], IMAGENET, channels)  # type: ignore[arg-type]
        predicted = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert np.array_equal(predicted, model.predict(seen[None])[0].numpy())

    code, _, err = command(*flags)
    assert (code, err) == (2, f"fcn: {run}: sees {channels}, which needs --{folders[0]}\n")
    other = "depth" if "hha" in folders else "hha"
    code, _, err = command(*flags, *given, f"--{other}", root / other)
    assert (code, err) == (2, f"fcn: {run}: sees {channels}, which has no use for --{other}\n")

    first, second, *_ = sorted((root / folders[0]).iterdir())
    first.unlink()
    with Image.open(second) as picture:
        picture.resize((10, 9)).save(second)
    code, out, err = command(*flags, *given)
    assert code == 1
    assert "2 of 4 images segmented" in out
    assert f"{first}: {'depth' if 'depth' in folders else 'HHA'} image is missing" in err
    assert f"{second}: is 10 x 9 pixels but its image" in err
