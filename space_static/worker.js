// Runs both towers outside the page's thread. Messages in: {type: "image", blob} and {type: "classify", labels,
// templates, independent, noneOfThese}, each with an increasing `id`. Messages out: progress, ready, embedded, result,
// error.

import { Tokenizer } from "./vendor/tokenizers.min.mjs";
import * as ort from "./vendor/ort.wasm.bundle.min.mjs";
import { preprocess } from "./preprocess.js";
import { NONE_OF_THESE, ensemble, probabilities } from "./zero_shot.js";

const TEXTS_AT_A_TIME = 32;
const PROMPTS_REMEMBERED = 4096;
const CHARACTERS_PER_TOKEN = 32; // tokens have four or five on average, so real text is never cut

const newest = { image: 0, classify: 0 };
const promptEmbeds = new Map();
let towers = null;
let imageEmbeds = null;

/** Download named parts of the model with one progress for all of them. */
async function download(files) {
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  let loaded = 0;
  return Promise.all(
    files.map(async ({ url, bytes }) => {
      const response = await fetch(url);
      if (!response.ok) throw new Error(`${url} could not be loaded (${response.status}). Reload to try again.`);
      const content = new Uint8Array(bytes);
      let position = 0;
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        content.set(value, position);
        position += value.length;
        loaded += value.length;
        postMessage({ type: "progress", loaded, total });
      }
      return content;
    }),
  );
}

async function load() {
  const manifest = await (await fetch("model/manifest.json")).json();
  const [wasm, vision, text, tokenizer] = await download(manifest.files);
  ort.env.wasm.wasmBinary = wasm.buffer;
  // Threads share memory, which browsers allow only for pages with the headers that README.md asks for.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  const visionModel = await ort.InferenceSession.create(vision, { executionProviders: ["wasm"] });
  const textModel = await ort.InferenceSession.create(text, { executionProviders: ["wasm"] });
  towers = {
    config: manifest.config,
    tokenizer: new Tokenizer(JSON.parse(new TextDecoder().decode(tokenizer)), {}),
    visionModel,
    textModel,
  };
  const { templates, zero_shot_calibration: calibration, image_encoder, text_encoder } = manifest.config;
  postMessage({
    type: "ready",
    facts: `${image_encoder} + ${text_encoder}, ${manifest.precision}`,
    templates,
    calibrated: Boolean(calibration),
    tellsNone: Boolean(calibration?.tells_none),
  });
}

async function embedImage({ id, blob }) {
  imageEmbeds = null;
  const start = performance.now();
  let bitmap;
  try {
    // Colour profiles are ignored, as Pillow ignores them.
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error("This file is not an image that your browser can read. Try a JPEG or PNG.");
  }
  const { crop } = towers.config.image;
  const pixels = preprocess(bitmap, towers.config.image);
  bitmap.close();
  const tensor = new ort.Tensor("float32", pixels, [1, 3, crop.height, crop.width]);
  const { embeds } = await towers.visionModel.run({ pixel_values: tensor });
  imageEmbeds = embeds.data;
  postMessage({ type: "embedded", id, milliseconds: performance.now() - start });
}

/** Token ids cut to the model's length as the Rust tokenizers do: from the text, never from the special tokens. */
function tokenize(text) {
  const { tokenizer, config } = towers;
  const { ids } = tokenizer.encode(text);
  const excess = ids.length - config.text.max_length;
  if (excess <= 0) return ids;
  const content = tokenizer.encode(text, { add_special_tokens: false }).ids;
  const special = ids.length - content.length;
  let before = 0;
  while (before < special && content.some((id, i) => id !== ids[before + i])) before++;
  return [...ids.slice(0, before), ...content.slice(0, content.length - excess), ...ids.slice(before + content.length)];
}

async function embedTexts(prompts) {
  const tokens = prompts.map(tokenize);
  const length = Math.max(...tokens.map((ids) => ids.length));
  const inputIds = new BigInt64Array(prompts.length * length).fill(BigInt(towers.config.text.pad_token_id));
  const attentionMask = new BigInt64Array(prompts.length * length);
  tokens.forEach((ids, row) => {
    inputIds.set(ids.map(BigInt), row * length);
    attentionMask.fill(1n, row * length, row * length + ids.length);
  });
  const dims = [prompts.length, length];
  const { embeds } = await towers.textModel.run({
    input_ids: new ort.Tensor("int64", inputIds, dims),
    attention_mask: new ort.Tensor("int64", attentionMask, dims),
  });
  const dim = embeds.dims[1];
  prompts.forEach((prompt, row) => promptEmbeds.set(prompt, embeds.data.slice(row * dim, (row + 1) * dim)));
}

async function classify({ id, labels, templates, independent, noneOfThese }) {
  if (!imageEmbeds) return;
  const start = performance.now();
  const longest = towers.config.text.max_length * CHARACTERS_PER_TOKEN;
  const prompts = labels.map((label) => {
    const words = label.slice(0, longest);
    return templates.map((template) => template.replaceAll("{}", () => words));
  });
  if (promptEmbeds.size > PROMPTS_REMEMBERED) promptEmbeds.clear();
  const missing = [...new Set(prompts.flat())].filter((prompt) => !promptEmbeds.has(prompt));
  for (let i = 0; i < missing.length; i += TEXTS_AT_A_TIME) {
    if (id < newest.classify) return; // the labels have changed in the meantime
    if (missing.length > TEXTS_AT_A_TIME) postMessage({ type: "reading", done: i, total: missing.length });
    await embedTexts(missing.slice(i, i + TEXTS_AT_A_TIME));
  }
  const labelEmbeds = prompts.map((ofLabel) => ensemble(ofLabel.map((prompt) => promptEmbeds.get(prompt))));
  const scores = probabilities(imageEmbeds, labelEmbeds, towers.config, { independent, noneOfThese });
  const names = noneOfThese ? [...labels, NONE_OF_THESE] : labels;
  postMessage({ type: "result", id, names, scores, milliseconds: performance.now() - start });
}

const handlers = { image: embedImage, classify };
let queue = load().catch((error) => postMessage({ type: "error", fatal: true, message: error.message }));

self.onmessage = ({ data }) => {
  newest[data.type] = data.id;
  queue = queue.then(async () => {
    if (!towers || data.id < newest[data.type]) return;
    try {
      await handlers[data.type](data);
    } catch (error) {
      postMessage({ type: "error", id: data.id, message: error.message });
    }
  });
};
