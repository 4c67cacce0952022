"""The options of the network, and the names that it can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

ModelName = Literal[
    "fcn32s",
    "fcn16s",
    "fcn16s-atonce",
    "fcn8s",
    "fcn8s-atonce",
    "fcn-alexnet",
    "fcn-alexnet-16s",
    "fcn-alexnet-16s-atonce",
    "fcn-alexnet-8s",
    "fcn-alexnet-8s-atonce",
    "fcn-alexnet-torchvision",
    "fcn-alexnet-torchvision-16s",
    "fcn-alexnet-torchvision-16s-atonce",
    "fcn-alexnet-torchvision-8s",
    "fcn-alexnet-torchvision-8s-atonce",
    "fcn-googlenet",
    "fcn-googlenet-16s",
    "fcn-googlenet-16s-atonce",
    "fcn-googlenet-8s",
    "fcn-googlenet-8s-atonce",
    "fcn-squeezenet",
    "fcn-squeezenet-16s",
    "fcn-squeezenet-16s-atonce",
    "fcn-squeezenet-8s",
    "fcn-squeezenet-8s-atonce",
    "fcn-pool5",
    "fcn-pool4",
    "fcn-pool3",
]
VOC_MEAN = (122.67892, 116.66877, 104.00699)  # of VGG16's weights, too
# What the names of networks without fc6 and fc7 begin with.
WITHOUT_FC = ("fcn-googlenet", "fcn-squeezenet", "fcn-pool")


@dataclass(frozen=True)
class ModelOptions:
    """The network."""

    name: Annotated[ModelName, tyro.conf.arg(aliases=("--model",), metavar="NET")] = "fcn8s"
    """On VGG16: fcn32s, fcn16s, fcn8s, fcn16s-atonce, fcn8s-atonce; -atonce: with scaled skips, to
    be trained at once instead of in stages. On other classifiers, with scores every 32 pixels:
    fcn-alexnet (Caffe's), fcn-alexnet-torchvision, fcn-googlenet (Caffe's), fcn-squeezenet; with
    -16s, -8s, -16s-atonce or -8s-atonce at the end, as those on VGG16. A single map of VGG16:
    fcn-pool5, fcn-pool4, fcn-pool3."""
    width: float = 0.25
    """Channels of each layer, relative to the published classifier's."""
    padding: Literal["published", "same"] = "same"
    """published: 100 pixels before the first layer. same: each layer keeps its size, which saves
    VGG16 40 % of its work."""
    batch_norm: bool = True
    """Batch normalization after every convolution of the trunk."""
    fc_channels: int = 256
    """Channels of fc6 and fc7; 0 = 4096 times width. fcn-googlenet, fcn-squeezenet and fcn-pool3 to
    fcn-pool5 have neither and need 0."""
    dropout: float = 0.5
    """Probability of dropout after fc6 and fc7 (fcn-googlenet, fcn-squeezenet: before the scores).
    """
    upsampling: str = "fixed"
    """fixed: bilinear. depthwise, dense: learned, with a kernel for each class or for each pair of
    classes. One for all layers, or by name: inner=dense (all but the last, as in the paper),
    last=depthwise, upscore2=dense,upscore_pool4=depthwise."""
    skip_scales: tuple[float, ...] = ()
    """Factors on the maps of the skips before they are scored, from coarse to fine; default 1, and
    0.01 0.0001 for -atonce."""
    context: bool = False
    """Also score the mean of the last map and add the result to all cells: global context, as in
    ParseNet. Each tile or crop has its own."""
    fusion: Literal["early", "late"] = "early"
    """How color and depth or HHA are fused (--data.channels). early: one network whose first layer
    sees all channels. late: a network for each, whose scores are averaged."""
    head_weights: str = ""
    """Factors on the losses of several sets of labels (--data.label-folder), which are added up:
    semantic=1,geometric=0.5. Default 1 each, as published."""
    input: Literal["imagenet", "caffe"] = "imagenet"
    """How images are normalized, which must match the weights. imagenet (torchvision's): RGB / 255,
    then ImageNet's mean and deviation. caffe (Caffe's): BGR 0..255 minus a mean color."""
    mean: tuple[float, float, float] = VOC_MEAN
    """The mean color for caffe, R G B; imagenet has its own. Recipes take the published one of a
    data set, or VOC's."""
