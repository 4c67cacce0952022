"""A Hugging Face SegFormer, fine-tuned as its documentation shows, with one line around it.

    pip install transformers
    python examples/segformer_finetuning.py

The model is made from its configuration and the pictures are generated, so nothing is downloaded.
To fine-tune a trained one, load it by ``SegformerForSemanticSegmentation.from_pretrained``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation

import fcn_ext
from fcn_ext.metrics import ConfusionMatrix

CLASSES, VOID = 4, 255


def pictures(count: int, side: int = 96) -> tuple[Tensor, Tensor]:
    """Noisy images (N, 3, side, side) of colored stripes, and their labels (N, side, side)."""
    colors = torch.eye(CLASSES, 3) * 2
    stripes = torch.randint(0, CLASSES, (count, 1, side // 16)).repeat_interleave(16, 2)
    target = stripes.expand(count, side, side).clone()
    images = colors[target].permute(0, 3, 1, 2) + 0.3 * torch.randn(count, 3, side, side)
    target[:, ::16] = VOID
    return images, target


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # images this small do not pay for more
    config = SegformerConfig(
        num_labels=CLASSES,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 24, 32, 48],
        decoder_hidden_size=32,
        semantic_loss_ignore_index=VOID,
    )
    model = SegformerForSemanticSegmentation(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    with fcn_ext.fused_upsampling():
        for step in range(1, 61):
            images, target = pictures(4)
            # The model upsamples its logits for the loss: in the context, it never does.
            loss = model(pixel_values=images, labels=target).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 20 == 0:
                print(f"step {step}: loss {loss.item():.4f}")

    model.eval()
    images, target = pictures(8)
    matrix = ConfusionMatrix(CLASSES, ignore_index=VOID)
    with torch.no_grad(), fcn_ext.fused_upsampling():
        outputs = model(pixel_values=images, labels=target)
        logits = F.interpolate(outputs.logits, size=target.shape[1:], mode="bilinear")
        matrix.update(logits, target)  # no logits of full size here either
    print(f"mean IU {matrix.compute().mean_iu:.4f}")

    with torch.no_grad():
        plain = model(pixel_values=images, labels=target).loss
    print(f"loss of new images: {outputs.loss:.6f}, without the context: {plain:.6f}")


if __name__ == "__main__":
    main()
