"""`fcn classify`: what classifiers say of image files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fcn_ext.models import build_classifier, classifier_state_dict
from fcn_train.classify import prepared
from fcn_train.classify_options import ClassifyOptions

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SqueezeNet that calls everything rain, its names, and a picture."""
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    state = classifier_state_dict(build_classifier("squeezenet", 3))
    state["conv10.bias"] = torch.tensor([1.0, 3.0, 2.0])
    state["conv10.weight"] = torch.zeros_like(state["conv10.weight"])
    save_file(state, folder / "net.safetensors")
    (folder / "synset_words.txt").write_text("n00000001 sun, sunshine\nrain\n\nn00000003 snow\n")
    pixels = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    Image.fromarray(pixels).save(folder / "sky.png")
    return folder


def guessed(out: str) -> list[tuple[float, str]]:
    return [(float(p), name) for p, name in re.findall(r"^  ([\d.]+)  (.+)$", out, re.M)]


def test_names_the_most_probable_classes(folder: Path, command: Command) -> None:
    image, weights = folder / "sky.png", folder / "net.safetensors"
    expected = torch.tensor([3.0, 2.0, 1.0, 0.0])[:3].softmax(0).tolist()
    names = ["rain", "snow", "sun, sunshine"]
    for source in (image, folder):
        code, out, err = command("classify", source, "--weights", weights)
        assert (code, err) == (0, "")
        assert f"{weights}: squeezenet, 3 classes\n{image}\n" in out
        found = guessed(out)
        assert [name for _, name in found] == names
        assert [p for p, _ in found] == pytest.approx(expected, abs=1e-3)
    code, out, _ = command("classify", image, "--weights", weights, "--top", "1", "--crop", "0")
    assert [name for _, name in guessed(out)] == names[:1]


def test_names_after_a_byte_order_mark(folder: Path, tmp_path: Path, command: Command) -> None:
    names = tmp_path / "names.txt"
    words = (folder / "synset_words.txt").read_text()
    names.write_text(words.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    given = ("--weights", folder / "net.safetensors", "--names", names)
    code, out, _ = command("classify", folder / "sky.png", *given)
    assert code == 0
    assert [name for _, name in guessed(out)] == ["rain", "snow", "sun, sunshine"]


def test_classes_without_names_have_numbers(folder: Path, tmp_path: Path, command: Command) -> None:
    weights = tmp_path / "net.safetensors"
    weights.write_bytes((folder / "net.safetensors").read_bytes())
    code, out, _ = command("classify", folder / "sky.png", "--weights", weights)
    assert code == 0
    assert [name for _, name in guessed(out)] == ["class 1", "class 2", "class 0"]


def test_unreadable_images_are_named_and_the_others_classified(
    folder: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    weights = folder / "net.safetensors"
    code, out, err = command("classify", tmp_path, folder / "sky.png", "--weights", weights)
    assert code == 1
    assert str(tmp_path / "a.png") in err
    assert len(guessed(out)) == 3


def test_the_middle_of_the_resized_image_is_seen() -> None:
    image = np.zeros((30, 50, 3), np.uint8)
    image[10:20, 20:30] = 255
    options = ClassifyOptions((), Path("w"), resize=0, crop=10)
    assert (prepared(image, options, 224) == 255).all()
    for crop, size in ((None, (12, 12)), (0, (60, 100)), (70, (60, 70)), (10, (10, 10))):
        options = ClassifyOptions((), Path("w"), resize=60, crop=crop)
        assert prepared(image, options, 12).shape[:2] == size
    tall = prepared(np.zeros((1000, 1, 3), np.uint8), ClassifyOptions((), Path("w"), resize=2), 8)
    assert tall.shape == (8, 2, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top", "0"], "--top must be >= 1, got 0"),
        (["--resize", "-1"], r"--resize must be in \[0, 4096\], got -1"),
        (["--crop", "5000"], r"--crop must be in \[0, 4096\], got 5000"),
        (["--crop", "5"], r"sky\.png: is 5 x 5 pixels when cut, and squeezenet needs \d+"),
        (["--names", "missing.txt"], r"missing\.txt: class names cannot be read \(No such file"),
    ],
)
def test_wrong_options_end_in_one_line(
    flags: list[str], message: str, folder: Path, command: Command
) -> None:
    weights = folder / "net.safetensors"
    code, _, err = command("classify", folder / "sky.png", "--weights", weights, *flags)
    assert (code, err.count("\n")) == (2, 1), err
    assert re.match(rf"fcn: .*{message}", err), err


def test_files_that_do_not_fit_end_in_one_line(
    folder: Path, tmp_path: Path, command: Command
) -> None:
    weights = folder / "net.safetensors"
    names = tmp_path / "names.txt"
    names.write_text("sun\n")
    code, _, err = command("classify", folder, "--weights", weights, "--names", names)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{names}: must have a name for each class of the classifier, 3, got 1" in err
    save_file({"layer1.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for images, file, part in [
        (folder, tmp_path / "other.safetensors", "must be that of a classifier, vgg16, alexnet"),
        (folder, tmp_path / "none.pth", "(No such file or directory); give a .pth state dict, "),
        (tmp_path / "none.png", weights, "is missing; give image files or folders"),
        (tmp_path, weights, "holds no image file"),
    ]:
        code, _, err = command("classify", images, "--weights", file)
        assert (code, err.count("\n")) == (2, 1), err
        assert part in err


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("googlenet_bvlc", {"tiger cat": 0.45, "tabby, tabby cat": 0.27, "Egyptian cat": 0.18}),
        ("squeezenet_v1_1", {"tabby, tabby cat": 0.32, "tiger cat": 0.30}),
    ],
)
def test_caffes_picture_is_a_cat(
    file: str, expected: dict[str, float], shared_data: Path, command: Command
) -> None:
    """With the published weights, the published probabilities."""
    weights = shared_data / "weights"
    code, out, _ = command(
        "classify", weights / "cat.jpg", "--weights", weights / f"{file}_oihw.npz"
    )
    assert code == 0
    found = guessed(out)
    assert len(found) == 5
    for (probability, name), wanted in zip(found, expected, strict=False):
        assert name == wanted
        assert abs(probability - expected[name]) < 0.005
