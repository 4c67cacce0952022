"""`fcn export --format onnx`, and `fcn predict --model` of what it wrote."""

from __future__ import annotations

import hashlib
import importlib
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor

from fcn_train.data import CAFFE, Example, image_to_tensor
from fcn_train.errors import UsageError
from fcn_train.export import onnx_reading
from fcn_train.export.check import SIZES
from fcn_train.export.metadata import KEY, metadata_of
from fcn_train.export.onnx_reading import OnnxFile, open_onnx
from fcn_train.export.onnx_writing import onnx_bytes
from fcn_train.export.seal import SEAL, UNSEALED, seal_is_whole, sealed
from fcn_train.run import TrainedRun, load_run
from fcn_train.runtime import Runtime
from fcn_train.segmenter import OnnxSegmenter, RunSegmenter
from fcn_train.views import Views
from fcn_train.weights import checksum

from .runs import untrained, write_run

Command = Callable[..., tuple[int, str, str]]
CPU, GPU = "CPUExecutionProvider", "CUDAExecutionProvider"


def opened(path: Path) -> OnnxFile:
    return open_onnx(path, "cpu", 1, lambda text: None)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, size in (("wide", (9, 70)), ("dot", (1, 1)), ("odd", (67, 45))):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_the_graph_is_standard_and_takes_any_size(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    assert not model.functions
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "images": ["batch", 3, "height", "width"],
        "labels_semantic": ["batch", "height", "width"],
        "labels_geometric": ["batch", "height", "width"],
    }
    kernels = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    upsampled = [node for node in model.graph.node if node.op_type == "ConvTranspose"]
    assert sorted(kernels[node.input[1]] for node in upsampled) == [
        *((3, 1, 4, 4), (3, 1, 32, 32), (5, 1, 4, 4), (5, 1, 32, 32)),
    ]


def test_a_network_that_no_file_holds_is_refused(two_sets: TrainedRun) -> None:
    tensors = [torch.empty(2**28, device="meta") for _ in range(3)]
    program: Any = SimpleNamespace(state_dict=dict(enumerate(tensors)))
    message = "network has 3.0 GiB of weights, and an ONNX file holds 2 GiB; use --format torch-ex"
    with pytest.raises(UsageError, match=message):
        onnx_bytes(program, metadata_of(two_sets, "labels", "uint8"))


def test_the_file_gives_the_networks_labels(two_sets: TrainedRun, onnx_file: Path) -> None:
    file = opened(onnx_file)
    assert file.metadata.to_json() == metadata_of(two_sets, "labels", "uint8").to_json()
    for size in ((1, 1, 1), (3, 2, 150), (2, 41, 40), (1, 133, 71)):
        colors = torch.randint(0, 256, (size[0], 3, *size[1:]), dtype=torch.uint8)
        normalized = [image_to_tensor(one.permute(1, 2, 0).numpy(), CAFFE) for one in colors]
        with torch.no_grad():
            logits = two_sets.model(torch.stack(normalized))
        for labels, scores in zip(file(colors.numpy()), logits.values(), strict=True):
            assert labels.dtype == np.uint8
            assert len(np.unique(labels)) > 1 or size[1] < 3
            best = scores.topk(2, 1).values
            decided = (best[:, 0] - best[:, 1] > 1e-4).numpy()
            assert decided.mean() > 0.95
            np.testing.assert_array_equal(labels[decided], scores.argmax(1).numpy()[decided])


def test_the_card_beside_the_file_is_of_the_file(two_sets: TrainedRun, onnx_file: Path) -> None:
    card = onnx_file.with_name("net.onnx.md").read_text()
    digest = hashlib.sha256(onnx_file.read_bytes()).hexdigest()
    assert f"| SHA-256 | {digest} |" in card
    assert f"| SHA-256 of the weights | {checksum(two_sets.model.state_dict())} |" in card
    assert "| takes | (N, 3, H, W), RGB from 0 to 255, uint8 |" in card
    assert "| gives | labels\\_semantic, labels\\_geometric |" in card
    pixels = 2 * sum(number * height * width for number, height, width in SIZES)
    assert f"labels of {pixels:,} pixels in 3 sizes are the network's" in card


def test_prediction_by_the_file_is_that_of_the_run(
    two_sets: TrainedRun, onnx_file: Path, photographs: Path, command: Command, tmp_path: Path
) -> None:
    by_run = command("predict", photographs, "--run", two_sets.path, "--output", tmp_path / "run")
    by_file = command("predict", photographs, "--model", onnx_file, "--output", tmp_path / "file")
    assert (by_run[0], by_file[0]) == (0, 0), by_run[2] + by_file[2]
    written = sorted(path.relative_to(tmp_path / "run") for path in tmp_path.glob("run/*/*"))
    assert len(written) == 12
    for name in written:
        with Image.open(tmp_path / "run" / name) as a, Image.open(tmp_path / "file" / name) as b:
            assert (a.mode, a.size, a.getpalette()) == (b.mode, b.size, b.getpalette())
            assert (np.array(a) != np.array(b)).mean() < 0.01  # ties
    one = ("--label-set", "geometric", "--output", tmp_path / "one")
    assert command("predict", photographs / "odd.png", "--model", onnx_file, *one)[0] == 0
    assert (tmp_path / "one" / "odd.png").exists()


class Session:
    """A network in place of a file's session: tests of what is made of its outputs."""

    def __init__(self, run: TrainedRun, output: str) -> None:
        self.run_, self.output = run, output

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="images")]

    @torch.no_grad()
    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        logits: Tensor = self.run_.model(torch.from_numpy(given["images"]))
        return [(logits.softmax(1) if self.output == "probabilities" else logits).numpy()]


@pytest.mark.parametrize("output", ["logits", "probabilities"])
@pytest.mark.parametrize("views", [Views(), Views(32, 8, "flip")], ids=["whole", "windows"])
def test_scores_are_averaged_as_those_of_runs(output: Any, views: Views) -> None:
    run = untrained("fcn-pool3")
    metadata = metadata_of(run, output, "normalized")
    file = OnnxFile(Path("net.onnx"), metadata, Session(run, output))
    image = np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    example = Example(image, np.zeros(image.shape[:2], dtype=np.uint8))
    (found,) = OnnxSegmenter(file, views)(example)
    (expected,) = RunSegmenter(run, Runtime(torch.device("cpu")), views)(example)
    assert found.dtype == expected.dtype == np.uint8
    assert len(np.unique(expected)) > 1
    assert (found != expected).mean() < 0.001


def test_any_changed_bit_is_noticed(onnx_file: Path, tmp_path: Path) -> None:
    data = onnx_file.read_bytes()
    assert seal_is_whole(data)
    chosen = random.Random(0).sample(range(8 * len(data)), 40)
    seal = 8 * data.rindex(SEAL.encode())
    for bit in (*chosen, *range(seal + 8 * len(SEAL), seal + 8 * (len(SEAL) + 66), 7)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not seal_is_whole(bytes(damaged)), bit
    (tmp_path / "net.onnx").write_bytes(damaged)
    with pytest.raises(UsageError, match=r"net\.onnx: (is damaged, or was changed by another|has)"):
        opened(tmp_path / "net.onnx")
    assert seal_is_whole(data[:-1]) is not True


def entry(key: str, value: str) -> bytes:
    """A ModelProto with these metadata, as its bytes."""
    model = onnx.ModelProto()
    model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def test_a_seal_covers_all_but_itself() -> None:
    data = sealed(b"before" + entry(SEAL, UNSEALED) + b"after")
    assert data.startswith(b"before")
    assert data.endswith(b"after")
    assert seal_is_whole(data)
    assert seal_is_whole(b"x" + data) is False
    assert seal_is_whole(b"nothing") is None


def write_foreign(path: Path, metadata: dict[str, str], output: str = "scores") -> Path:
    shape = ["n", 3, "h", "w"]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    scores = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    node = helper.make_node("Relu", ["images"], [output])
    model = helper.make_model(
        helper.make_graph([node], "net", [images], [scores]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_files_of_other_programs_say_what_they_lack(
    two_sets: TrainedRun, command: Command, photographs: Path, tmp_path: Path
) -> None:
    def refused(path: Path) -> str:
        code, _, err = command("predict", photographs, "--model", path, "--output", tmp_path / "o")
        assert code == 2
        assert err.count("\n") == 1
        assert err.startswith(f"fcn: {path}: ")
        return err

    file = tmp_path / "foreign.onnx"
    assert "has no metadata of fcn export, which say the classes, their colors" in refused(
        write_foreign(file, {"author": "somebody"})
    )
    assert "they lack version, run" in refused(write_foreign(file, {KEY: "{}"}))
    text = metadata_of(two_sets, "labels", "uint8").to_json()
    assert "must have one input and the outputs labels_semantic, labels_geometric" in refused(
        write_foreign(file, {KEY: text})
    )
    file.write_bytes(b"no graph")
    assert "cannot be read by ONNX Runtime" in refused(file)
    assert "cannot be read (No such file" in refused(tmp_path / "absent.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "cannot be read (it is no file but a device" in refused(tmp_path / "pipe.onnx")
    assert "cannot be read (it is no file but a device" in refused(Path("/dev/zero"))


def test_a_file_without_its_checksum_is_used_with_a_warning(tmp_path: Path) -> None:
    run = untrained("fcn-pool3")
    metadata = metadata_of(run, "logits", "normalized").to_json()
    path = write_foreign(tmp_path / "net.onnx", {KEY: metadata}, "logits")
    warned: list[str] = []
    open_onnx(path, "cpu", 1, warned.append)
    assert warned == [f"{path}: has lost its checksum, so damage would not be noticed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "is no run of fcn train; give a run folder, or an exported file with --model"),
        (("--run", "a", "--model", "b"), "give a run folder or an exported file with --model, not"),
        (("--model", "b", "--weights", "best"), "--weights has no meaning for --model, whose w"),
        (("--model", "b", "--amp", "bf16"), "--amp has no meaning for --model, whose file s"),
        (("--model", "none.onnx"), "No such file or directory); give a file that fcn export wrote"),
        (("--model", "."), "(Is a directory); give a file that fcn export wrote"),
        (("--model", __file__), "give a file that fcn export wrote"),
        (("--model", "net.pt2"), "net.pt2: is no ONNX file but an archive, as --format torch-e"),
        (("--model", "run"), "--model must be an exported file, got run, a run folder; leave"),
        (("run", "--model", "b"), "give a run folder or an exported file with --model, not"),
        (("run", "--run", "run", "--model", "b"), "give a run folder or an exported file with"),
        (("--model", "b", "--device", "cuda"), "--device cuda: this onnxruntime has no CUDA"),
        (("--model", "b", "--device", "tpu"), "--device must be auto, cpu, cuda or cuda:N"),
        (("--model", "b", "--device", "cpu:1"), "--device must be auto, cpu, cuda or cuda:N"),
        (("--model", "b", "--device", "cuda:one"), "--device must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...],
    message: str,
    command: Command,
    in_folder: Path,
) -> None:
    (in_folder / "run").mkdir()
    (in_folder / "run" / "config.json").write_text("{}")
    (in_folder / "net.pt2").write_bytes(b"PK\x03\x04 and more")
    images = in_folder / "images"
    images.mkdir()
    first = int(options[:1] == ("run",))
    given = (*options[:first], images, *options[first:])
    code, _, err = command("predict", *given, "--output", in_folder / "o")
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("device", "available", "chosen"),
    [
        ("cpu", (GPU, CPU), [CPU]),
        ("auto", (CPU,), [CPU]),
        ("auto", (GPU, CPU), [(GPU, {"device_id": "0"}), CPU]),
        ("cuda", (GPU, CPU), [(GPU, {"device_id": "0"}), CPU]),
        ("cuda:3", (GPU, CPU), [(GPU, {"device_id": "3"}), CPU]),
    ],
)
def test_the_device_is_the_one_that_was_asked_for(
    device: str, available: tuple[str, ...], chosen: list[Any]
) -> None:
    assert onnx_reading._providers(available, device) == chosen


class Failing:
    """A session that fails as ONNX Runtime does: by an exception that is nobody else's."""

    def __init__(self, words: str) -> None:
        self.words = words

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="images")]

    def run(self, *arguments: Any) -> None:
        raise Exception(self.words)


def test_failures_of_the_runtime_are_told(
    onnx_file: Path,
    photographs: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An image that takes too much memory does not end the others; a file of no use does."""

    def predicted(words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(onnx_reading, "_session", lambda *_: Failing(words))
        options = ("--model", onnx_file, "--output", tmp_path / "o")
        return command("predict", photographs, *options)

    monkeypatch.setattr(onnx_reading, "_check_names", lambda *_: None)
    metadata = open_onnx(onnx_file, "cpu", 1, pytest.fail).session.get_modelmeta()
    monkeypatch.setattr(Failing, "get_modelmeta", lambda self: metadata, raising=False)
    number = len(list(photographs.iterdir()))
    code, out, err = predicted("Failed to allocate memory for requested buffer of size 10816000000")
    assert code == 1
    assert f"0 of {number} images segmented" in out
    assert err.count("out of memory (10.1 GiB more were wanted); try --tile 512") == number
    code, _, err = predicted("Invalid rank for input")
    assert code == 1
    assert err.startswith(f"fcn: {onnx_file}: ONNX Runtime does not run it on images of 1 x 3 x ")
    assert err.endswith("(Invalid rank for input); export it again\n")


def test_labels_cannot_be_averaged(
    onnx_file: Path, photographs: Path, command: Command, tmp_path: Path
) -> None:
    options = ("--model", onnx_file, "--output", tmp_path / "o", "--tta", "flip")
    code, _, err = command("predict", photographs, *options)
    assert code == 2
    assert f"{onnx_file}: gives labels, which --tile and --tta cannot average" in err


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_what_is_not_installed_is_named(
    missing: str,
    two_sets: TrainedRun,
    onnx_file: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    commands: list[tuple[object, ...]] = [("export", two_sets.path, "--file", tmp_path / "n.onnx")]
    if missing == "onnxruntime":
        commands.append(("predict", tmp_path, "--model", onnx_file, "--output", tmp_path / "o"))
    for arguments in commands:
        code, _, err = command(*arguments)
        assert code == 2
        assert err.endswith(f" needs {missing}; install it: pip install 'fcn_ext[export]'\n")
    assert list(tmp_path.iterdir()) == []


def test_an_onnxscript_older_than_torch_is_named(
    two_sets: TrainedRun, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch imports a module of it that is named after torch's version."""

    def without(*arguments: object, **options: object) -> None:
        importlib.import_module("onnxscript._framework_apis.torch_0_1")

    monkeypatch.setattr(torch.onnx, "export", without)
    code, _, err = command("export", two_sets.path, "--file", tmp_path / "n.onnx")
    assert code == 2
    assert f"torch {torch.__version__} needs a newer onnxscript than " in err
    assert err.endswith(": pip install --upgrade onnxscript\n")
    assert list(tmp_path.iterdir()) == []


def test_networks_that_see_depth_take_it_normalized(command: Command, tmp_path: Path) -> None:
    run = write_run(untrained("fcn-pool3", channels="color-depth"), tmp_path / "depth")
    code, _, err = command("export", run, "--pixels", "uint8")
    assert code == 2
    assert f"--pixels must be normalized for {run}, which sees color-depth" in err
    assert load_run(run).model.in_channels == 4


def test_no_other_file_is_replaced(two_sets: TrainedRun, command: Command) -> None:
    weights = two_sets.path / "last.safetensors"
    before = weights.read_bytes()
    code, _, err = command("export", two_sets.path, "--file", weights)
    assert code == 2
    assert f"--file must end in .onnx with --format onnx, got {weights}" in err
    assert weights.read_bytes() == before
