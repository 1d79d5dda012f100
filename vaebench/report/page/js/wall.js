// The picture wall: the same test images and the same latent draws for every cell, over epochs.
import { cells, data, format, named, picture, pixelsOf, place, sheet } from "./data.js";
import { $, $$, button, choice, h } from "./dom.js";

const COLUMNS = 8;
const KINDS = [
  ["reconstruction", "Reconstructions"],
  ["samples", "Samples from the prior"],
  ["best", "Best reconstructed"],
  ["median", "Median reconstructed"],
  ["worst", "Worst reconstructed"],
];
const RANKS = ["best", "median", "worst"];

export function startWall() {
  const shown = cells.map((_, i) => i).filter((i) => cells[i].run?.reconstruction);
  if (!shown.length) {
    $("#pictures").hidden = true;
    return;
  }
  const epochs = [...new Set(shown.flatMap((i) => cells[i].run.epochs))].sort((a, b) => a - b);
  const state = { kind: "reconstruction", at: epochs.length - 1, every: false };
  const grid = $("#wall");
  const slider = h("input", {
    type: "range",
    min: 0,
    max: epochs.length - 1,
    step: 1,
    value: state.at,
    id: "epoch",
    ariaLabel: "Epoch",
  });
  const said = h("output", { htmlFor: "epoch" });
  const field = h("label", { className: "field grow" }, h("span", {}, "Epoch ", said), slider);
  let run = 0;

  async function draw() {
    const mine = ++run;
    const epoch = epochs[state.at];
    said.textContent = String(epoch);
    slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
    const ranked = RANKS.includes(state.kind);
    field.hidden = play.hidden = ranked || state.every || epochs.length < 2;
    for (const label of $$("#wall-controls .check")) label.hidden = ranked;
    const members = shown.filter((i) => !ranked || cells[i].run.ranked);
    const cards = state.kind === "reconstruction" ? originals(members) : [];
    cards.push(
      ...members.map((i) => ({
        cell: i,
        ...(ranked
          ? rankedRows(i, state.kind)
          : epochRows(i, state.kind, state.every ? epochs : [epoch])),
      })),
    );
    const made = await Promise.all(cards.map(card));
    if (mine === run) grid.replaceChildren(...made);
  }

  /** A canvas with its caption; a click shows it in full size. */
  async function card({ cell, rows, label, sprite, note }) {
    const canvas = sheet(rows.length, rows[0].length, sprite.height, sprite.width, label);
    await fill(canvas, rows);
    const caption = h(
      "figcaption",
      {},
      cell === undefined ? h("b", {}, "Originals") : named(cell),
      h("span", { className: "quiet" }, note),
    );
    const open = button("", () => enlarge(caption.cloneNode(true), canvas), {
      className: "picture",
      "aria-label": `${label}: enlarge`,
    });
    open.append(canvas);
    return h("figure", { className: "card" }, open, caption);
  }

  slider.addEventListener("input", () => {
    state.at = +slider.value;
    draw();
  });
  const play = button(
    "Play",
    () => {
      if (timer) stop();
      else {
        play.textContent = "Stop";
        timer = setInterval(() => {
          state.at = (state.at + 1) % epochs.length;
          slider.value = state.at;
          draw();
        }, 900);
      }
    },
    { className: "small" },
  );
  let timer = 0;
  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  }
  slider.addEventListener("pointerdown", stop);
  const every = h("input", { type: "checkbox" });
  every.addEventListener("change", () => {
    state.every = every.checked;
    stop();
    draw();
  });
  const kinds = KINDS.filter(
    ([kind]) => !RANKS.includes(kind) || shown.some((i) => cells[i].run.ranked),
  );
  $("#wall-controls").append(
    choice("Show", kinds, state.kind, (kind) => {
      state.kind = kind;
      stop();
      draw();
    }),
    field,
    ...(epochs.length > 1
      ? [play, h("label", { className: "check" }, every, "All saved epochs")]
      : []),
  );
  draw();
  startDifference(shown);
}

/** The test images, once for each set of them. */
function originals(members) {
  return [...new Set(members.map((i) => cells[i].run.original))].map((k) => {
    const sprite = data.originals[k];
    return {
      sprite,
      rows: imageRows(sprite, 0),
      label: "Test images",
      note: `${sprite.columns} test images`,
    };
  });
}

function imageRows(sprite, row, count = sprite.columns) {
  const rows = [];
  for (let i = 0; i < count; i += COLUMNS)
    rows.push(Array.from({ length: Math.min(COLUMNS, count - i) }, (_, k) => [sprite, row, i + k]));
  return rows;
}

function epochRows(i, kind, epochs) {
  const { run } = cells[i];
  const sprite = run[kind];
  const at = (epoch) =>
    Math.max(
      run.epochs.findLastIndex((known) => known <= epoch),
      0,
    );
  const rows =
    epochs.length > 1
      ? [...new Set(epochs.map(at))].map((row) => imageRows(sprite, row, COLUMNS)[0])
      : imageRows(sprite, at(epochs[0]));
  const when =
    epochs.length > 1
      ? `epochs ${run.epochs.join(", ")}, from above`
      : `epoch ${run.epochs[at(epochs[0])]}`;
  const what = kind === "samples" ? "samples" : "reconstructions";
  return {
    sprite,
    rows,
    label: `${what} of ${cells[i].label}, ${when}`,
    note: `${when}${run.why && cells[i].seeds > 1 ? `, seed ${run.seed}` : ""}${quality(i)}`,
  };
}

function rankedRows(i, kind) {
  const sprite = cells[i].run.ranked;
  const from = (RANKS.indexOf(kind) * sprite.columns) / RANKS.length;
  const row = (r) =>
    Array.from({ length: sprite.columns / RANKS.length }, (_, k) => [sprite, r, from + k]);
  return {
    sprite,
    rows: [row(0), row(1)],
    label: `${kind} reconstructed test images of ${cells[i].label}`,
    note: "original above reconstruction",
  };
}

// of the measured weights, and of all seeds: not of the pictures that are shown
const quality = (i) =>
  "test/psnr" in cells[i].values
    ? `; final PSNR ${format(cells[i].values["test/psnr"][0], 2)} dB${cells[i].seeds > 1 ? " (mean of seeds)" : ""}`
    : "";

async function fill(canvas, rows) {
  for (const [r, row] of rows.entries())
    for (const [c, [sprite, from, column]] of row.entries())
      place(canvas, await picture(sprite), sprite, [from, column], [r, c]);
}

function enlarge(caption, canvas) {
  const large = h("canvas", { width: canvas.width, height: canvas.height, className: "pixels" });
  large.getContext("2d").drawImage(canvas, 0, 0);
  large.setAttribute("role", "img");
  large.setAttribute("aria-label", canvas.getAttribute("aria-label"));
  const dialog = $("#large");
  dialog.replaceChildren(
    h(
      "div",
      { className: "bar" },
      caption,
      button("Close", () => dialog.close(), { autofocus: true }),
    ),
    large,
  );
  dialog.showModal();
}

/** The test images on which two chosen cells differ most. */
function startDifference(shown) {
  const partners = (i) =>
    shown.filter((j) => j !== i && cells[j].run.original === cells[i].run.original);
  const able = shown.filter((i) => partners(i).length);
  if (!able.length) {
    $("#difference").hidden = true;
    return;
  }
  const state = { a: able[0], b: partners(able[0]).at(-1) };
  const options = able.map((i) => [String(i), cells[i].label]);
  const result = $("#difference-result");

  async function draw() {
    const [a, b] = [cells[state.a].run, cells[state.b].run];
    if (state.a === state.b || a.original !== b.original) {
      result.replaceChildren(
        h("p", { className: "quiet" }, "Choose two different cells with the same test images."),
      );
      return;
    }
    const tests = data.originals[a.original];
    const count = Math.min(tests.columns, a.reconstruction.columns, b.reconstruction.columns);
    const found = [];
    for (let k = 0; k < count; k++) {
      const [x, ya, yb] = await Promise.all([
        pixelsOf(tests, 0, k),
        pixelsOf(a.reconstruction, a.reconstruction.rows - 1, k),
        pixelsOf(b.reconstruction, b.reconstruction.rows - 1, k),
      ]);
      found.push({ k, a: error(x, ya), b: error(x, yb) });
    }
    found.sort((one, other) => Math.abs(other.a - other.b) - Math.abs(one.a - one.b));
    const top = found.slice(0, COLUMNS);
    const canvas = sheet(
      3,
      top.length,
      tests.height,
      tests.width,
      `Test images on which ${cells[state.a].label} and ${cells[state.b].label} differ most`,
    );
    await fill(canvas, [
      top.map(({ k }) => [tests, 0, k]),
      top.map(({ k }) => [a.reconstruction, a.reconstruction.rows - 1, k]),
      top.map(({ k }) => [b.reconstruction, b.reconstruction.rows - 1, k]),
    ]);
    const better = top.filter((one) => one.a < one.b).length;
    result.replaceChildren(
      h(
        "figure",
        { className: "card" },
        canvas,
        h(
          "figcaption",
          {},
          "From above: the original, ",
          named(state.a),
          ", ",
          named(state.b),
          h(
            "span",
            { className: "quiet" },
            `Of the ${count} test images shown, those whose squared errors differ most; on ${better} of these ${top.length} the first is nearer.`,
          ),
        ),
      ),
    );
  }
  const set = (key) => (value) => {
    state[key] = +value;
    draw();
  };
  $("#difference-controls").append(
    choice("First cell", options, String(state.a), set("a")),
    choice("Second cell", options, String(state.b), set("b")),
  );
  draw();
}

function error(x, y) {
  let sum = 0;
  for (let i = 0; i < x.data.length; i++) sum += ((x.data[i] - y.data[i]) / 255) ** 2;
  return sum / x.data.length;
}
