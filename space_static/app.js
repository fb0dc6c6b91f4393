// The page: reads the photo, labels and options, and shows the worker's answers.

import { parseLabels, parseTemplates } from "./zero_shot.js";

const MAX_LABELS = 1000;
const MAX_TEMPLATES = 8;
const MAX_PIXELS = 100e6;
const ROWS_SHOWN = 12;

const element = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
const page = { ready: false, id: 0, hasImage: false, newImage: false, imageTime: 0, templates: [], facts: "" };

// Photo ------------------------------------------------------------------------------------------------------------

/** Width and height without decoding the pixels, so that a photo too large is refused before it hurts. */
async function measure(url) {
  const image = new Image();
  image.src = url;
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = reject;
  });
  return { width: image.naturalWidth, height: image.naturalHeight };
}

async function setImage(blob, name) {
  const url = URL.createObjectURL(blob);
  try {
    const { width, height } = await measure(url);
    if (width * height > MAX_PIXELS) {
      const megapixels = Math.round((width * height) / 1e6);
      throw new Error(`This photo has ${megapixels} megapixels; at most ${MAX_PIXELS / 1e6} can be read here.`);
    }
  } catch (error) {
    URL.revokeObjectURL(url);
    const unreadable = "This file is not an image that your browser can read. Try a JPEG or PNG.";
    return showStatus(error instanceof Error ? error.message : unreadable, true);
  }
  const preview = element("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = url;
  preview.alt = name ? `Your photo: ${name}` : "Your photo";
  preview.hidden = false;
  element("drop").classList.add("filled");
  element("hint-text").textContent = "Choose another";
  page.hasImage = page.newImage = true;
  worker.postMessage({ type: "image", id: ++page.id, blob });
  showStatus(page.ready ? "Looking at the photo …" : element("status").textContent);
  classify();
}

function firstImage(transfer) {
  return [...(transfer?.files ?? [])][0];
}

element("file").addEventListener("change", (event) => {
  const file = event.target.files[0];
  event.target.value = ""; // so that the same file can be chosen again
  if (file) setImage(file, file.name);
});

for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return; // ignore dragged text
    event.preventDefault();
    element("drop").classList.toggle("over", type === "dragenter" || type === "dragover");
    if (type !== "drop") return;
    const file = firstImage(event.dataTransfer);
    if (file) setImage(file, file.name);
  });
}

document.addEventListener("paste", (event) => {
  const file = firstImage(event.clipboardData);
  if (!file) return;
  event.preventDefault();
  setImage(file, "pasted");
});

async function showExamples() {
  const response = await fetch("examples/examples.json");
  const examples = response.ok ? await response.json() : { pictures: [] };
  const box = element("labels");
  if (examples.labels && box.value === box.defaultValue) box.value = examples.labels;
  for (const { file, title, labels } of examples.pictures) {
    const button = document.createElement("button");
    const image = Object.assign(new Image(), { src: `examples/${file}`, alt: title, loading: "lazy" });
    button.type = "button";
    button.title = title;
    button.append(image);
    button.addEventListener("click", async () => {
      element("labels").value = labels;
      setImage(await (await fetch(image.src)).blob(), title);
    });
    element("examples").append(button);
  }
}

// Labels -------------------------------------------------------------------------------------------------------------

/** What is wrong with the input, in words for its author, or null. */
function complaint(labels, templates) {
  if (!labels.length) return "Write at least one label, such as: a dog, a car, a building.";
  if (labels.length > MAX_LABELS) return `These are ${labels.length} labels; this page takes at most ${MAX_LABELS}.`;
  if (templates.length > MAX_TEMPLATES) return `This page takes at most ${MAX_TEMPLATES} prompt templates.`;
  const lacking = templates.find((template) => !template.includes("{}"));
  if (lacking === undefined) return null;
  return `The prompt template “${lacking.slice(0, 60)}” has no {} to put the label in.`;
}

function classify() {
  const id = ++page.id; // answers to earlier questions are ignored from now on
  const labels = parseLabels(element("labels").value);
  let templates = parseTemplates(element("templates").value);
  if (!templates.length) templates = page.templates;
  const problem = complaint(labels, templates);
  if (problem) return showStatus(problem, true);
  if (!page.ready) return;
  if (!page.hasImage) return showStatus("Choose a photo to begin.");
  const [noneOfThese, independent] = ["none", "independent"].map((option) => element(option).checked);
  worker.postMessage({ type: "classify", id, labels, templates, noneOfThese, independent });
}

let typing;
for (const id of ["labels", "templates", "none", "independent"]) {
  element(id).addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(classify, 250);
  });
}

// Results ------------------------------------------------------------------------------------------------------------

function showStatus(message, bad = false) {
  element("status").textContent = message;
  element("status").className = bad ? "bad" : "";
  if (bad) showRanking([]);
}

function resultRow({ label, probability }) {
  const row = document.createElement("li");
  const [name, value, bar] = ["label", "value", "bar"].map((className) => {
    const part = document.createElement("span");
    part.className = className;
    return part;
  });
  name.textContent = name.title = label;
  value.textContent = percent(probability);
  bar.style.setProperty("--share", probability);
  row.dataset.label = label;
  row.dataset.probability = probability;
  row.append(name, value, bar);
  return row;
}

function showRanking(ranking, rows = ROWS_SHOWN) {
  element("answer").replaceChildren(...ranking.slice(0, rows).map(resultRow));
  element("more").hidden = ranking.length <= rows;
  element("more").textContent = `Show all ${ranking.length}`;
  element("more").onclick = () => showRanking(ranking, Infinity);
}

// Worker -------------------------------------------------------------------------------------------------------------

/** An option that this model does not have. */
function withdraw(option, reason) {
  element(option).checked = false;
  element(option).disabled = true;
  element(option).parentElement.title = reason;
}

const percent = (probability) => `${(100 * probability).toFixed(1)} %`;
const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;

const receive = {
  progress({ loaded, total }) {
    element("progress").value = loaded / total;
    const loading = `Loading the model: ${megabytes(loaded)} of ${megabytes(total)}`;
    showStatus(loaded < total ? loading : "Preparing the model …");
  },
  ready({ facts, templates, calibrated, tellsNone }) {
    page.ready = true;
    page.facts = facts;
    page.templates = templates;
    element("progress").hidden = true;
    element("facts").textContent = facts;
    element("templates").placeholder = templates.join("\n");
    if (!calibrated) withdraw("independent", "This model was not calibrated.");
    if (!tellsNone) withdraw("none", "This model cannot tell well enough when no label fits.");
    showStatus("");
    classify();
  },
  embedded({ milliseconds }) {
    page.imageTime = milliseconds;
  },
  reading({ done, total }) {
    showStatus(`Reading the labels: ${done} of ${total}`);
  },
  result({ id, names, scores, milliseconds }) {
    if (id !== page.id) return;
    const ranking = names.map((label, i) => ({ label, probability: scores[i] }));
    ranking.sort((a, b) => b.probability - a.probability);
    showStatus(`Best match: ${ranking[0].label}, ${percent(ranking[0].probability)}`);
    element("status").className = "visually-hidden"; // only for screen readers: others see the bars
    showRanking(ranking);
    if (page.newImage) element("answer").scrollIntoView({ block: "nearest" });
    page.newImage = false;
    const times = `photo ${Math.round(page.imageTime)} ms, labels ${Math.round(milliseconds)} ms`;
    element("facts").textContent = `${page.facts} · ${times}`;
  },
  error({ message, fatal }) {
    if (fatal) element("progress").hidden = true;
    showStatus(message, true);
  },
};

worker.onmessage = ({ data }) => receive[data.type](data);
worker.onerror = () => receive.error({ message: "The model could not be started in this browser.", fatal: true });

// Theme --------------------------------------------------------------------------------------------------------------

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  element("theme").setAttribute("aria-pressed", dark);
}

element("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme !== "dark";
  setTheme(dark);
  localStorage.setItem("theme", dark ? "dark" : "light");
});

const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
setTheme((localStorage.getItem("theme") ?? preferred) === "dark");
showExamples();
