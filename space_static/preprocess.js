// Turns images into tensors as MiniCLIPProcessor does. Every browser resizes canvases with another filter, so this file
// implements the antialiased filter of Pillow and torchvision (src/libImaging/Resample.c) with the same fixed point.

const PRECISION_BITS = 22;
const ROWS_AT_A_TIME = 256; // limits memory, and phones refuse canvases as large as their photos

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight: (x) => {
      x = Math.abs(x);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Size after the resize: given, or the shortest edge given and the ratio kept. */
export function resizedSize(width, height, resize) {
  if (!resize.shortest_edge) return { width: resize.width, height: resize.height };
  const shortest = resize.shortest_edge;
  if (width <= height) return { width: shortest, height: Math.floor((shortest * height) / width) };
  return { width: Math.floor((shortest * width) / height), height: shortest };
}

/** For each output position of [from, from + count): the first input position, and fixed-point weights from there. */
function contributions(inputSize, outputSize, from, count, filter) {
  const scale = inputSize / outputSize;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const center = (from + i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - filter.support * stretch + 0.5));
    const end = Math.min(inputSize, Math.trunc(center + filter.support * stretch + 0.5));
    const weights = Float64Array.from({ length: end - first }, (_, k) =>
      filter.weight((first + k - center + 0.5) / stretch),
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => Math.round((weight / total) * 2 ** PRECISION_BITS)) };
  });
}

/** A sum of pixels times fixed-point weights, rounded to a pixel. */
const clip8 = (sum) => Math.min(255, Math.max(0, Math.floor(sum / 2 ** PRECISION_BITS + 0.5)));

/** One row of RGBA pixels to RGB at the output's width. */
function resampleRow(pixels, offset, columns, target, targetOffset) {
  for (const { first, weights } of columns) {
    let red = 0;
    let green = 0;
    let blue = 0;
    let position = offset + 4 * first;
    for (const weight of weights) {
      red += weight * pixels[position];
      green += weight * pixels[position + 1];
      blue += weight * pixels[position + 2];
      position += 4;
    }
    target[targetOffset++] = clip8(red);
    target[targetOffset++] = clip8(green);
    target[targetOffset++] = clip8(blue);
  }
}

/** The horizontal pass over rows [firstRow, endRow), transparency laid on white. */
function resampleWidth(bitmap, columns, firstRow, endRow) {
  const rows = new Uint8Array((endRow - firstRow) * columns.length * 3);
  const canvas = new OffscreenCanvas(bitmap.width, Math.min(ROWS_AT_A_TIME, endRow - firstRow));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let y = firstRow; y < endRow; y += canvas.height) {
    const height = Math.min(canvas.height, endRow - y);
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, height);
    context.drawImage(bitmap, 0, y, bitmap.width, height, 0, 0, bitmap.width, height);
    const pixels = context.getImageData(0, 0, bitmap.width, height).data;
    for (let row = 0; row < height; row++) {
      resampleRow(pixels, 4 * row * bitmap.width, columns, rows, (y - firstRow + row) * columns.length * 3);
    }
  }
  return rows;
}

/**
 * Resize, centre crop, rescale and normalise.
 *
 * @param {ImageBitmap} bitmap
 * @param {object} settings the `image` part of onnx_config.json
 * @returns {Float32Array} of shape (3, crop.height, crop.width)
 */
export function preprocess(bitmap, settings) {
  const filter = FILTERS[settings.interpolation];
  if (!filter) throw new Error(`This page cannot resize with the filter "${settings.interpolation}".`);
  const { width, height } = settings.crop;
  const resized = resizedSize(bitmap.width, bitmap.height, settings.resize);
  const left = Math.trunc((resized.width - width) / 2);
  const top = Math.trunc((resized.height - height) / 2);
  const columns = contributions(bitmap.width, resized.width, left, width, filter);
  const lines = contributions(bitmap.height, resized.height, top, height, filter);
  const firstRow = lines[0].first;
  const endRow = lines.at(-1).first + lines.at(-1).weights.length;
  const rows = resampleWidth(bitmap, columns, firstRow, endRow);

  const tensor = new Float32Array(3 * height * width);
  lines.forEach(({ first, weights }, y) => {
    for (let i = 0; i < width * 3; i++) {
      let sum = 0;
      let position = (first - firstRow) * width * 3 + i;
      for (const weight of weights) {
        sum += weight * rows[position];
        position += width * 3;
      }
      const channel = i % 3;
      const value = (clip8(sum) * settings.rescale_factor - settings.mean[channel]) / settings.std[channel];
      tensor[(channel * height + y) * width + (i - channel) / 3] = value;
    }
  });
  return tensor;
}
