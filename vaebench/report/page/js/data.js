// The page's data: see the contract in vaebench/report/page/data.py.
import { $, colour, h } from "./dom.js";

export const data = JSON.parse($("#data").textContent);
export const cells = data.cells;

const COLOURS = 8;
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
// marks of points around (0, 0): a circle, a square, a triangle, a diamond
const SHAPES = [
  "M-4.5 0A4.5 4.5 0 1 1 4.5 0A4.5 4.5 0 1 1 -4.5 0Z",
  "M-4 -4H4V4H-4Z",
  "M0 -5.2L5 4H-5Z",
  "M0 -5.8L5.8 0L0 5.8L-5.8 0Z",
];

/** Colour, dash and mark of every cell: the same everywhere on the page. */
const looks = (() => {
  const axes = Object.keys(cells[0]?.axes ?? {});
  const last = axes.filter((axis) => new Set(cells.map((cell) => cell.axes[axis])).size > 1).pop();
  const values = [...new Set(cells.map((cell) => cell.axes[last]))];
  const dashed = cells.length <= COLOURS && values.length <= DASHES.length;
  return cells.map((cell, i) => ({
    variable: `--c${i % COLOURS}`,
    shape: SHAPES[Math.floor(i / COLOURS) % SHAPES.length],
    dash: DASHES[
      dashed ? Math.max(values.indexOf(cell.axes[last]), 0) : Math.floor(i / COLOURS) % 4
    ],
  }));
})();

export const look = (i) => ({ ...looks[i], colour: colour(looks[i].variable) });

function drawn(kind, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** A small line in the colour and dash of a cell, with its mark where marks differ. */
export function swatch(i) {
  const { variable, dash, shape } = looks[i];
  const svg = drawn("svg", { viewBox: "-13 -6 26 12", class: "swatch", "aria-hidden": "true" });
  const line = { d: "M-12 0H12", "stroke-width": 3, "stroke-dasharray": dash.join(" ") || "none" };
  svg.append(drawn("path", line));
  if (cells.length > COLOURS) svg.append(drawn("path", { d: shape, transform: "scale(0.9)" }));
  svg.style.stroke = svg.style.fill = `var(${variable})`;
  return svg;
}

/** The values of axes that only some cells have. */
export function shared(members, all) {
  const others = all.filter((i) => !members.includes(i));
  const values = (axis, of) => [...new Set(of.map((i) => cells[i].axes[axis]))];
  return Object.keys(cells[members[0]].axes)
    .filter((axis) => {
      const elsewhere = values(axis, others);
      return others.length && values(axis, members).every((value) => !elsewhere.includes(value));
    })
    .map((axis) => values(axis, members).join(" or "))
    .join(" / ");
}

export const named = (i) => h("span", { className: "cell-name" }, swatch(i), ` ${cells[i].label}`);

export const title = (name) => {
  const metric = data.metrics[name];
  return metric.unit &&
    !metric.title.toLowerCase().includes(metric.unit.split("/")[0].toLowerCase())
    ? `${metric.title} (${metric.unit})`
    : metric.title;
};

export function bytes(base64) {
  const text = atob(base64);
  const array = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
  return array;
}

export const shorts = (base64) => new Int16Array(bytes(base64).buffer);

export async function inflate(array) {
  const stream = new Blob([array]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const images = new Map();

/** The picture of a sprite, loaded once. */
export function picture(sprite) {
  if (!images.has(sprite)) {
    const image = new Image();
    image.src = sprite.src;
    images.set(
      sprite,
      image.decode().then(() => image),
    );
  }
  return images.get(sprite);
}

/** The pixels of a sprite, as numbers in [0, 1]: of one image, channels last. */
export async function pixelsOf(sprite, row, column) {
  const image = await picture(sprite);
  const canvas = new OffscreenCanvas(sprite.width, sprite.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, -column * sprite.width, -row * sprite.height);
  return context.getImageData(0, 0, sprite.width, sprite.height);
}

/** A canvas for rows x columns of images, with a gap of a pixel. */
export function sheet(rows, columns, height, width, label) {
  const canvas = h("canvas", {
    width: columns * (width + 1) - 1,
    height: rows * (height + 1) - 1,
    className: "pixels",
  });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

/** Draws one image of a sprite into a place of a sheet. */
export function place(canvas, image, sprite, [row, column], [toRow, toColumn]) {
  const { width, height } = sprite;
  canvas
    .getContext("2d")
    .drawImage(
      image,
      column * width,
      row * height,
      width,
      height,
      toColumn * (width + 1),
      toRow * (height + 1),
      width,
      height,
    );
}

export function format(value, decimals = 3) {
  if (value == null || Number.isNaN(value)) return "—";
  const digits =
    Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? Math.min(decimals, 2) : decimals;
  return value.toLocaleString("en", {
    maximumFractionDigits: digits,
    minimumFractionDigits: Math.min(digits, 2),
  });
}
