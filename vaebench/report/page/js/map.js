// The map of the codes of test images, by label.
import { colour } from "./dom.js";

/** Half of its side, in pixels of the canvas. */
export const MAP = 300;

/** Draws it, with a ring about a marked image or else about a code of two dimensions. */
export function drawCodes(canvas, codes, z, marked) {
  const context = canvas.getContext("2d");
  const reach = Math.max(...Array.from(codes.map, Math.abs)) * 1.06 || 1;
  const spot = (x, y) => [MAP * (1 + x / reach), MAP * (1 - y / reach)];
  const spots = (i) => spot(codes.map[2 * i], codes.map[2 * i + 1]);
  context.clearRect(0, 0, 2 * MAP, 2 * MAP);
  context.strokeStyle = colour("--grid");
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(MAP, 0);
  context.lineTo(MAP, 2 * MAP);
  context.moveTo(0, MAP);
  context.lineTo(2 * MAP, MAP);
  context.stroke();
  context.font = "bold 17px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  const colours = Array.from({ length: 10 }, (_, c) => colour(`--l${c}`));
  for (let i = 0; i < codes.count; i++) {
    const [x, y] = spots(i);
    context.fillStyle = colours[codes.labels[i] % 10];
    context.fillText(codes.labels[i], x, y);
  }
  const here = codes.size === 2 ? spot(z[0], z[1]) : [-99, -99];
  const [x, y] = marked == null ? here : spots(marked);
  context.strokeStyle = colour("--ink");
  context.lineWidth = 4;
  context.beginPath();
  context.arc(x, y, 16, 0, 2 * Math.PI);
  context.stroke();
  const unspot = (x, y) => [(x / MAP - 1) * reach, (1 - y / MAP) * reach];
  return { spots, unspot };
}
