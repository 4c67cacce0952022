"""Color and depth, each in a network of its own, from `fcn train` to `fcn predict`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fcn_train.data import write_sample_dataset
from fcn_train.run import load_run

Command = Callable[..., tuple[int, str, str]]
SMALL = (
    "--model.width",
    "0.05",
    "--model.fc-channels",
    "16",
    "--model.no-batch-norm",
    "--data.crop",
    "32",
    "--threads",
    "1",
)
SHORT = ("--optim.batch", "2", "--optim.steps", "2")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sample_dataset(tmp_path / "data", layout="folder", train=3, val=1, size=48)


@pytest.fixture
def train(root: Path, tmp_path: Path, command: Command) -> Callable[..., tuple[Path, int, str]]:
    def trained(name: str, channels: str, *more: object) -> tuple[Path, int, str]:
        data = ("--data.kind", "folder", "--data.root", root, "--data.channels", channels)
        run = tmp_path / name
        code, _, err = command("train", "--model", "fcn32s", *data, *SMALL, *more, "--output", run)
        return run, code, err

    return trained


@pytest.mark.usefixtures("no_pictures")
def test_late_fusion_starts_from_its_streams(
    train: Callable[..., tuple[Path, int, str]], root: Path, command: Command, tmp_path: Path
) -> None:
    color, code, err = train("color", "color", *SHORT)
    assert code == 0, err
    hha, code, err = train("hha", "hha", *SHORT)
    assert code == 0, err
    late = ("--model.fusion", "late")
    both = ("--init-streams", f"color={color},hha={hha}")
    run, code, err = train("both", "color-hha", *late, *both, *SHORT, "--optim.lr", "1e-9")
    assert code == 0, err

    model = load_run(run).model.eval()
    assert set(model.trunks) == {"color", "hha"}
    images = torch.randn(1, 6, 40, 56)
    parts = load_run(color).model.eval()(images[:, :3]), load_run(hha).model.eval()(images[:, 3:])
    torch.testing.assert_close(model(images), (parts[0] + parts[1]) / 2, rtol=1e-3, atol=1e-4)

    assert command("evaluate", "--run", run)[0] == 0
    given = ("predict", root / "images", "--run", run, "--hha", root / "hha")
    code, out, _ = command(*given, "--output", tmp_path / "out")
    assert code == 0
    assert "4 of 4 images segmented" in out
    code, _, err = command("train", "--resume", run, "--optim.steps", "3")
    assert code == 0, err


@pytest.mark.usefixtures("no_pictures")
def test_what_starts_from_a_run_sees_the_same_channels(
    train: Callable[..., tuple[Path, int, str]],
) -> None:
    # Color and HHA have three channels each, so shapes tell nothing.
    color, code, err = train("color", "color", *SHORT)
    assert code == 0, err
    hha, code, err = train("hha", "hha", *SHORT)
    assert code == 0, err
    streams = ("--model.fusion", "late", "--init-streams", f"color={hha},hha={color}")
    finer = ("--model", "fcn16s", "--init-coarser")
    for channels, more, told in (
        ("color-hha", streams, f"--init-streams: color: {hha} sees hha, and what starts from it"),
        ("color", (*finer, hha), f"--init-coarser: {hha} sees hha, and what starts from it sees c"),
        ("hha", (*finer, color), f"--init-coarser: {color} sees color, and what starts from it"),
        ("color-hha", (*finer, color), f"--init-coarser: {color} sees color, and what starts"),
    ):
        _, code, err = train("other", channels, *more, *SHORT)
        assert code == 2
        assert err.splitlines()[-1].startswith(f"fcn: {told}")


def test_what_cannot_be_fused_is_said(train: Callable[..., tuple[Path, int, str]]) -> None:
    late = ("--model.fusion", "late", *SHORT)
    _, code, err = train("a", "hha", *late)
    assert (code, err) == (
        2,
        "fcn: --model.fusion late needs --data.channels color-depth or color-hha, got hha\n",
    )
    color, code, err = train("color", "color", *SHORT)
    assert code == 0, err
    for text in ("color", f"color={color},color={color}", f"color={color},"):
        _, code, err = train("b", "color-hha", *late, "--init-streams", text)
        assert code == 2
        assert "--init-streams must be a run for each stream, such as" in err
    _, code, err = train("b", "color-hha", *late, "--init-streams", f"color={color}")
    assert code == 2
    told = "--init-streams must be a run for each stream, color and hha, got "
    assert err.endswith(f"{told}color\n")
    _, code, err = train("b", "color-hha", *late, "--init-streams", f"color={color},depth={color}")
    assert code == 2
    assert err.endswith(f"{told}color and depth\n")
    two = ("--init-streams", f"color={color},hha={color}", "--init-coarser", color)
    _, code, err = train("c", "color-hha", *late, *two)
    assert code == 2
    assert "--init-coarser and --init-streams exclude each other" in err
    wrong = ("--init-streams", f"color={color},depth={color}")
    _, code, err = train("d", "color-depth", *late, *wrong)
    assert code == 2
    assert "--init-streams: depth: " in err.splitlines()[-1]


@pytest.mark.usefixtures("no_pictures")
def test_streams_of_another_net_are_refused(train: Callable[..., tuple[Path, int, str]]) -> None:
    color, code, err = train("color", "color", *SHORT)
    assert code == 0, err
    late = ("--model.fusion", "late", *SHORT)
    for name, more in (("wide", ("--model.width", "0.1")), ("normed", ("--model.batch-norm",))):
        hha, code, err = train(name, "hha", *SHORT, *more)
        assert code == 0, err
        both = ("--init-streams", f"color={color},hha={hha}")
        _, code, err = train("both", "color-hha", *late, *both)
        assert code == 2
        assert err.splitlines()[-1].startswith("fcn: --init-streams: hha: ")
