// The page: each part starts on its own, so that one fault does not take the others with it.
import { startCurves } from "./curves.js";
import { data } from "./data.js";
import { $, h, startTheme } from "./dom.js";
import { startExplorer } from "./explorer.js";
import { startHints } from "./hints.js";
import { startTable } from "./table.js";
import { startWall } from "./wall.js";

for (const start of [startTheme, startTable, startHints, startCurves, startWall, startExplorer]) {
  try {
    start();
  } catch (error) {
    console.error(error);
  }
}
// the browser went there before the parts above had their height
document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
for (const text of data.limits) $("#limits").append(h("li", {}, text));
// `vaebench ui` opens the page with links to MLflow on this machine: #mlflow=TITLE URL&mlflow=...
for (const text of new URLSearchParams(location.hash.slice(1)).getAll("mlflow")) {
  const [address, ...words] = text.split(" ").reverse();
  if (/^http:\/\/(127\.0\.0\.1|localhost):\d+\//.test(address))
    $("nav").append(
      h("a", { href: address, rel: "noreferrer" }, `MLflow: ${words.reverse().join(" ")}`),
    );
}
document.documentElement.dataset.ready = "";
