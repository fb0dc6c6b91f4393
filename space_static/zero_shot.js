// Turns user input into prompts, and embeddings into probabilities, as zero_shot_miniclip.py does.

export const NONE_OF_THESE = "none of these";

/** Labels that are separated by commas or line breaks, in their order, without empty ones and repetitions. */
export function parseLabels(text) {
  const labels = text.split(/[,\n]/).map((label) => label.trim().replace(/\s+/g, " "));
  const unique = new Map();
  for (const label of labels) {
    const key = label.toLowerCase();
    if (label && !unique.has(key)) unique.set(key, label);
  }
  return [...unique.values()];
}

/** Prompt templates, one per line. */
export function parseTemplates(text) {
  return [...new Set(text.split("\n").map((line) => line.trim()))].filter(Boolean);
}

export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/** The unit vector along the mean of unit vectors. */
export function ensemble(embeds) {
  const mean = embeds[0].map((_, i) => embeds.reduce((sum, row) => sum + row[i], 0) / embeds.length);
  const norm = Math.sqrt(dot(mean, mean));
  return mean.map((value) => value / norm);
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

function softmax(logits) {
  const largest = Math.max(...logits);
  const exponentials = logits.map((logit) => Math.exp(logit - largest));
  const sum = exponentials.reduce((total, value) => total + value, 0);
  return exponentials.map((value) => value / sum);
}

/** Evidence that none of the labels fits, from the log odds of each; positive if "none of these" wins. */
function noneEvidence(logOdds, calibration) {
  const largest = Math.max(...logOdds);
  const sum = logOdds.reduce((total, value) => total + Math.exp(value - largest), 0);
  const logMeanExp = largest + Math.log(sum / logOdds.length);
  return calibration.none_slope * logMeanExp + calibration.none_intercept;
}

/**
 * One probability per label, and one more for "none of these" if that is asked for.
 *
 * @param {Float32Array} imageEmbeds
 * @param {Float32Array[]} labelEmbeds
 * @param {object} config onnx_config.json; without its `zero_shot_calibration` neither option may be asked for
 * @param {{independent: boolean, noneOfThese: boolean}} options
 */
export function probabilities(imageEmbeds, labelEmbeds, config, { independent, noneOfThese }) {
  const cosines = labelEmbeds.map((embeds) => dot(embeds, imageEmbeds));
  const calibration = config.zero_shot_calibration;
  const shares = () => softmax(cosines.map((cosine) => config.logit_scale * cosine + config.logit_bias));
  if (!independent && !noneOfThese) return shares();
  const { slope, intercept, image_mean: mean } = calibration;
  const labelMean = calibration.label_mean ?? mean.map(() => 0); // earlier versions did not have it
  const image = imageEmbeds.map((value, i) => value - mean[i]);
  const level = intercept - slope * dot(labelMean, image);
  const logOdds = labelEmbeds.map((embeds) => slope * dot(embeds, image) + level);
  const result = independent ? logOdds.map(sigmoid) : shares();
  if (!noneOfThese) return result;
  const best = independent ? Math.max(...logOdds) : Math.log(Math.max(...result));
  const none = sigmoid(noneEvidence(logOdds, calibration) + best);
  return [...(independent ? result : result.map((value) => value * (1 - none))), none];
}
