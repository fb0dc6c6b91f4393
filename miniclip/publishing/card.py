"""The model card, written from what training and evaluation recorded: no figure in it is typed by hand."""

import json
from dataclasses import dataclass
from pathlib import Path

import timm
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from miniclip.page.inputs import split_labels
from miniclip.page.welcome import welcome_to
from miniclip.publishing.energy import estimate_energy
from miniclip.utils.errors import UserError
from miniclip.utils.hub import is_local, looks_like_path
from miniclip.utils.provenance import weights_sha256, without_machine_paths

CARD_FILE = "README.md"
TRAINING_FILE = "training_results.json"
RESULTS_FILE = "results.json"
CURVES_FILE = "card/training_curves.png"
EXAMPLES_FILE = "card/example_predictions.png"
# A card with this line may be overwritten. Without it, somebody has edited the card, and it is kept.
MARKER = "<!-- Written from the run's records by MiniCLIP; delete this line to keep your own changes. -->"
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
LICENSE = "apache-2.0"
RECALLS = [(way, k) for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


@dataclass
class RunRecords:
    """
    What a run's folder records about its model, including paths of this machine.

    Args:
        config: the model's configuration.
        trainings: `training_results.json` of each stage, in order; empty if the model was trained elsewhere.
        results: results of evaluate_miniclip.py, or `None`.
    """

    folder: Path
    config: dict
    trainings: list[dict]
    results: dict | None

    @classmethod
    def read(cls, folder: Path) -> "RunRecords":
        """
        Raises:
            UserError: the folder has no model, or it has results of other weights.
        """
        if not (folder / "config.json").is_file():
            raise UserError(f"no model in {str(folder)!r}: give the folder that training wrote")
        stages = sorted(folder.glob(f"stage-*/{TRAINING_FILE}"), key=lambda file: int(file.parent.name.split("-")[1]))
        trainings = [_read(file) for file in (*stages, folder / TRAINING_FILE) if file.is_file()]
        results = _read(folder / RESULTS_FILE) if (folder / RESULTS_FILE).is_file() else None
        measured = (results or {}).get("weights_sha256")
        if measured and measured != weights_sha256(folder):
            raise UserError(
                f"{folder / RESULTS_FILE} was measured on other weights than those in the folder: run "
                "evaluate_miniclip.py again, or delete it"
            )
        return cls(folder, _read(folder / "config.json"), trainings, results)

    @property
    def settings(self) -> dict:
        """Settings of the first stage, which joined the encoders."""
        return self.trainings[0]["settings"] if self.trainings else {}

    @property
    def history(self) -> list[dict]:
        """Records of all epochs of all stages."""
        return [record for training in self.trainings for record in training["history"]]


def write_card(folder: Path, repository: str | None = None, example_photos: bool = False) -> list[Path]:
    """
    Write `README.md` and its pictures into a model's folder, unless somebody has edited the card.

    Args:
        repository: the model's Hub id; by default the folder's name.
        example_photos: whether the card may show example pictures that the project did not draw.

    Returns:
        The card and its pictures.

    Raises:
        UserError: the folder has no model, or it has results of other weights.
    """
    from miniclip.publishing.pictures import draw_curves, draw_examples  # loads matplotlib

    records, card = RunRecords.read(folder), folder / CARD_FILE
    if card.is_file() and MARKER not in card.read_text(encoding="utf-8"):
        return [card, *sorted(folder.glob("card/*.png"))]
    pictures = {}
    if draw_curves(records.history, folder / CURVES_FILE):
        pictures["curves"] = CURVES_FILE
    if draw_examples(folder, folder / EXAMPLES_FILE, example_photos):
        pictures["examples"] = EXAMPLES_FILE
    model_card(records, repository or folder.name, **pictures).save(card)
    return [card, *(folder / picture for picture in pictures.values())]


def model_card(records: RunRecords, repository: str, curves: str | None = None, examples: str | None = None):
    """
    Args:
        repository: the Hub id, or any name.
        curves, examples: paths of the pictures, relative to the card; `None` leaves a picture out.

    Returns:
        A `ModelCard` with metadata.
    """
    return ModelCard.from_template(
        card_data=metadata(records, repository),
        template_path=str(TEMPLATE),
        marker=MARKER,
        title=repository.split("/")[-1],
        repository=repository,
        curves=curves,
        examples=examples,
        **_model_facts(records),
        **_measurements(records),
        **_training_facts(records),
    )


def metadata(records: RunRecords, repository: str) -> ModelCardData:
    """Metadata for the Hub: license, base models, datasets, and the results as `model-index`."""
    datasets = _hub_ids([training["settings"]["dataset_name"] for training in records.trainings])
    results = evaluation_results(records.results or {})
    energy = estimate_energy(records.trainings)
    return ModelCardData(
        license=LICENSE,
        language="en",
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        base_model=base_models(records.settings) or None,
        datasets=datasets or None,
        metrics=["recall", "accuracy"],
        tags=[
            "miniclip",
            "clip",
            "zero-shot-image-classification",
            "image-text-retrieval",
            "sentence-transformers",  # modules.json lets it load the model, so the Hub shows its snippet as well
            "custom_code",
        ],
        model_name=repository.split("/")[-1] if results else None,
        eval_results=results or None,
        co2_eq_emissions=energy.to_metadata() if energy else None,
    )


def evaluation_results(results: dict) -> list[EvalResult]:
    """Recall at 1, 5 and 10 in both directions and zero-shot accuracies, as fractions."""
    entries = []
    if retrieval := results.get("retrieval"):
        dataset = _dataset(retrieval)
        for way, k in RECALLS:
            value, name = round(retrieval[f"{way}_recall@{k}"], 4), f"{way.replace('_', ' ')} R@{k}"
            entries.append(EvalResult("image-text-retrieval", **dataset, metric_type="recall", metric_value=value))
            entries[-1].metric_name, entries[-1].metric_args = name, {"k": k}
    for key, zero_shot in results.get("zero_shot_sets", {}).items():
        dataset, value = _dataset({"dataset_name": key} | zero_shot), round(zero_shot["accuracy"], 4)
        task = "zero-shot-image-classification"
        entries.append(EvalResult(task, **dataset, metric_type="accuracy", metric_value=value))
        entries[-1].metric_name = "zero-shot accuracy"
    return entries


def _dataset(measured: dict) -> dict:
    name = without_machine_paths(measured["dataset_name"])
    return {"dataset_type": name, "dataset_name": name.split("/")[-1], "dataset_split": measured.get("split")}


def base_models(settings: dict) -> list[str]:
    """Hub ids of the pre-trained encoders that have one."""
    if not settings.get("pretrained"):
        return []
    image_encoder = settings["image_encoder"]
    if not is_local(image_encoder) and (cfg := timm.get_pretrained_cfg(image_encoder)) and cfg.hf_hub_id:
        image_encoder = cfg.hf_hub_id
    return _hub_ids([image_encoder, settings["text_encoder"]])


def _hub_ids(names: list[str]) -> list[str]:
    """The unique names that are Hub ids: no local folders and not the built-in dataset."""
    known = [name for name in names if name != "shapes" and not looks_like_path(name) and not is_local(name)]
    return list(dict.fromkeys(known))


def _model_facts(records: RunRecords) -> dict:
    config, settings = records.config, without_machine_paths(records.settings)
    names = dict.fromkeys(without_machine_paths(t["settings"]["dataset_name"]) for t in records.trainings)
    return {
        "image_encoder": settings.get("image_encoder") or config["vision_config"]["architecture"],
        "text_encoder": settings.get("text_encoder") or config["text_config"]["model_type"],
        "projection_dim": config["projection_dim"],
        "training_data": ", ".join(names),
        "limits": _limits(records, names),
        "labels": split_labels(welcome_to(str(records.folder), photos=False).labels),
        "licences": _licences(records, names),
        "citation": "\n\n".join([_CLIP] + ([_FLICKR8K] if _is_flickr8k(names) else [])),
    }


# ---------------------------------------------------------------- what was measured


def _measurements(records: RunRecords) -> dict:
    results = records.results or {}
    untrained = results.get("untrained", {})
    retrieval, zero_shots = results.get("retrieval"), results.get("zero_shot_sets", {})
    facts = {
        "retrieval": retrieval and _retrieval_section(retrieval, untrained.get("retrieval")),
        "zero_shots": [
            _zero_shot_section({"dataset_name": key} | zero_shot, untrained.get("zero_shot_sets", {}).get(key))
            for key, zero_shot in zero_shots.items()
        ],
        "baselines": '"Chance" is the result of guessing.'
        + (' "Untrained" is the same model with random weights.' if untrained else ""),
        "validation": _best_validation(records),
    }
    if results:
        facts["evaluation_command"] = without_machine_paths(results["command"])
        facts["evaluation_versions"] = _versions(results)
    return facts


def _retrieval_section(measured: dict, untrained: dict | None) -> dict:
    rows = []
    for way, k in RECALLS:
        name = f"{way}_recall@{k}"
        rows.append([f"{way.replace('_', ' ')} R@{k}", *_row(measured, untrained, name, measured["chance"][name])])
    size = f"{measured['num_images']:,} images, {measured['num_captions']:,} captions"
    return {"title": _title(measured), "size": size, "table": _table(rows, untrained)}


def _zero_shot_section(measured: dict, untrained: dict | None) -> dict:
    rows = [["accuracy", *_row(measured, untrained, "accuracy", measured["chance"])]]
    prompts = (
        f"{len(measured['templates'])} prompts per class" if len(measured["templates"]) > 1 else "one prompt per class"
    )
    size = f"{measured['num_images']:,} images, {measured['num_classes']} classes, {prompts}"
    measured_none = measured.get("none_of_these", {})
    rates = {name: f"{rate:.2f}" if name == "auroc" else f"{100 * rate:.1f}" for name, rate in measured_none.items()}
    return {"title": _title(measured), "size": size, "table": _table(rows, untrained), "none_of_these": rates}


def _title(measured: dict) -> str:
    split = f", split `{measured['split']}`" if measured.get("split") else ""
    return f"`{without_machine_paths(measured['dataset_name'])}`{split}"


def _row(measured: dict, untrained: dict | None, name: str, chance: float) -> list[str]:
    low_high = measured.get("intervals", {}).get(name)
    between = f"{100 * low_high[0]:.1f} to {100 * low_high[1]:.1f}" if low_high else "–"
    cells = [f"{100 * measured[name]:.1f}", between, f"{100 * chance:.1f}"]
    return [*cells, f"{100 * untrained[name]:.1f}"] if untrained else cells


def _table(rows: list[list[str]], untrained: dict | None) -> str:
    header = ["", "this model", "95 % interval", "chance", *(["untrained"] if untrained else [])]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _best_validation(records: RunRecords) -> str | None:
    best = records.trainings[-1].get("best_validation_recall@1") if records.trainings else None
    return None if best is None else f"{100 * best:.1f}"


def _versions(record: dict) -> str:
    return ", ".join(f"{name} {version}" for name, version in record["versions"].items())


# ---------------------------------------------------------------- how it was trained

_RECIPE = (
    ("epochs", "num_train_epochs"),
    ("batch size per process", "per_device_train_batch_size"),
    ("accumulation", "gradient_accumulation_steps"),
    ("learning rate: heads", "learning_rate"),
    ("learning rate: image encoder", "image_encoder_learning_rate"),
    ("learning rate: text encoder", "text_encoder_learning_rate"),
    ("schedule", "lr_scheduler_type"),
    ("weight decay", "weight_decay"),
    ("loss", "loss"),
    ("image encoder layers that learn (-1: all)", "trainable_image_layers"),
    ("text encoder layers that learn (-1: all)", "trainable_text_layers"),
    ("augmentation", "augmentation"),
    ("projection head", "projection_head"),
    ("image pooling", "image_pooling"),
    ("text pooling", "text_pooling"),
    ("precision", "mixed_precision"),
    ("pre-trained encoders", "pretrained"),
    ("teacher", "teacher_name_or_path"),
)


def _training_facts(records: RunRecords) -> dict:
    if not records.trainings:
        return {}
    trainings = without_machine_paths(records.trainings)
    origin, energy = trainings[-1]["provenance"], estimate_energy(records.trainings)
    processes = trainings[-1]["num_processes"]
    return {
        "stages": _recipe_table(trainings),
        "training_command": origin["command"],
        "training_versions": _versions(origin),
        "seed": trainings[-1]["settings"]["seed"],
        "commit": origin["git_commit"] or "unknown",
        "machine": (f"{processes} processes, each" if processes > 1 else "one process")
        + f" on {origin['device']} with {origin['num_threads']} threads",
        "minutes": round(sum(training["training_minutes"] for training in trainings), 1),
        "energy": energy,
    }


def _recipe_table(trainings: list[dict]) -> str:
    header = [""] + [f"stage {n}" if len(trainings) > 1 else "setting" for n in range(1, len(trainings) + 1)]
    lines = [header, ["---"] * len(header)]
    for label, name in _RECIPE:
        values = [training["settings"].get(name) for training in trainings]
        if any(value is not None for value in values):
            lines.append([label, *map(str, values)])
    lines.append(["steps", *(str(training["steps"]) for training in trainings)])
    lines.append(["final loss", *(f"{training['final_train_loss']:.4f}" for training in trainings)])
    at_64 = (f"{training['final_train_loss_at_batch_64']:.4f}" for training in trainings)
    lines.append(["final loss among 64 pairs", *at_64])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---------------------------------------------------------------- what to keep in mind


def _is_flickr8k(names) -> bool:
    return any("flickr8k" in name.lower() for name in names)


def _limits(records: RunRecords, names) -> list[str]:
    none_told = (records.config.get("zero_shot_calibration") or {}).get("none_told")
    limits = [
        "The model is small and was trained on little data. Models trained on hundreds of millions of pairs are far "
        "more accurate.",
        "Probabilities compare the given labels with each other, so they sum to one even if no label fits. "
        + _none_told(none_told),
        "It cannot reliably count, read text, or tell who does what to whom.",
        "Do not use it for decisions about people, for surveillance, or where errors cause harm. It was not tested for "
        "such uses.",
        "Texts longer than the text encoder's limit are truncated. Languages other than that of the captions were not "
        "part of the training.",
    ]
    if _is_flickr8k(names):
        limits += [
            "Flickr8k was collected from six Flickr groups before 2013. It shows mostly people and dogs in action, "
            "outdoors, in North America and Europe. Indoor scenes, documents and other regions are rare.",
            "Its captions were written by crowd workers in the United States. They guess gender, age, ethnicity and "
            "relations from appearance, and the model does the same. Do not take such words in its answers as facts.",
            "8,000 photos contain few examples of most things. For rare labels, the answer depends on the background.",
        ]
    if list(names) == ["shapes"]:
        limits.append("The model was trained only on drawings of coloured shapes and does not understand photos.")
    return limits


def _none_told(share: float | None) -> str:
    if share is None:
        return "The model was not measured on telling that no label fits."
    return (
        f'With `none_of_these=True`, "none of these" wins {100 * share:.0f} % of the questions without a fitting label '
        "that were made of the validation split's words, and 10 % of those with one."
    )


def _licences(records: RunRecords, names) -> list[str]:
    licences = ["Weights and code of this repository: Apache-2.0. NOTICE lists the works they build on."]
    if base := base_models(records.settings):
        licences.append(
            f"Training started from {', '.join(f'`{name}`' for name in base)}, which have their own licenses."
        )
    if _is_flickr8k(names):
        licences.append(
            "Flickr8k: the photos belong to their authors on Flickr and were published for research. By default, none "
            "of them is published with a model. Check for yourself whether you may use a model trained on them beyond "
            "research."
        )
    return licences


_CLIP = """@inproceedings{radford2021clip,
  title     = {Learning Transferable Visual Models From Natural Language Supervision},
  author    = {Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and Goh, Gabriel and Agarwal,
               Sandhini and Sastry, Girish and Askell, Amanda and Mishkin, Pamela and Clark, Jack and Krueger, Gretchen
               and Sutskever, Ilya},
  booktitle = {International Conference on Machine Learning},
  year      = {2021}
}"""
_FLICKR8K = """@article{hodosh2013framing,
  title   = {Framing Image Description as a Ranking Task: Data, Models and Evaluation Metrics},
  author  = {Hodosh, Micah and Young, Peter and Hockenmaier, Julia},
  journal = {Journal of Artificial Intelligence Research},
  volume  = {47},
  pages   = {853--899},
  year    = {2013}
}"""


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))
