"use strict";

const MAX_ZOOM = 16;
const ZOOM_STEP = 1.5;
const PAN_STEP = 0.1;
// Enlarged at least this often, pixels are shown as squares; below that their sizes would differ visibly.
const SQUARES_FROM = 3;
const ERROR_COLOURS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function setUpTheme(button) {
  const themes = { auto: "light dark", light: "light", dark: "dark" };
  const names = Object.keys(themes);
  let current = 0;
  button.addEventListener("click", () => {
    current = (current + 1) % names.length;
    document.documentElement.style.colorScheme = themes[names[current]];
    button.textContent = `Theme: ${names[current]}`;
  });
}

// One of several figures at a time; without a menu there is but one.
function setUpMenu(menu, figures, shown = () => {}) {
  const show = () => {
    figures.forEach((figure, index) => { figure.hidden = index !== Number(menu.value); });
    shown();
  };
  if (menu) {
    menu.addEventListener("change", show);
    show();
  }
}

// --- tables

function setUpTable(table) {
  const headers = [...table.tHead.rows[0].cells];
  for (const header of headers) {
    header.querySelector("button").addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const body = table.tBodies[0];
      const cell = (row) => row.cells[header.cellIndex];
      body.append(...[...body.rows].sort((one, other) => compareCells(cell(one), cell(other), ascending ? 1 : -1)));
    });
  }
}

// What is unknown comes last in either direction.
function compareCells(one, other, direction) {
  const [a, b] = [one.dataset.value, other.dataset.value];
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const numbers = one.classList.contains("number") && other.classList.contains("number");
  return direction * (numbers ? a - b : a.localeCompare(b, "en", { numeric: true }));
}

// --- charts

// Labels go where they cover neither a point nor another label.
function placeLabels(svg) {
  const around = svg.getBoundingClientRect();
  const taken = [...svg.querySelectorAll("circle")].map((circle) => circle.getBoundingClientRect());
  const meets = (one, other) =>
    one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
  for (const label of svg.querySelectorAll(".point text")) {
    const places = [0, -14, 14, -28, 28].flatMap((dy) => [["start", 10, dy], ["end", -10, dy]]);
    for (const [anchor, dx, dy] of [...places.slice(0, 2), ["middle", 0, -16], ["middle", 0, 16], ...places.slice(2)]) {
      label.setAttribute("text-anchor", anchor);
      label.setAttribute("dx", dx);
      label.setAttribute("dy", dy + 4);
      const box = label.getBoundingClientRect();
      const inside = box.left >= around.left && box.right <= around.right && box.top >= around.top;
      if (inside && !taken.some((other) => meets(box, other))) break;
    }
    taken.push(label.getBoundingClientRect());
  }
}

function setUpStrip(figure, strip) {
  const rows = [...figure.querySelectorAll("svg")];
  const readout = figure.querySelector(".readout");
  const write = (value) => (strip.name === "difference" && value > 0 ? "+" : "") + value.toFixed(2);
  const show = (frame) => {
    rows.forEach((svg, index) => {
      const row = strip.rows[index];
      svg.querySelector(".cursor").setAttribute("d", `M${row.values[frame]} 0V1`);
      svg.setAttribute("aria-valuenow", ranks[index].indexOf(frame) + 1);
      svg.setAttribute("aria-valuetext", `${strip.keys[frame]}: ${write(row.values[frame])} dB`);
    });
    const values = strip.rows.map((row) => `${row.label} ${write(row.values[frame])}`);
    readout.textContent = `${strip.keys[frame]}: ${values.join(", ")} dB`;
  };
  const ranks = strip.rows.map(({ values }) => values.map((_, frame) => frame).sort((a, b) => values[a] - values[b]));
  rows.forEach((svg, index) => {
    const { values } = strip.rows[index];
    let rank = -1;
    svg.addEventListener("pointermove", (event) => {
      const { low, high } = strip.axis;
      const pointed = low + placeIn(svg, event).x * (high - low);
      const distance = (frame) => Math.abs(values[frame] - pointed);
      rank = ranks[index].reduce((best, frame, at) => (distance(frame) < distance(ranks[index][best]) ? at : best), 0);
      show(ranks[index][rank]);
    });
    svg.addEventListener("keydown", (event) => {
      const last = values.length - 1;
      const moves = { ArrowLeft: rank - 1, ArrowDown: rank - 1, ArrowRight: rank + 1, ArrowUp: rank + 1, Home: 0, End: last };
      if (!(event.key in moves)) return;
      event.preventDefault();
      rank = clamp(moves[event.key], 0, last);
      show(ranks[index][rank]);
    });
  });
}

// --- before and after

class Viewer {
  constructor(frames) {
    this.frames = frames;
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.divider = 0.5;
    this.errors = false;
    this.pointers = new Map();
    this.stage = byId("stage");
    this.listen();
    this.showFrame(0);
  }

  listen() {
    byId("frame").addEventListener("change", (event) => this.showFrame(Number(event.target.value)));
    for (const side of ["left", "right"]) {
      byId(side).addEventListener("change", (event) => this.choose(side, Number(event.target.value)));
    }
    byId("divider").addEventListener("input", (event) => this.divide(event.target.value / 100));
    byId("zoom-in").addEventListener("click", () => this.zoom(ZOOM_STEP));
    byId("zoom-out").addEventListener("click", () => this.zoom(1 / ZOOM_STEP));
    byId("zoom-all").addEventListener("click", () => this.move({ zoom: 1 }));
    byId("zoom-detail").addEventListener("click", () => this.showDetail());
    byId("errors").addEventListener("click", () => this.toggleErrors());
    this.stage.addEventListener("keydown", (event) => this.press(event));
    this.listenToPointers(this.stage);
    new ResizeObserver(() => this.draw()).observe(byId("compare"));
  }

  listenToPointers(element) {
    element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.grab(event));
    element.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      element.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
  }

  async showFrame(index) {
    const frame = this.frames[index];
    this.wanted = frame;
    const sides = await Promise.all(frame.sides.map(async (side) => ({ ...side, image: await loadImage(side.source) })));
    // Somebody may have chosen another one meanwhile.
    if (this.wanted !== frame) return;
    // The same two as before, and at first the blurred input and the recommended net.
    const labels = this.sides ? [this.sides[this.left].label, this.sides[this.right].label] : [sides[0].label, data.pick];
    this.frame = frame;
    this.sides = sides;
    const places = labels.map((label) => sides.findIndex((side) => side.label === label));
    [this.left, this.right] = places.map((place, side) => (place < 0 ? side : place));
    this.buildPanels();
    for (const side of ["left", "right"]) {
      byId(side).replaceChildren(...sides.map(({ label }, at) => new Option(label, at)));
      this.choose(side, this[side]);
    }
  }

  buildPanels() {
    this.panels = this.sides.map((side, index) => {
      const [figure, canvas, caption, buttons] = ["figure", "canvas", "figcaption", "div"].map((name) =>
        document.createElement(name));
      canvas.setAttribute("role", "img");
      caption.append(...captionParts(side).map((text) => Object.assign(document.createElement("span"), { textContent: text })));
      buttons.className = "buttons";
      for (const name of ["left", "right"]) {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
        button.dataset.side = name;
        button.setAttribute("aria-label", `${side.label} on the ${name}`);
        button.addEventListener("click", () => this.choose(name, index));
        buttons.append(button);
      }
      figure.append(canvas, caption, buttons);
      this.listenToPointers(canvas);
      return { figure, canvas, buttons };
    });
    byId("panels").replaceChildren(...this.panels.map((panel) => panel.figure));
    byId("compare").style.setProperty("--ratio", this.frame.width / this.frame.height);
  }

  choose(name, index) {
    this[name] = index;
    byId(name).value = index;
    this.stage.querySelector(`.caption.${name}`).textContent = captionParts(this.sides[index]).join(" ");
    this.panels.forEach(({ buttons }, at) => {
      buttons.querySelector(`[data-side=${name}]`).setAttribute("aria-pressed", at === index);
    });
    this.draw();
  }

  divide(share) {
    this.divider = clamp(share, 0, 1);
    byId("divider").value = Math.round(100 * this.divider);
    this.draw();
  }

  toggleErrors() {
    this.errors = !this.errors;
    byId("errors").setAttribute("aria-pressed", this.errors);
    byId("error-legend").hidden = !this.errors;
    this.draw();
  }

  // What is seen stays within the picture.
  move(change) {
    const view = { ...this.view, ...change };
    view.zoom = clamp(view.zoom, 1, MAX_ZOOM);
    const half = 0.5 / view.zoom;
    view.x = clamp(view.x, half, 1 - half);
    view.y = clamp(view.y, half, 1 - half);
    this.view = view;
    byId("compare").classList.toggle("zoomed", view.zoom > 1);
    this.draw();
  }

  // The place under the pointer, in shares of the canvas, stays where it is.
  zoom(factor, at = { x: 0.5, y: 0.5 }) {
    const zoom = clamp(this.view.zoom * factor, 1, MAX_ZOOM);
    const shift = 1 / this.view.zoom - 1 / zoom;
    this.move({ zoom, x: this.view.x + (at.x - 0.5) * shift, y: this.view.y + (at.y - 0.5) * shift });
  }

  showDetail() {
    const { detail, width, height } = this.frame;
    this.move({
      zoom: Math.min(width / detail.width, height / detail.height),
      x: (detail.left + detail.width / 2) / width,
      y: (detail.top + detail.height / 2) / height,
    });
  }

  press(event) {
    const step = PAN_STEP / this.view.zoom;
    const { x, y, zoom } = this.view;
    const actions = {
      "+": () => this.zoom(ZOOM_STEP),
      "=": () => this.zoom(ZOOM_STEP),
      "-": () => this.zoom(1 / ZOOM_STEP),
      0: () => this.move({ zoom: 1 }),
      ArrowLeft: () => this.move({ x: x - step }),
      ArrowRight: () => this.move({ x: x + step }),
      ArrowUp: () => this.move({ y: y - step }),
      ArrowDown: () => this.move({ y: y + step }),
    };
    // With the whole picture in view, arrow keys scroll the page as everywhere.
    const idle = event.key.startsWith("Arrow") && zoom === 1;
    if (!(event.key in actions) || idle || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  wheel(event) {
    // With the whole picture in view, scrolling down scrolls the page as everywhere.
    if (this.view.zoom === 1 && event.deltaY > 0) return;
    event.preventDefault();
    this.zoom(2 ** (-event.deltaY / 300), placeIn(event.currentTarget, event));
  }

  grab(event) {
    const element = event.currentTarget;
    const dividing = event.target.classList.contains("divider");
    element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { ...placeIn(element, event), dividing });
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = placeIn(event.currentTarget, event);
    this.pointers.set(event.pointerId, { ...now, dividing: before.dividing });
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (before.dividing) {
      this.divide(now.x);
      return;
    }
    if (other) {
      const distance = (place) => Math.hypot(place.x - other.x, place.y - other.y);
      this.zoom(distance(now) / Math.max(distance(before), 1e-3), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    }
    // Of two fingers that move together, each moves the picture by half.
    const share = (other ? 0.5 : 1) / this.view.zoom;
    this.move({ x: this.view.x - (now.x - before.x) * share, y: this.view.y - (now.y - before.y) * share });
  }

  draw() {
    if (!this.sides || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paintStage();
      this.panels.forEach(({ canvas }, index) => {
        this.paint(fit(canvas), this.sides[index], 0, 1);
        canvas.setAttribute("aria-label", this.describe(this.sides[index]));
      });
      const { zoom, x, y } = this.view;
      const { width, height } = this.frame;
      byId("view").textContent =
        `Zoom ${zoom.toFixed(1)}, centre ${Math.round(x * width)}, ${Math.round(y * height)} of ${width} x ${height} pixels`;
    });
  }

  paintStage() {
    const [left, right] = [this.sides[this.left], this.sides[this.right]];
    const canvas = this.stage.querySelector("canvas");
    const context = fit(canvas);
    this.paint(context, left, 0, this.divider);
    this.paint(context, right, this.divider, 1);
    this.stage.querySelector(".divider").style.left = `${100 * this.divider}%`;
    canvas.setAttribute("aria-label", `Left ${this.describe(left)}; right ${this.describe(right)}`);
  }

  // Paints the columns of a picture from one share of the canvas to another.
  paint(context, side, from, to) {
    const { zoom, x, y } = this.view;
    const { width, height } = this.frame;
    const canvas = context.canvas;
    const picture = this.errors ? (side.errors ??= errorMap(side.image, this.sides.at(-1).image)) : side.image;
    context.save();
    context.beginPath();
    context.rect(from * canvas.width, 0, (to - from) * canvas.width, canvas.height);
    context.clip();
    context.imageSmoothingEnabled = (canvas.width * zoom) / width < SQUARES_FROM;
    context.imageSmoothingQuality = "high";
    const [left, top] = [(x - 0.5 / zoom) * width, (y - 0.5 / zoom) * height];
    context.drawImage(picture, left, top, width / zoom, height / zoom, 0, 0, canvas.width, canvas.height);
    context.restore();
  }

  describe(side) {
    return `${this.errors ? "error map of " : ""}${captionParts(side).join(", ")}, ${this.frame.key}`;
  }
}

function captionParts({ label, psnr }) {
  return psnr === null ? [label] : [label, `${psnr.toFixed(2)} dB`];
}

function placeIn(element, event) {
  const box = element.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

async function loadImage(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

// As many pixels as the screen shows.
function fit(canvas) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  return canvas.getContext("2d");
}

function errorMap(image, sharp) {
  const [own, other] = [image, sharp].map(pixelsOf);
  for (let at = 0; at < own.data.length; at += 4) {
    let sum = 0;
    for (let channel = at; channel < at + 3; channel++) sum += Math.abs(own.data[channel] - other.data[channel]);
    own.data.set(errorColour(sum / 3 / data.error_limit), at);
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [own.width, own.height];
  canvas.getContext("2d").putImageData(own, 0, 0);
  return canvas;
}

function errorColour(share) {
  const place = clamp(share, 0, 1) * (ERROR_COLOURS.length - 1);
  const index = Math.min(Math.floor(place), ERROR_COLOURS.length - 2);
  return ERROR_COLOURS[index].map((low, channel) => low + (place - index) * (ERROR_COLOURS[index + 1][channel] - low));
}

function pixelsOf(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// --- start

setUpTheme(byId("theme"));
document.querySelectorAll("table").forEach(setUpTable);
const labelAll = () => document.querySelectorAll(".chart:not([hidden]) .scatter").forEach(placeLabels);
setUpMenu(byId("chart"), [...document.querySelectorAll(".chart")], labelAll);
setUpMenu(byId("strip"), [...document.querySelectorAll("figure.strip")]);
document.querySelectorAll("figure.strip").forEach((figure) => setUpStrip(figure, data.strips[figure.dataset.strip]));
labelAll();
window.addEventListener("resize", labelAll);
if (data.frames.length) new Viewer(data.frames);
