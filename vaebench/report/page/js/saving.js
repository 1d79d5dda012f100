// Saving a chart: as SVG, drawn from the scales of uPlot, and its data as CSV.
import { cells, data, look } from "./data.js";
import { colour, csv } from "./dom.js";

/** The interval of a point: along y, and along x. */
export function crosses(one) {
  const [x, y] = [one.xs[0], one.ys[0]];
  const found = [];
  if (one.low)
    found.push([
      [x, one.low[0]],
      [x, one.high[0]],
    ]);
  if (one.width)
    found.push([
      [x - one.width, y],
      [x + one.width, y],
    ]);
  return found;
}

export const fileName = (options) =>
  `${data.grid}-${options.title}`.replace(/[^\w.-]+/g, "-").toLowerCase();

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** The chart as it is shown, in the colours of now, with a legend. */
export function toSvg(plot, options) {
  const ratio = devicePixelRatio;
  const box = Object.fromEntries(
    Object.entries(plot.bbox).map(([key, value]) => [key, value / ratio]),
  );
  const X = (x) => (box.left + plot.valToPos(x, "x")).toFixed(1);
  const Y = (y) => (box.top + plot.valToPos(y, "y")).toFixed(1);
  const ink = colour("--ink");
  const right = box.left + box.width;
  const bottom = box.top + box.height;
  const height = plot.height + 18 * options.series.length + 8;
  const out = [];
  const text = (x, y, said, more = "") =>
    out.push(`<text x="${x}" y="${y}" ${more}>${escaped(said)}</text>`);
  plot.axes[0]._splits.forEach((x, i) => {
    const said = plot.axes[0]._values[i];
    if (x < plot.scales.x.min || x > plot.scales.x.max || !said) return;
    out.push(`<path d="M${X(x)} ${box.top}V${bottom}" stroke="${colour("--grid")}"/>`);
    text(X(x), bottom + 16, said, 'text-anchor="middle"');
  });
  plot.axes[1]._splits.forEach((y, i) => {
    const said = plot.axes[1]._values[i];
    if (y < plot.scales.y.min || y > plot.scales.y.max || !said) return;
    out.push(`<path d="M${box.left} ${Y(y)}H${right}" stroke="${colour("--grid")}"/>`);
    text(box.left - 8, +Y(y) + 4, said, 'text-anchor="end"');
  });
  text((box.left + right) / 2, bottom + 36, options.x, 'text-anchor="middle"');
  text(
    14,
    (box.top + bottom) / 2,
    options.y,
    `text-anchor="middle" transform="rotate(-90 14 ${(box.top + bottom) / 2})"`,
  );
  out.push(`<g clip-path="url(#inside)">`);
  options.series.forEach((one) => {
    const { colour: stroke, dash, shape } = look(one.cell);
    const along = (values) =>
      one.xs.map((x, i) => [x, values[i]]).filter(([x, y]) => x != null && y != null);
    if (one.xs.length === 1) {
      for (const [from, to] of crosses(one))
        out.push(
          `<path d="M${X(from[0])} ${Y(from[1])}L${X(to[0])} ${Y(to[1])}" stroke="${stroke}" stroke-width="1.5"/>`,
        );
      out.push(
        `<path d="${shape}" transform="translate(${X(one.xs[0])} ${Y(one.ys[0])})" fill="${stroke}"/>`,
      );
      return;
    }
    const path = (pairs) => pairs.map(([x, y]) => `${X(x)} ${Y(y)}`).join("L");
    if (one.low)
      out.push(
        `<path d="M${path([...along(one.low), ...along(one.high).reverse()])}Z" fill="${stroke}" fill-opacity="0.16"/>`,
      );
    out.push(
      `<path d="M${path(along(one.ys))}" fill="none" stroke="${stroke}" stroke-width="2" stroke-dasharray="${dash.join(" ") || "none"}"/>`,
    );
  });
  out.push("</g>");
  options.series.forEach((one, i) => {
    const { colour: stroke, dash, shape } = look(one.cell);
    const y = plot.height + 10 + 18 * i;
    if (one.xs.length === 1)
      out.push(
        `<path d="${shape}" transform="translate(${box.left + 14} ${y})" fill="${stroke}"/>`,
      );
    out.push(
      `<path d="M${box.left} ${y}h28" stroke="${stroke}" stroke-width="2.5" stroke-dasharray="${dash.join(" ") || "none"}"/>`,
    );
    text(box.left + 36, y + 4, cells[one.cell].label);
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${plot.width}" height="${height}" viewBox="0 0 ${plot.width} ${height}" font-family="sans-serif" font-size="12" fill="${ink}"><rect width="100%" height="100%" fill="${colour("--card")}"/><clipPath id="inside"><rect x="${box.left}" y="${box.top}" width="${box.width}" height="${box.height}"/></clipPath>${out.join("")}</svg>\n`;
}

export function toCsv(options) {
  const rows = [["cell", options.x, options.y, "low", "high"]];
  for (const one of options.series)
    for (const [i, x] of one.xs.entries())
      rows.push([cells[one.cell].label, x, one.ys[i], one.low?.[i], one.high?.[i]]);
  return csv(rows);
}
