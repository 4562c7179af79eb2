"use strict";

const MAX_ZOOM = 32;
const ZOOM_STEP = 1.5;
const PAN_STEP = 0.1;
// Enlarged at least this often, pixels are shown as squares.
const SQUARES_FROM = 3;
const POLL_MS = 200;

const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const stage = byId("stage");

// The photo that is on the page; answers about an earlier one are dropped.
let current = 0;

// --- from the file to the result

async function take(file) {
  const number = ++current;
  byId("error").hidden = byId("comparison").hidden = true;
  byId("working").hidden = false;
  showProgress(`Reading ${file.name}`);
  try {
    const key = await upload(file);
    const photo = await finished(key, number);
    if (photo) await show(key, photo, number);
  } catch (error) {
    if (number === current) fail(error.message);
  }
}

async function upload(file) {
  const sent = await ask(`photos?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
  const answer = await sent.json();
  if (!sent.ok) throw new Error(answer.error);
  return answer.key;
}

async function finished(key, number) {
  while (number === current) {
    const answer = await ask(`photos/${key}`);
    if (!answer.ok) throw new Error("This photo is no longer here: choose it once more.");
    const photo = await answer.json();
    if (number !== current) return null;
    if (photo.state === "failed") throw new Error(photo.error);
    if (photo.state === "done") return photo;
    if (photo.state === "waiting") showProgress("Waiting for the photos before it");
    else if (photo.tiles) showProgress(`${photo.tiles_done} of ${photo.tiles} tiles`, photo.tiles_done / photo.tiles);
    else showProgress(`Reading ${photo.name}`);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  return null;
}

async function ask(...request) {
  try {
    return await fetch(...request);
  } catch {
    throw new Error("The program behind this page does not answer: start macr app again.");
  }
}

async function show(key, photo, number) {
  const [width, height] = photo.size;
  stage.style.aspectRatio = `${width} / ${height}`;
  for (const name of ["blurred", "restored"]) byId(name).src = `photos/${key}/${name}`;
  await Promise.all(["blurred", "restored"].map((name) => byId(name).decode()));
  if (number !== current) return;
  byId("download").href = `photos/${key}/download`;
  byId("notes").textContent = photo.notes.join("; ");
  byId("working").hidden = true;
  byId("comparison").hidden = false;
  setDivider(50);
  view.zoom = 1;
  draw();
}

function showProgress(text, share) {
  byId("status").textContent = text;
  if (share === undefined) byId("bar").removeAttribute("value");
  else byId("bar").value = share;
}

function fail(message) {
  byId("working").hidden = true;
  byId("error").textContent = message;
  byId("error").hidden = false;
}

byId("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  // The same file may be chosen again.
  if (file) take(file).finally(() => { target.value = ""; });
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

// --- comparison

// x and y: how far both pictures are moved, in pixels of the screen.
const view = { zoom: 1, x: 0, y: 0 };

function draw() {
  view.zoom = clampZoom(view.zoom);
  view.x = clampMove(view.x, stage.clientWidth);
  view.y = clampMove(view.y, stage.clientHeight);
  for (const name of ["blurred", "restored"]) {
    byId(name).style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  }
  stage.classList.toggle("squares", view.zoom / pixelZoom() >= SQUARES_FROM);
  byId("zoom").textContent = `${Math.round((100 * view.zoom) / pixelZoom())} %`;
}

// At this zoom, one pixel of the picture is one of the screen.
function pixelZoom() {
  const picture = byId("restored");
  const fitted = Math.min(stage.clientWidth / picture.naturalWidth, stage.clientHeight / picture.naturalHeight);
  return 1 / (fitted * devicePixelRatio);
}

function clampZoom(zoom) {
  return clamp(zoom, Math.min(1, pixelZoom()), Math.max(MAX_ZOOM, pixelZoom()));
}

// A larger picture leaves no gap, a smaller one stays inside.
function clampMove(place, side) {
  const end = side * (1 - view.zoom);
  return clamp(place, Math.min(0, end), Math.max(0, end));
}

function zoomTo(zoom, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const before = view.zoom;
  view.zoom = clampZoom(zoom);
  view.x = x - ((x - view.x) * view.zoom) / before;
  view.y = y - ((y - view.y) * view.zoom) / before;
  draw();
}

function move(x, y) {
  view.x += x;
  view.y += y;
  draw();
}

function setDivider(percent) {
  const place = clamp(percent, 0, 100);
  byId("divider").value = place;
  byId("line").style.left = `${place}%`;
  byId("left").style.clipPath = `inset(0 ${100 - place}% 0 0)`;
}

byId("divider").addEventListener("input", ({ target }) => setDivider(Number(target.value)));
byId("in").addEventListener("click", () => zoomTo(view.zoom * ZOOM_STEP));
byId("out").addEventListener("click", () => zoomTo(view.zoom / ZOOM_STEP));
byId("whole").addEventListener("click", () => zoomTo(1));
byId("pixels").addEventListener("click", () => zoomTo(pixelZoom()));
addEventListener("resize", draw);

const inStage = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomTo(view.zoom * ZOOM_STEP ** (-event.deltaY / 120), ...inStage(event));
}, { passive: false });

stage.addEventListener("keydown", ({ key }) => {
  const step = PAN_STEP * stage.clientWidth;
  const actions = {
    "+": () => zoomTo(view.zoom * ZOOM_STEP), "-": () => zoomTo(view.zoom / ZOOM_STEP), 0: () => zoomTo(1),
    ArrowLeft: () => move(step, 0), ArrowRight: () => move(-step, 0),
    ArrowUp: () => move(0, step), ArrowDown: () => move(0, -step),
  };
  actions[key]?.();
});

// One finger or the mouse moves the divider or the pictures, two fingers zoom.
const fingers = new Map();
let drags = null;

stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, inStage(event));
  drags = event.target.id === "line" ? "divider" : "pictures";
});
stage.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = inStage(event);
  const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
  fingers.set(event.pointerId, now);
  if (other) {
    const apart = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]);
    zoomTo((view.zoom * apart(now)) / Math.max(1, apart(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  } else if (drags === "divider") {
    setDivider((100 * now[0]) / stage.clientWidth);
  } else {
    move(now[0] - before[0], now[1] - before[1]);
  }
});
for (const kind of ["pointerup", "pointercancel"]) {
  stage.addEventListener(kind, (event) => fingers.delete(event.pointerId));
}
