"""The arithmetic of docs/scaling.md: a model of training on many GPUs, not a measurement.

    python -m benchmarks.scaling

prints its tables.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fcn_ext.models import build_model

FLOAT = 4  # bytes of a gradient and of a logit
PER_HOST = 8  # GPUs
GPUS = (8, 64, 512)
NETS = ("fcn8s", "fcn-googlenet-8s", "fcn-squeezenet-8s")
CLASSES = 21
IMAGES = 8  # per GPU in one step

LOADER_RATE = 90.0
"""Images per second of one core that gives bytes, without a cache; docs/scaling.md, about."""
CACHED_RATE = 140.0
"""The same with a cache."""
STEPS = (0.05, 0.1, 0.2)
"""Seconds of a step that the loader has to keep up with."""

SETS = {"SBD": 8498, "ADE20K": 20210, "Cityscapes": 2975}
"""Training images of published sets."""


@dataclass(frozen=True)
class Link:
    """A connection between GPUs.

    Attributes:
        name: including its speed.
        speed: bytes per second per GPU, each way.
        latency: seconds per message.
    """

    name: str
    speed: float
    latency: float


NVLINK = Link("NVLink 4, 450 GB/s per GPU", 450e9, 5e-6)
BETWEEN = (
    Link("InfiniBand NDR, 50 GB/s per GPU", 50e9, 10e-6),
    Link("Ethernet, 100 Gbit/s per host", 12.5e9 / PER_HOST, 30e-6),
)


@dataclass(frozen=True)
class Logits:
    """Scores of one GPU's images, and how far they are from full size."""

    name: str
    classes: int
    height: int
    width: int
    images: int
    stride: int


LOGITS = (
    Logits("VOC, stride 8", 21, 512, 512, 8, 8),
    Logits("Cityscapes, stride 4", 19, 1024, 1024, 4, 4),
    Logits("ADE20K, stride 8", 150, 512, 512, 8, 8),
)


@functools.lru_cache
def parameters(name: str, classes: int) -> int:
    """The number of learned parameters of a net as published.

    Example:
        >>> parameters("fcn-squeezenet-8s", 21)
        749439
    """
    with torch.device("meta"):
        model = build_model(name, num_classes=classes)
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def ring_seconds(size: float, members: int, link: Link) -> float:
    """Seconds in which a ring sums ``size`` bytes and gives the sum to all (Patarasuk and Yuan,
    2009): 2 rounds of n - 1 messages of ``size / n`` bytes.

    Example:
        >>> ring_seconds(8e9, 2, Link("", speed=4e9, latency=0.5))
        3.0
    """
    return 2 * (members - 1) * (link.latency + size / members / link.speed)


def all_reduce_seconds(size: float, gpus: int, inside: Link, between: Link) -> float:
    """Seconds to sum ``size`` bytes of each GPU: within hosts of 8, so that each GPU has a part,
    then these parts between hosts, and back.

    Example:
        >>> fast = Link("", speed=8e9, latency=0)
        >>> all_reduce_seconds(8e9, 8, fast, fast) == ring_seconds(8e9, 8, fast)
        True
    """
    members = min(gpus, PER_HOST)
    hosts = math.ceil(gpus / PER_HOST)
    within = ring_seconds(size, members, inside)
    return within + ring_seconds(size / members, hosts, between)


def logits_bytes(case: Logits) -> int:
    """Minimum bytes that torch's upsampling and cross-entropy hold in the backward pass: three
    full-size maps, the log-softmax and the gradients with respect to it and to the logits."""
    return 3 * FLOAT * case.images * case.classes * case.height * case.width


def coarse_bytes(case: Logits) -> int:
    """Bytes that the loss from coarse scores holds: the scores and their gradient."""
    rows, columns = math.ceil(case.height / case.stride), math.ceil(case.width / case.stride)
    return 2 * FLOAT * case.images * case.classes * rows * columns


def loader_cores(seconds: float, images: int, rate: float) -> float:
    """Cores that load ``images`` in ``seconds`` if each loads ``rate`` per second.

    Example:
        >>> loader_cores(0.1, 8, 40.0)
        2.0
    """
    return images / (seconds * rate)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def gradients_table() -> str:
    """Milliseconds of an all-reduce for each net, number of GPUs and connection between hosts."""
    rows = []
    for name in NETS:
        size = FLOAT * parameters(name, CLASSES)
        for link in BETWEEN:
            times = [1000 * all_reduce_seconds(size, gpus, NVLINK, link) for gpus in GPUS]
            cells = [f"{time:.1f}" for time in times]
            rows.append([f"`{name}`", f"{size / 1e6:.0f} MB", link.name, *cells])
    return table(["net", "gradients", "between hosts", *(f"{n} GPUs, ms" for n in GPUS)], rows)


def logits_table() -> str:
    """Bytes of one GPU's loss by either method."""
    rows = [
        [
            f"{case.images} images of {case.height} x {case.width}, {case.name}",
            f"{case.classes}",
            f"{logits_bytes(case) / 1e9:.2f} GB",
            f"{coarse_bytes(case) / 1e9:.3f} GB",
        ]
        for case in LOGITS
    ]
    return table(["one GPU's images", "classes", "of every pixel", "from coarse scores"], rows)


def loader_table() -> str:
    """Cores that a host of 8 GPUs needs to load its images."""
    rows = []
    for seconds in STEPS:
        wanted = PER_HOST * IMAGES
        cores = [loader_cores(seconds, wanted, rate) for rate in (LOADER_RATE, CACHED_RATE)]
        images = f"{wanted / seconds:,.0f}"
        rows.append([f"{1000 * seconds:.0f} ms", images, *(f"{math.ceil(n)}" for n in cores)])
    header = ["step", "images per second on a host", "cores without a cache", "cores with one"]
    return table(header, rows)


def sets_table() -> str:
    """Steps per epoch."""
    rows = [
        [f"{gpus}", f"{gpus * IMAGES:,}", *(f"{n / (gpus * IMAGES):.1f}" for n in SETS.values())]
        for gpus in GPUS
    ]
    names = [f"{name}, {count:,} images" for name, count in SETS.items()]
    return table(["GPUs", "images per step", *names], rows)


TABLES = (gradients_table, logits_table, loader_table, sets_table)

if __name__ == "__main__":
    print("\n\n".join(make() for make in TABLES))
