"""Nets of other libraries, made from their configurations: nothing is downloaded.

Each is a function (classes, size) -> (net, loss, predict), where ``loss(net, images, target)`` and
``predict(net, images, size)`` are what the library's own users write.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

VOID = 255

Built = tuple[nn.Module, Callable[..., Tensor], Callable[..., Tensor]]


@dataclass(frozen=True)
class Net:
    name: str
    library: str
    build: Callable[[Any, int, int], Built]
    size: int = 64
    """Rows and columns of the images of its training; large nets have small ones."""
    frozen: bool = False
    """Whether its batch norm keeps the statistics of its first images. Over few pixels, those of
    each batch let a difference of the last bit grow tenfold in a few steps."""

    def __str__(self) -> str:
        return self.name

    @property
    def distribution(self) -> str:
        """What installs the library."""
        return "mmsegmentation" if self.library == "mmseg" else self.library

    def made(self, classes: int, size: int) -> Built:
        return self.build(importlib.import_module(self.library), classes, size)


# --------------------------------------------------------------------------- transformers


def _transformers_loss(net: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    loss: Tensor = net(pixel_values=images, labels=target).loss
    return loss


def _transformers_predict(net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    logits = net(pixel_values=images).logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False).argmax(1)


def _of_transformers(name: str, config: Callable[[Any, int, int], Any]) -> Net:
    def build(library: Any, classes: int, size: int) -> Built:
        cls = getattr(library, f"{name}ForSemanticSegmentation")
        configuration = config(library, classes, size)
        configuration.semantic_loss_ignore_index = VOID
        return cls(configuration), _transformers_loss, _transformers_predict

    return Net(f"{name}ForSemanticSegmentation", "transformers", build)


def _segformer(library: Any, classes: int, size: int) -> Any:
    return library.SegformerConfig(
        num_labels=classes,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 40, 64],
        decoder_hidden_size=64,
    )


def _upernet(library: Any, classes: int, size: int) -> Any:
    backbone = library.ConvNextConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 24, 32, 48],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return library.UperNetConfig(
        backbone_config=backbone,
        num_labels=classes,
        hidden_size=32,
        auxiliary_in_channels=32,
        auxiliary_channels=16,
    )


_SMALL_TRANSFORMER = {
    "patch_size": 16,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def _dpt(library: Any, classes: int, size: int) -> Any:
    return library.DPTConfig(
        num_labels=classes,
        image_size=size,
        **_SMALL_TRANSFORMER,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
    )


def _vision_transformer(name: str) -> Callable[[Any, int, int], Any]:
    def config(library: Any, classes: int, size: int) -> Any:
        return getattr(library, f"{name}Config")(
            num_labels=classes,
            image_size=size,
            **_SMALL_TRANSFORMER,
            out_indices=[1, 2, 3, 4],
            pool_scales=[1, 2],
            use_relative_position_bias=True,
            auxiliary_channels=16,
        )

    return config


def _mobilevit(library: Any, classes: int, size: int) -> Any:
    return library.MobileViTConfig(
        num_labels=classes,
        image_size=size,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
        aspp_out_channels=16,
        aspp_dropout_prob=0.0,
    )


# --------------------------------------------------------------------------- torchvision


def _torchvision_loss(net: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """As in torchvision's references/segmentation/train.py: heads' outputs by name."""
    losses = {
        name: F.cross_entropy(output, target, ignore_index=VOID)
        for name, output in net(images).items()
    }
    return losses["out"] + 0.5 * losses["aux"] if "aux" in losses else losses["out"]


def _torchvision_predict(net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    labels: Tensor = net(images)["out"].argmax(1)
    return labels


def _of_torchvision(name: str, **options: Any) -> Net:
    def build(library: Any, classes: int, size: int) -> Built:
        make = getattr(library.models.segmentation, name)
        net = make(weights=None, weights_backbone=None, num_classes=classes, **options)
        return net, _torchvision_loss, _torchvision_predict

    return Net(name, "torchvision", build, size=32, frozen=True)


# --------------------------------------------------------------------------- smp


def _smp_loss(net: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    return nn.CrossEntropyLoss(ignore_index=VOID)(net(images), target)  # type: ignore[no-any-return]


def _smp_predict(net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    labels: Tensor = net(images).softmax(dim=1).argmax(dim=1)
    return labels


def _of_smp(name: str) -> Net:
    def build(library: Any, classes: int, size: int) -> Built:
        net = getattr(library, name)("resnet18", encoder_weights=None, classes=classes)
        return net, _smp_loss, _smp_predict

    return Net(name, "segmentation_models_pytorch", build, frozen=True)


# --------------------------------------------------------------------------- mmsegmentation


def _with_or_without_compiled_operators() -> None:
    """mmsegmentation imports those of mmcv whether or not a head needs them, and mmcv has no wheel
    for most versions of torch. None of these nets needs one; whatever asks for one is refused."""
    try:
        importlib.import_module("mmcv.ops")
        return
    except ImportError:
        operators = ModuleType("mmcv.ops")

    def refused(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def operator(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(f"mmcv.ops.{name} is not installed")

        return operator

    operators.__getattr__ = refused  # type: ignore[method-assign]
    sys.modules["mmcv.ops"] = operators


def _mmsegmentation_samples(target: Tensor) -> list[Any]:
    data, structures = (importlib.import_module(f"{of}.structures") for of in ("mmengine", "mmseg"))
    size = {"img_shape": target.shape[1:], "ori_shape": target.shape[1:]}
    return [
        structures.SegDataSample(
            gt_sem_seg=data.PixelData(data=labels[None]), metainfo={**size, "pad_shape": size}
        )
        for labels in target
    ]


def _mmsegmentation_loss(net: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    losses = net(images, _mmsegmentation_samples(target), mode="loss")
    loss: Tensor = net.parse_losses(losses)[0]  # type: ignore[operator]
    return loss


def _mmsegmentation_predict(net: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
    logits = net.decode_head.forward(net.extract_feat(images))  # type: ignore[operator, union-attr]
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False).argmax(1)


def _of_mmsegmentation(name: str, **head: Any) -> Net:
    norm = {"type": "BN", "requires_grad": True}
    common = {
        "channels": 32,
        "dropout_ratio": 0.0,
        "norm_cfg": norm,
        "align_corners": False,
        "loss_decode": {"type": "CrossEntropyLoss"},
    }

    def build(library: Any, classes: int, size: int) -> Built:
        _with_or_without_compiled_operators()
        importlib.import_module("mmseg.models")
        net = importlib.import_module("mmseg.registry").MODELS.build(
            {
                "type": "EncoderDecoder",
                "backbone": {
                    "type": "ResNetV1c",
                    "depth": 18,
                    "base_channels": 16,
                    "norm_cfg": norm,
                    "out_indices": (0, 1, 2, 3),
                },
                "decode_head": {**common, "num_classes": classes, "type": name, **head},
                "auxiliary_head": {
                    **common,
                    "num_classes": classes,
                    "type": "FCNHead",
                    "in_channels": 64,
                    "in_index": 2,
                    "num_convs": 1,
                },
                "train_cfg": {},
                "test_cfg": {"mode": "whole"},
            }
        )
        return net, _mmsegmentation_loss, _mmsegmentation_predict

    return Net(name, "mmseg", build, frozen=True)


_LAST = {"in_channels": 128, "in_index": 3}
_ALL = {"in_channels": [16, 32, 64, 128], "in_index": [0, 1, 2, 3]}


NETS = (
    _of_transformers("Segformer", _segformer),
    _of_transformers("UperNet", _upernet),
    _of_transformers("DPT", _dpt),
    _of_transformers("Beit", _vision_transformer("Beit")),
    _of_transformers("Data2VecVision", _vision_transformer("Data2VecVision")),
    _of_transformers("MobileViT", _mobilevit),
    _of_torchvision("fcn_resnet50"),
    _of_torchvision("deeplabv3_resnet50", aux_loss=True),
    _of_torchvision("lraspp_mobilenet_v3_large"),
    _of_smp("DeepLabV3Plus"),
    _of_smp("FPN"),
    _of_smp("PSPNet"),
    _of_smp("Segformer"),
    _of_smp("UPerNet"),
    _of_mmsegmentation("FCNHead", **_LAST, num_convs=1),
    _of_mmsegmentation("ASPPHead", **_LAST, dilations=(1, 2)),
    _of_mmsegmentation("PSPHead", **_LAST, pool_scales=(1, 2)),
    _of_mmsegmentation("UPerHead", **_ALL, pool_scales=(1, 2)),
    _of_mmsegmentation("SegformerHead", **_ALL),
)
