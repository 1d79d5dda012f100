// The latent explorer: two cells side by side, their decoders running here.
import { cells } from "./data.js";
import { $, button, h } from "./dom.js";
import { chosen, pane } from "./pane.js";

const panes = [];

export function startExplorer() {
  const able = cells.map((_, i) => i).filter((i) => $(`#decoder-${i}`) || cells[i].run?.traversals);
  if (!able.length) {
    $("#latent").hidden = true;
    return;
  }
  const place_ = $("#panes");
  const live = able.filter((i) => $(`#decoder-${i}`));
  const preferred = live.length > 1 ? live : able;
  for (const [k, cell] of [...new Set([preferred[0], preferred.at(-1)])].entries())
    panes.push(pane(k, cell, able));
  place_.append(...panes.map((one) => one.element));
  const count = () => Math.min(...panes.map((one) => one.count()));
  const number = (label, key) => {
    const input = h("input", {
      type: "number",
      min: 0,
      value: chosen[key],
      max: Math.max(count() - 1, 0),
    });
    input.addEventListener("input", () => {
      chosen[key] = Math.min(
        Math.max(Math.round(+input.value) || 0, 0),
        key === "seed" ? 1e9 : Math.max(count() - 1, 0),
      );
      for (const one of panes) one.update(key);
    });
    if (key === "seed") input.removeAttribute("max");
    return { element: h("label", { className: "field" }, h("span", {}, label), input), input };
  };
  const first = number("Test image", "first");
  const second = number("Interpolate to test image", "second");
  const seed = number("Seed of the samples", "seed");
  chosen.choose = (index) => {
    chosen.first = index;
    first.input.value = index;
    for (const one of panes) one.update("first");
  };
  $("#latent-controls").append(
    first.element,
    second.element,
    seed.element,
    button("Centre", () => {
      for (const one of panes) one.centre();
    }),
  );
  // after the rest of the page is there: what grows later would push aside what is being read
  setTimeout(() => {
    for (const one of panes) one.load();
  });
}
