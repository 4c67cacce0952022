"""What the documentation shows runs: its Python blocks, the docstrings' examples, the programs."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fcn_ext
import fcn_train
from fcn_train.cli import main

from .forked_programs import run_each

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What the text around the blocks of a page takes as given.
GIVEN = {
    "README.md": """
import torch
from fcn_ext.models import FCN16s

loader = [(torch.randn(1, 3, 64, 64), torch.randint(0, 21, (1, 64, 64)))]
fcn16s = FCN16s(num_classes=21)
my_module = torch.nn.Conv2d(3, 21, 8, stride=8)
shapes = {}
before = 3
for layer, width in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
                        (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 6):
    shapes[f"features.{layer}"] = (width, before, 3, 3)
    before = width
for layer, shape in ((0, (4096, 25088)), (3, (4096, 4096)), (6, (1000, 4096))):
    shapes[f"classifier.{layer}"] = shape
vgg16_state_dict = {}
for name, shape in shapes.items():
    vgg16_state_dict[f"{name}.weight"] = torch.zeros(1).expand(shape)
    vgg16_state_dict[f"{name}.bias"] = torch.zeros(shape[:1])
""",
    "docs/fused_heads.md": """
import torch
import torch.nn.functional as F
from fcn_ext import ops

scores, target = torch.randn(1, 5, 8, 8), torch.randint(0, 5, (1, 64, 64))
""",
    "docs/data.md": """
from pathlib import Path
from PIL import Image

for folder in ("colored", "mine/images", "mine/labels"):
    Path(folder).mkdir(parents=True)
Image.new("RGB", (8, 8), (128, 64, 128)).save("colored/beach.png")
Image.new("RGB", (8, 8)).save("mine/images/beach.png")
Image.new("L", (8, 8)).save("mine/labels/beach.png")
Path("mine/classes.txt").write_text("sand\\nwater\\n")
Path("mine/train.txt").write_text("beach\\n")
""",
    "docs/evaluation.md": """
from pathlib import Path
from PIL import Image
from fcn_train.data import write_sample_dataset
from fcn_train.options import DataOptions, ModelOptions, OptimOptions, TrainOptions
from fcn_train.train import train

Image.new("RGB", (40, 30)).save("beach.jpg")
train(TrainOptions(
    data=DataOptions(root=write_sample_dataset(Path("sample"), train=2, val=1, size=48), crop=32),
    model=ModelOptions(width=0.05, fc_channels=16),
    optim=OptimOptions(batch=2, steps=1),
    threads=1,
    output=Path("runs/folder-fcn8s-001"),
))
""",
    "docs/speed.md": """
import sys

sys.argv = ["head_cost.py", "coarse", "2"]
""",
    "docs/results.md": """
from pathlib import Path

Path("runs/8s").mkdir(parents=True)
classes = ["background", "cat", "cow", "dog", "horse", "person", "sheep", "train"]
rows = [f"{name},{0.5 if name != 'train' else 'nan'}" for name in classes]
Path("runs/8s/per_class.csv").write_text("\\n".join(["class,iu", *rows]))
""",
}
GIVEN_TO_DOCSTRINGS = {
    "fcn_ext.models": """
import torch
from fcn_ext.metrics import ConfusionMatrix

images, target = torch.randn(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.uint8)
matrix = ConfusionMatrix(num_classes=21)
""",
}
# Sizes that a reader may have and a test has not the time for.
SMALLER = {
    "docs/speed.md": [
        ("(8, 3, 360, 360)", "(1, 3, 64, 64)"),
        ("(8, 12, 12)", "(1, 2, 2)"),
        ("repeat_interleave(30, ", "repeat_interleave(32, "),
        ("range(4)", "range(1)"),
    ]
}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(program: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, program, *arguments],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pages() -> list[str]:
    folders = (".", "docs", "docs/api", "benchmarks")
    found = [path for folder in folders for path in (ROOT / folder).glob("*.md")]
    return sorted(str(p.relative_to(ROOT)) for p in found if BLOCK.search(p.read_text("utf-8")))


def program_of(page: str) -> str:
    """All blocks of a page, one after the other, as a reader who types them in."""
    text = (ROOT / page).read_text("utf-8")
    for written, smaller in SMALLER.get(page, []):
        assert written in text
        text = text.replace(written, smaller)
    return "\n".join([GIVEN.get(page, ""), *BLOCK.findall(text)])


def test_python_blocks_run(tmp_path: Path) -> None:
    programs = {page: program_of(page) for page in pages()}
    assert "README.md" in programs
    ends = run_each(programs, tmp_path, MPLBACKEND="Agg", OMP_NUM_THREADS="1")
    assert {page: end for page, end in ends.items() if end.code} == {}


def commands() -> dict[str, set[str]]:
    """Options that the pages show of each command of ``fcn``."""
    found: dict[str, set[str]] = {}
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        blocks = re.findall(r"^```(.*?)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
        for language, block in blocks:
            for line in block.replace("\\\n", " ").splitlines() if not language else ():
                match = re.match(r"fcn (data \w+|study [\w-]+|\w+)", line)
                if match:
                    options = re.findall(r"(?<!\S)--[a-z][\w.-]*", line.partition("#")[0])
                    found.setdefault(match[1], set()).update(options)
    return found


def test_commands_have_the_options_that_pages_show(capsys: pytest.CaptureFixture[str]) -> None:
    shown = commands()
    assert {"train", "evaluate", "predict", "data check", "data stats"} <= shown.keys()
    for command, options in shown.items():
        assert main([*command.split(), "--help"]) == 0
        text = capsys.readouterr().out
        known = set(re.findall(r"--[a-z][\w.-]*", text))
        assert options <= known, (command, options - known)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/design.md", "docs/kernels.md", "benchmarks/README.md"]
)
def test_sources_that_pages_name_exist(page: str) -> None:
    """By their path, or from a folder that the page speaks of."""
    named = re.findall(
        r"`([\w./]+\.(?:py|sh|h|cpp|cu|cuh|toml))`", (ROOT / page).read_text("utf-8")
    )
    folders = ("", "csrc", "benchmarks", "fcn_ext", "tests/ops")
    assert [
        name for name in named if not any((ROOT / folder / name).exists() for folder in folders)
    ] == []


def modules() -> list[str]:
    found = []
    for package in (fcn_ext, fcn_train):
        found.append(package.__name__)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not info.name.endswith("__main__"):
                found.append(info.name)
    return found


def test_examples_in_docstrings_give_what_they_show() -> None:
    """With the names of their module and the public ones of its package."""
    tried = 0
    for name in modules():
        module = importlib.import_module(name)
        package = importlib.import_module(name.rpartition(".")[0] or name)
        names = {public: getattr(package, public) for public in getattr(package, "__all__", ())}
        names |= vars(module)
        exec(GIVEN_TO_DOCSTRINGS.get(name, ""), names)
        result = doctest.testmod(module, globs=names)
        assert result.failed == 0, name
        tried += result.attempted
    assert tried > 10


def test_every_example_is_listed_and_tested() -> None:
    listed = (ROOT / "examples" / "README.md").read_text("utf-8")
    for example in EXAMPLES:
        assert f"({example.name})" in listed
        assert f"python examples/{example.name}" in example.read_text("utf-8")
        assert f"test_{example.stem}" in globals()


def test_own_training_loop(tmp_path: Path) -> None:
    output = run(str(ROOT / "examples/own_training_loop.py"), tmp_path)
    losses = [float(loss) for loss in re.findall(r"step \d+: loss ([\d.]+)", output)]
    assert losses[-1] < 0.1 * losses[0]
    compared = re.search(r"new images: ([\d.]+), by the two lines before: ([\d.]+)", output)
    assert compared is not None
    assert float(compared[1]) == pytest.approx(float(compared[2]), rel=1e-4, abs=2e-6)


def test_evaluate_any_model(tmp_path: Path) -> None:
    output = run(str(ROOT / "examples/evaluate_any_model.py"), tmp_path)
    accuracy = re.search(r"pixel accuracy ([\d.]+)", output)
    assert accuracy is not None
    assert 0.7 < float(accuracy[1]) < 0.9
    differing = re.search(r"those of the logits: (\d+) of (\d+)", output)
    assert differing is not None
    assert int(differing[1]) <= 1e-5 * int(differing[2])


def learned(example: str, library: str, folder: Path) -> str:
    """What an example prints whose net of another library learns, with equal losses both ways."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed; make integrations runs this")
    output = run(str(ROOT / "examples" / example), folder)
    losses = [float(loss) for loss in re.findall(r"step \d+: loss ([\d.]+)", output)]
    assert losses[-1] < 0.7 * losses[0]
    compared = re.search(r"new images: ([\d.]+), [a-z' ]+: ([\d.]+)", output)
    assert compared is not None
    assert float(compared[1]) == pytest.approx(float(compared[2]), rel=1e-4, abs=1e-5)
    return output


def test_segformer_finetuning(tmp_path: Path) -> None:
    output = learned("segformer_finetuning.py", "transformers", tmp_path)
    iu = re.search(r"mean IU ([\d.]+)", output)
    assert iu is not None
    assert float(iu[1]) > 0.5


def test_torchvision_training(tmp_path: Path) -> None:
    output = learned("torchvision_training.py", "torchvision", tmp_path)
    right = re.search(r"labeled right: ([\d.]+)%", output)
    assert right is not None
    assert float(right[1]) > 60


def test_smp_training(tmp_path: Path) -> None:
    output = learned("smp_training.py", "segmentation_models_pytorch", tmp_path)
    iu = re.search(r"mean IU ([\d.]+)", output)
    assert iu is not None
    assert float(iu[1]) > 0.5


def test_train_fcn8s(tmp_path: Path) -> None:
    output = run(str(ROOT / "examples/train_fcn8s.py"), tmp_path, "--output", "run")
    iu = re.search(r"mean IU ([\d.]+)", output)
    assert iu is not None
    assert float(iu[1]) > 0.6
    assert {"report.html", "prediction.png"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_pages_that_name_the_version_agree() -> None:
    version = re.escape(fcn_ext.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
