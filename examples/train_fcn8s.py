"""Train an FCN-8s from Python, then segment a picture with it.

    python examples/train_fcn8s.py                        # pictures of discs, for a first look
    python examples/train_fcn8s.py --root mine --epochs 60 --crop 320

``--root`` is a folder of your own images and labels; docs/data.md says how to lay it out, and
``write_pictures`` makes one. The run's folder holds the report, the scores and the weights; this
program adds ``prediction.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from fcn_train.data import IMAGENET, image_to_tensor, open_dataset, overlay
from fcn_train.options import DataOptions, ModelOptions, OptimOptions, TrainOptions
from fcn_train.run import load_run
from fcn_train.train import train


def write_pictures(root: Path, side: int = 64) -> None:
    """Pictures of one disc each, red or blue, and their labels, in the layout of a folder."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("background\nred disc\nblue disc\n")
    colors = np.array([[90, 90, 90], [220, 40, 40], [40, 40, 220]])
    random = np.random.default_rng(0)
    for split, count in (("train", 64), ("val", 8)):
        names = [f"{split}-{index:02}" for index in range(count)]
        (root / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            y, x = np.ogrid[:side, :side]
            center_y, center_x = random.integers(16, side - 16, 2)
            inside = (y - center_y) ** 2 + (x - center_x) ** 2 < 14**2
            label = np.where(inside, random.integers(1, 3), 0).astype(np.uint8)
            image = colors[label] + random.normal(0, 20, (side, side, 3))
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"images/{name}.png")
            Image.fromarray(label).save(root / f"labels/{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train an FCN-8s and segment a picture.")
    parser.add_argument("--root", type=Path, help="folder of your images and labels")
    parser.add_argument("--output", type=Path, help="the run's folder (default: a new one in runs)")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--crop", type=int, default=64, help="side of the crops trained on")
    arguments = parser.parse_args()

    root = arguments.root
    if root is None:
        root = Path("runs") / "example-data"
        if not root.exists():
            write_pictures(root)

    options = TrainOptions(
        data=DataOptions(kind="folder", root=root, crop=arguments.crop),
        model=ModelOptions(name="fcn8s", width=0.125, fc_channels=64),
        optim=OptimOptions(batch=8, lr=0.1, epochs=arguments.epochs),
        evaluate_every=0,  # at the end only
        threads=1 if arguments.root is None else 0,  # crops of 64 pixels do not pay for more
        output=arguments.output,
    )
    folder = train(options)

    run = load_run(folder)
    example = open_dataset("folder", root, "val")[0]
    images = image_to_tensor(example.image, IMAGENET)[None]
    labels = run.model.predict(images)[0]
    for index, name in enumerate(run.classes.names):
        print(f"{name}: {(labels == index).float().mean():.1%} of the picture")

    picture = overlay(example.image, labels.numpy(), run.classes.palette)
    Image.fromarray(picture).save(folder / "prediction.png")
    print(f"see {folder / 'prediction.png'} and {folder / 'report.html'}")


if __name__ == "__main__":
    main()
