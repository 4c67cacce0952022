"""A net of segmentation_models.pytorch trained by cross-entropy and Dice, with one line around it.

    pip install segmentation_models_pytorch
    python examples/smp_training.py

The library's own Dice loss works in the context, too, but on full-size probabilities. This
package's takes coarse scores, and the cross-entropy in the same pass. The pictures are generated
and the weights random, so nothing is downloaded.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor

import fcn_ext
from fcn_ext import losses

CLASSES, VOID = 4, 255


def pictures(count: int, side: int = 96) -> tuple[Tensor, Tensor]:
    """Noisy images (N, 3, side, side) of colored stripes, and their labels (N, side, side)."""
    colors = torch.eye(CLASSES, 3) * 2
    stripes = torch.randint(0, CLASSES, (count, 1, side // 32)).repeat_interleave(32, 2)
    target = stripes.expand(count, side, side).clone()
    images = colors[target].permute(0, 3, 1, 2) + 0.3 * torch.randn(count, 3, side, side)
    target[:, ::16] = VOID
    return images, target


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # images this small do not pay for more
    model = smp.FPN("resnet18", encoder_weights=None, classes=CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    for step in range(1, 61):
        images, target = pictures(4)
        with fcn_ext.fused_upsampling():
            logits = model(images)  # (4, 4, 96, 96), not computed
            loss = losses.dice_cross_entropy_loss(logits, target, convention="smp")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.4f}")

    model.eval()
    images, target = pictures(8)
    with torch.inference_mode(), fcn_ext.fused_upsampling():
        logits = model(images)
        loss = losses.dice_cross_entropy_loss(logits, target, convention="smp")
        counts = smp.metrics.get_stats(
            logits.argmax(1), target, "multiclass", ignore_index=VOID, num_classes=CLASSES
        )
    print(f"mean IU {smp.metrics.iou_score(*counts, reduction='macro').item():.4f}")

    with torch.inference_mode():
        logits = model(images)
        plain = smp.losses.DiceLoss("multiclass", ignore_index=VOID)(logits, target)
        plain += torch.nn.functional.cross_entropy(logits, target, ignore_index=VOID)
    print(f"loss of new images: {loss:.6f}, by the library's and torch's: {plain:.6f}")


if __name__ == "__main__":
    main()
