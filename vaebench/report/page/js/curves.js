// Curves of training: every metric of the journals, a band per cell, and the trade-offs of the end.
import { chart } from "./chart.js";
import { cells, data, named, shared, title } from "./data.js";
import { $, button, check, choice, h, onTheme } from "./dom.js";

const MOST = 100; // cells in the charts, as in the data

/** Which cells are shown: shared by all charts. */
const on = new Set();

export function startCurves() {
  const with_ = cells.map((_, i) => i).filter((i) => cells[i].curves);
  const measured = cells.map((_, i) => i).filter((i) => Object.keys(cells[i].values).length);
  measured.length = Math.min(measured.length, MOST);
  for (const i of [...with_, ...measured]) on.add(i);
  legend([...on].sort((a, b) => a - b));
  if (with_.length) lines(with_);
  else $("#curves").hidden = true;
  tradeOffs(measured);
}

function legend(shown) {
  const place = $("#legend");
  const boxes = shown.map((i) => {
    const input = h("input", { type: "checkbox", checked: true });
    input.addEventListener("change", () => {
      if (input.checked) on.add(i);
      else on.delete(i);
      for (const draw of changed) draw();
    });
    const label = h("label", { className: "chip" }, input, named(i));
    return { input, label, i };
  });
  const all = (checked) => {
    for (const { input, i } of boxes) {
      input.checked = checked;
      if (checked) on.add(i);
      else on.delete(i);
    }
    for (const draw of changed) draw();
  };
  place.append(
    ...boxes.map(({ label }) => label),
    button("All", () => all(true), { className: "small" }),
    button("None", () => all(false), { className: "small" }),
  );
}

const changed = [];

/** The cells of each group that a metric compares, in the order of the groups. */
function panels(shown, comparable) {
  const groups = [];
  for (const i of shown) {
    const group = cells[i].groups[comparable] ?? cells.length;
    groups[group] = [...(groups[group] ?? []), i];
  }
  return groups.filter(Boolean);
}

/** Draws charts into a place, anew when the cells, the theme or a control change. */
function drawing(place, make) {
  let charts = [];
  const draw = () => {
    charts = make();
    place.replaceChildren(...charts);
    if (!charts.length) place.append(h("p", { className: "quiet" }, "No cell is switched on."));
    for (const figure of charts) figure.redraw();
  };
  changed.push(draw);
  onTheme(draw);
  return draw;
}

const SPLITS = {
  train: "training",
  val: "validation",
  test: "test",
  train_eval: "training images",
  cost: "cost",
};
const spoken = (name) => `${title(name)}, ${SPLITS[name.split("/")[0]] ?? name.split("/")[0]}`;

function lines(shown) {
  const names = Object.keys(data.metrics).filter((name) =>
    shown.some((i) => name in cells[i].curves.metrics),
  );
  names.sort((a, b) => (a.startsWith("val/") ? 0 : 1) - (b.startsWith("val/") ? 0 : 1));
  const state = {
    metric: ["val/elbo", "train/elbo"].find((name) => names.includes(name)) ?? names[0],
    x: "epochs",
    log: false,
    everything: false,
  };
  const draw = drawing($("#curve-charts"), () => {
    const { metric } = state;
    const usable = shown.filter(
      (i) => on.has(i) && metric in cells[i].curves.metrics && cells[i].curves[state.x],
    );
    return panels(usable, data.metrics[metric].comparable).map((members) =>
      chart({
        title: [spoken(metric), shared(members, usable)].filter(Boolean).join(": "),
        x: state.x === "epochs" ? "epoch" : "seconds of training",
        whole: state.x === "epochs",
        y: title(metric),
        logY:
          state.log &&
          members.every((i) => cells[i].curves.metrics[metric][0].every((y) => y == null || y > 0)),
        everything: state.everything,
        series: members.map((cell) => {
          const [ys, low, high] = cells[cell].curves.metrics[metric];
          return { cell, xs: cells[cell].curves[state.x], ys, low, high };
        }),
      }),
    );
  });
  const set = (key) => (value) => {
    state[key] = value;
    draw();
  };
  $("#curve-controls").append(
    choice(
      "Metric",
      names.map((name) => [name, spoken(name)]),
      state.metric,
      set("metric"),
    ),
    choice(
      "Against",
      [
        ["epochs", "epochs"],
        ["seconds", "seconds of training"],
      ],
      state.x,
      set("x"),
    ),
    check("Logarithmic", false, set("log")),
    check("All values", false, set("everything")),
  );
}

const PRESETS = [
  ["Quality over rate", "test/rate", "test/psnr"],
  ["Rate and distortion", "test/rate", "test/distortion"],
  ["Score over time", "cost/seconds_per_epoch", "test/elbo"],
  ["Score over size", "cost/parameters", "test/elbo"],
];

function tradeOffs(shown) {
  const names = Object.keys(data.metrics).filter((name) =>
    shown.some((i) => name in cells[i].values),
  );
  const presets = PRESETS.filter(([, x, y]) => names.includes(x) && names.includes(y));
  if (names.length < 2) {
    $("#trade-offs").hidden = true;
    return;
  }
  const state = { x: presets[0]?.[1] ?? names[0], y: presets[0]?.[2] ?? names[1], log: false };
  const draw = drawing($("#trade-charts"), () => {
    const usable = shown.filter(
      (i) => on.has(i) && state.x in cells[i].values && state.y in cells[i].values,
    );
    const logX = state.log && usable.every((i) => cells[i].values[state.x][0] > 0);
    return panels(usable, data.metrics[state.y].comparable).map((members) =>
      chart({
        title: [`${title(state.y)} over ${title(state.x)}`, shared(members, usable)]
          .filter(Boolean)
          .join(": "),
        x: title(state.x),
        y: title(state.y),
        logX,
        series: members.map((cell) => {
          const [x, width] = cells[cell].values[state.x];
          const [y, half] = cells[cell].values[state.y];
          return {
            cell,
            xs: [x],
            ys: [y],
            width,
            low: half ? [y - half] : null,
            high: half ? [y + half] : null,
          };
        }),
      }),
    );
  });
  const options = names.map((name) => [name, spoken(name)]);
  const x = choice("Across", options, state.x, (value) => {
    state.x = value;
    draw();
  });
  const y = choice("Up", options, state.y, (value) => {
    state.y = value;
    draw();
  });
  const preset = ([text, across, up]) =>
    button(
      text,
      () => {
        Object.assign(state, { x: across, y: up });
        $("select", x).value = across;
        $("select", y).value = up;
        draw();
      },
      { className: "small" },
    );
  $("#trade-controls").append(
    h("div", { className: "row" }, ...presets.map(preset)),
    x,
    y,
    check("Logarithmic across", false, (value) => {
      state.log = value;
      draw();
    }),
  );
}
