// Hints: what carries data-hint shows it under the pointer, on focus and on a tap.
import { $$, h } from "./dom.js";

export function startHints() {
  const tip = h("div", { id: "tip", role: "tooltip", hidden: true });
  document.body.append(tip);
  const hide = () => { tip.hidden = true; };
  for (const element of $$("[data-hint]")) {
    const owner = element.closest("button") ?? element;
    const show = () => {
      tip.textContent = element.dataset.hint;
      tip.hidden = false;
      const box = element.getBoundingClientRect();
      const left = Math.min(Math.max(box.left, 8), innerWidth - tip.offsetWidth - 8);
      const below = box.bottom + tip.offsetHeight + 12 < innerHeight;
      tip.style.left = `${Math.max(left, 8)}px`;
      tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
    };
    owner.setAttribute("aria-describedby", "tip");
    for (const event of ["mouseenter", "focus"]) owner.addEventListener(event, show);
    for (const event of ["mouseleave", "blur"]) owner.addEventListener(event, hide);
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, { passive: true, capture: true });
}
