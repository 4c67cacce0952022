"""What a network starts from, and files that only look like weights."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fcn_ext.models import build_classifier, classifier_state_dict
from fcn_ext.numpy import voc_palette
from fcn_train import initialize
from fcn_train.classes import Classes
from fcn_train.data import SegmentationDataset, open_dataset
from fcn_train.errors import UsageError
from fcn_train.network import build_network, network_of
from fcn_train.options import ModelOptions, TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train
from fcn_train.weight_files import read_state_dict

Command = Callable[..., tuple[int, str, str]]
PLAIN = ModelOptions(width=0.05, fc_channels=16, batch_norm=False)
NAMES = ("sky", "land", "sea")


@pytest.fixture(scope="module")
def train_set(sample_root: Path) -> SegmentationDataset:
    return open_dataset("sample", sample_root, "train")


def some_weights(num_classes: int = 5, options: ModelOptions = PLAIN) -> dict[str, Tensor]:
    """A state dict without a zero in it."""
    torch.manual_seed(1)
    state = build_network(options, num_classes).state_dict()
    return {name: torch.rand_like(value) + 0.1 for name, value in state.items()}


def test_finer_network_starts_from_the_coarser_run(
    finished_run: Path, tiny_options: TrainOptions, tmp_path: Path, train_set: SegmentationDataset
) -> None:
    coarse = train(
        replace(
            tiny_options,
            model=replace(tiny_options.model, name="fcn32s"),
            optim=replace(tiny_options.optim, steps=1),
            output=tmp_path / "coarse",
        )
    )
    model = build_network(tiny_options.model, 21)
    initialize.from_coarser(model, coarse, train_set)
    assert torch.equal(
        model.state_dict()["fc6.weight"], load_run(coarse).model.state_dict()["fc6.weight"]
    )
    assert not model.state_dict()["score_pool3.weight"].any()
    with pytest.raises(UsageError, match="does not fit the network: coarser must have fewer skips"):
        initialize.from_coarser(model, finished_run, train_set)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_network_starts_from_a_classifier(suffix: str, tmp_path: Path) -> None:
    source = some_weights()
    path = tmp_path / f"vgg16{suffix}"
    if suffix == ".pth":
        torch.save(source, path)
    elif suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in source.items()})
    else:
        save_file(source, path)
    model = build_network(PLAIN, 21)
    initialize.from_classifier(model, path)
    assert torch.equal(model.state_dict()["conv3_1.weight"], source["conv3_1.weight"])
    wider = build_network(replace(PLAIN, width=0.1), 21)
    message = r"vgg16.* does not fit the network: .*must have shape.*; --recipe paper has the net"
    with pytest.raises(UsageError, match=message):
        initialize.from_classifier(wider, path)


@pytest.mark.parametrize("layout", ["caffe", "torchvision"])
@pytest.mark.parametrize("seen", ["caffe", "imagenet"])
@pytest.mark.parametrize("net", ["vgg16", "squeezenet"])
def test_weights_that_may_want_other_images_are_told(
    net: str, seen: Any, layout: Any, tmp_path: Path, train_set: SegmentationDataset
) -> None:
    fc: dict[str, Any] = {} if net == "squeezenet" else {"fc_channels": 16}
    source = build_classifier(net, 5, width=0.05, **fc)
    torch.save(classifier_state_dict(source, layout), tmp_path / "w.pth")
    model = replace(PLAIN, name=initialize.NETS[net], input=seen, **{"fc_channels": 0} | fc)
    options = TrainOptions(model=model, init_classifier=tmp_path / "w.pth")
    told: list[str] = []
    initialize.initial_network(options, train_set, True, print, told.append)
    whose, wants = ("Caffe", "caffe") if layout == "caffe" else ("torchvision", "imagenet")
    if seen == wants:
        assert told == []
    else:
        (text,) = told
        assert text.startswith(f"{tmp_path / 'w.pth'}: has {whose}'s names of layers, and --model")
        assert f"is {seen}; give --model.input {wants} if its weights are {whose}'s, too" in text


@pytest.mark.parametrize("given", initialize.NETS)
@pytest.mark.parametrize("net", ["fcn16s", "fcn-alexnet-8s", "fcn-squeezenet"])
def test_classifier_of_another_network_is_called_by_its_name(
    given: str, net: Any, tmp_path: Path
) -> None:
    state = classifier_state_dict(build_classifier(given, 5, width=0.05))
    # The two builds of AlexNet are told by the channels of their first layers.
    if given.startswith("alexnet"):
        state["conv1.weight"] = torch.zeros(96 if given == "alexnet" else 64, 3, 11, 11)
    torch.save(state, tmp_path / "w.pth")
    without_fc = net == "fcn-squeezenet"
    options = replace(PLAIN, name=net, width=0.2, fc_channels=0 if without_fc else 16)
    own = build_network(options, 21)
    finer = {"fcn32s": "fcn16s", "fcn-alexnet": "fcn-alexnet-8s"}
    if finer.get(initialize.NETS[given], initialize.NETS[given]) == net:
        message = "; --recipe paper has the network of published classifiers$"
    else:
        message = f"; that is {given}, which --model {initialize.NETS[given]} starts from$"
    with pytest.raises(UsageError, match=message):
        initialize.from_classifier(own, tmp_path / "w.pth")


def test_classifier_of_several_streams_is_refused(tmp_path: Path) -> None:
    late = network_of(replace(PLAIN, fusion="late"), [Classes(NAMES, voc_palette())], "color-hha")
    save_file(some_weights(), tmp_path / "vgg16.safetensors")
    message = r"--init-classifier is of networks of one stream, got color, hha: .*--init-streams"
    with pytest.raises(UsageError, match=message):
        initialize.from_classifier(late, tmp_path / "vgg16.safetensors")


def bytes_of(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def npy_of(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", "is empty; download it again"),
        ("w.safetensors", b"", "is empty; download it again"),
        ("w.npz", b"", "is empty"),
        ("w.pth", b"<!DOCTYPE html><html><body>404", "is a web page, not weights; download the"),
        ("w.npz", b"\n  <HTML><body>sign in", "is a web page"),
        ("w.safetensors", b'<?xml version="1.0"?><Error>', "is a web page"),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("vgg16.caffemodel", b"\x0a\x05VGG16", "is a Caffe model, which is not read; save its"),
        *(
            (
                "w.pth",
                start,
                r"weights cannot be read \(torch.save wrote no such file\); give a .pth",
            )
            for start in (
                b"\x00\x01 no weights",
                b"\xff\xd8\xff\xe0 a photograph",
                b"name,weight\n",
                b"sky\ntree\n",  # orders of pickle to take from an empty stack
                b"(lp0\n.",
            )
        ),
        ("w.safetensors", b"no weights at all", r"weights cannot be read \(.*give a .pth state"),
        ("w.npz", b"PK\x03\x04 half an archive", r"weights cannot be read \("),
        ("w.npz", b"no arrays at all", "is no .npz, an archive of arrays as .*; give a .pth"),
        ("w.npz", npy_of(np.zeros(2)), "is no .npz, an archive of arrays as .*; give a .pth"),
        ("w.pth", bytes_of({"a": torch.zeros(9)})[:-90], r"weights cannot be read \("),
        ("w.pth", bytes_of([torch.zeros(2)]), "must hold a state dict, a mapping of names"),
        ("w.pth", bytes_of({}), "must hold a state dict"),
        ("w.pth", bytes_of({"a": torch.zeros(2), "epoch": 3}), "tensors, but epoch is none"),
        ("w.pth", bytes_of({"weight": Path("anything")}), "holds more than tensors and is not"),
        ("w.pth", bytes_of({"layer1.weight": torch.zeros(2)}), "holds layer1.weight"),
        ("w.pth", None, r"weights cannot be read \(No such file.*give a .pth state dict"),
    ],
)
@pytest.mark.parametrize("option", ["--init-classifier", "--init-weights"])
def test_files_that_are_no_weights_end_in_one_line(
    option: str,
    name: str,
    content: bytes | None,
    message: str,
    command: Command,
    sample_root: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    code, _, err = command(
        *("train", "--data.root", sample_root, "--output", tmp_path / "run", option, path),
        *("--model.no-batch-norm", "--model.width", "0.05", "--model.fc-channels", "16"),
    )
    assert code == 2, err
    assert err.startswith(f"fcn: {path}: ")
    assert err.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(err)
    assert len(err) < 900
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.npz"])
def test_pipes_and_devices_are_no_weights(name: str, tmp_path: Path) -> None:
    """Nobody writes into the pipe, and the device has no end."""
    os.mkfifo(tmp_path / name)
    (tmp_path / f"device-{name}").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / f"device-{name}"):
        with pytest.raises(UsageError, match=rf"{name}: .*no file but a device or a pipe.*; give"):
            read_state_dict(path)


@pytest.mark.parametrize("names", [["word/document.xml"], ["net/version", "net/data/weight_0"]])
def test_archives_of_other_programs_are_no_weights(names: list[str], tmp_path: Path) -> None:
    """A document, and a program as torch.export saves it."""
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        for name in names:
            archive.writestr(name, "3\n")
    with pytest.raises(UsageError, match=r"\(torch.save did not write this archive\); give a .pth"):
        read_state_dict(tmp_path / "net.pt2")


def test_folder_that_is_no_run(command: Command, sample_root: Path, tmp_path: Path) -> None:
    flags = ("--data.root", sample_root, "--output", tmp_path / "run")
    for option in ("--init-classifier", "--init-weights", "--init-coarser"):
        code, _, err = command("train", *flags, option, tmp_path)
        assert (code, err.count("\n")) == (2, 1), err


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.module."])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}, "best": 0.5},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"model_state_dict": state, "args": ["x"]},
    ],
    ids=["bare", "state_dict", "model", "nested", "model_state_dict"],
)
def test_wrappers_are_taken_off(prefix: str, wrap: Any, tmp_path: Path) -> None:
    source = some_weights()
    torch.save(wrap({prefix + name: value for name, value in source.items()}), tmp_path / "w.pth")
    found = read_state_dict(tmp_path / "w.pth")
    assert found.keys() == source.keys()
    assert all(torch.equal(found[name], source[name]) for name in source)
