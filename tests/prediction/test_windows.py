"""Averages of windows, against canvases of all classes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fcn_ext import ops, reference
from fcn_ext.geometry import Deconvolution, Geometry, Resize
from fcn_ext.prediction import CoarseWindows, _rows, tile_windows
from tests.ops.heads import SCORE_TYPES

SIZE = (33, 50)


def gaussian(height: int, width: int) -> Tensor:
    """nnU-Net's: an impulse in the middle, filtered along either axis."""

    def filtered(side: int) -> np.ndarray:
        impulse = np.zeros(side)
        impulse[side // 2] = 1
        taps = np.exp(-(np.arange(-side, side + 1) ** 2) / (2 * (side / 8) ** 2))
        return np.convolve(impulse, taps)[side:-side]

    return torch.from_numpy(np.outer(filtered(height), filtered(width)))


def linear(height: int, width: int) -> Tensor:
    def distance(side: int) -> Tensor:
        centers = torch.arange(side, dtype=torch.float64) + 0.5
        return torch.minimum(centers, side - centers)

    return distance(height)[:, None] * distance(width)


IMPORTANCE: dict[str, Callable[[int, int], Tensor]] = {
    "constant": lambda height, width: torch.ones(height, width, dtype=torch.float64),
    "gaussian": gaussian,
    "linear": linear,
}


def plain(size: tuple[int, int], calls: list[dict[str, Any]], average: str) -> Tensor:
    """The average by full canvases, in float64."""
    canvas: Any = 0
    total = torch.zeros(size, dtype=torch.float64)
    for call in calls:
        top, left, height, width = call["window"] or (0, 0, *size)
        scores = call["scores"].double()
        seen = call["seen_size"] or (height, width)
        full = reference.at_full_size(scores, seen, call["geometry"])
        align_corners = call["geometry"] == Resize(align_corners=True)
        full = reference.interpolate(full, (height, width), align_corners=align_corners)
        if call["flip"]:
            full = full.flip(3)
        if average == "probability":
            full = full.softmax(1)
        place = (left, size[1] - left - width, top, size[0] - top - height)
        weights = call["weight"] * IMPORTANCE[call["importance"]](height, width)
        canvas = canvas + torch.nn.functional.pad(weights * full, place)
        total[top : top + height, left : left + width] += weights
    result: Tensor = canvas / total
    return result


def call(scores: Tensor, window: Any, geometry: Geometry, **options: Any) -> dict[str, Any]:
    defaults = {"flip": False, "weight": 1.0, "seen_size": None, "importance": "constant"}
    return {"scores": scores, "window": window, "geometry": geometry, **defaults, **options}


def calls_of(dtype: torch.dtype = torch.float64) -> list[dict[str, Any]]:
    """Tiles and their mirror images, the whole at two scales, by every geometry."""
    generator = torch.Generator().manual_seed(0)

    def scores(h: int, w: int) -> Tensor:
        return (3 * torch.randn(2, 4, h, w, generator=generator)).to(dtype)

    calls = [
        call(scores(3, 4), window, Deconvolution(8, offset=(2, 5)), flip=flip)
        for window in tile_windows(SIZE, 20, 6)
        for flip in (False, True)
    ]
    calls.append(call(scores(5, 7), None, Resize(), weight=0.5))
    calls.append(call(scores(9, 3), None, Resize(align_corners=True), flip=True, weight=3))
    calls.append(call(scores(1, 1), (32, 49, 1, 1), Resize()))
    calls.append(call(scores(60, 70), None, Resize(), flip=True))
    deconvolution = Deconvolution(8, offset=(1, 6))
    calls.append(call(scores(7, 9), None, deconvolution, flip=True, seen_size=(49, 70)))
    corners = Resize(align_corners=True)
    calls.append(call(scores(3, 4), (5, 1, 20, 30), corners, seen_size=(16, 24)))
    return calls


def windows_of(calls: list[dict[str, Any]], average: Any, size: Any = SIZE) -> CoarseWindows:
    windows = CoarseWindows(size, average=average)
    for options in calls:
        windows.add(**options)
    return windows


@pytest.mark.parametrize(
    ("average", "tile"), [("score", 1), ("probability", 2000), ("probability", 2**19)]
)
def test_equals_full_canvases(average: str, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "TILE", tile)
    calls = calls_of()
    expected = plain(SIZE, calls, average)
    windows = windows_of(calls, average)
    torch.testing.assert_close(windows.mean(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(windows.mean(7, 9), expected[:, :, 7:9], rtol=1e-12, atol=1e-12)
    labels, probability = windows.argmax(return_probability=True)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), expected.argmax(1))
    sure = expected if average == "probability" else expected.softmax(1)
    torch.testing.assert_close(probability, sure.amax(1), rtol=1e-12, atol=1e-12)
    assert torch.equal(windows.argmax(dtype=torch.int64), labels.long())
    target = torch.randint(0, 5, (2, *SIZE))
    target[target == 4] = 255
    target[0, 0, :3] = 77
    counts, invalid = torch.ones(4, 4, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    assert windows.confusion_matrix(target, out=counts, invalid=invalid) is counts
    assert torch.equal(counts - 1, ops.confusion_matrix(labels, target, 4))
    assert invalid.item() == 3


@pytest.mark.parametrize("geometry", [Resize(), Resize(True), Deconvolution(4, offset=1)])
@pytest.mark.parametrize("seen_size", [None, (3, 1), (1, 1), (5, 4)])
@pytest.mark.parametrize("window", [(0, 0, 2, 1), (0, 1, 1, 1), (1, 0, 1, 2), (0, 0, 2, 2)])
def test_mirror_images_one_pixel_wide(window: Any, seen_size: Any, geometry: Geometry) -> None:
    """With aligned corners a single pixel is that of the first score, in a mirror image as well."""
    scores = torch.randn(1, 3, 2, 3, dtype=torch.float64)
    whole = call(torch.randn(1, 3, 2, 2, dtype=torch.float64), None, Resize())
    calls = [whole, call(scores, window, geometry, flip=True, seen_size=seen_size)]
    expected = plain((2, 2), calls, "score")
    torch.testing.assert_close(windows_of(calls, "score", (2, 2)).mean(), expected)


@pytest.mark.parametrize("weight", [1e-20, 1e20])
@pytest.mark.parametrize("importance", ["constant", "gaussian", "linear"])
def test_weights_at_the_limit(weight: float, importance: str) -> None:
    scores = 100 * torch.randn(1, 3, 4, 5)
    for average in ("score", "probability"):
        calls = [call(scores, None, Resize(), weight=weight, importance=importance)] * 3
        found = windows_of(calls, average).mean()
        expected = plain(SIZE, calls, average).float()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tile", [1, 2**19])
@pytest.mark.parametrize("average", ["score", "probability"])
def test_windows_that_weigh_less_at_the_border(
    average: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By either name, beside windows whose pixels weigh alike, and alone."""
    monkeypatch.setattr(_rows, "TILE", tile)
    calls = calls_of()
    names = itertools.cycle(["gaussian", "linear", "constant"])
    mixed = [{**call, "importance": next(names)} for call in calls]
    tiled = [{**call, "importance": "gaussian"} for call in calls if call["window"]][:-2]
    for given in (mixed, tiled):
        expected = plain(SIZE, given, average)
        found = windows_of(given, average)
        torch.testing.assert_close(found.mean(), expected, rtol=1e-11, atol=1e-11)
        assert torch.equal(found.argmax().long(), expected.argmax(1))


@pytest.mark.parametrize("name", ["gaussian", "linear"])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (64, 33)])
def test_one_window_alone_is_itself(name: Any, size: tuple[int, int]) -> None:
    """However little its corners weigh."""
    scores = torch.randn(1, 5, 2, 3)
    alone, weighted = CoarseWindows(size), CoarseWindows(size)
    alone.add(scores)
    weighted.add(scores, importance=name)
    torch.testing.assert_close(weighted.mean(), alone.mean())


@pytest.mark.parametrize("dtype", SCORE_TYPES)
def test_any_type(dtype: torch.dtype, device: torch.device) -> None:
    calls = calls_of(dtype)
    expected = plain(SIZE, calls, "probability")
    windows = windows_of([{**c, "scores": c["scores"].to(device)} for c in calls], "probability")
    mean = windows.mean().cpu()
    assert mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(mean.double(), expected, rtol=1e-5, atol=1e-6)


def test_one_window_is_the_plain_prediction() -> None:
    scores = torch.randn(1, 5, 4, 6)
    windows = CoarseWindows((31, 47))
    windows.add(scores)
    expected, sure = ops.argmax(scores, (31, 47), return_probability=True)
    labels, probability = windows.argmax(return_probability=True)
    assert torch.equal(labels, expected)
    torch.testing.assert_close(probability, sure)


def test_void_everywhere_ties_and_nan() -> None:
    scores = torch.zeros(1, 3, 2, 2)
    windows = CoarseWindows(5)
    windows.add(scores)
    assert not windows.argmax().any()
    void = torch.full((1, 5, 5), 255, dtype=torch.uint8)
    assert not windows.confusion_matrix(void).any()
    broken = CoarseWindows(2, average="score")
    scores[0, 1, 0, 0] = torch.nan
    broken.add(scores)
    assert broken.argmax().tolist() == [[[1, 0], [0, 0]]]


def test_no_images_and_one_pixel() -> None:
    empty = CoarseWindows((4, 5))
    empty.add(torch.zeros(0, 3, 2, 2))
    assert empty.argmax().shape == (0, 4, 5)
    assert not empty.confusion_matrix(torch.zeros(0, 4, 5, dtype=torch.uint8)).any()
    pixel = CoarseWindows(1)
    pixel.add(torch.tensor([0.0, 2.0]).view(1, 2, 1, 1), flip=True)
    assert pixel.argmax().item() == 1


def test_windows_must_cover_the_image() -> None:
    windows = CoarseWindows((6, 8))
    message = r"must cover the image, got none with pixel \(0, 0\)"
    for asked in (windows.argmax, windows.mean, lambda: windows.confusion_matrix(torch.zeros(1))):
        with pytest.raises(ValueError, match=message):
            asked()
    windows.add(torch.zeros(1, 2, 2, 2), (0, 0, 6, 4))
    windows.add(torch.zeros(1, 2, 2, 2), (0, 4, 5, 4))
    with pytest.raises(ValueError, match=r"got none with pixel \(5, 4\)"):
        windows.argmax()
    assert repr(windows) == "CoarseWindows((6, 8), average='probability'): 2 windows"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": (0, 0, 4)}, TypeError, "window must be"),
        ({"window": (0, 0, 4, 4.0)}, TypeError, "window must be an integer, got 4.0"),
        ({"window": (0, -1, 4, 4)}, ValueError, "window must begin at 0 or later"),
        ({"window": (0, 0, 0, 4)}, ValueError, "window must begin at 0 or later and have a pixel"),
        ({"window": (5, 0, 4, 4)}, ValueError, r"window must lie in the image \(8, 8\), got \(5,"),
        ({"geometry": Deconvolution(2)}, ValueError, r"offset \+ window must be at most"),
        ({"geometry": None}, TypeError, "geometry must be"),
        ({"seen_size": 0}, ValueError, r"seen_size must be in \[1, 2\*\*30\], got \(0, 0\)"),
        ({"flip": 1}, TypeError, "flip must be a bool, got 1"),
        (
            {"importance": "hann"},
            ValueError,
            "importance must be 'constant', 'gaussian' or 'linear', got 'hann'",
        ),
        (
            {"importance": np.array(["gaussian", "linear"])},
            ValueError,
            "importance must be 'constant', 'gaussian' or 'linear', got array",
        ),
        ({"weight": 0}, ValueError, "weight must be from 1e-20 to 1e[+]20, got 0"),
        ({"weight": float("nan")}, ValueError, "weight must be from 1e-20 to 1e[+]20, got nan"),
        ({"weight": 1e-300}, ValueError, "weight must be from 1e-20 to 1e[+]20, got 1e-300"),
        ({"weight": 1e40}, ValueError, "weight must be from 1e-20 to 1e[+]20, got 1e[+]40"),
        (
            {"scores": torch.zeros(1, 4, 2, 2)},
            ValueError,
            r"those added before, \(1, 3\) and torch.float",
        ),
        ({"scores": torch.zeros(1, 3, 2, 2).half()}, ValueError, "got .* and torch.float16"),
        ({"scores": torch.zeros(1, 3, 2, 2).int()}, ValueError, "scores must be float32"),
        ({"scores": torch.zeros(3, 2, 2)}, ValueError, "scores must have shape"),
    ],
)
def test_wrong_windows(options: dict[str, Any], error: type[Exception], message: str) -> None:
    windows = CoarseWindows(8)
    windows.add(torch.zeros(1, 3, 2, 2))
    with pytest.raises(error, match=message):
        windows.add(**{"scores": torch.zeros(1, 3, 2, 2), **options})
    assert windows.argmax().shape == (1, 8, 8)


def test_other_wrong_arguments() -> None:
    windows = CoarseWindows(8)
    windows.add(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"average must be .*, got 'logit'"):
        CoarseWindows(8, average="logit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size must be >= 1, got 0"):
        CoarseWindows(0)
    with pytest.raises(ValueError, match=r"target must have .* \(1, 8, 8\), got \(1, 8, 9\)"):
        windows.confusion_matrix(torch.zeros(1, 8, 9))
    with pytest.raises(TypeError, match="return_probability must be a bool, got 'yes'"):
        windows.argmax(return_probability="yes")  # type: ignore[call-overload]
    for rows in ((0, 9), (3, 3), (-1, 2)):
        with pytest.raises(ValueError, match="must be rows of the image's 8"):
            windows.mean(*rows)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [(1, 1, 0), (64, 64, 10), ((65, 63), 64, 63), ((300, 7), 33, 5)]
)
def test_tiles_cover_and_overlap(size: Any, tile: int, overlap: int) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    count = torch.zeros(height, width)
    windows = tile_windows(size, tile, overlap)
    assert len(windows) == len(set(windows))
    for top, left, rows, columns in windows:
        assert (rows, columns) == (min(tile, height), min(tile, width))
        count[top : top + rows, left : left + columns] += 1
    assert count.shape == (height, width)
    assert count.min() >= 1
    tops = sorted({window[0] for window in windows})
    assert all(above + tile - below >= overlap for above, below in itertools.pairwise(tops))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4), "size must be >= 1, got 0"),
        ((4, 0), "tile must be >= 1, got 0"),
        ((4, 2, 2), r"overlap must be in \[0, tile\), got 2 for 2"),
        ((4, 2, -1), "overlap must be in"),
    ],
)
def test_wrong_tiles(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tile_windows(*arguments)


@pytest.mark.parametrize("importance", ["constant", "gaussian"])
def test_a_tile_looks_at_its_own_windows(importance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of windows cost what they have pixels, not all of them in each tile."""
    size = (128, 64)
    windows = CoarseWindows(size)
    places = tile_windows(size, 8)
    for place in places:
        windows.add(torch.randn(1, 2, 2, 2), place, importance=importance)
    monkeypatch.setattr(_rows, "TILE", 2 * 8 * size[1])  # as many rows as a window has
    within, asked = _rows.Span.within, []
    monkeypatch.setattr(_rows.Span, "within", lambda *a: asked.append(1) or within(*a))
    windows.argmax()
    assert len(asked) <= 4 * len(places)
