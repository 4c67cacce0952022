"""torchvision's DeepLabV3 in the loop of its reference scripts, with one line around a step.

    pip install torchvision
    python examples/torchvision_training.py

The pictures are generated and the weights random, so nothing is downloaded. Any other net of
``torchvision.models.segmentation`` and any data set will do as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

import fcn_ext

CLASSES, VOID = 4, 255


def pictures(count: int, side: int = 64) -> tuple[Tensor, Tensor]:
    """Noisy images (N, 3, side, side) of colored stripes, and their labels (N, side, side)."""
    colors = torch.eye(CLASSES, 3) * 2
    stripes = torch.randint(0, CLASSES, (count, 1, side // 32)).repeat_interleave(32, 2)
    target = stripes.expand(count, side, side).clone()
    images = colors[target].permute(0, 3, 1, 2) + 0.3 * torch.randn(count, 3, side, side)
    target[:, ::16] = VOID
    return images, target


def criterion(inputs: dict[str, Tensor], target: Tensor) -> Tensor:
    """The losses of both heads, as in torchvision's references/segmentation/train.py."""
    losses = {}
    for name, x in inputs.items():
        losses[name] = nn.functional.cross_entropy(x, target, ignore_index=VOID)
    return losses["out"] + 0.5 * losses["aux"]


@fcn_ext.fused_upsampling()  # the one line
def train_one_batch(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, target: Tensor
) -> float:
    output = model(images)  # two heads at full size, neither of them computed
    loss = criterion(output, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@fcn_ext.fused_upsampling()
def evaluate(model: nn.Module, images: Tensor, target: Tensor) -> tuple[float, float]:
    """Loss, and the share of pixels that are labeled right."""
    model.eval()
    with torch.inference_mode():
        output = model(images)
        loss = criterion(output, target)
        right = output["out"].argmax(1).flatten() == target.flatten()
    return loss.item(), right[target.flatten() != VOID].float().mean().item()


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # images this small do not pay for more
    model = deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # for a training as short as this one
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(1, 81):
        loss = train_one_batch(model, optimizer, *pictures(8))
        if step % 20 == 0:
            print(f"step {step}: loss {loss:.4f}")

    images, target = pictures(8)
    loss, right = evaluate(model, images, target)
    print(f"pixels labeled right: {right:.1%}")
    with torch.inference_mode():
        plain = criterion(model(images), target).item()
    print(f"loss of new images: {loss:.6f}, without the context: {plain:.6f}")


if __name__ == "__main__":
    main()
