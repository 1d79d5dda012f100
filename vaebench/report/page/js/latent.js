// Codes and images of the latent explorer: decoding, stored traversals, draws from the prior.
import { shorts } from "./data.js";

/** Decodes a code into a place of a sheet. */
export function draw(canvas, decoder, z, row, column) {
  const [channels, height, width] = decoder.shape;
  const pixels = decoder.decode(z);
  const image = new ImageData(width, height);
  const places = height * width;
  for (let p = 0; p < places; p++) {
    for (let c = 0; c < 3; c++)
      image.data[4 * p + c] = Math.round(255 * pixels[(channels === 1 ? 0 : c) * places + p]);
    image.data[4 * p + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, column * (width + 1), row * (height + 1));
}

export function unpacked(codes) {
  const mean = shorts(codes.mean);
  const map = Float32Array.from(shorts(codes.map), (x) => x * codes.map_scale);
  const of = (i) =>
    Array.from(mean.subarray(i * codes.size, (i + 1) * codes.size), (x) => x * codes.mean_scale);
  return { ...codes, map, of, largest: 32767 * codes.mean_scale };
}

/** Traversals in place of a decoder: the nearest stored value of the dimension that was moved. */
export function stored(run, image) {
  const sprite = run.traversals;
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return {
    live: false,
    latentDim: sprite.rows,
    shape: [3, sprite.height, sprite.width],
    decode(z) {
      const moved = z.findIndex((value) => value !== 0);
      const value = moved < 0 ? 0 : z[moved];
      const column = run.values.reduce(
        (best, x, i) => (Math.abs(x - value) < Math.abs(run.values[best] - value) ? i : best),
        0,
      );
      const found = context.getImageData(
        column * sprite.width,
        Math.max(moved, 0) * sprite.height,
        sprite.width,
        sprite.height,
      ).data;
      const places = sprite.width * sprite.height;
      return Float32Array.from(
        { length: 3 * places },
        (_, i) => found[4 * (i % places) + Math.floor(i / places)] / 255,
      );
    },
  };
}

/** Standard normal numbers from a seed: mulberry32 and Box-Muller. */
export function normals(seed) {
  let state = (seed * 2654435761) >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
