// Small helpers: elements, files to save, the colour theme.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with properties, attributes (by "aria-...", "data-...", "role") and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A select of [value, text] pairs, with a label. */
export function choice(label, options, value, change) {
  const select = h(
    "select",
    {},
    ...options.map(([key, text]) => h("option", { value: key }, text)),
  );
  select.value = value;
  select.addEventListener("change", () => change(select.value));
  return h("label", { className: "field" }, h("span", {}, label), select);
}

export function check(label, checked, change) {
  const input = h("input", { type: "checkbox", checked });
  input.addEventListener("change", () => change(input.checked));
  return h("label", { className: "check" }, input, label);
}

export function button(text, click, properties = {}) {
  const element = h("button", { type: "button", ...properties }, text);
  element.addEventListener("click", click);
  return element;
}

export function save(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Rows as CSV, every text quoted. */
export const csv = (rows) =>
  rows
    .map((row) =>
      row
        .map((x) =>
          typeof x === "number" ? x : x == null ? "" : `"${String(x).replaceAll('"', '""')}"`,
        )
        .join(","),
    )
    .join("\n");

const themed = [];
const probe = h("span", { hidden: true });

/** Calls `draw` now and whenever colours change. */
export function onTheme(draw) {
  themed.push(draw);
  draw();
}

/** The value of a CSS colour variable in the theme of now. */
export function colour(variable) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${variable})`;
  return getComputedStyle(probe).color;
}

export function startTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => {
    for (const draw of themed) draw();
  };
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const toggle = $("#theme");
  const show = () => toggle.setAttribute("aria-pressed", String(isDark()));
  const set = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    show();
    redraw();
  };
  try {
    const kept = localStorage.getItem("vaebench-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch {
    /* no storage: the system's theme */
  }
  toggle.hidden = false;
  show();
  toggle.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("vaebench-theme", theme);
    } catch {
      /* as above */
    }
    set(theme);
  });
  dark.addEventListener("change", () => set(root.dataset.theme));
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    for (const fold of $$("details:not([open])"))
      Object.assign(fold, { open: true }).dataset.folded = "";
    set("light");
  });
  addEventListener("afterprint", () => {
    for (const fold of $$("details[data-folded]")) {
      fold.open = false;
      delete fold.dataset.folded;
    }
    set(before);
  });
}
