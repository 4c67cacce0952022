"""Networks made only of torch's own operators, for programs without fcn_ext."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fcn_ext.models import Head
from fcn_train.data import Normalization
from fcn_train.export_options import Output, Pixels
from fcn_train.heads import Net, head_names
from fcn_train.network import network_of
from fcn_train.run import TrainedRun


def plain_network(run: TrainedRun) -> Net:
    """The network of ``run`` with every upsampling as a transposed convolution of torch's, the last
    one included: its scores have the size of the image.

    Learned upsampling starts bilinear, so a layer that is fixed in the run is one that learns here
    and was taught nothing.
    """
    kinds: dict[str, str] = {}
    for head in run.model.heads.values():
        assert isinstance(head, Head)
        kinds |= {
            layer: "depthwise" if kind == "fixed" else kind
            for layer, kind in head.upsampling.items()
        }
    upsampling = ",".join(f"{layer}={kind}" for layer, kind in kinds.items())
    options = replace(run.options.model, upsampling=upsampling)
    model = network_of(options, run.label_sets, run.options.data.channels)
    model.load_state_dict({**model.state_dict(), **run.model.state_dict()})
    return model.eval()


class ExportedNet(nn.Module):
    """What an exported file computes: normalization, network, and what is asked of its scores.

    Args:
        net: its scores have the size of the image.
        output: labels (N, H, W), the lowest of equal classes; logits or probabilities
            (N, C, H, W). Of several heads a dict by head.
        pixels: of the images (N, channels, H, W).
        normalization: of uint8 and float pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: Net, output: Output, pixels: Pixels, normalization: Normalization
    ) -> None:
        super().__init__()
        self.net = net
        self.output = output
        self.pixels = pixels
        self.bgr = normalization.bgr
        for name in ("mean", "std"):
            values = torch.tensor(getattr(normalization, name)).reshape(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        scores: Mapping[str, Tensor] = self.net.head_scores(self._normalized(images))
        made = {name: self._made_of(each) for name, each in scores.items()}
        if head_names(self.net) == [""]:
            return next(iter(made.values()))
        return made

    def _normalized(self, images: Tensor) -> Tensor:
        if self.pixels == "normalized":
            return images
        images = 255 * images if self.pixels == "float" else images.to(self.mean.dtype)
        images = (images - self.mean) / self.std
        return images.flip(1) if self.bgr else images

    def _made_of(self, scores: Tensor) -> Tensor:
        if self.output == "labels":
            return scores.argmax(1).to(torch.uint8 if scores.shape[1] <= 256 else torch.int16)
        return scores.softmax(1) if self.output == "probabilities" else scores
