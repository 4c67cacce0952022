"""Index PNG and overlay for files of any size; bad files do not end the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcn_ext.numpy import voc_palette
from fcn_train.data import IMAGENET, Example, image_to_tensor, overlay, read_image
from fcn_train.errors import UsageError
from fcn_train.predict import find_images
from fcn_train.run import load_run
from fcn_train.segmenter import RunSegmenter

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    for name, size in (("wide.png", (9, 70)), ("one.jpg", (1, 1)), ("inner/tall.png", (50, 17))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_results_have_the_size_and_palette(
    varied_run: Path, photos: Path, command: Command, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    code, out, _ = command("predict", photos, "--run", varied_run, "--output", output)
    assert code == 0
    assert "3 of 3 images segmented" in out
    run = load_run(varied_run)
    for place in (Path("wide.png"), Path("one.jpg"), Path("inner/tall.png")):
        image = read_image(photos / place)
        with torch.inference_mode():
            logits = run.model(image_to_tensor(image, IMAGENET)[None])
        expected = logits.argmax(1)[0].numpy()
        with Image.open(output / place.with_suffix(".png")) as index:
            assert index.mode == "P"
            np.testing.assert_array_equal(np.array(index), expected)
            colors = np.array(index.convert("RGB"))
        np.testing.assert_array_equal(colors, voc_palette()[expected])
        mixed = np.array(Image.open(output / place.parent / f"{place.stem}-overlay.png"))
        wanted = overlay(image, expected.astype(np.uint8), voc_palette(), 0.55)
        np.testing.assert_array_equal(mixed, wanted)


def test_an_image_too_large_for_memory_does_not_end_the_others(
    varied_run: Path,
    photos: Path,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = RunSegmenter.__call__

    def scarce(self: RunSegmenter, example: Example) -> list[np.ndarray]:
        if example.image.shape[1] == 70:
            torch.empty(2**50)
        return plain(self, example)

    monkeypatch.setattr(RunSegmenter, "__call__", scarce)
    given = ("predict", varied_run, photos, "--output", tmp_path / "out")
    code, out, err = command(*given)
    assert code == 1
    assert "2 of 3 images segmented" in out
    said = f"{photos / 'wide.png'}: out of memory (4194304.0 GiB more were wanted); try --tile 512"
    assert f"warning: {said}" in err
    code, _, err = command(*given, "--strict")
    assert code == 2
    assert f"fcn: {said}" in err


@pytest.mark.parametrize("length", [240, 251])
def test_a_name_too_long_for_its_results(
    finished_run: Path, photos: Path, command: Command, tmp_path: Path, length: int
) -> None:
    """240 and ".png": its overlay's, `-overlay` longer, fits until it has a name while it is
    written. 251: it does not fit."""
    fits = "b" * 243 + ".png"
    (photos / "wide.png").rename(photos / fits)
    (photos / "inner" / "tall.png").rename(photos / ("a" * length + ".png"))
    output = tmp_path / "out"
    code, out, err = command("predict", photos, "--run", finished_run, "--output", output)
    too_long = length == 251
    assert code == int(too_long)
    assert f"{3 - too_long} of 3 images segmented" in out
    said = "the name of its overlay would have 263 bytes, more than 255; rename it"
    assert (said in err) == too_long
    assert (output / fits).exists()
    assert (output / f"{'b' * 243}-overlay.png").exists()
    if too_long:
        strict = command("predict", photos, "--run", finished_run, "--output", output, "--strict")
        assert strict[0] == 2


def test_bad_file_is_named_and_the_others_are_done(
    finished_run: Path, photos: Path, command: Command, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    output = tmp_path / "out"
    code, out, err = command("predict", photos, "--run", finished_run, "--output", output)
    assert code == 1
    assert "3 of 4 images segmented" in out
    assert f"{photos / 'broken.jpg'}: image cannot be decoded" in err
    assert (output / "wide.png").is_file()


def test_strict_stops_at_the_bad_file(
    finished_run: Path, photos: Path, command: Command, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    output = tmp_path / "out"
    code, _, err = command("predict", photos, "--run", finished_run, "--output", output, "--strict")
    assert code == 2
    assert err.startswith(f"fcn: {photos / 'broken.jpg'}: image cannot be decoded")
    assert not (output / "wide.png").exists()


def test_results_that_would_be_lost_are_refused(photos: Path, tmp_path: Path) -> None:
    (photos / "wide.jpg").write_bytes((photos / "wide.png").read_bytes())
    with pytest.raises(UsageError, match=r"wide.png: its result would replace that of .*wide.jpg"):
        find_images([photos], tmp_path / "out")
    (photos / "wide.jpg").unlink()
    with pytest.raises(UsageError, match=r"tall.png: would be overwritten"):
        find_images([photos / "inner" / "tall.png"], photos / "inner")
    (photos / "wide-overlay.jpg").write_bytes((photos / "wide.png").read_bytes())
    with pytest.raises(UsageError, match=r"wide.png: .* of .*wide-overlay.jpg"):
        find_images([photos], tmp_path / "out")
    with pytest.raises(UsageError, match=r"absent.png: is missing"):
        find_images([photos / "one.jpg", photos / "absent.png"], tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: holds no image"):
        find_images([tmp_path / "empty"], tmp_path)
    with pytest.raises(UsageError, match="at least one image"):
        find_images([], tmp_path)


def test_an_image_given_by_two_paths_is_one(photos: Path, tmp_path: Path) -> None:
    """But not one whose result would be the overlay of the other."""
    once = find_images([photos], tmp_path / "out")
    (tmp_path / "link").symlink_to(photos)
    again = [photos, photos / "inner" / "..", tmp_path / "link"]
    assert find_images(again, tmp_path / "out") == once
    file = photos / "wide.png"
    twice = [file, photos / "inner" / ".." / "wide.png", tmp_path / "link" / "wide.png"]
    assert [path for path, _ in find_images(twice, tmp_path / "out")] == [file]
    (photos / "wide-overlay.jpg").symlink_to(file)
    with pytest.raises(UsageError, match=r"wide.png: .* of .*wide-overlay.jpg"):
        find_images([photos], tmp_path / "out")


def test_results_inside_the_folder_are_no_input(photos: Path) -> None:
    output = photos / "out"
    before = find_images([photos], output)
    output.mkdir()
    Image.new("RGB", (2, 2)).save(output / "wide.png")
    assert find_images([photos], output) == before
    relative = Path(os.path.relpath(output))
    assert [source for source, _ in find_images([photos], relative)] == [s for s, _ in before]


def test_stray_files_in_a_folder_are_no_input(photos: Path, tmp_path: Path) -> None:
    before = find_images([photos], tmp_path / "out")
    (photos / "._wide.png").write_bytes(b"resource fork")
    (photos / "folder.jpg").mkdir()
    (photos / ".cache").mkdir()
    Image.new("RGB", (2, 2)).save(photos / ".cache" / "wide.png")
    assert find_images([photos], tmp_path / "out") == before


def test_results_may_lie_above_the_images_but_not_among_them(photos: Path) -> None:
    assert len(find_images([photos / "inner"], photos)) == 1
    for output in (photos, photos / "inner" / ".."):
        with pytest.raises(UsageError, match="holds the images; give another folder as --output"):
            find_images([photos], output)


@pytest.mark.parametrize("opacity", ["1.5", "-0.1", "nan"])
def test_opacity_beyond_its_range_is_named(
    opacity: str, finished_run: Path, photos: Path, command: Command, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    given = ("--run", finished_run, "--output", output, "--opacity", opacity)
    assert command("predict", photos, *given) == (
        *(2, "", f"fcn: --opacity must be in [0, 1], got {opacity}\n"),
    )
    assert not output.exists()


def test_photographs_are_turned_upright(photos: Path) -> None:
    tag = Image.Exif()
    tag[0x112] = 6  # to be turned by 90 degrees clockwise
    with Image.open(photos / "wide.png") as stored:
        stored.save(photos / "turned.png", exif=tag)
    upright = read_image(photos / "turned.png", upright=True)
    assert upright.shape == (70, 9, 3)
    np.testing.assert_array_equal(upright, np.rot90(read_image(photos / "wide.png"), -1))
    np.testing.assert_array_equal(read_image(photos / "turned.png"), np.rot90(upright))


def test_a_run_is_read_by_its_name(finished_run: Path) -> None:
    assert load_run(str(finished_run)).path == finished_run
    with pytest.raises(ValueError, match="weights must be 'last' or 'best', got 'first'"):
        load_run(finished_run, "first")
