"use strict";

const element = (id) => document.getElementById(id);
let model = null; // what the server says of the network
let shown = null; // {picture, width, height, sets}: what the page shows
let stream = null; // of the camera, while it runs
let link = null; // the address of the mask to download

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

// Answers ---------------------------------------------------------------------------------------

function unpacked(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  for (const set of header.sets) {
    const parts = set.lengths.map((size) => {
      start += size;
      return new Uint8Array(buffer, start - size, size);
    });
    [set.labels, set.probability, set.mask] = parts;
  }
  return header;
}

// A picture of more pixels than the server takes, made smaller.
async function fitting(blob) {
  const picture = await createImageBitmap(blob).catch(() => null);
  if (picture === null) return { blob, picture, note: "" }; // the server may know its format
  const pixels = picture.width * picture.height;
  if (pixels <= model.limits.pixels) return { blob, picture, note: "" };
  const scale = Math.sqrt(model.limits.pixels / pixels);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(picture.width * scale));
  canvas.height = Math.max(1, Math.floor(picture.height * scale));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  const smaller = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
  const note = ` Shrunk from ${picture.width} x ${picture.height}.`;
  return { blob: smaller, picture: await createImageBitmap(smaller), note };
}

async function segment(given) {
  const { blob, picture, note } = await fitting(given);
  if (blob.size > model.limits.bytes) {
    throw new Error(`The file is larger than ${model.limits.bytes / 1e6} MB.`);
  }
  const type = blob.type.startsWith("image/") ? blob.type : "application/octet-stream";
  const response = await fetch("/segment", {
    method: "POST", body: blob, headers: { "Content-Type": type },
  }).catch(() => { throw new Error("The server does not answer. Is fcn serve still running?"); });
  if (!response.ok) throw new Error((await response.text()).trim());
  shown = unpacked(await response.arrayBuffer());
  shown.picture = picture;
  say(`${shown.width} x ${shown.height} pixels in ${shown.seconds} s.${note}`);
  element("result").hidden = false;
  show();
}

async function take(blob) {
  stopCamera();
  say("Working…");
  await segment(blob).catch((error) => say(error.message, true));
}

// What is shown ---------------------------------------------------------------------------------

const chosenSet = () => Number(element("set").value);

function show() {
  if (shown === null) return;
  draw();
  fillTable();
  if (link !== null) URL.revokeObjectURL(link);
  const mask = shown.sets[chosenSet()].mask;
  link = URL.createObjectURL(new Blob([mask], { type: "image/png" }));
  element("download").href = link;
}

function draw() {
  const { width, height, picture } = shown;
  const canvas = element("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  if (picture !== null) context.drawImage(picture, 0, 0, width, height);
  const view = element("view").value;
  if (view === "image") return;
  const layer = document.createElement("canvas");
  layer.width = width;
  layer.height = height;
  layer.getContext("2d").putImageData(painted(view), 0, 0);
  context.globalAlpha = view === "overlay" ? element("opacity").value / 100 : 1;
  context.drawImage(layer, 0, 0);
}

// Each pixel in the color of its class, or as bright as it is probable. In the overlay, classes in
// black (VOC's background) let the picture through, as `fcn predict` does.
function painted(view) {
  const { labels, probability } = shown.sets[chosenSet()];
  const colors = model.sets[chosenSet()].classes.map((entry) => entry.color);
  const pixels = new ImageData(shown.width, shown.height);
  for (let index = 0; index < labels.length; index++) {
    const color = colors[labels[index]];
    const level = probability[index];
    const [red, green, blue] = view === "probability" ? [level, level, level] : color;
    const clear = view === "overlay" && color.every((value) => value === 0);
    pixels.data.set([red, green, blue, clear ? 0 : 255], 4 * index);
  }
  return pixels;
}

function fillTable() {
  const classes = model.sets[chosenSet()].classes;
  const rows = shown.sets[chosenSet()].classes.map(({ index, share, probability }) => {
    const row = document.createElement("tr");
    row.dataset.index = index;
    const swatch = document.createElement("canvas"); // a style attribute would be refused
    swatch.className = "swatch";
    swatch.width = swatch.height = 1;
    const context = swatch.getContext("2d");
    context.fillStyle = `rgb(${classes[index].color.join(",")})`;
    context.fillRect(0, 0, 1, 1);
    row.insertCell().append(swatch, classes[index].name);
    for (const text of [`${(100 * share).toFixed(1)} %`, probability.toFixed(3)]) {
      const cell = row.insertCell();
      cell.className = "number";
      cell.textContent = text;
    }
    return row;
  });
  element("classes").replaceChildren(...rows);
}

function readPixel(event) {
  if (shown === null) return;
  const box = element("canvas").getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * shown.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * shown.height);
  if (x < 0 || y < 0 || x >= shown.width || y >= shown.height) return;
  const set = shown.sets[chosenSet()];
  const index = set.labels[y * shown.width + x];
  const probability = (set.probability[y * shown.width + x] / 255).toFixed(2);
  const name = model.sets[chosenSet()].classes[index].name;
  element("pixel").textContent = `${name}, probability ${probability} (x ${x}, y ${y})`;
  for (const row of element("classes").rows) {
    row.classList.toggle("chosen", Number(row.dataset.index) === index);
  }
}

// Camera ----------------------------------------------------------------------------------------

async function startCamera() {
  if (navigator.mediaDevices === undefined) {
    say("Browsers give a camera to pages of this machine or of https alone.", true);
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    say(`The camera cannot be used: ${error.message}.`, true);
    return;
  }
  element("camera").textContent = "Stop the camera";
  const video = element("video");
  video.srcObject = stream;
  await video.play();
  const mine = stream;
  const canvas = document.createElement("canvas");
  while (stream === mine) {
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const frame = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
    try {
      if (frame !== null) await segment(frame);
    } catch (error) {
      stopCamera();
      say(error.message, true);
    }
  }
}

function stopCamera() {
  if (stream === null) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  element("camera").textContent = "Use the camera";
}

// Events ----------------------------------------------------------------------------------------

function listen() {
  element("file").addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files[0]);
    event.target.value = "";
  });
  const drop = element("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
    });
  }
  document.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  element("camera").addEventListener("click", () => {
    if (stream === null) startCamera();
    else stopCamera();
  });
  for (const id of ["view", "opacity"]) element(id).addEventListener("input", draw);
  element("set").addEventListener("input", show);
  element("canvas").addEventListener("mousemove", readPixel);
  element("canvas").addEventListener("click", readPixel);
}

async function start() {
  const response = await fetch("/model");
  if (!response.ok) throw new Error((await response.text()).trim());
  model = await response.json();
  document.title = element("title").textContent = model.title;
  model.sets.forEach((set, index) => element("set").add(new Option(set.name, index)));
  element("set-choice").hidden = model.sets.length < 2;
  listen();
  say("Ready.");
}

start().catch((error) => say(error.message, true));
