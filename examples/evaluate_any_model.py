"""Mean IU and the other scores of any model, straight from its coarse scores.

    python examples/evaluate_any_model.py

The model may come from any library. All it takes is the scores before they are upsampled, and how
that is done: by ``F.interpolate`` (``Resize``) or FCN's transposed convolution (``Deconvolution``).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcn_ext.geometry import Resize
from fcn_ext.metrics import ConfusionMatrix

CLASS_NAMES = ("sky", "land", "water", "road")
VOID = 255


class CoarseNet(nn.Module):
    """Stands for your model: scores (N, 4, H / 8, W / 8) of images (N, 3, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        mean = F.avg_pool2d(images, 8)
        return torch.cat([mean, mean.sum(1, keepdim=True).neg()], 1)


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Stands for your data loader: images, and labels that noise makes imperfect."""
    for _ in range(count):
        images = F.interpolate(torch.randn(2, 3, 8, 8), size=(256, 256), mode="bilinear")
        scores = torch.cat([images, images.sum(1, keepdim=True).neg()], 1)
        target = (scores + 0.3 * torch.randn_like(scores)).argmax(1)
        target[:, :4] = VOID
        yield images, target


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    model = CoarseNet().eval()
    matrix = ConfusionMatrix(len(CLASS_NAMES), ignore_index=VOID, class_names=CLASS_NAMES)

    for images, target in batches(10):
        scores = model(images)  # (2, 4, 32, 32); neither logits nor labels are stored
        matrix.update_scores(scores, target, Resize())

    # Under torch.distributed, matrix.all_reduce() here adds up all processes.
    result = matrix.compute()
    print(f"pixel accuracy {result.pixel_accuracy:.4f}")
    print(f"mean accuracy  {result.mean_accuracy:.4f}")
    print(f"mean IU        {result.mean_iu:.4f}")
    for name, iu in zip(CLASS_NAMES, result.class_iu, strict=True):
        print(f"  {name:6} {iu:.4f}")

    # The usual way gives the same counts, but for pixels whose best two scores are equal within
    # rounding.
    usual = ConfusionMatrix(len(CLASS_NAMES), ignore_index=VOID)
    torch.manual_seed(0)
    for images, target in batches(10):
        logits = F.interpolate(model(images), size=target.shape[1:], mode="bilinear")
        usual.update(logits, target)
    differing = int((usual.matrix - matrix.matrix).abs().sum())
    print(f"counts that differ from those of the logits: {differing} of {result.num_pixels}")


if __name__ == "__main__":
    main()
