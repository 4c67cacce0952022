"""Images per second that the training loader delivers, by processes and cache.

python -m benchmarks.loader VOCdevkit/VOC2012 --workers 0 1 2
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.scaling import table
from fcn_train.data import (
    IMAGENET,
    Batch,
    SegmentationDataset,
    TrainLoader,
    augmentation,
    open_dataset,
)
from fcn_train.data.cache import CachedDataset, SharedStore

CROP, SCALE, BATCH = 320, (0.75, 1.5), 8  # of the default recipe for data sets of photographs


def rate(
    dataset: SegmentationDataset, *, workers: int, as_bytes: bool, batches: int, repeats: int
) -> tuple[float, float]:
    """Images per second, after ``batches`` that do not count: the best of some repeats by a clock,
    and that of all repeats by the CPU time of this process and the loader's, which others do not
    slow down.
    """
    best, images = 0.0, repeats * batches * BATCH
    stream = _batches(dataset, workers, as_bytes, batches)
    for _ in stream:
        pass
    del stream  # ends its processes
    cpu = _cpu_seconds()
    stream = _batches(dataset, workers, as_bytes, repeats * batches)
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in itertools.islice(stream, batches):
            pass
        best = max(best, batches * BATCH / (time.perf_counter() - began))
    for _ in stream:
        pass
    del stream
    # Ended processes are timed in ticks; a short load may take none.
    return best, images / max(_cpu_seconds() - cpu, 1 / os.sysconf("SC_CLK_TCK"))


def _batches(
    dataset: SegmentationDataset, workers: int, as_bytes: bool, count: int
) -> Iterator[Batch]:
    """The first batches of a new loader."""
    loader = TrainLoader(
        dataset,
        augmentation(crop=CROP, scale=SCALE),
        None if as_bytes else IMAGENET,
        batch_size=BATCH,
        workers=workers,
    )
    yield from loader.batches(0, count)


def _cpu_seconds() -> float:
    """CPU seconds of this process and of its ended child processes."""
    return sum(os.times()[:4])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="data set in VOC's layout")
    parser.add_argument("--split", default="train")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batches", type=int, help="counted at once; default an epoch")
    options = parser.parse_args(arguments)
    rows = []
    for workers, cache, as_bytes in itertools.product(
        options.workers, (False, True), (False, True)
    ):
        dataset: SegmentationDataset = open_dataset("voc", options.root, options.split)
        batches = options.batches or -(-len(dataset) // BATCH)
        if cache:
            dataset = CachedDataset(dataset, SharedStore(len(dataset), 2**32))
        by_clock, by_cpu = rate(
            dataset, workers=workers, as_bytes=as_bytes, batches=batches, repeats=options.repeats
        )
        sent = "uint8" if as_bytes else "float32"
        row = [f"{workers}", "yes" if cache else "no", sent, f"{by_clock:.0f}", f"{by_cpu:.0f}"]
        rows.append(row)
    header = ["loader processes", "cache", "sent as", "images per second", "per second of CPU time"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
