"""Two lines of a training loop, changed: the loss straight from coarse scores.

    python examples/own_training_loop.py

The net is any module that ends in a map of scores smaller than the image. Here it learns to tell
bright discs from dark ones on a gray background.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcn_ext import ops

CLASSES, VOID = 3, 255  # background, dark disc, bright disc


def pictures(count: int, side: int = 96) -> tuple[Tensor, Tensor]:
    """Noisy images (N, 3, side, side) of one disc each, and their labels (N, side, side) uint8."""
    kind = torch.randint(1, CLASSES, (count, 1, 1))
    center = torch.randint(24, side - 24, (2, count, 1, 1))
    y, x = torch.arange(side)[:, None], torch.arange(side)
    distance = ((y - center[0]) ** 2 + (x - center[1]) ** 2).sqrt()
    target = torch.where(distance < 18, kind, 0)
    brightness = torch.tensor([0.0, -1.0, 1.0])[target]
    images = brightness[:, None] + 0.3 * torch.randn(count, 3, side, side)
    target[(distance - 18).abs() < 1] = VOID  # the outline belongs to neither
    return images, target.to(torch.uint8)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # images this small do not pay for more
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, CLASSES, 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    for step in range(1, 61):
        images, target = pictures(8)
        scores = model(images)  # (8, 3, 12, 12): one score per 8 x 8 pixels

        # Before: logits = F.interpolate(scores, size=target.shape[1:], mode="bilinear")
        #         loss = F.cross_entropy(logits, target.long(), ignore_index=VOID)
        loss = ops.cross_entropy(scores, target, ignore_index=VOID)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.4f}")

    with torch.no_grad():
        images, target = pictures(8)
        scores = model(images)
        logits = F.interpolate(scores, size=target.shape[1:], mode="bilinear")
        plain = F.cross_entropy(logits, target.long(), ignore_index=VOID)
        ours = ops.cross_entropy(scores, target, ignore_index=VOID)
        print(f"loss of new images: {ours:.6f}, by the two lines before: {plain:.6f}")

        # Evaluation changes the same way.
        labels = ops.argmax(scores, target.shape[1:])
        right = (labels == target)[target != VOID].float().mean()
        print(f"pixels labeled right: {right:.1%}")


if __name__ == "__main__":
    main()
