// Charts on uPlot: lines with bands, or points with bars, in the cells' colours; saved as SVG, CSV.
import { cells, format, look } from "./data.js";
import { button, colour, h, save } from "./dom.js";
import { around, padded } from "./ranges.js";
import { crosses, fileName, toCsv, toSvg } from "./saving.js";

const FONT = "12px system-ui, sans-serif";
const HEIGHT = 320;
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
const IDLE = "Point at the chart for its values; drag to zoom.";

const large = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });

/** Like a number on an axis: short, and never "1.2000000". */
const tick = (value) => {
  if (value == null) return "";
  if (Math.abs(value) >= 1e5) return large.format(value);
  const small = value !== 0 && Math.abs(value) < 1e-3;
  return small ? value.toExponential(0) : String(+value.toPrecision(6));
};

/**
 * A chart in a figure, with its buttons.
 *
 * @param {object} options `title`, `x` and `y` (texts of the axes), `logX`, `logY`, `whole` (ticks of x), `everything` (no value is left out), and
 *   `series`: of each a `cell`, `xs` and `ys`, and where there are some `low` and `high`. One
 *   value each makes a point, whose `width` is the half width of its interval along x.
 * @returns {HTMLElement} the figure; its `redraw` draws it in the colours of now.
 */
export function chart(options) {
  const frame = h("div", { className: "plot", tabIndex: 0, role: "group" });
  frame.setAttribute(
    "aria-label",
    `${options.title}: chart, ${options.series.length} cells. Arrow keys move the pointer, + and - zoom, 0 shows all.`,
  );
  const readout = h("div", { className: "readout quiet" }, IDLE);
  readout.setAttribute("role", "status");
  const tools = h(
    "div",
    { className: "tools" },
    button("Show all", () => plot && whole(), { className: "small" }),
    button("SVG", () => save(`${fileName(options)}.svg`, toSvg(plot, options), "image/svg+xml"), {
      className: "small",
      "aria-label": `Save ${options.title} as SVG`,
    }),
    button("CSV", () => save(`${fileName(options)}.csv`, toCsv(options), "text/csv"), {
      className: "small",
      "aria-label": `Save ${options.title} as CSV`,
    }),
  );
  const figure = h(
    "figure",
    { className: "chart" },
    h("figcaption", {}, options.title, tools),
    frame,
    readout,
  );
  const points = options.series.every((one) => one.xs.length === 1);
  const xs = [...new Set(options.series.flatMap((one) => one.xs.filter((x) => x != null)))].sort(
    (a, b) => a - b,
  );
  const aligned = (one, values) => {
    if (!values) return xs.map(() => null);
    const known = new Map(one.xs.map((x, i) => [x, values[i]]));
    return xs.map((x) => known.get(x) ?? null);
  };
  let plot = null;

  function draw() {
    plot?.destroy();
    if (!xs.length) {
      frame.replaceChildren(h("p", { className: "quiet" }, "No values."));
      return;
    }
    const ink = colour("--ink");
    const axis = {
      stroke: ink,
      font: FONT,
      labelFont: FONT,
      grid: { stroke: colour("--grid"), width: 1 },
      ticks: { stroke: colour("--grid"), width: 1 },
    };
    const series = [{ label: options.x }];
    const columns = [xs];
    const bands = [];
    for (const one of options.series) {
      const { colour: stroke, dash } = look(one.cell);
      const line = {
        spanGaps: true,
        stroke,
        dash,
        width: 2,
        points: { show: !points && one.xs.length < 3, size: 9, fill: stroke, stroke },
      };
      if (points) line.paths = () => null;
      columns.push(aligned(one, one.ys));
      series.push({ ...line, label: cells[one.cell].label });
      if (one.low && !points) {
        const fill = stroke.replace("rgb(", "rgba(").replace(")", ", 0.16)");
        for (const values of [one.high, one.low]) {
          columns.push(aligned(one, values));
          series.push({
            label: "",
            width: 0,
            spanGaps: true,
            points: { show: false },
            stroke: "transparent",
          });
        }
        bands.push({ series: [series.length - 2, series.length - 1], fill });
      }
    }
    plot = new uPlot(
      {
        width: Math.max(frame.clientWidth, 240),
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: true, y: true, uni: 20 }, points: { size: 9 }, focus: { prox: 1e6 } },
        focus: { alpha: points ? 1 : 0.35 },
        scales: {
          x: {
            time: false,
            distr: options.logX ? 3 : 1,
            range:
              points && !options.logX
                ? (_u, low, high) =>
                    around(
                      low,
                      high,
                      options.series.flatMap((one) =>
                        one.width ? [one.xs[0] - one.width, one.xs[0] + one.width] : [],
                      ),
                    )
                : undefined,
          },
          y: {
            distr: options.logY ? 3 : 1,
            range: options.logY
              ? undefined
              : (_u, low, high) =>
                  low == null ? [0, 1] : plot?.zoomed ? [low, high] : yRange(low, high),
          },
        },
        axes: [
          {
            ...axis,
            label: options.x,
            size: 34,
            labelSize: 22,
            labelGap: 0,
            values: (_u, splits) => splits.map(tick),
            ...(options.whole ? { incrs: WHOLE } : {}),
          },
          {
            ...axis,
            label: options.y,
            size: 58,
            labelSize: 20,
            labelGap: 0,
            values: (_u, splits) => splits.map(tick),
          },
        ],
        series,
        bands,
        hooks: { setCursor: [(u) => read(u)], draw: [(u) => points && marks(u)] },
      },
      columns,
      frame,
    );
    frame.querySelector("canvas").setAttribute("aria-hidden", "true");
  }

  /** What most values need: the first epochs, far from all others, are left out unless asked for. */
  function yRange(low, high) {
    if (points)
      return around(
        low,
        high,
        options.series.flatMap((one) => (one.low ? [one.low[0], one.high[0]] : [])),
      );
    if (options.everything) return padded(low, high);
    const all = options.series
      .flatMap((one) => [...(one.low ?? one.ys), ...(one.high ?? [])])
      .filter((y) => y != null);
    all.sort((a, b) => a - b);
    const at = (q) => all[Math.min(all.length - 1, Math.floor(q * all.length))];
    const spread = 3 * (at(0.75) - at(0.25)) || high - low;
    return padded(Math.max(low, at(0.25) - spread), Math.min(high, at(0.75) + spread));
  }

  function whole() {
    plot.setData(plot.data);
  }

  function near(u) {
    const { left, top } = u.cursor;
    if (left == null || left < 0) return null;
    let best = null;
    for (const one of options.series) {
      const x = u.valToPos(one.xs[0], "x");
      const y = u.valToPos(one.ys[0], "y");
      const far = Math.hypot(x - left, y - top);
      if (!best || far < best.far) best = { far, one };
    }
    return best;
  }

  function read(u) {
    if (points) {
      const found = near(u);
      readout.replaceChildren(
        ...(!found
          ? [IDLE]
          : [
              entry(
                found.one.cell,
                `${options.x} ${format(found.one.xs[0])}${pm(found.one.width)}, ${options.y} ${format(found.one.ys[0])}${pm(found.one.low && found.one.ys[0] - found.one.low[0])}`,
              ),
            ]),
      );
      return;
    }
    const i = u.cursor.idx;
    if (i == null) {
      readout.replaceChildren(IDLE);
      return;
    }
    const entries = [];
    for (const one of options.series) {
      const nearest = one.xs.reduce(
        (best, x, k) => (Math.abs(x - xs[i]) < Math.abs(one.xs[best] - xs[i]) ? k : best),
        0,
      );
      const band = one.low ? ` (${format(one.low[nearest])} to ${format(one.high[nearest])})` : "";
      entries.push(entry(one.cell, `${format(one.ys[nearest])}${band}`));
    }
    readout.replaceChildren(h("b", {}, `${options.x} ${format(xs[i], 0)}`), ...entries);
  }

  const pm = (width) => (width ? ` ± ${format(width)}` : "");

  function entry(cell, text) {
    const mark = h("span", { className: "mark" });
    mark.style.background = look(cell).colour;
    return h("span", {}, mark, `${cells[cell].label}: `, h("b", {}, text));
  }

  /** The marks of points, with bars for their intervals. */
  function marks(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const one of options.series) {
      const { colour: ink, shape } = look(one.cell);
      ctx.strokeStyle = ctx.fillStyle = ink;
      const [x, y] = [u.valToPos(one.xs[0], "x", true), u.valToPos(one.ys[0], "y", true)];
      const mark = new Path2D();
      mark.addPath(
        new Path2D(shape),
        new DOMMatrix([devicePixelRatio, 0, 0, devicePixelRatio, x, y]),
      );
      ctx.fill(mark);
      for (const [from, to] of crosses(one)) {
        ctx.beginPath();
        ctx.moveTo(u.valToPos(from[0], "x", true), u.valToPos(from[1], "y", true));
        ctx.lineTo(u.valToPos(to[0], "x", true), u.valToPos(to[1], "y", true));
        ctx.stroke();
      }
    }
    ctx.restore();
  }

  frame.addEventListener("keydown", (event) => {
    if (!plot) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const factor = { "+": 0.5, "-": 2 }[event.key];
    if (step) {
      const i = Math.min(Math.max((plot.cursor.idx ?? -1) + step, 0), xs.length - 1);
      const ys = options.series.find((one) => one.xs.includes(xs[i]));
      plot.setCursor({
        left: plot.valToPos(xs[i], "x"),
        top: plot.valToPos(ys.ys[ys.xs.indexOf(xs[i])], "y"),
      });
    } else if (factor) {
      const { min, max } = plot.scales.x;
      const middle = plot.cursor.idx == null ? (min + max) / 2 : xs[plot.cursor.idx];
      plot.setScale("x", {
        min: middle - (middle - min) * factor,
        max: middle + (max - middle) * factor,
      });
    } else if (event.key === "0") whole();
    else return;
    event.preventDefault();
  });
  new ResizeObserver(
    () =>
      plot &&
      frame.clientWidth &&
      plot.width !== Math.max(frame.clientWidth, 240) &&
      plot.setSize({ width: Math.max(frame.clientWidth, 240), height: HEIGHT }),
  ).observe(frame);
  figure.redraw = draw;
  return figure;
}
