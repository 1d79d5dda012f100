// One cell of the latent explorer: its image, its map of codes, its sliders.
import { cells, data, format, picture, place, sheet } from "./data.js";
import { readDecoder } from "./decoder.js";
import { $, choice, h, onTheme } from "./dom.js";
import { draw, normals, stored, unpacked } from "./latent.js";
import { drawCodes, MAP } from "./map.js";

const STEPS = 9;
const DRAWS = 16;
const COLLAPSED = 0.01; // nats: a dimension of less tells nothing about the image
const FEW = 12; // sliders before the fold

/** What both cells show: places of test images, the seed of samples, and how to choose an image. */
export const chosen = { first: 0, second: 1, seed: 1 };

export function pane(k, start, able) {
  const state = { cell: start, decoder: null, z: [], codes: null, map: null };
  const body = h("div", { className: "pane-body" });
  const note = h("p", { className: "quiet" });
  const select = choice(
    `Cell ${"AB"[k]}`,
    able.map((i) => [String(i), cells[i].label]),
    String(start),
    (value) => {
      state.cell = +value;
      load();
    },
  );
  const element = h("div", { className: "pane card" }, select, note, body);
  let parts = {};

  async function load() {
    const { cell } = state;
    const { run } = cells[cell];
    const text = $(`#decoder-${cell}`);
    element.setAttribute("aria-busy", "true");
    const decoder = text
      ? await readDecoder(text.textContent)
      : stored(run, await picture(run.traversals));
    if (state.cell !== cell) return;
    Object.assign(state, {
      decoder,
      codes: run.codes && unpacked(run.codes),
      z: new Array(decoder.latentDim).fill(0),
    });
    const seed = cells[cell].seeds > 1 ? `Seed ${run.seed} (${run.why}). ` : "";
    note.textContent =
      decoder.live === false
        ? `${seed}The page does not hold this decoder: what is shown are traversals stored after training, one dimension at a time.`
        : `${seed}${decoder.latentDim} latent dimensions, decoded here as you move.`;
    build();
    element.removeAttribute("aria-busy");
    if (state.codes) update("first");
    else redraw();
  }

  function build() {
    const { decoder, codes } = state;
    const [, height, width] = decoder.shape;
    const image = sheet(1, 1, height, width, "Decoded image");
    const test = sheet(1, 1, height, width, "Test image");
    image.classList.add("large");
    test.classList.add("large");
    parts = {
      image,
      test,
      testCaption: h("figcaption", {}, ""),
      sliders: [],
      samples: null,
      between: null,
    };
    const rates = cells[state.cell].run.rates;
    const order = state.z.map((_, d) => d).sort((a, b) => (rates[b] ?? 0) - (rates[a] ?? 0));
    const reach = Math.max(3, codes ? Math.ceil(codes.largest) : 3);
    const rows = order.map((d) => slider(d, rates[d], reach));
    const sliders = h("div", { className: "sliders" }, ...rows.slice(0, FEW));
    if (rows.length > FEW)
      sliders.append(
        h(
          "details",
          {},
          h("summary", {}, `${rows.length - FEW} more dimensions`),
          ...rows.slice(FEW),
        ),
      );
    body.replaceChildren(
      h(
        "div",
        { className: "images" },
        h("figure", {}, image, h("figcaption", {}, "decoded")),
        h("figure", {}, test, parts.testCaption),
        ...(codes ? [mapFigure()] : []),
      ),
      sliders,
    );
    if (decoder.live !== false) {
      parts.between = sheet(1, STEPS, height, width, "Interpolation between two test images");
      parts.samples = sheet(2, DRAWS / 2, height, width, "Samples from the prior");
      if (codes)
        body.append(
          h(
            "figure",
            {},
            parts.between,
            h("figcaption", {}, "from the first test image to the second"),
          ),
        );
      body.append(
        h(
          "figure",
          {},
          parts.samples,
          h("figcaption", {}, "samples from the prior, the same codes in both cells"),
        ),
      );
    }
  }

  function slider(d, rate, reach) {
    const collapsed = rate != null && rate < COLLAPSED;
    const input = h("input", { type: "range", min: -reach, max: reach, step: 0.01, value: 0 });
    const said = h("output", {}, "0.00");
    input.addEventListener("input", () => {
      if (state.decoder.live === false) state.z.fill(0);
      state.z[d] = +input.value;
      redraw();
    });
    parts.sliders[d] = { input, said };
    const name = h(
      "span",
      {},
      `z${d + 1} `,
      h(
        "span",
        { className: "quiet" },
        rate == null ? "" : `${format(rate, 2)} nats${collapsed ? ", collapsed" : ""}`,
      ),
    );
    return h("label", { className: collapsed ? "slider collapsed" : "slider" }, name, input, said);
  }

  function mapFigure() {
    const canvas = h("canvas", { width: MAP * 2, height: MAP * 2, className: "map", tabIndex: 0 });
    canvas.setAttribute("role", "application");
    canvas.setAttribute(
      "aria-label",
      "Map of the codes of test images. A click takes the code; the arrow keys go to the next test image.",
    );
    parts.map = canvas;
    canvas.addEventListener("click", (event) => take(event));
    canvas.addEventListener("mousemove", (event) => {
      const { index } = nearest(event);
      canvas.title = `test image ${index}, label ${state.codes.labels[index]}`;
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      chosen.choose((chosen.first + step + state.codes.count) % state.codes.count);
    });
    const about =
      state.codes.size === 2
        ? "the codes of test images, by label"
        : "the codes of test images in two principal components, by label";
    return h("figure", { className: "map-figure" }, canvas, h("figcaption", {}, about));
  }

  function nearest(event) {
    const box = parts.map.getBoundingClientRect();
    const [x, y] = [
      ((event.clientX - box.left) / box.width) * 2 * MAP,
      ((event.clientY - box.top) / box.height) * 2 * MAP,
    ];
    let index = 0;
    let far = Infinity;
    for (let i = 0; i < state.codes.count; i++) {
      const [px, py] = state.spots(i);
      const d = (px - x) ** 2 + (py - y) ** 2;
      if (d < far) [far, index] = [d, i];
    }
    return { index, x, y };
  }

  function take(event) {
    const { index, x, y } = nearest(event);
    if (state.codes.size !== 2) {
      chosen.choose(index);
      return;
    }
    state.z = state.unspot(x, y);
    state.index = null;
    redraw();
  }

  function drawMap() {
    if (parts.map) Object.assign(state, drawCodes(parts.map, state.codes, state.z, state.index));
  }

  function redraw() {
    const { decoder, z } = state;
    draw(parts.image, decoder, z, 0, 0);
    z.forEach((value, d) => {
      const { input, said } = parts.sliders[d];
      input.value = value;
      said.textContent = value.toFixed(2);
    });
    element.dataset.z = z.map((value) => value.toFixed(4)).join(" ");
    drawMap();
  }

  async function update(key) {
    const { codes, decoder } = state;
    if (!decoder) return;
    if (key === "first" && codes) {
      state.index = Math.min(chosen.first, codes.count - 1);
      state.z = decoder.live === false ? state.z : codes.of(state.index);
      redraw();
      await showTest();
    }
    if (key !== "seed" && parts.between && codes) {
      const [from, to] = [
        codes.of(Math.min(chosen.first, codes.count - 1)),
        codes.of(Math.min(chosen.second, codes.count - 1)),
      ];
      for (let s = 0; s < STEPS; s++)
        draw(
          parts.between,
          decoder,
          from.map((x, d) => x + ((to[d] - x) * s) / (STEPS - 1)),
          0,
          s,
        );
    }
    if (key === "seed" || !parts.sampled) drawSamples();
  }

  function drawSamples() {
    if (!parts.samples) return;
    parts.sampled = true;
    const normal = normals(chosen.seed);
    for (let i = 0; i < DRAWS; i++)
      draw(
        parts.samples,
        state.decoder,
        state.z.map(() => normal()),
        Math.floor(i / (DRAWS / 2)),
        i % (DRAWS / 2),
      );
  }

  async function showTest() {
    const { run } = cells[state.cell];
    const sprite = data.originals[run.original];
    const index = state.index;
    parts.test.parentElement.hidden = !(sprite && index != null && index < sprite.columns);
    if (parts.test.parentElement.hidden) return;
    const image = await picture(sprite);
    place(parts.test, image, sprite, [0, index], [0, 0]);
    parts.testCaption.textContent = `test image ${index}`;
  }

  onTheme(() => state.codes && drawMap());
  return {
    element,
    load,
    update,
    count: () => cells[state.cell].run?.codes?.count ?? 0,
    centre() {
      if (!state.decoder) return;
      state.index = null;
      state.z = state.z.map(() => 0);
      parts.test.parentElement.hidden = true;
      redraw();
    },
  };
}
