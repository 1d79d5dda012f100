// Runs a decoder from its file: decoder.safetensors as vaebench/run/decoder_file.py describes it,
// packed as in vaebench/report/page/decoders.py. To add a kind of layer: an entry in LAYERS.
import { bytes, inflate } from "./data.js";

/** @returns {{latentDim: number, shape: number[], decode: (z: ArrayLike<number>) => Float32Array}} */
export async function readDecoder(base64) {
  const packed = await inflate(bytes(base64));
  const view = new DataView(packed.buffer);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(packed.subarray(8, start)));
  const body = joined(packed.subarray(start));
  const described = JSON.parse(header.__metadata__["vaebench.decoder"]);
  if (described.format_version !== 1)
    throw new Error(`decoder of format ${described.format_version}`);
  const steps = [];
  let sizes = [described.latent_dim];
  for (const layer of described.layers) {
    const tensor = (role) =>
      layer.tensors && role in layer.tensors ? read(header[layer.tensors[role]], body) : null;
    const [step, after] = LAYERS[layer.kind](layer, tensor, sizes);
    steps.push(step);
    sizes = after;
  }
  const link = LINKS[described.link];
  return {
    latentDim: described.latent_dim,
    shape: described.image_shape,
    decode(z) {
      let x = Float32Array.from(z);
      for (const step of steps) x = step(x);
      return x.map(link);
    },
  };
}

/** The bytes of the tensors: those at even places came first. */
function joined(packed) {
  const whole = new Uint8Array(packed.length);
  const half = Math.ceil(packed.length / 2);
  for (let i = 0; i < half; i++) whole[2 * i] = packed[i];
  for (let i = half; i < packed.length; i++) whole[2 * (i - half) + 1] = packed[i];
  return whole.buffer;
}

function read(entry, buffer) {
  const [begin, end] = entry.data_offsets;
  const type = { I8: Int8Array, I16: Int16Array, F32: Float32Array }[entry.dtype];
  return new type(buffer.slice(begin, end));
}

/** Weights as numbers: each row (of `each` numbers, every `rows` of them) times its scale. */
function scaled(whole, scale, each) {
  const weights = new Float32Array(whole.length);
  for (let i = 0; i < whole.length; i++)
    weights[i] = whole[i] * scale[Math.floor(i / each) % scale.length];
  return weights;
}

const activation = (f) => (_layer, _tensor, sizes) => [(x) => x.map(f), sizes];

const LAYERS = {
  linear(layer, tensor, _sizes) {
    const { in_features: n, out_features: m } = layer;
    const weight = scaled(tensor("weight"), tensor("scale"), n);
    const bias = tensor("bias") ?? new Float32Array(m);
    const step = (x) => {
      const y = new Float32Array(m);
      for (let i = 0, at = 0; i < m; i++) {
        let sum = bias[i];
        for (let j = 0; j < n; j++) sum += weight[at++] * x[j];
        y[i] = sum;
      }
      return y;
    };
    return [step, [m]];
  },
  conv_transpose2d(layer, tensor, [, height, width]) {
    const {
      in_channels: n,
      out_channels: m,
      kernel,
      stride,
      padding,
      output_padding: extra,
    } = layer;
    const [kh, kw] = kernel;
    const weight = scaled(tensor("weight"), tensor("scale"), kh * kw);
    const bias = tensor("bias") ?? new Float32Array(m);
    const size = (side, k) => (side - 1) * stride[k] - 2 * padding[k] + kernel[k] + extra[k];
    const H = size(height, 0);
    const W = size(width, 1);
    // for each place in the kernel, the inputs whose outputs lie inside the image
    const range = (k, side, out, at) => [
      Math.max(0, Math.ceil((padding[k] - at) / stride[k])),
      Math.min(side, Math.floor((out - 1 + padding[k] - at) / stride[k]) + 1),
    ];
    const step = (x) => {
      const y = new Float32Array(m * H * W);
      for (let o = 0; o < m; o++) y.fill(bias[o], o * H * W, (o + 1) * H * W);
      for (let i = 0, at = 0; i < n; i++)
        for (let o = 0; o < m; o++)
          for (let r = 0; r < kh; r++) {
            const [top, bottom] = range(0, height, H, r);
            for (let c = 0; c < kw; c++) {
              const w = weight[at++];
              const [left, right] = range(1, width, W, c);
              for (let row = top; row < bottom; row++) {
                let from = (i * height + row) * width + left;
                let to =
                  (o * H + row * stride[0] + r - padding[0]) * W +
                  left * stride[1] +
                  c -
                  padding[1];
                for (let column = left; column < right; column++, to += stride[1])
                  y[to] += w * x[from++];
              }
            }
          }
      return y;
    };
    return [step, [m, H, W]];
  },
  batch_norm(layer, tensor, sizes) {
    const scale = tensor("scale");
    const shift = tensor("shift");
    const each = sizes.reduce((a, b) => a * b) / layer.features;
    return [
      (x) => x.map((value, i) => value * scale[Math.floor(i / each)] + shift[Math.floor(i / each)]),
      sizes,
    ];
  },
  reshape: (layer) => [(x) => x, layer.shape],
  unflatten(layer) {
    const [channels, height, width] = layer.shape;
    const places = height * width;
    const step = (x) => {
      const y = new Float32Array(x.length);
      for (let p = 0; p < places; p++)
        for (let c = 0; c < channels; c++) y[c * places + p] = x[p * channels + c];
      return y;
    };
    return [step, layer.shape];
  },
  relu: activation((x) => (x > 0 ? x : 0)),
  gelu: activation((x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2))),
  elu: activation((x) => (x > 0 ? x : Math.expm1(x))),
  silu: activation((x) => x / (1 + Math.exp(-x))),
  tanh: activation(Math.tanh),
};

const LINKS = {
  linear: (x) => x,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  continuous_bernoulli(x) {
    const t = x / 2;
    const small = t / 3 - t ** 3 / 45 + (2 * t ** 5) / 945;
    return 0.5 + 0.5 * (Math.abs(t) < 0.1 ? small : 1 / Math.tanh(t) - 1 / t);
  },
};

/** Abramowitz & Stegun (1964), 7.1.26; the error is below 2e-7. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series =
    ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - series * Math.exp(-x * x));
}
