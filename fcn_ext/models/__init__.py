"""FCN-32s, FCN-16s, FCN-8s (on VGG16), FCN-AlexNet and FCN-GoogLeNet, and net surgery for them.

>>> model = build_model("fcn8s", num_classes=21)
>>> logits = model(images)  # (N, 3, H, W) -> (N, 21, H, W), any H, W >= 1
>>> loss = model.loss(images, target)  # cross-entropy; target (N, H, W), 255 is void
>>> labels = model.predict(images)  # (N, H, W) uint8
>>> model.evaluate(images, target, matrix)  # adds to a fcn_ext.metrics.ConfusionMatrix

The last three never write the logits of every pixel: they take less time and a fraction of the
memory, and equal what the logits give.

Parameters carry the published names (conv1_1 ... conv5_3, fc6, fc7, score_fr, score_pool4,
score_pool3; conv1 ... conv5 in AlexNet), so state dicts of nets with these names load; where Caffe
has a slash (inception_3a/1x1) they have a dot or an underscore. Upsampling
is fixed and has no parameters: kernels that such a state dict holds (upscore2.weight, ...) are
checked to be the bilinear ones and left out.
"""

from __future__ import annotations

from .build import build_model
from .fcn import FCN
from .fcn_alexnet import FCNAlexNet
from .fcn_googlenet import FCNGoogLeNet
from .fcn_vgg16 import FCN8s, FCN16s, FCN32s
from .surgery import SurgeryReport, initialize_from_coarser, load_classifier

__all__ = [
    "FCN",
    "FCN8s",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "FCNGoogLeNet",
    "SurgeryReport",
    "build_model",
    "initialize_from_coarser",
    "load_classifier",
]
