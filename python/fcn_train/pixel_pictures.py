"""Pictures of a report that show the class and probability of the pixel under the pointer.

What is told lies beside the visible pictures in one PNG without loss: red holds the predicted
class, green the label, blue the probability of the prediction in hundredths. Without JavaScript
the pictures are there and nothing is told.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from fcn_train.classes import Classes
from fcn_train.data import overlay
from fcn_train.page import jpeg, png, text
from fcn_train.pictures import Picture
from fcn_train.shown import shown

LONGEST = 256  # pixels of a picture's longer side: what bounds the size of a page
STYLE = """
figure { margin: 0 0 1.2rem; } figure img { width: calc(25% - .4rem); margin-right: .3rem;
       image-rendering: pixelated; vertical-align: top; cursor: crosshair; }
figcaption { font-size: 13px; min-height: 1.5em; } output { color: #2f6db3; }
"""
SCRIPT = """
function told(map, names, size, box, x, y) {
  const at = (place, length, count) =>
    Math.min(count - 1, Math.max(0, Math.floor(place / length * count)));
  const column = at(x - box.left, box.width, map.width);
  const row = at(y - box.top, box.height, map.height);
  const start = 4 * (row * map.width + column);
  const [predicted, label, percent] = map.data.slice(start, start + 3);
  const name = index => index < names.length ? names[index] : "void";
  const place = [Math.floor((row + .5) / map.height * size[0]),
                 Math.floor((column + .5) / map.width * size[1])];
  return `row ${place[0]}, column ${place[1]}: truth ${name(label)}, ` +
    `prediction ${name(predicted)}, probability ${(percent / 100).toFixed(2)}`;
}
async function decoded(address) {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d", {colorSpace: "srgb"});
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
for (const group of document.querySelectorAll("[data-names]")) {
  const names = JSON.parse(group.dataset.names);
  for (const figure of group.querySelectorAll("figure[data-map]")) {
    const output = figure.querySelector("output");
    const size = [Number(figure.dataset.height), Number(figure.dataset.width)];
    let map;
    figure.addEventListener("pointermove", async event => {
      if (event.target.tagName !== "IMG") return;
      const box = event.target.getBoundingClientRect();
      map = map || decoded(figure.dataset.map);
      output.textContent = told(await map, names, size, box, event.clientX, event.clientY);
    });
    figure.addEventListener("pointerleave", () => { output.textContent = ""; });
  }
}
"""


def figures(rows: Sequence[Picture], classes: Classes) -> str:
    """A figure for each picture: image, truth, prediction and overlay, and what they hold."""
    names = json.dumps([shown(name) for name in classes.names])
    inside = "\n".join(_figure(row, classes) for row in rows)
    return f'<div data-names="{escape(names)}">{inside}</div>'


def _figure(row: Picture, classes: Classes) -> str:
    height, width = row.target.shape
    visible = {
        "image": jpeg(row.image, LONGEST),
        "truth": png(row.target, LONGEST, classes.palette),
        "prediction": png(row.prediction, LONGEST, classes.palette),
        "overlay": jpeg(overlay(row.image, row.prediction, classes.palette), LONGEST),
    }
    images = "".join(f'<img src="{src}" alt="{alt}">' for alt, src in visible.items())
    iu = "" if row.iu is None else f", mean IU {row.iu:.4f}"
    hidden = ""
    if row.probability is not None:
        percent = np.rint(100 * np.nan_to_num(row.probability)).astype(np.uint8)
        packed = np.stack([row.prediction.astype(np.uint8), row.target, percent], axis=2)
        hidden = f' data-map="{png(packed, LONGEST)}"'
    return (
        f'<figure data-height="{height}" data-width="{width}"{hidden}>{images}'
        f"<figcaption>{text(row.name)}{iu} <output></output></figcaption></figure>"
    )
