"""`fcn describe`: tables of layers, for networks by name, of runs and of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_ext.models import build_model, receptive_fields
from fcn_train.describe import effective_side, needed_size, widest
from fcn_train.tables import text_table

Command = Callable[..., tuple[int, str, str]]

OWN = """
from torch import nn

net = nn.Sequential(nn.Conv2d(1, 4, (1, 5), stride=(1, 2)), nn.ReLU(), nn.MaxPool2d(3, 2))


class Nets:
    @staticmethod
    def broken():
        raise RuntimeError("no such weights")

    @staticmethod
    def fixed():
        return nn.Sequential(nn.Flatten(), nn.Linear(30, 2))


def program():
    raise SystemExit(3)


nothing = nn.Identity()
number = int
"""


@pytest.fixture
def own(in_folder: Path) -> str:
    """A module of the user's in the current folder; named after it, as imports are kept."""
    name = f"own_{abs(hash(str(in_folder)))}"
    (in_folder / f"{name}.py").write_text(OWN)
    return name


def table(out: str) -> dict[str, list[str]]:
    lines = [line.split() for line in out.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 5}


def test_a_published_net(command: Command) -> None:
    code, out, _ = command("describe", "fcn8s", "--no-measure", "--size", "500", "500")
    assert code == 0
    assert "fcn8s: 134,362,751 parameters, image of 500 x 500" in out
    rows = table(out)
    end = ["32", "25/2", "404", "-", "-"]
    assert rows["fc7"] == ["Conv2d", "16,781,312", "4096", "x", "16", "x", "16", *end]
    assert rows["pool4"][-5:] == ["16", "-183/2", "100", "-", "-"]


def test_measured_and_drawn(command: Command, tmp_path: Path) -> None:
    picture, numbers = tmp_path / "new" / "fields.png", tmp_path / "fields.json"
    narrow = ("--width", "0.25", "--padding", "same", "--layer", "fire2", "pool3", "--threads", "1")
    files = ("--picture", picture, "--output", numbers)
    assert command("describe", "fcn-squeezenet", "--size", "96", "96", *narrow, *files)[0] == 0
    with Image.open(picture) as image:
        assert image.size[0] > 2 * image.size[1]
    values = json.loads(numbers.read_text())
    assert (values["height"], values["width"]) == (96, 96)
    layers = {row["layer"]: row for row in values["layers"]}
    net = build_model("fcn-squeezenet", width=0.25, padding="same")
    assert list(layers) == list(receptive_fields(net, (1, 3, 96, 96)))
    for name, side in (("fire2", 15), ("pool3", 31)):
        row = layers[name]
        assert row["field"] == [side, side]
        assert all(0 < measured <= side for measured in row["measured"])
        assert 0 < row["95 %"] <= side
    assert layers["pool1"]["measured"] is None
    assert layers["score_fr"]["stride"] == ["32", "32"]


def test_a_run(command: Command, finished_run: Path) -> None:
    code, out, _ = command("describe", finished_run, "--layer", "pool1", "--threads", "1")
    assert code == 0
    assert table(out)["pool1"][-4:-2] == ["1/2", "6"]


def test_a_module_of_ones_own(command: Command, own: str) -> None:
    code, out, _ = command("describe", f"{own}:net", "--layer", "0", "--size", "20", "30")
    assert code == 0
    assert table(out)["0"][-7:] == ["1", "x", "5", "1", "x", "5", "5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fcn7s",), "MODEL must be a network's name, the folder of a run or MODULE:CALLABLE"),
        (("no_module:net",), "no_module:net: gives no network (ModuleNotFoundError"),
        (("OWN:Nets.broken",), "gives no network (RuntimeError: no such weights)"),
        (("OWN:number",), "must give a torch.nn.Module, got int"),
        (("OWN:nothing",), "OWN:nothing: has no layer that makes a map of the image"),
        (("OWN:Nets.fixed",), "does not run on an image of 224 x 224"),
        (("fcn8s", "--layer", "pool9"), "--layer must be one of conv1_1, "),
        (("fcn8s", "--size", "0", "9"), "--size must be in [1, 8192], got (0, 9)"),
        (("fcn8s", "--classes", "0"), "--classes must be in [1, 65536], got 0"),
        (("fcn8s", "--classes", str(10**20)), "--classes must be in [1, 65536], got 1000"),
        (("fcn8s", "--seed", "-1"), "--seed must be in [0, 2**63), got -1"),
        (("fcn8s", "--seed", str(2**80)), "--seed must be in [0, 2**63), got "),
        (("fcn8s", "--width", "1e30"), "--width must be <= 65536, got 1e+30"),
        (("fcn8s", "--width", "0"), "--width must be finite and > 0, got 0.0"),
        (("fcn8s", "--layer", "fc7", "--no-measure"), "--layer says what is measured"),
        (("fcn8s", "--picture", "fields.pdf"), "--picture must end in .png, got fields.pdf"),
        (("fcn8s", "--output", "names.txt"), "--output must end in .json, got names.txt"),
        (("OWN:program",), "OWN:program: gives no network (SystemExit: 3)"),
        (("OWN:net", "--width", "0.5"), "--width is of networks given by name, not of OWN:net"),
        (("OWN:net", "--classes", "3"), "--classes is of networks given by name, not of OWN:net"),
        (("OWN:net", "--padding", "same"), "--padding is of networks given by name, not of OWN:n"),
    ],
)
def test_mistakes(command: Command, own: str, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = command("describe", *(a.replace("OWN", own) for a in arguments))
    assert code == 2
    assert err.count("\n") == 1
    assert message.replace("OWN", own) in err


def test_files_go_into_folders_that_are_made(command: Command, own: str, in_folder: Path) -> None:
    picture, numbers = in_folder / "a" / "fields.png", in_folder / "b" / "fields.json"
    given = ("describe", f"{own}:net", "--size", "20", "30", "--no-measure")
    assert command(*given, "--picture", picture, "--output", numbers)[0] == 0
    assert picture.stat().st_size > 0
    assert json.loads(numbers.read_text())["width"] == 30


def test_what_is_measured_and_on_which_size() -> None:
    layers = receptive_fields(build_model("fcn8s", width=0.02), (1, 3, 224, 224))
    assert widest(layers) == "fc6"
    assert needed_size(layers) == (524, 524)


def test_the_square_that_holds_most_of_a_gradient() -> None:
    layer = receptive_fields(build_model("fcn32s", width=0.02), (1, 3, 40, 40))["pool1"]
    field = layer.sees()
    assert field.size == (6, 6)
    gradient = np.zeros((40, 40))
    assert effective_side(layer, gradient) == 0
    gradient[field.top + 2 : field.bottom - 2, field.left + 2 : field.right - 2] = 1
    assert effective_side(layer, gradient) == 2
    gradient[field.top, field.left] = 1
    assert effective_side(layer, gradient) == 6


def test_tables_have_numbers_to_the_right() -> None:
    assert text_table(("a", "count"), [("x", "1,000"), ("long", "-")]) == (
        "a     count\nx     1,000\nlong      -"
    )


def test_tables_are_aligned_as_a_terminal_shows_them() -> None:
    """Class names may be Chinese, or have an accent as a character of its own."""
    rows = [("\u65e5\u672c", "1"), ("ciel", "2"), ("re\u0302ve", "3")]
    assert text_table(("class", "n"), rows) == (
        "class  n\n\u65e5\u672c   1\nciel   2\nre\u0302ve   3"
    )
