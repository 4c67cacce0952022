"""What a picture of a report tells under the pointer, and that a page of any size stays small."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from fcn_ext.numpy import voc_palette
from fcn_train.classes import Classes
from fcn_train.page import page
from fcn_train.pictures import Picture
from fcn_train.pixel_pictures import LONGEST, SCRIPT, STYLE, figures
from tests.train.pages import Page, picture_at
from tests.train.running import HANGS

NAMES = ("sky", "a \"b\" & </div><script>alert('c')</script>")
# Enough of a browser to run the script of a page: figures that take events, images and canvases.
BROWSER = """
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const heard = {};
const output = {textContent: ""};
const figure = {dataset: given.figure, querySelector: () => output,
                addEventListener: (name, hear) => { heard[name] = hear; }};
const group = {dataset: {names: given.names}, querySelectorAll: () => [figure]};
globalThis.Image = class {
  async decode() { [this.naturalWidth, this.naturalHeight] = given.size; }
};
const context = {drawImage: () => {}, getImageData: () => ({
  data: Uint8ClampedArray.from(given.pixels), width: given.size[0], height: given.size[1]})};
globalThis.document = {
  querySelectorAll: () => [group], createElement: () => ({getContext: () => context})};
eval(given.script);
const box = {left: 100, top: 50, width: 300, height: 200};
const target = {tagName: "IMG", getBoundingClientRect: () => box};
(async () => {
  const told = [];
  for (const [x, y] of given.points) {
    await heard.pointermove({target, clientX: x, clientY: y});
    told.push(output.textContent);
  }
  await heard.pointermove({target: {tagName: "FIGURE"}, clientX: 0, clientY: 0});
  heard.pointerleave();
  console.log(JSON.stringify([told, output.textContent]));
})();
"""


def picture(height: int, width: int, classes: int = 2) -> Picture:
    rng = np.random.default_rng(0)
    target = rng.integers(0, classes, (height, width), dtype=np.uint8)
    target[0, 0] = 255
    return Picture(
        "one",
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        target,
        rng.integers(0, classes, (height, width), dtype=np.uint8),
        rng.random((height, width), dtype=np.float32),
        0.5,
    )


def page_of(*rows: Picture) -> Page:
    return Page(page("t", [figures(rows, Classes(NAMES, voc_palette()))]))


def test_map_holds_classes_and_probabilities() -> None:
    row = picture(5, 7)
    found = page_of(row)
    assert json.loads(found.names[0]) == list(NAMES)
    (figure,) = found.figures
    assert (figure["data-height"], figure["data-width"]) == ("5", "7")
    packed = np.asarray(picture_at(str(figure["data-map"])))
    np.testing.assert_array_equal(packed[:, :, 0], row.prediction)
    np.testing.assert_array_equal(packed[:, :, 1], row.target)
    assert row.probability is not None
    np.testing.assert_allclose(packed[:, :, 2] / 100, row.probability, atol=0.00501)
    truth = found.pictures()[1]
    np.testing.assert_array_equal(np.asarray(truth), row.target)
    np.testing.assert_array_equal(np.asarray(truth.convert("RGB")), voc_palette()[row.target])


def test_an_image_of_one_pixel_and_one_without_probability() -> None:
    tiny = picture(1, 1)
    found = page_of(tiny, tiny._replace(probability=None, iu=None))
    assert len(found.images) == 8
    assert "data-map" not in found.figures[1]
    assert found.text.count("mean IU 0.5000") == 1


def test_large_pictures_are_made_small() -> None:
    """Noise, of which no picture can be made smaller: the most that a row can take."""
    row = picture(900, 1200, 255)
    text = figures([row], Classes(NAMES, voc_palette()))
    assert all(max(shown.size) == LONGEST for shown in page_of(row).pictures())
    assert len(text) < 700_000


@pytest.mark.parametrize("flat", [True, False])
def test_pointer_reads_the_pixel_below_it(flat: bool) -> None:
    """By the script itself, in node: a picture of 4 x 3 pixels shown at 300 x 200."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node, which runs the script of a page, is not here")
    row = picture(30, 40) if flat else picture(3, 4)
    (figure,) = page_of(row).figures
    packed = np.asarray(picture_at(str(figure["data-map"])))
    height, width = packed.shape[:2]
    points = [(100, 50), (399.9, 249.9), (100 + 300 / 2, 50 + 200 * 0.9), (-5, 9999)]
    given = {
        "script": SCRIPT,
        "names": json.dumps(NAMES),
        "figure": {"height": str(height), "width": str(width), "map": "m"},
        "size": [width, height],
        "pixels": np.dstack([packed, np.full((height, width), 255)]).ravel().tolist(),
        "points": points,
    }
    done = subprocess.run(
        [node, "-e", BROWSER],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    told, after = json.loads(done.stdout)
    assert after == ""
    for (x, y), line in zip(points, told, strict=True):
        column = min(width - 1, max(0, int((x - 100) / 300 * width)))
        r = min(height - 1, max(0, int((y - 50) / 200 * height)))
        predicted, label, percent = packed[r, column].tolist()
        truth = NAMES[label] if label < 2 else "void"
        assert line == (
            f"row {r}, column {column}: truth {truth}, prediction {NAMES[predicted]}, "
            f"probability {percent / 100:.2f}"
        )


POINTING = """
addEventListener("load", () => {
  const picture = document.querySelectorAll("img")[2], box = picture.getBoundingClientRect();
  picture.dispatchEvent(new PointerEvent("pointermove", {
    bubbles: true, clientX: box.left + .6 * box.width, clientY: box.top + .4 * box.height}));
});
"""


def test_a_browser_tells_the_pixel(tmp_path: Path) -> None:
    """In a real one, where there is one: the PNG is decoded to the same three numbers."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    browser = next((path for path in found if path), None)
    if browser is None:
        pytest.skip("no Chromium here")
    row = picture(30, 40)
    parts = [figures([row], Classes(NAMES, voc_palette())), f"<script>{SCRIPT}</script>"]
    path = tmp_path / "page.html"
    path.write_text(page("t", [*parts, f"<script>{POINTING}</script>"], STYLE), encoding="utf-8")
    done = subprocess.run(
        [
            *(
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path}",
            ),
            *("--virtual-time-budget=5000", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
    )
    assert row.probability is not None
    predicted, label = int(row.prediction[12, 24]), int(row.target[12, 24])
    percent = int(np.rint(100 * row.probability[12, 24]))
    told = f"row 12, column 24: truth {NAMES[label]}, prediction {NAMES[predicted]}, probability"
    shown = re.findall(r"<output>(.*?)</output>", done.stdout, re.DOTALL)
    assert [unescape(text) for text in shown] == [f"{told} {percent / 100:.2f}"], done.stderr


def test_script_needs_nothing_from_elsewhere() -> None:
    assert "</" not in SCRIPT
    assert not any(word in SCRIPT for word in ("fetch", "import", "http", "eval", "innerHTML"))


def test_page_of_a_run_reads_its_own_predictions(finished_run: Path) -> None:
    found = Page((finished_run / "report.html").read_text())
    assert found.script == SCRIPT
    assert len(found.figures) == 6  # three images, each once among the worst
    assert all("data-map" in figure for figure in found.figures)
    assert "Worst images by mean IU" in found.text
    assert "Best images" not in found.text
