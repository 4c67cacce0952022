"""Every option of every command, as dataclasses; the field's text is the help of its option."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fcn_train.errors import UsageError

ModelName = Literal[
    "fcn32s",
    "fcn16s",
    "fcn8s",
    "fcn8s-atonce",
    "fcn-alexnet",
    "fcn-alexnet-torchvision",
    "fcn-googlenet",
]
DataKind = Literal[
    "sample", "voc", "sbd", "pascal-context", "nyud", "sift-flow", "camvid", "folder"
]
RecipeName = Literal["default", "paper", "heavy"]
Head = Literal["fused", "materialised"]
# Fields that say how to run and not what are left out of config.json.
UNSAVED = {"saved": False}
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Where a data set lies, and how its labels are read."""

    kind: DataKind = "sample"
    """Layout of the data set; "sample" is generated in runs/sample-data when it is not there."""
    root: Path | None = None
    """Its folder."""
    image_folder: str = ""
    """Folder of the images, in place of JPEGImages or images (voc, folder)."""
    label_folder: str = ""
    """Folder of the labels, in place of the kind's own (voc, folder; sift-flow: GeoLabels)."""
    label_suffix: str = ""
    """What follows an image's name in that of its label, e.g. _mask.png, .gif (voc, folder)."""
    classes: Path | None = None
    """File with one class name per line; default classes.txt in the root (voc, folder)."""
    void_label: int | None = None
    """Value in labels that means void, besides 255 (voc, folder)."""
    first_class: int = 0
    """Value in labels of the first class (voc, folder)."""
    label_map: str = ""
    """Class of every value in labels, e.g. 0=0,255=1 or 1-7=0,8=1,9=void (voc, folder)."""
    label_colors: str = ""
    """Read labels by their colors: "voc" for VOC's, or a file with one color per class and line,
    R G B or #RRGGBB, "void" before a color of void. "ignore": read them by their values, even if
    their palettes differ (voc, folder)."""
    exif: Literal["refuse", "stored", "upright"] = "refuse"
    """Whether labels match the stored or the upright pixels of images that EXIF turns; refuse
    those where the size does not tell (voc, folder)."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(ReadingOptions):
    """Which images, and how they are cut for training."""

    train_split: str = "train"
    """Split trained on: a list's name (for voc in ImageSets/Segmentation), or its path."""
    val_split: str = "val"
    """Split evaluated on (folder: "" is every image)."""
    crop: int = 96
    """Side of the random square crop in pixels, void where it leaves the image; 0 = native size."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Range of the random resize before the crop."""
    mirror: bool = True
    """Mirror left-right with probability 1/2."""
    sampling: Literal["shuffle", "replacement"] = "shuffle"
    """Each image once an epoch, or drawn anew every time as the reference does."""
    memory: bool = False
    """Decode every image once and keep it."""
    workers: int = -1
    """Loader processes; 0 = in this one, -1 = none on a CPU and up to 8 on a GPU."""


@dataclass(frozen=True)
class ModelOptions:
    """The network."""

    name: ModelName = "fcn8s"
    """fcn8s is the staged network on VGG16, fcn8s-atonce the one with scaled skips; fcn-alexnet is
    the published one, fcn-alexnet-torchvision the one that torchvision's weights fit;
    fcn-googlenet fits Caffe's weights."""
    width: float = 0.25
    """Channels relative to the classifier's."""
    padding: Literal["published", "same"] = "same"
    """"published" pads 100 pixels before the first layer; "same" saves VGG16 40 % of its work."""
    batch_norm: bool = True
    """Batch normalisation after every convolution of the trunk."""
    fc_channels: int = 256
    """Channels of fc6 and fc7; 0 = 4096 times width, and for fcn-googlenet, which has neither."""
    dropout: float = 0.5
    """Dropout after fc6 and fc7, or after the last inception."""
    input: Literal["imagenet", "caffe"] = "imagenet"
    """imagenet: RGB / 255, mean and deviation of ImageNet (torchvision's weights);
    caffe: BGR 0..255 minus (104.007, 116.669, 122.679) (Caffe's weights)."""


@dataclass(frozen=True)
class OptimOptions:
    """Stochastic gradient descent with momentum, and its schedule."""

    batch: int = 8
    """Images in one forward pass."""
    accumulate: int = 1
    """Forward passes whose gradients are averaged into one step."""
    lr: float = 0.1
    """Learning rate of the weights."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_lr: float = 2.0
    """Learning rate of the biases of convolutions, relative to lr."""
    bias_decay: float = 0.0
    """Weight decay of those biases, relative to weight_decay."""
    loss: Literal["mean", "sum"] = "mean"
    """mean: over the valid pixels of the batch. sum: over its pixels, divided by the number of its
    images alone (Caffe's normalize: false)."""
    class_weights: str = "none"
    """none, median-frequency, or a JSON or text file with one number a class."""
    schedule: Literal["poly", "fixed"] = "poly"
    """poly: lr * (1 - step / steps) ** power."""
    power: float = 0.9
    warmup: int = 0
    """Steps over which lr rises linearly from lr / warmup."""
    epochs: float = 30.0
    """Length of the run; see steps."""
    steps: int = 0
    """Length of the run in optimiser steps; 0 = from epochs."""
    fused: bool = True
    """torch's fused kernel of SGD, where the device has one."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a network; without arguments a narrow FCN-8s on a generated sample data set."""

    recipe: RecipeName = "default"
    """default: from scratch, narrow, with batch norm. paper: 20 images a step, momentum 0.9.
    heavy: the reference repository's, one image a step, momentum 0.99, summed loss (for fcn-alexnet
    20 images, 0.9 and the mean; none for fcn-googlenet)."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    head: Head = "fused"
    """fused: loss and evaluation straight from the coarse scores, in less time and a fraction of
    the memory. materialised: by way of every pixel's logits, to compare with."""
    init_classifier: Path | None = None
    """VGG16, AlexNet or GoogLeNet classifier to start from: .pth state dict, .safetensors or
    .npz."""
    init_coarser: Path | None = None
    """Run folder of the next coarser network to start from (32s -> 16s -> 8s)."""
    seed: int = 0
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 0
    """CPU threads; 0 = torch's choice."""
    amp: Literal["none", "bf16"] = "none"
    """bf16: forward passes under torch.autocast."""
    channels_last: bool = True
    """NHWC memory layout, the faster one for convolutions on most machines."""
    evaluate_every: float = 5.0
    """Epochs between evaluations of the val split; 0 = at the end alone."""
    checkpoint_every: int = 200
    """Steps between checkpoints; one more is written after every evaluation."""
    log_every: int = 20
    """Steps that one row of training.csv averages over."""
    output: Path | None = field(default=None, metadata=UNSAVED)
    """Run folder; default runs/<kind>-<model>-<number>."""
    resume: str | None = field(default=None, metadata=UNSAVED)
    """auto (the last checkpoint of --output, or of the newest unfinished run) or a run folder."""
    config: Path | None = field(default=None, metadata=UNSAVED)
    """config.json of a run, whose values become the defaults."""
    traceback: Flag = field(default=False, metadata=UNSAVED)
    """Show Python's traceback when an error ends the command."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained run on a split and write the report."""

    run: Path
    """Run folder of `fcn train`."""
    split: str | None = None
    """Default: the val split of the run."""
    data_kind: DataKind | None = None
    """Another data set of the same classes; default: the run's."""
    data_root: Path | None = None
    """Its folder; default: the run's."""
    weights: Literal["last", "best"] = "last"
    """best: of the evaluations during training, by mean IU."""
    batch: int = 1
    """Images in one forward pass, where neighbours in the list have one size."""
    head: Head = "fused"
    """As --head of `fcn train`; that of the run does not matter."""
    device: str = "auto"
    threads: int = 0
    amp: Literal["none", "bf16"] = "none"
    output: Path | None = None
    """Report folder; default RUN/evaluate-SPLIT."""
    traceback: Flag = False


@dataclass(frozen=True)
class PredictOptions:
    """Segment image files: an index PNG with the palette and a colour overlay for each."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, or folders that are searched; turned upright where their EXIF tag says how."""
    run: Path
    """Run folder of `fcn train`."""
    output: Path
    """Folder for the results."""
    weights: Literal["last", "best"] = "last"
    opacity: float = 0.55
    """Of the classes over the image."""
    strict: Flag = False
    """Stop at the first image that cannot be read."""
    device: str = "auto"
    threads: int = 0
    amp: Literal["none", "bf16"] = "none"
    traceback: Flag = False


@dataclass(frozen=True)
class SampleOptions:
    """Write the sample data set, in the layout of PASCAL VOC."""

    root: Path = Path("runs/sample-data")
    """Folder to write."""
    seed: int = 0
    train: int = 320
    """Images of the train split."""
    val: int = 80
    """Images of the val split."""
    size: int = 128
    """Longer side of the images in pixels."""
    traceback: Flag = False


@dataclass(frozen=True, kw_only=True)
class CheckOptions(ReadingOptions):
    """Decode every file of a data set and name all that is wrong with it."""

    kind: DataKind = field()
    root: Path = field()
    split: Annotated[tuple[str, ...], tyro.conf.arg(name="split")] = ("train", "val")
    """One or more splits."""
    limit: int = 3
    """Problems of one sort that are shown; 0 = all."""
    traceback: Flag = False


@dataclass(frozen=True, kw_only=True)
class StatsOptions(ReadingOptions):
    """Count sizes, classes and void of a split, and the class weights they give."""

    kind: DataKind = field()
    root: Path = field()
    split: str = "train"
    output: Path | None = None
    """JSON file for the same numbers."""
    traceback: Flag = False


def check(options: TrainOptions) -> None:
    """Refuse values that no run can have, naming the option."""
    data, model, optim = options.data, options.model, options.optim
    rules = [
        ("--data.crop", data.crop >= 0, ">= 0", data.crop),
        ("--data.scale", 0 < data.scale[0] <= data.scale[1], "0 < low <= high", data.scale),
        ("--data.workers", data.workers >= -1, ">= -1", data.workers),
        ("--model.width", model.width > 0, "> 0", model.width),
        ("--model.fc-channels", model.fc_channels >= 0, ">= 0", model.fc_channels),
        (
            "--model.fc-channels",
            model.fc_channels == 0 or model.name != "fcn-googlenet",
            "0 for fcn-googlenet, which has neither fc6 nor fc7",
            model.fc_channels,
        ),
        ("--model.dropout", 0 <= model.dropout < 1, "in [0, 1)", model.dropout),
        ("--optim.batch", optim.batch >= 1, ">= 1", optim.batch),
        ("--optim.accumulate", optim.accumulate >= 1, ">= 1", optim.accumulate),
        ("--optim.lr", 0 < optim.lr < inf, "> 0 and finite", optim.lr),
        ("--optim.momentum", 0 <= optim.momentum < 1, "in [0, 1)", optim.momentum),
        ("--optim.weight-decay", optim.weight_decay >= 0, ">= 0", optim.weight_decay),
        ("--optim.bias-lr", optim.bias_lr >= 0, ">= 0", optim.bias_lr),
        ("--optim.bias-decay", optim.bias_decay >= 0, ">= 0", optim.bias_decay),
        ("--optim.power", 0 <= optim.power < inf, ">= 0 and finite", optim.power),
        ("--optim.warmup", optim.warmup >= 0, ">= 0", optim.warmup),
        ("--optim.steps", optim.steps >= 0, ">= 0", optim.steps),
        (
            "--optim.epochs",
            optim.steps > 0 or 0 < optim.epochs < inf,
            "> 0 and finite",
            optim.epochs,
        ),
        (
            "--evaluate-every",
            0 <= options.evaluate_every < inf,
            ">= 0 and finite",
            options.evaluate_every,
        ),
        ("--checkpoint-every", options.checkpoint_every >= 1, ">= 1", options.checkpoint_every),
        ("--log-every", options.log_every >= 1, ">= 1", options.log_every),
        ("--seed", 0 <= options.seed < 2**63, "in [0, 2**63)", options.seed),
        ("--threads", options.threads >= 0, ">= 0", options.threads),
    ]
    for name, holds, rule, value in rules:
        if not holds:
            raise UsageError(f"{name} must be {rule}, got {value}")
    if options.init_classifier and options.init_coarser:
        raise UsageError("--init-classifier and --init-coarser exclude each other; give one")
