"""`fcn describe`: the layers of a network, and what their cells see of the image."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from fcn_ext.models import Layer, Region, build_model, measured_field, receptive_fields
from fcn_train.console import Console
from fcn_train.describe_options import DescribeOptions
from fcn_train.errors import UsageError
from fcn_train.field_pictures import draw_fields
from fcn_train.files import check_file, make_folder, write_text
from fcn_train.model_options import ModelName
from fcn_train.option_rules import refuse_seed
from fcn_train.path_options import refuse_other_ending
from fcn_train.report import to_json
from fcn_train.run import load_run
from fcn_train.run_folder import refuse_file_of_run
from fcn_train.runtime import open_runtime
from fcn_train.tables import text_table
from fcn_train.words import counted

FIRST_SIZE = (224, 224)  # which classifiers are made for
LARGEST_SIDE = 8192
MOST_CLASSES = 65536
EFFECTIVE = 0.95
COLUMNS = ("layer", "kind", "parameters", "map", "stride", "offset", "field", "measured", "95 %")


@dataclass(frozen=True, eq=False)
class Measured:
    """What the gradient of a cell shows about its field.

    Attributes:
        layer: its layer.
        gradient: (H, W) float64, of the image's size.
        region: the box around all pixels that count.
        effective: side of the square around the field's middle that holds 95 % of the gradient.
    """

    layer: Layer
    gradient: np.ndarray
    region: Region
    effective: int


def describe(options: DescribeOptions, console: Console | None = None) -> dict[str, Layer]:
    """Print a table of the layers, and write the picture and the numbers if asked to.

    Raises:
        UsageError: an option cannot be used, or the network cannot run on such images.
    """
    console = console or Console()
    check(options)
    open_runtime("cpu", options.threads, "none", console.warn)
    torch.manual_seed(options.seed)
    net = network(options, real=False)
    channels = input_channels(net)
    layers = fields(net, channels, options.size or FIRST_SIZE, options)
    if not layers:
        raise UsageError(f"{options.model}: has no layer that makes a map of the image")
    size = options.size or needed_size(layers)
    layers = fields(net, channels, size, options)
    measured: dict[str, Measured] = {}
    if options.measure:
        names = options.layer or (widest(layers),)
        for name in names:
            if name not in layers:
                raise UsageError(f"--layer must be one of {', '.join(layers)}, got {name!r}")
        net = network(options, real=True)
        images = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
        for name in names:
            measured[name] = measure(net, layers[name], images)
    rows = [row(layer, measured.get(name)) for name, layer in layers.items()]
    console.line(
        f"{options.model}: "
        f"{counted(sum(p.numel() for p in net.parameters()), 'parameter', ',')}, image of "
        f"{size[0]} x {size[1]}"
    )
    console.line(text_table(COLUMNS, [[shown(r[c]) for c in COLUMNS] for r in rows]))
    if options.output is not None:
        values = {"model": options.model, "height": size[0], "width": size[1], "layers": rows}
        make_folder(options.output.parent)
        write_text(options.output, to_json(values))
    if options.picture is not None:
        draw_fields(options.picture, options.model, size, layers, measured)
        console.line(f"{options.picture}: written")
    return layers


def check(options: DescribeOptions) -> None:
    """Refuse impossible values, naming the option."""
    if options.size is not None and not all(1 <= side <= LARGEST_SIDE for side in options.size):
        raise UsageError(f"--size must be in [1, {LARGEST_SIDE}], got {options.size}")
    if not 1 <= options.classes <= MOST_CLASSES:
        raise UsageError(f"--classes must be in [1, {MOST_CLASSES}], got {options.classes}")
    refuse_seed(options.seed)
    for name, path, ending in (
        ("--output", options.output, ".json"),
        ("--picture", options.picture, ".png"),
    ):
        if path is not None:
            refuse_file_of_run(path, name)
            refuse_other_ending(path, ending, name)
            check_file(path)
    if options.layer and not options.measure:
        raise UsageError("--layer says what is measured; leave out --no-measure")


def network(options: DescribeOptions, *, real: bool) -> nn.Module:
    """The network; one given by name has no memory for its weights unless it is ``real``.

    Raises:
        UsageError: it does not exist, it cannot be built, or an option has no effect on it.
    """
    name = options.model
    if name in get_args(ModelName):
        try:
            with torch.device("cpu" if real else "meta"):
                return build_model(
                    name, options.classes, width=options.width, padding=options.padding
                )
        except ValueError as error:
            raise UsageError(f"--{error}") from None
    net = load_run(Path(name)).model if Path(name).is_dir() else imported(name)
    for option in ("width", "padding", "classes"):
        if getattr(options, option) != getattr(DescribeOptions(name), option):
            raise UsageError(
                f"--{option} is of networks given by name, not of {name}; leave it out"
            )
    return net


def imported(name: str) -> nn.Module:
    """The network that MODULE:CALLABLE returns, or is.

    Raises:
        UsageError: it cannot be imported or called, or gives something else.
    """
    path, _, attribute = name.partition(":")
    if not path or not attribute:
        raise UsageError(
            f"MODEL must be a network's name, the folder of a run or MODULE:CALLABLE, got {name!r}"
        )
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(path)
        for part in attribute.split("."):
            found = getattr(found, part)
        made = found if isinstance(found, nn.Module) else found()
    except (Exception, SystemExit) as error:  # the user's code may raise anything, or exit
        raise UsageError(f"{name}: gives no network ({type(error).__name__}: {error})") from error
    finally:
        sys.path.remove("")
    if not isinstance(made, nn.Module):
        raise UsageError(f"{name}: must give a torch.nn.Module, got {type(made).__name__}")
    return made


def input_channels(net: nn.Module) -> int:
    """The channels of the images, from the first convolution."""
    channels = getattr(net, "in_channels", None)
    if isinstance(channels, int):
        return channels
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    return convolutions[0].in_channels if convolutions else 3


def fields(
    net: nn.Module, channels: int, size: tuple[int, int], options: DescribeOptions
) -> dict[str, Layer]:
    try:
        return receptive_fields(net, (1, channels, *size))
    except Exception as error:  # of the user's code, on such images
        text = " ".join(str(error).split())
        raise UsageError(
            f"{options.model}: does not run on an image of {size[0]} x {size[1]} without memory "
            f"({type(error).__name__}: {text[:200]}); give another --size"
        ) from error


def widest(layers: dict[str, Layer]) -> str:
    """The first of the layers that see most, among those with the largest stride."""
    on_grid = {name: layer.grids for name, layer in layers.items() if layer.grids is not None}
    if not on_grid:
        return next(iter(layers))
    return max(
        on_grid, key=lambda n: (on_grid[n][0].stride, sum(g.receptive_field for g in on_grid[n]))
    )


def needed_size(layers: dict[str, Layer]) -> tuple[int, int]:
    """What a cell in the middle sees plus two strides; the first size if cells see everything."""
    if any(layer.grids is None for layer in layers.values()):
        return FIRST_SIZE
    sides = []
    for grids in zip(*(layer.grids or () for layer in layers.values()), strict=True):
        seen = max(grid.receptive_field for grid in grids)
        sides.append(min(int(seen + 2 * max(grid.stride for grid in grids)), LARGEST_SIDE))
    return sides[0], sides[1]


def measure(net: nn.Module, layer: Layer, images: torch.Tensor) -> Measured:
    """The gradient of a cell in the middle of ``layer``."""
    gradient = measured_field(net, layer.name, images).double().numpy()
    return Measured(layer, gradient, Region.around(gradient > 0), effective_side(layer, gradient))


def effective_side(layer: Layer, gradient: np.ndarray) -> int:
    """Side of the smallest square around the middle of the field with 95 % of ``gradient``."""
    field = layer.sees()
    rows, columns = np.indices(gradient.shape)
    # Twice the distance from the middle, which may lie between two pixels.
    far = np.maximum(
        abs(2 * rows - field.top - field.bottom + 1),
        abs(2 * columns - field.left - field.right + 1),
    ).ravel()
    order = np.argsort(far, kind="stable")
    total = np.cumsum(gradient.ravel()[order])
    if not total.size or total[-1] == 0:
        return 0
    return int(far[order[np.searchsorted(total, EFFECTIVE * total[-1])]]) + 1


def row(layer: Layer, measured: Measured | None) -> dict[str, Any]:
    """One line of the table."""
    grids = layer.grids
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "parameters": layer.parameters,
        "map": list(layer.shape[1:]),
        "stride": None if grids is None else [str(grid.stride) for grid in grids],
        "offset": None if grids is None else [str(grid.center(0)) for grid in grids],
        "field": None if layer.receptive_field is None else list(layer.receptive_field),
        "measured": None if measured is None else list(measured.region.size),
        "95 %": None if measured is None else measured.effective,
    }


def shown(value: Any) -> str:
    """A cell of the table, with one number if rows and columns agree."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        alike = len(value) == 2 and value[0] == value[1]
        return str(value[0]) if alike else " x ".join(map(str, value))
    return str(value)
