// The table of cells: sorting within what compares, choosing columns, saving.
import { cells, data, shared, swatch } from "./data.js";
import { $, $$, button, csv, h, save } from "./dom.js";

export function startTable() {
  const table = $("#cells");
  const body = table.tBodies[0];
  const rows = $$("tr", body);
  for (const [i, row] of rows.entries()) $("th", row).prepend(swatch(i), " ");
  const heads = $$("th[data-metric]", table);

  heads.forEach((head) => {
    const sorter = h("button", { type: "button", className: "sort" }, ...head.childNodes);
    head.replaceChildren(sorter);
    sorter.addEventListener("click", () => sort(head));
  });

  function sort(head) {
    const { metric } = head.dataset;
    const { comparable, direction } = data.metrics[metric];
    const turned =
      head.getAttribute("aria-sort") === (direction === "higher" ? "descending" : "ascending");
    const descending = (direction === "higher") !== turned;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const value = (i) => cells[i].values[metric]?.[0] ?? null;
    const ranked = direction !== null;
    // what does not compare is not ranked together: one group after the other
    const group = (i) =>
      value(i) === null ? Infinity : ranked ? (cells[i].groups[comparable] ?? 1e9) : 0;
    const order = rows.map((_, i) => i);
    order.sort(
      (a, b) =>
        group(a) - group(b) || (descending ? value(b) - value(a) : value(a) - value(b)) || a - b,
    );
    for (const row of $$("tr.group", body)) row.remove();
    const several = new Set(order.map(group).filter(Number.isFinite)).size > 1;
    let last = null;
    let rank = 0;
    for (const i of order) {
      if (several && group(i) !== last) {
        rank = 0;
        body.append(
          separator(
            group(i),
            order.filter((j) => group(j) === group(i)),
          ),
        );
      }
      last = group(i);
      const place = $(".rank", rows[i]);
      place.textContent = ranked && Number.isFinite(last) && last < 1e9 ? String(++rank) : "";
      body.append(rows[i]);
    }
    $("#sorted").textContent =
      `Sorted by ${data.metrics[metric].title}${several ? ", within what compares" : ""}.`;
  }

  function separator(group, members) {
    const said = shared(members, [...cells.keys()]) || `group ${group + 1}`;
    const text = Number.isFinite(group) ? `${said}: compared only among these` : "not measured";
    return h("tr", { className: "group" }, h("th", { colSpan: 99, scope: "rowgroup" }, text));
  }

  const chooser = $("#columns");
  for (const head of heads) {
    const { metric } = head.dataset;
    const input = h("input", { type: "checkbox", checked: !head.hidden });
    input.addEventListener("change", () => {
      for (const place of $$(`[data-metric="${CSS.escape(metric)}"]`, table))
        place.hidden = !input.checked;
    });
    chooser.append(
      h(
        "label",
        { className: "check" },
        input,
        data.metrics[metric].title +
          (metric.startsWith("test/") ? "" : ` (${metric.split("/")[0].replace("_", " ")})`),
      ),
    );
  }
  $("#table-tools").append(
    button("Save as CSV", () => save(`${data.grid}-cells.csv`, tableCsv(), "text/csv")),
  );
}

function tableCsv() {
  const metrics = Object.keys(data.metrics).filter((name) =>
    cells.some((cell) => name in cell.values),
  );
  const axes = Object.keys(cells[0]?.axes ?? {});
  const head = [...axes, "seeds", ...metrics.flatMap((name) => [`${name}_mean`, `${name}_ci95`])];
  const rows = cells.map((cell) => [
    ...axes.map((axis) => cell.axes[axis]),
    cell.seeds,
    ...metrics.flatMap((name) => (cell.values[name] ?? [null, null]).slice(0, 2)),
  ]);
  return csv([head, ...rows]);
}
