"""Scores like a trained network's: few classes compete in most places.

``scores/sample-fcn8s.npz`` holds the coarse maps (stride 8, 21 classes, float16) of a default
``fcn train`` run on images of its generated validation split. :func:`trained_scores` tiles them
into a mosaic of any size; the seams between images make it a little harder than one large image.
For fewer classes than 21 it takes the first. That data set has no more classes, so an extra class
takes, place by place, a score that lost (the 2nd best, 3rd, ...) somewhere else in the map. Such a
class is about as plausible as the losers of a real network, and seldom right; no network of that
many classes was trained.

``python -m benchmarks.scores RUN`` rewrites the file from the folder of a run.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).resolve().parent / "scores" / "sample-fcn8s.npz"
IMAGES = 32
# Rows and columns from where a group of extra classes takes its losers to where the next one does.
SHIFT = (5, 7)


@cache
def _tiles() -> Tensor:
    with np.load(FILE) as stored:
        return torch.from_numpy(stored["scores"].astype(np.float32))


def trained_scores(batch: int, channels: int, height: int, width: int) -> Tensor:
    """(batch, channels, height, width), float32, contiguous; the same every time."""
    tiles = _tiles()
    known, tile_height, tile_width = tiles.shape[1:]
    down, across = -(-height // tile_height), -(-width // tile_width)
    chosen = torch.arange(batch * down * across).reshape(batch, down, across) % len(tiles)
    mosaic = tiles[chosen].permute(0, 3, 1, 4, 2, 5)
    mosaic = mosaic.reshape(batch, known, down * tile_height, across * tile_width)
    mosaic = mosaic[:, :, :height, :width]
    if channels <= known:
        return mosaic[:, :channels].contiguous()
    losers = mosaic.sort(dim=1, descending=True).values[:, 1:]
    groups = -(-(channels - known) // losers.shape[1])
    shifts = [((i + 1) * SHIFT[0], (i + 1) * SHIFT[1]) for i in range(groups)]
    extra = torch.cat([losers.roll(shift, dims=(2, 3)) for shift in shifts], dim=1)
    return torch.cat([mosaic, extra[:, : channels - known]], dim=1)


def save_scores(run: Path, path: Path = FILE, data: Path | None = None) -> Tensor:
    """Stores the coarse maps of the run's network on images spread over its validation split.

    Args:
        run: folder of a finished run. Images of the commonest size are used.
        path: the file to write.
        data: folder of the data set, if the run's options do not name it.

    Returns:
        What was stored, (images, classes, h, w) float16.
    """
    from collections import Counter
    from dataclasses import replace

    from fcn_train.data import image_to_tensor
    from fcn_train.data.opening import open_split
    from fcn_train.evaluator import spread
    from fcn_train.network import normalization_of
    from fcn_train.run import load_run

    trained = load_run(run)
    options, model = trained.options, trained.model
    root = data if data is not None else options.data.root
    split = open_split(replace(options.data, root=root), options.data.val_split)
    normalization = normalization_of(options.model)
    images = [split[index].image for index in range(len(split))]
    common = Counter(image.shape for image in images).most_common(1)[0][0]
    images = [image for image in images if image.shape == common]
    # The cells whose centers lie in the image; the network's map reaches beyond it.
    stride = model.last_stride
    first = -(-(2 * model.last_offset - 2 * stride + 1) // (2 * stride))
    rows, columns = (slice(first, first + size // stride) for size in common[:2])
    with torch.inference_mode():
        maps = [
            model.scores(image_to_tensor(images[index], normalization)[None])[:, :, rows, columns]
            for index in spread(len(images), IMAGES)
        ]
    scores = torch.cat(maps).half()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, scores=scores.numpy())
    return scores


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print("usage: python -m benchmarks.scores RUN_FOLDER [DATA_FOLDER]", file=sys.stderr)
        return 2
    run, *data = map(Path, arguments)
    scores = save_scores(run, FILE, *data)
    print(f"{FILE}: {tuple(scores.shape)}, {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    # As in __main__.py: the installed fcn_ext, not the sources beside this folder.
    sys.path.append(sys.path.pop(0))
    sys.exit(main(sys.argv[1:]))
