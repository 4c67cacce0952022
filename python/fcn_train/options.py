"""The options of `fcn train`, `evaluate`, `predict` and `recipes`; a field's text is its help.

What no run can have is refused by `fcn_train.option_rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fcn_train.data_options import DataKind, Flag, ReadingOptions
from fcn_train.model_options import ModelOptions
from fcn_train.optim_options import OptimOptions

RecipeName = Literal["default", "paper", "heavy"]
Logits = Literal["coarse", "full"]
Amp = Literal["none", "bf16", "fp16"]
Weights = Literal["last", "best", "last-raw", "best-raw"]
CROSS_ENTROPY = "cross-entropy"
TileWeights = Literal["constant", "gaussian", "linear"]
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
    """Move images by up to this many pixels up or down and left or right."""
    mask: Literal["none", "foreground", "background", "shape"] = "none"
    """What is hidden from the network. foreground: pixels of all classes but the first. background:
    those of the first. shape: both, with the foreground in white."""
    sampling: Literal["shuffle", "replacement"] = "shuffle"
    """shuffle: each image once per epoch. replacement: each drawn anew, as in the reference."""
    memory: bool = False
    """Decode every image once and keep it."""
    cache: str = ""
    """Memory, such as 2GiB, that keeps images once they are decoded. All loader processes share it;
    images that it has no room for are decoded each time. Default: none."""
    transfer: Literal["float32", "uint8"] = "float32"
    """How images come to the device. uint8: as bytes, a quarter of the memory on the way, and
    normalized there to the same values."""
    workers: int = -1
    """Loader processes; 0 = in this one, -1 = none on a CPU and up to 8 on a GPU."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a network; without arguments a narrow FCN-8s on a generated sample data set."""

    recipe: Annotated[str, tyro.conf.arg(metavar="NAME")] = "default"
    """default: from scratch, narrow, with batch norm. paper: 20 images per step, momentum 0.9.
    heavy: the reference repository's, one image per step, momentum 0.99, summed loss (fcn-alexnet:
    20 images, 0.9 and the mean), for the networks that it has. Or the name of a published
    experiment, which `fcn recipes` lists, or a file like theirs, mine.json."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    loss: str = CROSS_ENTROPY
    """cross-entropy; dice, jaccard or tversky, of classes; dice+cross-entropy, their sum; focal; or
    the cross-entropy of the hardest pixels: ohem, those below 0.7 and at least 1/16, or top-k, a
    tenth. Of several sets of labels by name, e.g. semantic=dice,geometric=cross-entropy."""
    logits: Logits = "coarse"
    """coarse: loss and evaluation straight from the network's coarse scores, in less time and a
    fraction of the memory. full: from the logits of every pixel, to compare with."""
    init_classifier: Path | None = None
    """Classifier to start from (VGG16, AlexNet, GoogLeNet or SqueezeNet): a .pth state dict,
    .safetensors or .npz."""
    init_scores: str = ""
    """Rows of that classifier's last layer that the scores of classes start from, such as
    151-268=dog,345+346=cow,rest=background of ImageNet's; default: all from zero."""
    init_scores_scale: float = 1.0
    """Factor on the scores of those rows. Below 1 the network starts less sure of itself;
    fcn-squeezenet wants 0.1."""
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
    amp: Amp = "none"
    """Forward passes under torch.autocast. bf16: with the range of float32, so nothing else is
    needed. fp16: with a scaled loss; steps whose gradients overflow are skipped."""
    compile: Flag = False
    """Run the network's part of each step as code that torch.compile makes in the first one. Needs
    images of one size (--data.crop) and a C++ compiler, on a GPU Triton with it."""
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
    tensorboard: bool = False
    """Write the rows of training.csv and evaluations.csv for TensorBoard, too, into the folder
    tensorboard of the run."""
    output: Path | None = field(default=None, metadata=UNSAVED)
    """Run folder; default runs/<kind>-<model>-<number>, or runs/<recipe>-<number>."""
    resume: str | None = field(default=None, metadata=UNSAVED)
    """Run folder to continue from its last checkpoint, or auto: --output, or the newest unfinished
    run. More --optim.steps or --optim.epochs than it had train it further, finished or not."""
    config: Path | None = field(default=None, metadata=UNSAVED)
    """config.json of a run; its values become the defaults."""
    profile: Flag = field(default=False, metadata=UNSAVED)
    """Measure where the time goes (loading, transfer, forward, loss, backward, optimizer,
    validation); a table at the end, and profile.csv in the run folder."""
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
    weights: Weights = "last"
    """best: those with the highest mean IU of the evaluations during training. Of a run with
    --optim.ema these two are the average, and last-raw and best-raw the weights as learned."""
    batch: int = 1
    """Images per forward pass, where neighbors in the list have the same size."""
    logits: Logits = "coarse"
    """As --logits of `fcn train`, whichever the run was trained with."""
    tta: str = "none"
    """Test-time augmentation, averaging probabilities: flip, of each image and its mirror image;
    0.75,1,1.25, of the image at these scales; flip,0.75,1,1.25, of each of them both ways."""
    calibration: Flag = False
    """Compare how sure the network is with how often it is right: a table of 15 bins, a picture and
    the expected calibration error."""
    device: str = "auto"
    """As --device of `fcn train`."""
    threads: int = 0
    """As --threads of `fcn train`."""
    amp: Amp = "none"
    """As --amp of `fcn train`."""
    output: Path | None = None
    """Report folder; default RUN/evaluate-SPLIT, and for a list given by its path or other data
    RUN/evaluate-SPLIT-CHECKSUM, of its place, which the report names as its source."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Segment image files: for each, a PNG of class indices with the palette and an overlay."""

    images: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN IMAGE [IMAGE ...]")
    ]
    """Run folder of `fcn train`, unless it is given as --run or a --model takes its place; then
    image files, or folders to search. Photographs are turned upright as their EXIF tag says."""
    output: Path
    """Folder for the results."""
    run: Path | None = None
    """Run folder of `fcn train`, if it is not the first argument."""
    model: Path | None = None
    """ONNX file of `fcn export`, in place of a run."""
    depth: Path | None = None
    """Folder of the images' depth, for a run that sees it: PNG of the same names."""
    hha: Path | None = None
    """Folder of the images' HHA, for a run that sees it; `fcn data hha` writes it."""
    label_set: str = ""
    """Of a run that learned several sets of labels, the one to segment by, e.g. geometric; default:
    each, in a folder of its name."""
    weights: Weights = "last"
    """As --weights of `fcn evaluate`."""
    tile: int = 0
    """Side of the windows that images are predicted in, in pixels, for images that are too large;
    0: at once."""
    overlap: int = 0
    """Pixels that neighboring windows share at least; probabilities are averaged there."""
    tile_weights: TileWeights = "constant"
    """How much the pixels of a window count there: all alike; less towards its border, by a
    Gaussian of an eighth of its side (nnU-Net's); or by the distance to the border (linear)."""
    tta: str = "none"
    """As --tta of `fcn evaluate`, of each window."""
    opacity: float = 0.55
    """Opacity of the classes over the image."""
    strict: Flag = False
    """Stop at the first image that cannot be read."""
    device: str = "auto"
    """As --device of `fcn train`."""
    threads: int = 0
    """As --threads of `fcn train`."""
    amp: Amp = "none"
    """As --amp of `fcn train`."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True)
class RecipesOptions:
    """List the published experiments with their scores, or show what one of them sets."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = ""
    """The experiment to show, or a file like theirs; default: a table of all."""
    json: Flag = False
    """Print JSON: the experiment, or a list of all."""
    traceback: Flag = False
    """Show Python's traceback of an error."""
