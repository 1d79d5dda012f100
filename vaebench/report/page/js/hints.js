// Hints: what carries data-hint shows it under the pointer, on focus and on a tap.
import { $$, h } from "./dom.js";

export function startHints() {
  const tip = h("div", { id: "tip", role: "tooltip", hidden: true });
  document.body.append(tip);
  let about = null;
  const show = (element) => {
    about = element;
    tip.hidden = !about;
    if (!about) return;
    tip.textContent = about.dataset.hint;
    const box = about.getBoundingClientRect();
    const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
    const below = box.bottom + tip.offsetHeight + 12 < innerHeight;
    tip.style.left = `${Math.max(left, 8)}px`;
    tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
  };
  for (const element of $$("[data-hint]")) {
    const owner = element.closest("button") ?? element;
    owner.setAttribute("aria-describedby", "tip");
    for (const event of ["mouseenter", "focus"]) owner.addEventListener(event, () => show(element));
    for (const event of ["mouseleave", "blur"]) owner.addEventListener(event, () => show(null));
  }
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") show(null);
  });
  addEventListener("scroll", () => show(about), { passive: true, capture: true });
}
