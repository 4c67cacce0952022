"""NYUDv2's labeled .mat, from a small file of the original format: HDF5 as MATLAB writes it."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from fcn_train.data import (
    IGNORE_INDEX,
    IMAGENET,
    DataError,
    EvaluationLoader,
    MemoryDataset,
    NyudLabeled,
    check_dataset,
    open_dataset,
)
from fcn_train.data.hha import NYUD_CAMERA, hha_from_depth
from fcn_train.data.nyud_labeled import LABELED

HEIGHT, WIDTH, COUNT = 6, 8, 4


def arrays() -> dict[str, np.ndarray]:
    """As MATLAB shows them: images (H, W, 3, N), depths (H, W, N) in meters, labels (H, W, N)."""
    rng = np.random.default_rng(0)
    depths = rng.uniform(0.7, 9.9, (HEIGHT, WIDTH, COUNT)).astype(np.float32)
    depths[0, 0] = 0
    labels = rng.integers(0, 895, (HEIGHT, WIDTH, COUNT), dtype=np.uint16)
    labels[0, :2] = [[0], [894]]
    images = rng.integers(0, 256, (HEIGHT, WIDTH, 3, COUNT), dtype=np.uint8)
    return {"images": images, "depths": depths, "labels": labels}


def write_labeled(file: Path, content: dict[str, np.ndarray]) -> None:
    """MATLAB's arrays are stored with their axes reversed, in chunks, compressed."""
    with h5py.File(file, "w", userblock_size=512) as stored:
        for name, array in content.items():
            stored.create_dataset(name, data=array.T, chunks=True, compression="gzip")


def mapping() -> np.ndarray:
    return (np.arange(894) % 40 + 1).astype(np.uint8)[None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "nyud"
    folder.mkdir()
    write_labeled(folder / LABELED, arrays())
    savemat(folder / "classMapping40.mat", {"mapClass": mapping()})
    splits = {"trainNdxs": [[1], [4]], "testNdxs": [[2], [3]]}
    savemat(folder / "splits.mat", {key: np.uint16(value) for key, value in splits.items()})
    return folder


def test_axes_units_and_classes_are_right(root: Path) -> None:
    content = arrays()
    for where in (root, root / LABELED):
        dataset = open_dataset("nyud", where, "trainval", channels="color-depth")
        assert dataset.ids == ["5001", "5004"]
        for index, place in enumerate((0, 3)):
            example = dataset[index]
            assert np.array_equal(example.image, content["images"][..., place])
            raw = content["labels"][..., place].astype(int)
            assert np.array_equal(example.label, np.where(raw == 0, IGNORE_INDEX, (raw - 1) % 40))
            meters = content["depths"][..., place]
            assert example.depth is not None
            assert example.depth[0, 0] == 0
            np.testing.assert_allclose(example.depth / 1000, meters, atol=0.0005001)
            assert np.array_equal(dataset.label(index), example.label)
            assert dataset.image_size(index) == (HEIGHT, WIDTH)


def test_splits_are_the_published_ones_or_lists(root: Path) -> None:
    assert open_dataset("nyud", root, "test").ids == ["5002", "5003"]
    (root / "val.txt").write_text("5003\n5001\n")
    assert open_dataset("nyud", root, "val").ids == ["5003", "5001"]
    (root / "test.txt").write_text("img_5004.png\n")
    assert len(open_dataset("nyud", root, "test")) == 1


def test_hha_is_computed(root: Path) -> None:
    dataset = open_dataset("nyud", root, "test", channels="color-hha")
    depth = open_dataset("nyud", root, "test", channels="color-depth")[0].depth
    assert depth is not None
    assert np.array_equal(dataset[0].hha, hha_from_depth(depth, NYUD_CAMERA))  # type: ignore[arg-type]


def test_loader_processes_open_the_file_themselves(root: Path) -> None:
    dataset = open_dataset("nyud", root, "trainval", channels="color-depth")
    assert dataset[0] == pickle.loads(pickle.dumps(dataset))[0]
    held = MemoryDataset(dataset)
    assert held[1] == dataset[1] == pickle.loads(pickle.dumps(held))[1]
    batches = [[*EvaluationLoader(dataset, IMAGENET, workers=n)] for n in (0, 2)]
    assert batches[0] == batches[1]
    assert batches[0][0].images.shape == (1, 4, HEIGHT, WIDTH)


def test_published_files_beside_it_are_read(root: Path, shared_data: Path) -> None:
    for name in ("classMapping40.mat", "splits.mat"):
        shutil.copy(shared_data / "nyuv2_meta" / name, root)
    with pytest.raises(DataError, match=r"splits\.mat: names image 5005, but .* 5001 to 5004; cor"):
        open_dataset("nyud", root, "trainval")
    (root / "all.txt").write_text("5001\n")
    one = arrays()
    one["labels"][...] = np.arange(1, HEIGHT * WIDTH + 1).reshape(HEIGHT, WIDTH, 1)
    write_labeled(root / LABELED, one)
    names = open_dataset("nyud", root, "all").class_names
    label = open_dataset("nyud", root, "all")[0].label.ravel()
    # book, bottle, cabinet, ceiling, chair: the first raw classes
    found = [names[index] for index in label[:5]]
    assert found == ["otherprop", "otherprop", "cabinet", "ceiling", "chair"]


@pytest.mark.parametrize("value", [0, 41, 255])
def test_a_hole_in_the_mapping_is_named(root: Path, value: int) -> None:
    holed = mapping()
    holed[0, 16] = value
    savemat(root / "classMapping40.mat", {"mapClass": holed})
    with pytest.raises(DataError) as caught:
        open_dataset("nyud", root, "test")
    assert str(caught.value) == (
        f"{root / 'classMapping40.mat'}: maps class 17 to {value}, which is not in 1..40; give "
        "the published mapping"
    )


def test_other_mappings_and_splits_are_named(root: Path) -> None:
    savemat(root / "classMapping40.mat", {"mapClass": mapping()[:, :-1]})
    with pytest.raises(DataError, match=r"mapClass must map 894 classes, got 893; give the publ"):
        open_dataset("nyud", root, "test")
    (root / "classMapping40.mat").unlink()
    with pytest.raises(DataError, match=r"classMapping40\.mat: is missing; put the published map"):
        open_dataset("nyud", root, "test")
    (root / "splits.mat").unlink()
    with pytest.raises(DataError, match=r"splits\.mat: is missing; put the published splits besi"):
        open_dataset("nyud", root, "test")
    (root / "odd.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"odd\.txt: names 'cat', which is no number from 5001 on"):
        open_dataset("nyud", root, "odd")


def test_labels_beyond_the_mapping_are_named(root: Path) -> None:
    content = arrays()
    content["labels"][2, 3, 1] = 895
    write_labeled(root / LABELED, content)
    with pytest.raises(DataError, match=r"for: 895 in 1 pixel, the first at row 2, column 3"):
        open_dataset("nyud", root, "test")[0]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_file_that_is_cut_off_is_named(
    root: Path, share: float, command: Callable[..., Any]
) -> None:
    file = root / LABELED
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    code, _, err = command("data", "check", "--kind", "nyud", "--root", root)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"fcn: {file}: ")
    assert "the file may be cut off: download it again" in err


def test_variables_that_do_not_fit_are_named(root: Path) -> None:
    for name, change, message in (
        ("labels", lambda a: a[..., :3], "holds variables of different sizes: images"),
        ("images", lambda a: a[:, :, 0], r"images must have 4 dimensions as published, got \(6, 8"),
        ("depths", lambda a: a[..., None], "depths must have 3 dimensions as published, got"),
    ):
        content = arrays()
        content[name] = change(content[name])
        write_labeled(root / LABELED, content)
        with pytest.raises(DataError, match=message):
            open_dataset("nyud", root, "test")
    write_labeled(root / LABELED, {"images": arrays()["images"]})
    with pytest.raises(DataError, match="holds no variable depths; give the file as it was publ"):
        open_dataset("nyud", root, "test")
    with pytest.raises(DataError, match=r"absent\.mat: is missing; give the folder of nyu_depth"):
        NyudLabeled(root / "absent.mat")


def test_without_h5py_it_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"labeled\.mat: is a MATLAB file of .*: pip install h5py"):
        open_dataset("nyud", root, "test")


def test_damage_to_one_image_is_found_by_the_check(root: Path) -> None:
    with h5py.File(root / LABELED, "a") as stored:
        chunked = stored["labels"]
        offset = chunked.id.get_chunk_info(0).byte_offset
        size = chunked.id.get_chunk_info(0).size
    content = bytearray((root / LABELED).read_bytes())
    content[offset : offset + size] = bytes(size)
    (root / LABELED).write_bytes(content)
    problems = check_dataset(open_dataset("nyud", root, "trainval", strict=False))
    assert problems
    assert "labels of image 5001 cannot be read" in problems[0].message


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("channels", ["color-depth", "hha", "color-hha"])
def test_the_program_trains_and_scores_with_depth(
    root: Path, channels: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    data = ("--data.kind", "nyud", "--data.root", root, "--data.channels", channels)
    small = ("--model.width", "0.05", "--model.fc-channels", "16", "--data.crop", "32")
    short = ("--optim.batch", "2", "--optim.steps", "1", "--threads", "1")
    run = tmp_path / "run"
    code, _, err = command("train", *data, *small, *short, "--output", run)
    assert code == 0, err
    code, out, err = command("evaluate", "--run", run)
    assert code == 0, err
    assert "2 images of NYUDv2, test" in out
