"""What is measured, as data: a new size, or a new way to run an operator, is one line.

Sizes are those of published data sets and networks. ``cuda_batch`` fills a GPU, while ``batch``
keeps a CPU run short; times per byte carry over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch

Size = tuple[int, int]


@dataclass(frozen=True)
class MapCase:
    """Scores (N, C, h, w) brought to (N, C, height, width), h = ceil(height / stride).

    The window is the middle of the deconvolution, so that a peer can crop by its ``padding``.
    """

    name: str
    batch: int
    channels: int
    height: int
    width: int
    stride: int
    cuda_batch: int
    compiled: bool = False  # measure torch.compile here: compiling takes a while

    @property
    def size(self) -> Size:
        return self.height, self.width

    @property
    def num_classes(self) -> int:
        return self.channels

    @property
    def ignore_index(self) -> int:
        """As in LABELS: -1 if 255 is a class."""
        return 255 if self.channels <= 255 else -1

    @property
    def input_size(self) -> Size:
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def offset(self) -> Size:
        (h, w), stride = self.input_size, self.stride
        return ((h + 1) * stride - self.height) // 2, ((w + 1) * stride - self.width) // 2

    def shrunk(self) -> MapCase:
        height, width = 3 * self.stride - 2, 5 * self.stride
        return replace(self, batch=2, cuda_batch=2, channels=3, height=height, width=width)


@dataclass(frozen=True)
class FuseCase:
    """``coarse`` upsampled by 2, plus the window of a ``skip`` map at ``offset``."""

    name: str
    batch: int
    channels: int
    coarse: Size
    skip: Size
    offset: int
    cuda_batch: int
    compiled: bool = False

    @property
    def size(self) -> Size:
        return 2 * self.coarse[0] + 2, 2 * self.coarse[1] + 2

    def shrunk(self) -> FuseCase:
        return replace(self, batch=2, cuda_batch=2, channels=3, coarse=(4, 5), skip=(30, 30))


@dataclass(frozen=True)
class LabelCase:
    """Label maps (N, height, width), or logits of the same size."""

    name: str
    batch: int
    num_classes: int
    height: int
    width: int
    cuda_batch: int
    ignore_index: int = 255
    compiled: bool = False

    def shrunk(self) -> LabelCase:
        return replace(self, batch=2, cuda_batch=2, height=40, width=50)


Case = MapCase | FuseCase | LabelCase

CLASS_COUNTS = (2, 10, 21, 50, 150, 400, 847)
IMAGE_SIZES = (256, 512, 1024, 1536)

MAPS = (
    MapCase("voc-s8", 2, 21, 500, 500, 8, cuda_batch=20, compiled=True),
    MapCase("voc-s32", 1, 21, 500, 500, 32, cuda_batch=20),
    MapCase("cityscapes-s8", 1, 19, 1024, 2048, 8, cuda_batch=8),
    MapCase("cityscapes-s4", 1, 19, 1024, 2048, 4, cuda_batch=8),
    MapCase("ade20k-s4", 1, 150, 512, 512, 4, cuda_batch=16),
    MapCase("ade20k-s8", 1, 150, 512, 512, 8, cuda_batch=16),
    MapCase("ade-full-s4", 1, 847, 512, 512, 4, cuda_batch=4),
)

# Where torch.compile is measured on the heads.
HEAD_MAPS = tuple(replace(case, compiled=case.name in ("voc-s8", "ade20k-s8")) for case in MAPS)

# For the plot of time and memory against one size at a time.
SWEEP_MAPS = (
    *(MapCase(f"classes-{c}", 1, c, 512, 512, 8, cuda_batch=4) for c in CLASS_COUNTS),
    *(MapCase(f"size-{n}", 1, 19, n, n, 8, cuda_batch=4) for n in IMAGE_SIZES),
)

# FCN-8s on a 500 x 500 image fuses 16 -> 34 (pool4) and 34 -> 70 (pool3).
FUSIONS = (
    FuseCase("voc-pool4", 2, 21, (16, 16), (44, 44), 5, cuda_batch=20),
    FuseCase("voc-pool3", 2, 21, (34, 34), (88, 88), 9, cuda_batch=20, compiled=True),
    FuseCase("voc-pool3-large", 2, 21, (70, 70), (160, 160), 9, cuda_batch=20),
    FuseCase("cityscapes-pool3", 1, 19, (128, 256), (276, 532), 9, cuda_batch=8),
)

LABELS = (
    LabelCase("voc", 20, 21, 500, 500, cuda_batch=80, compiled=True),
    LabelCase("cityscapes", 2, 19, 1024, 2048, cuda_batch=16),
    LabelCase("ade20k", 16, 150, 512, 512, cuda_batch=64),
    # 255 is a class here, and labels do not fit a byte.
    LabelCase("ade-full", 4, 847, 512, 512, cuda_batch=32, ignore_index=-1),
)

LOGITS = (
    LabelCase("voc", 2, 21, 500, 500, cuda_batch=20, compiled=True),
    LabelCase("cityscapes", 1, 19, 1024, 2048, cuda_batch=8),
    LabelCase("ade20k", 1, 150, 512, 512, cuda_batch=16),
)


@dataclass(frozen=True)
class Variant:
    """How an operator is run: the dtype of its inputs, their layout, and what they look like.

    The label dtype "small" is the smallest that holds every class and ``ignore_index``. Scores
    are random unless they are ``trained`` (see scores.py); the name tells them apart where both
    are measured.
    """

    dtype: str
    layout: str = "nchw"
    labels: str = ""
    scores: str = ""

    def __str__(self) -> str:
        shown = self.layout if self.layout != "nchw" else ""
        return "-".join(part for part in (self.dtype, shown, self.labels, self.scores) if part)


FLOAT = Variant("float32")
CHANNELS_LAST = Variant("float32", layout="channels_last")
BFLOAT = Variant("bfloat16")
LABEL_VARIANTS = (
    Variant("int64", labels="regions"),
    Variant("int64", labels="random"),
    Variant("small", labels="regions"),
    Variant("small", labels="random"),
)
TRAINED = Variant("float32", scores="trained")
SCORE_VARIANTS = (
    TRAINED,
    Variant("float32", scores="random"),
    Variant("bfloat16", scores="trained"),
)

# operator -> the cases and variants that it is run on
Grid = dict[str, tuple[tuple[Case, ...], tuple[Variant, ...]]]

# Materialized maps and counts.
OPERATORS: Grid = {
    "upsample": (MAPS, (FLOAT, CHANNELS_LAST, BFLOAT)),
    "upsample_backward": (MAPS, (FLOAT, CHANNELS_LAST, BFLOAT)),
    "interpolate": (MAPS, (FLOAT, CHANNELS_LAST)),
    "interpolate_backward": (MAPS, (FLOAT, CHANNELS_LAST)),
    "fuse_skip": (FUSIONS, (FLOAT, BFLOAT)),
    "fuse_skip_backward": (FUSIONS, (FLOAT,)),
    "confusion_matrix": (LABELS, LABEL_VARIANTS),
    "confusion_matrix_logits": (LOGITS, (Variant("float32", labels="regions"),)),
}

# From coarse scores to a loss with its gradient, to labels or to counts. Labels are int64 regions;
# masks are each class's share of them.
HEADS: Grid = {
    "interpolate_cross_entropy": (HEAD_MAPS, (FLOAT, CHANNELS_LAST, BFLOAT)),
    "upsample_cross_entropy": (HEAD_MAPS[:2], (FLOAT,)),
    "interpolate_accuracy_cross_entropy": (HEAD_MAPS[:-1], (FLOAT, TRAINED)),
    "interpolate_dice": (HEAD_MAPS[:-1], (FLOAT,)),
    "interpolate_dice_cross_entropy": (HEAD_MAPS[:-1], (FLOAT,)),
    # Without 847 classes, whose targets in float32 alone take a gigabyte.
    "interpolate_sigmoid_cross_entropy": (HEAD_MAPS[:-1], (FLOAT,)),
    "interpolate_argmax": (HEAD_MAPS, SCORE_VARIANTS),
    "interpolate_confusion_matrix": (HEAD_MAPS, SCORE_VARIANTS),
}

# Predictions from coarse scores. Masks are those of queries or instances; four images go back to
# sizes of their own, and one is seen in windows, or at several scales and mirrored.
ONE_IMAGE = (
    MapCase("cityscapes-s8", 1, 19, 1024, 2048, 8, cuda_batch=4),
    MapCase("ade20k-s8", 1, 150, 512, 683, 8, cuda_batch=4),
)
PREDICTIONS: Grid = {
    "predict_masks": (
        (
            MapCase("masks-100-s4", 1, 100, 640, 640, 4, cuda_batch=4),
            MapCase("masks-20-s4", 1, 20, 1024, 1024, 4, cuda_batch=4),
        ),
        (FLOAT,),
    ),
    "predict_sizes": (
        (
            MapCase("ade20k-s4", 4, 150, 512, 512, 4, cuda_batch=16),
            MapCase("voc-s8", 4, 21, 500, 500, 8, cuda_batch=16),
        ),
        (TRAINED,),
    ),
    "predict_windows": (ONE_IMAGE, (TRAINED,)),
    "predict_views": (ONE_IMAGE, (TRAINED,)),
}

SWEEP: Grid = {"interpolate_cross_entropy": (SWEEP_MAPS, (FLOAT,))}

GRID: Grid = OPERATORS | HEADS | PREDICTIONS

# What --rows accepts.
GRIDS: dict[str, Grid] = {
    "all": GRID,
    "operators": OPERATORS,
    "heads": HEADS,
    "predictions": PREDICTIONS,
    "sweep": SWEEP,
}

QUICK = (
    "upsample/voc-s8/*",
    "upsample_backward/voc-s8/*",
    "interpolate*/voc-s32/float32",
    "fuse_skip*/voc-pool3/float32",
    "confusion_matrix/voc/int64-*",
    "confusion_matrix_logits/voc/*",
    "*_cross_entropy/voc-s8/float32",
    "interpolate_argmax/voc-s8/float32-trained",
    "interpolate_confusion_matrix/voc-s8/float32-trained",
)


@dataclass(frozen=True)
class Row:
    """One line of the comparison: an operator on a case in a variant."""

    operator: str
    case: Case
    variant: Variant

    @property
    def name(self) -> str:
        return f"{self.operator}/{self.case.name}/{self.variant}"

    @property
    def backward(self) -> bool:
        """Whether only a backward pass is timed."""
        return self.operator.endswith("_backward")

    @property
    def loss(self) -> bool:
        """Whether a loss and its gradient are timed together."""
        return self.operator.endswith(("_cross_entropy", "_dice"))

    @property
    def accuracy(self) -> bool:
        """Whether the loss comes with its share of correct pixels."""
        return "_accuracy_" in self.operator

    @property
    def regions(self) -> bool:
        """Whether the loss is one of regions."""
        return "_dice" in self.operator

    @property
    def head(self) -> bool:
        return self.operator in HEADS

    @property
    def prediction(self) -> bool:
        return self.operator in PREDICTIONS

    @property
    def compiled(self) -> bool:
        """Whether torch.compile is measured here: in the first variant of some cases."""
        return self.case.compiled and self.variant == GRID[self.operator][1][0]

    def matches(self, patterns: tuple[str, ...]) -> bool:
        """Whether a pattern names this row (shell wildcards) or is part of its name."""
        return any(fnmatch(self.name, pattern) or pattern in self.name for pattern in patterns)

    def shrunk(self) -> Row:
        """The same row on a few pixels, for tests."""
        return replace(self, case=self.case.shrunk())


def rows(patterns: tuple[str, ...] = (), grid: str = "all") -> Iterator[Row]:
    """Every row of one of GRIDS, or those that match a pattern."""
    for operator, (cases, variants) in GRIDS[grid].items():
        for case in cases:
            for variant in variants:
                row = Row(operator, case, variant)
                if not patterns or row.matches(patterns):
                    yield row
