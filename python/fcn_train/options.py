"""Every option of every command, as dataclasses; the field's text is the help of its option."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fcn_train.data_options import DataKind, Flag, ReadingOptions
from fcn_train.errors import UsageError
from fcn_train.model_options import WITHOUT_FC, ModelOptions

RecipeName = Literal["default", "paper", "heavy"]
Logits = Literal["coarse", "full"]
# Fields that say how to run and not what are left out of config.json.
UNSAVED = {"saved": False}


@dataclass(frozen=True, kw_only=True)
class DataOptions(ReadingOptions):
    """Which images, and how they are cut for training."""

    train_split: str = "train"
    """Split trained on: a list's name (for voc in ImageSets/Segmentation), or its path."""
    val_split: str = "val"
    """Split evaluated on (folder: "" is every image)."""
    val_kind: DataKind | None = None
    """Layout of another data set to evaluate on, of the same classes; default: the one trained
    on."""
    val_root: Path | None = None
    """Its folder."""
    crop: int = 96
    """Side of the random square crop in pixels, void where it leaves the image; 0 = native size."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Range of the random resize before the crop."""
    mirror: bool = True
    """Mirror left-right with probability 1/2."""
    jitter: int = 0
    """Move images by up to so many pixels up or down and left or right."""
    mask: Literal["none", "foreground", "background", "shape"] = "none"
    """What the network does not see of an image: pixels of all classes but the first (foreground),
    those of the first (background), or both, but where the foreground is (shape)."""
    sampling: Literal["shuffle", "replacement"] = "shuffle"
    """Each image once an epoch, or drawn anew every time as the reference does."""
    memory: bool = False
    """Decode every image once and keep it."""
    workers: int = -1
    """Loader processes; 0 = in this one, -1 = none on a CPU and up to 8 on a GPU."""


@dataclass(frozen=True)
class OptimOptions:
    """The optimizer, and its schedule."""

    method: Literal["sgd", "adamw"] = "sgd"
    """sgd: stochastic gradient descent with momentum. adamw: rates that adapt to each weight's
    gradients; try --optim.lr 1e-4 for trained weights."""
    layers: Literal["all", "scores"] = "all"
    """Which layers are trained. scores: the score layers and learned upsampling alone, as in the
    paper's FCN-32s-fixed; all others stay as they were started."""
    batch: int = 8
    """Images per forward pass."""
    accumulate: int = 1
    """Forward passes whose gradients are averaged into one step."""
    lr: float = 0.1
    """Learning rate of the weights."""
    momentum: float = 0.9
    """Share of the previous update that each step keeps; adamw: of the mean gradient (beta1)."""
    weight_decay: float = 5e-4
    """L2 penalty on the weights; adamw: the share that each step takes off them, times lr."""
    bias_lr: float = 2.0
    """Learning rate of the biases of convolutions, relative to lr."""
    bias_decay: float = 0.0
    """Weight decay of those biases, relative to weight_decay."""
    score_lr: float = 1.0
    """Learning rate of the score layers, those of the skips among them, relative to the rate that
    they would have. They start from zero: on a trunk of trained weights, 10 teaches them while it
    changes little. Large features (SqueezeNet's) want less than 1 with sgd."""
    loss: Literal["mean", "sum"] = "mean"
    """mean: per valid pixel of the batch. sum: over all its pixels, per image (Caffe's
    normalize: false)."""
    class_weights: str = "none"
    """none, median-frequency, or a JSON or text file with one number per class; of several sets of
    labels by name, e.g. semantic=median-frequency,geometric=none."""
    class_sampling: str = "none"
    """none, or weights as of --optim.class-weights: pixels of a class whose weight is less than 1
    count in a step with that probability, the others always."""
    cells: float = 1.0
    """Probability at which each cell of the coarse scores is kept: the pixels nearest to the others
    do not count in a step's loss (the paper's sampling of patches)."""
    schedule: Literal["poly", "fixed"] = "poly"
    """poly: lr * (1 - step / steps) ** power."""
    power: float = 0.9
    warmup: int = 0
    """Steps over which lr rises linearly from lr / warmup."""
    epochs: float = 30.0
    """Length of the run in passes over the train split; --optim.steps goes before it."""
    steps: int = 0
    """Length of the run in optimizer steps; 0 = from --optim.epochs."""
    fused: bool = True
    """Use torch's fused optimizer where the device has it."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a network; without arguments a narrow FCN-8s on a generated sample data set."""

    recipe: Annotated[str, tyro.conf.arg(metavar="NAME")] = "default"
    """default: from scratch, narrow, with batch norm. paper: 20 images per step, momentum 0.9.
    heavy: the reference repository's, one image per step, momentum 0.99, summed loss (fcn-alexnet:
    20 images, 0.9 and the mean), for the networks that it has. Or the name of a published
    experiment, which `fcn recipes` lists."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    logits: Logits = "coarse"
    """coarse: loss and evaluation straight from the network's coarse scores, in less time and a
    fraction of the memory. full: from the logits of every pixel, to compare with."""
    init_classifier: Path | None = None
    """Classifier to start from (VGG16, AlexNet, GoogLeNet or SqueezeNet): a .pth state dict,
    .safetensors or .npz."""
    init_coarser: Path | None = None
    """Run folder of the next coarser network to start from (32s -> 16s -> 8s)."""
    init_weights: Path | None = None
    """Run folder, or file of weights of the same network, to fine-tune. Score layers of other
    classes start from zero; what was left out is said."""
    init_streams: str = ""
    """Run folders of the networks of one stream each that late fusion starts from:
    color=runs/color,hha=runs/hha."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, augmentation and dropout."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    threads: int = 0
    """CPU threads; 0 = torch's choice, at most the CPUs that the process may use."""
    amp: Literal["none", "bf16"] = "none"
    """bf16: forward passes under torch.autocast."""
    channels_last: bool = True
    """NHWC memory layout, in which convolutions are faster on most machines."""
    sync_batch_norm: bool = True
    """Of several processes: batch normalization goes by the images of all, as in one process, or by
    those of each."""
    evaluate_every: float = 5.0
    """Epochs between evaluations on the val split; 0 = only at the end."""
    patience: int = 0
    """Evaluations without a better mean IU after which the run ends early; 0 = never."""
    checkpoint_every: int = 200
    """Steps between checkpoints; one more is written after every evaluation."""
    log_every: int = 20
    """Steps per row of training.csv."""
    output: Path | None = field(default=None, metadata=UNSAVED)
    """Run folder; default runs/<kind>-<model>-<number>, or runs/<recipe>-<number>."""
    resume: str | None = field(default=None, metadata=UNSAVED)
    """Run folder to continue from its last checkpoint, or auto: --output, or the newest unfinished
    run. More --optim.steps or --optim.epochs than it had train it further, finished or not."""
    config: Path | None = field(default=None, metadata=UNSAVED)
    """config.json of a run; its values become the defaults."""
    traceback: Flag = field(default=False, metadata=UNSAVED)
    """Show Python's traceback of an error."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained run on a split and write the report."""

    run: Path | None = None
    """Run folder of `fcn train`, if it is not given as RUN."""
    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """Run folder of `fcn train`."""
    split: str | None = None
    """Split to score; default: the run's val split."""
    data_kind: DataKind | None = None
    """Layout of another data set with the same classes; default: the run's."""
    data_root: Path | None = None
    """Folder of the data set; default: the run's."""
    weights: Literal["last", "best"] = "last"
    """best: those with the highest mean IU of the evaluations during training."""
    batch: int = 1
    """Images per forward pass, where neighbors in the list have the same size."""
    logits: Logits = "coarse"
    """As --logits of `fcn train`, whichever the run was trained with."""
    tta: Flag = False
    """Test-time augmentation: average the probabilities of each image and its mirror image."""
    device: str = "auto"
    """As --device of `fcn train`."""
    threads: int = 0
    """As --threads of `fcn train`."""
    amp: Literal["none", "bf16"] = "none"
    """As --amp of `fcn train`."""
    output: Path | None = None
    """Report folder; default RUN/evaluate-SPLIT."""
    traceback: Flag = False


@dataclass(frozen=True)
class PredictOptions:
    """Segment image files: for each, a PNG of class indices with the palette and an overlay."""

    images: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN IMAGE [IMAGE ...]")
    ]
    """Run folder of `fcn train`, unless it is given as --run; then image files, or folders to
    search. Photographs are turned upright as their EXIF tag says."""
    output: Path
    """Folder for the results."""
    run: Path | None = None
    """Run folder of `fcn train`, if it is not the first argument."""
    depth: Path | None = None
    """Folder of the images' depth, for a run that sees it: PNG of the same names."""
    hha: Path | None = None
    """Folder of the images' HHA, for a run that sees it; `fcn data hha` writes it."""
    label_set: str = ""
    """Of a run that learned several sets of labels, the one to segment by, e.g. geometric; default:
    each, in a folder of its name."""
    weights: Literal["last", "best"] = "last"
    """As --weights of `fcn evaluate`."""
    tile: int = 0
    """Side of the windows that images are predicted in, in pixels, for images that are too large;
    0: at once."""
    overlap: int = 0
    """Pixels that neighboring windows share at least; probabilities are averaged there."""
    tta: Flag = False
    """As --tta of `fcn evaluate`."""
    opacity: float = 0.55
    """Opacity of the classes over the image."""
    strict: Flag = False
    """Stop at the first image that cannot be read."""
    device: str = "auto"
    """As --device of `fcn train`."""
    threads: int = 0
    """As --threads of `fcn train`."""
    amp: Literal["none", "bf16"] = "none"
    """As --amp of `fcn train`."""
    traceback: Flag = False


@dataclass(frozen=True)
class RecipesOptions:
    """List the published experiments with their scores, or show what one of them sets."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """The experiment to show; default: a table of all."""
    traceback: Flag = False


def check(options: TrainOptions) -> None:
    """Refuse values that no run can have, naming the option."""
    data, model, optim = options.data, options.model, options.optim
    rules = [
        ("--data.crop", 0 <= data.crop <= 65536, "in [0, 65536]", data.crop),
        ("--data.scale", 0 < data.scale[0] <= data.scale[1], "0 < low <= high", data.scale),
        ("--data.jitter", 0 <= data.jitter <= 65536, "in [0, 65536]", data.jitter),
        ("--data.workers", data.workers >= -1, ">= -1", data.workers),
        ("--model.width", model.width > 0, "> 0", model.width),
        ("--model.fc-channels", model.fc_channels >= 0, ">= 0", model.fc_channels),
        (
            "--model.fc-channels",
            model.fc_channels == 0 or not model.name.startswith(WITHOUT_FC),
            f"0 for {model.name}, which has neither fc6 nor fc7",
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
        ("--optim.score-lr", 0 < optim.score_lr < inf, "> 0 and finite", optim.score_lr),
        ("--optim.cells", 0 < optim.cells <= 1, "in (0, 1]", optim.cells),
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
        ("--threads", 0 <= options.threads <= 1024, "in [0, 1024]", options.threads),
        ("--patience", options.patience >= 0, ">= 0", options.patience),
        (
            "--patience",
            options.patience == 0 or options.evaluate_every > 0,
            "0 without evaluations (--evaluate-every 0)",
            options.patience,
        ),
    ]
    for name, holds, rule, value in rules:
        if not holds:
            raise UsageError(f"{name} must be {rule}, got {value}")
    sources = {
        "--init-classifier": options.init_classifier,
        "--init-coarser": options.init_coarser,
        "--init-weights": options.init_weights,
        "--init-streams": options.init_streams,
    }
    given = [name for name, path in sources.items() if path]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other; give one")
