"""FCN-32s, FCN-16s and FCN-8s, each on VGG16, AlexNet, GoogLeNet or SqueezeNet; net surgery.

>>> model = build_model("fcn8s", num_classes=21)
>>> logits = model(images)  # (N, 3, H, W) -> (N, 21, H, W), any H, W >= 1
>>> loss = model.loss(images, target)  # cross-entropy; target (N, H, W), 255 is void
>>> labels = model.predict(images)  # (N, H, W) uint8
>>> model.evaluate(images, target, matrix)  # adds to a fcn_ext.metrics.ConfusionMatrix

The last three never compute the logits of every pixel: they take less time and a fraction of the
memory, for the same results. :class:`CoarseNet` gives these methods to any module that returns
coarse scores.

A net is made of parts. A trunk (:class:`VGG16Trunk`, ...) gives feature maps, a :class:`Head`
scores some of them for its classes, and :class:`FCN` puts a head on a trunk, or on several whose
scores are summed. :class:`MultiHeadFCN` puts several heads on them.

State dicts have the published names (conv1_1 ... conv5_3, fc6, fc7, score_fr, score_pool4,
score_pool3; conv1 ... conv5 in AlexNet), so those of other programs with these names load. Where
Caffe has a slash (inception_3a/1x1, fire2/squeeze1x1), they have a dot or an underscore. Upsampling
is fixed and has no parameters unless asked otherwise: kernels in such a state dict
(upscore2.weight, ...) must be bilinear, and are left out.
"""

from __future__ import annotations

from .alexnet import AlexNetTrunk
from .build import (
    MODEL_NAMES,
    FCN8s,
    FCN16s,
    FCN32s,
    FCNAlexNet,
    FCNGoogLeNet,
    FCNSqueezeNet,
    build_model,
    build_multi_head_model,
)
from .class_rows import initialize_scores
from .classifier import (
    CLASSIFIER_NAMES,
    Classifier,
    build_classifier,
    classifier_name,
    classifier_state_dict,
    recognize_classifier,
)
from .coarse import CoarseNet, CoarseScores
from .dense import rarefied, shift_and_stitch
from .fcn import FCN
from .fusion import initialize_from_streams
from .googlenet import GoogLeNetTrunk
from .heads import Head
from .multi_head import MultiHeadFCN
from .receptive_field import Layer, Region, measured_field, receptive_fields
from .squeezenet import SqueezeNetTrunk
from .stages import initialize_from_coarser
from .surgery import SurgeryReport, load_classifier
from .trunk import Trunk
from .vgg16 import VGG16Trunk

__all__ = [
    "CLASSIFIER_NAMES",
    "FCN",
    "MODEL_NAMES",
    "AlexNetTrunk",
    "Classifier",
    "CoarseNet",
    "CoarseScores",
    "FCN8s",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "FCNGoogLeNet",
    "FCNSqueezeNet",
    "GoogLeNetTrunk",
    "Head",
    "Layer",
    "MultiHeadFCN",
    "Region",
    "SqueezeNetTrunk",
    "SurgeryReport",
    "Trunk",
    "VGG16Trunk",
    "build_classifier",
    "build_model",
    "build_multi_head_model",
    "classifier_name",
    "classifier_state_dict",
    "initialize_from_coarser",
    "initialize_from_streams",
    "initialize_scores",
    "load_classifier",
    "measured_field",
    "rarefied",
    "receptive_fields",
    "recognize_classifier",
    "shift_and_stitch",
]
