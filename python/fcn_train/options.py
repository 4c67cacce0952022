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
    """Layout of another data set with the same classes to evaluate on; default: the one trained
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
    pixels of the first class. shape: both, with the foreground in white."""
    sampling: Literal["shuffle", "replacement"] = "shuffle"
    """shuffle: each image once per epoch. replacement: drawn with replacement, as in the
    reference."""
    memory: bool = False
    """Decode all images before the first step and keep them."""
    cache: str = ""
    """Size of a memory, such as 2GiB, that keeps decoded images. All loader processes share it;
    images that do not fit are decoded each time. Default: none."""
    transfer: Literal["float32", "uint8"] = "float32"
    """How images are sent to the device. uint8: as bytes, a quarter of the memory, and normalized
    there to the same values."""
    workers: int = -1
    """Loader processes; 0 = in this one, -1 = none on a CPU and up to 8 on a GPU."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a network; without arguments a narrow FCN-8s on a generated sample data set."""

    recipe: Annotated[str, tyro.conf.arg(metavar="NAME")] = "default"
    """default: from scratch, narrow, with batch norm. paper: 20 images per step, momentum 0.9.
    heavy: the reference repository's, one image per step, momentum 0.99, summed loss (fcn-alexnet:
    20 images, 0.9 and the mean), for the networks that it has. Or the name of a published
    experiment, which `fcn recipes` lists, or a file of your own, mine.json."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    loss: str = CROSS_ENTROPY
    """cross-entropy; dice, jaccard or tversky; dice+cross-entropy, their sum; focal; or the
    cross-entropy of the hardest pixels: ohem, those with a probability below 0.7 and at least 1/16,
    or top-k, a tenth. For several sets of labels by name, e.g.
    semantic=dice,geometric=cross-entropy."""
    logits: Logits = "coarse"
    """coarse: loss and evaluation straight from the network's coarse scores, in less time and a
    fraction of the memory. full: from the logits of every pixel, for comparison."""
    init_classifier: Path | None = None
    """Classifier to start from (VGG16, AlexNet, GoogLeNet or SqueezeNet): a .pth state dict,
    .safetensors or .npz."""
    init_scores: str = ""
    """Rows of the classifier's last layer from which the scores of classes start, such as
    151-268=dog,345+346=cow,rest=background for ImageNet's; default: all from zero."""
    init_scores_scale: float = 1.0
    """Factor on the scores of those rows. Below 1 the first probabilities are less extreme;
    fcn-squeezenet needs 0.1."""
    init_coarser: Path | None = None
    """Run folder of the next coarser network to start from (32s -> 16s -> 8s)."""
    init_weights: Path | None = None
    """Run folder, or file with weights of the same network, to fine-tune. Score layers of other
    classes start from zero; what is left out is listed."""
    init_streams: str = ""
    """Run folders of the networks, one for each stream, that late fusion starts from:
    color=runs/color,hha=runs/hha."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, augmentation and dropout."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:N."""
    threads: int = 0
    """CPU threads; 0 = torch's choice, at most the CPUs that the process may use."""
    amp: Amp = "none"
    """Forward passes under torch.autocast. bf16: with the range of float32, so nothing else is
    needed. fp16: with a scaled loss; steps whose gradients overflow are skipped."""
    compile: Flag = False
    """Compile the network with torch.compile, in the first step. Needs images of one size
    (--data.crop) and a C++ compiler, on a GPU also Triton."""
    channels_last: bool = True
    """NHWC memory layout, in which convolutions are faster on most machines."""
    sync_batch_norm: bool = True
    """With several processes: normalize over the images of all of them, as one process would, or
    over those of each."""
    evaluate_every: float = 5.0
    """Epochs between evaluations on the val split; 0 = only at the end."""
    patience: int = 0
    """Evaluations without a better mean IU after which the run ends early; 0 = never."""
    checkpoint_every: int = 200
    """Steps between checkpoints; one more is written after every evaluation."""
    log_every: int = 20
    """Steps per row of training.csv."""
    tensorboard: bool = False
    """Also write the rows of training.csv and evaluations.csv for TensorBoard, into the folder
    tensorboard of the run."""
    output: Path | None = field(default=None, metadata=UNSAVED)
    """Run folder; default runs/<kind>-<model>-<number>, or runs/<recipe>-<number>."""
    resume: str | None = field(default=None, metadata=UNSAVED)
    """Run folder to continue from its last checkpoint, or auto: --output, or the newest unfinished
    run. With more --optim.steps or --optim.epochs than before, it is trained further, finished or
    not."""
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
    """Run folder of `fcn train`, instead of RUN."""
    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """Run folder of `fcn train`."""
    split: str | None = None
    """Split to score; default: the run's val split."""
    data_kind: DataKind | None = None
    """Layout of another data set with the same classes; default: the run's."""
    data_root: Path | None = None
    """Folder of the data set; default: the run's."""
    weights: Weights = "last"
    """best: those with the highest mean IU of the evaluations during training. For a run with
    --optim.ema these two are the average, and last-raw and best-raw are the weights as learned."""
    batch: int = 1
    """Images per forward pass, if neighbors in the list have the same size."""
    logits: Logits = "coarse"
    """As --logits of `fcn train`, whichever the run was trained with."""
    tta: str = "none"
    """Test-time augmentation: average the probabilities of each image and its mirror image (flip),
    of the image at several scales (0.75,1,1.25), or of both (flip,0.75,1,1.25)."""
    calibration: Flag = False
    """Compare predicted probabilities with how often they are right: a table of 15 bins, a picture
    and the expected calibration error."""
    device: str = "auto"
    """As --device of `fcn train`."""
    threads: int = 0
    """As --threads of `fcn train`."""
    amp: Amp = "none"
    """As --amp of `fcn train`."""
    output: Path | None = None
    """Report folder; default RUN/evaluate-SPLIT or, for a list given by its path or for other data,
    RUN/evaluate-SPLIT-CHECKSUM, with a checksum of that path."""
    traceback: Flag = False
    """Show Python's traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Segment image files: for each, a PNG of class indices with the palette and an overlay."""

    images: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN IMAGE [IMAGE ...]")
    ]
    """Run folder of `fcn train`, unless --run or --model is given; then image files, or folders to
    search. Photographs are rotated upright as their EXIF tag says."""
    output: Path
    """Folder for the results."""
    run: Path | None = None
    """Run folder of `fcn train`, instead of the first argument."""
    model: Path | None = None
    """ONNX file of `fcn export`, instead of a run."""
    depth: Path | None = None
    """Folder of the images' depth, for a run that sees it: PNG files with the same names."""
    hha: Path | None = None
    """Folder of the images' HHA, for a run that sees it; `fcn data hha` writes it."""
    label_set: str = ""
    """The set of labels to predict, for a run that learned several, e.g. geometric; default: all,
    each in a folder of its name."""
    weights: Weights = "last"
    """As --weights of `fcn evaluate`."""
    tile: int = 0
    """Side in pixels of the windows in which large images are predicted; 0: whole images."""
    overlap: int = 0
    """Pixels that neighboring windows share at least; probabilities are averaged there."""
    tile_weights: TileWeights = "constant"
    """Weights of a window's pixels there: constant; gaussian, less towards the border, by a
    Gaussian of an eighth of its side (nnU-Net's); or linear, by the distance to the border."""
    tta: str = "none"
    """As --tta of `fcn evaluate`, for each window."""
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
