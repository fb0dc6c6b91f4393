"""Retrieval, zero-shot accuracy and the script, against written-out references and in fresh processes."""

import doctest
import io
import itertools
import json
import shutil
import sys

import datasets
import evaluate
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import CAPTIONS, ROOT, run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

import evaluate_miniclip
from miniclip.commands import evaluate as commands_evaluate
from miniclip.data.batches import BatchPreparer
from miniclip.data.labels import class_prompts
from miniclip.data.reader import Columns, find_columns, load_split
from miniclip.embeddings.encode import embed_images, embed_texts
from miniclip.evaluation import retrieval
from miniclip.evaluation.calibration import calibrate
from miniclip.evaluation.metrics import load_metric
from miniclip.evaluation.retrieval import chance_recall, evaluate_retrieval, retrieval_metrics, retrieval_ranks
from miniclip.evaluation.zero_shot import (
    ensemble,
    evaluate_zero_shot,
    nearest_classes,
    none_of_these_rates,
)
from miniclip.training.validation import Validator
from miniclip.utils.errors import UserError
from miniclip.utils.loading import load_model

RECALLS = [f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
COLUMNS = Columns("image", ("captions",))
COLOURS = ["red", "green", "blue"]


def encoded_image(colour) -> dict:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 32), colour).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def captioned_rows(count: int = 12) -> dict:
    rng = np.random.default_rng(0)
    return {
        "image": [encoded_image(tuple(rng.integers(256, size=3).tolist())) for _ in range(count)],
        "captions": [[f"{CAPTIONS[(i + j) % 4]} {i}" for j in range(1 + i % 3)] for i in range(count)],
    }


def undecoded(rows: dict, **features) -> datasets.Dataset:
    dataset = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image(decode=False))
    for name, feature in features.items():
        dataset = dataset.cast_column(name, feature)
    return dataset


@pytest.fixture(scope="module")
def captioned_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioned")
    undecoded(captioned_rows()).to_parquet(folder / "test.parquet")
    return folder


@pytest.fixture(scope="module")
def labelled_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    labels = [0, 0, 0, 1, 1, 2, 2, 2]
    rows = {"image": [encoded_image(COLOURS[label]) for label in labels], "label": labels}
    undecoded(rows, label=datasets.ClassLabel(names=COLOURS)).to_parquet(folder / "validation.parquet")
    return folder


# The metrics


def random_ranks(seed: int, num_images: int = 31):
    """Image of each caption (shuffled, with gaps between the ids), and both ranks of each caption."""
    rng = np.random.default_rng(seed)
    image_ids = rng.permutation(np.repeat(7 * np.arange(num_images), rng.integers(1, 6, size=num_images)))
    return image_ids, rng.integers(1, 25, size=len(image_ids)), rng.integers(1, 25, size=len(image_ids))


def written_out_retrieval(images, image_ids, image_to_text, text_to_image) -> dict:
    """Of `images`, which may hold an image several times."""
    best = [min(image_to_text[image_ids == image]) for image in images]
    captions = [rank for image in images for rank in text_to_image[image_ids == image]]
    results = {"image_to_text_median_rank": np.median(best), "text_to_image_median_rank": np.median(captions)}
    for k in (1, 5, 10):
        results[f"image_to_text_recall@{k}"] = np.mean([rank <= k for rank in best])
        results[f"text_to_image_recall@{k}"] = np.mean([rank <= k for rank in captions])
    return results


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_metric_and_its_intervals_equal_the_written_out_protocol(seed):
    image_ids, image_to_text, text_to_image = random_ranks(seed)
    results = load_metric("image_text_retrieval").compute(
        image_ids=image_ids,
        image_to_text_ranks=image_to_text,
        text_to_image_ranks=text_to_image,
        bootstrap_resamples=200,
        confidence=0.8,
        seed=seed,
    )
    ranks = (image_ids, image_to_text, text_to_image)
    images, rng = np.unique(image_ids), np.random.default_rng(seed)
    resampled = [written_out_retrieval(rng.choice(images, len(images)), *ranks) for _ in range(200)]
    for name, value in written_out_retrieval(images, *ranks).items():
        assert results[name] == pytest.approx(value), name
        expected = np.quantile([resample[name] for resample in resampled], [0.1, 0.9])
        assert results["intervals"][name] == pytest.approx(expected), name


def test_retrieval_metric_does_not_depend_on_row_order_or_batching(monkeypatch):
    ranks = dict(zip(("image_ids", "image_to_text_ranks", "text_to_image_ranks"), random_ranks(3), strict=True))
    expected = load_metric("image_text_retrieval").compute(**ranks)
    order = np.random.default_rng(0).permutation(len(ranks["image_ids"]))
    metric = load_metric("image_text_retrieval")
    monkeypatch.setattr(sys.modules[type(metric).__module__], "_NUMBERS_AT_ONCE", 300)
    for rows in np.array_split(order, 4):
        metric.add_batch(**{name: values[rows] for name, values in ranks.items()})
    assert metric.compute() == expected


def test_retrieval_metric_refuses_ranks_that_count_from_zero():
    with pytest.raises(ValueError, match="count from 1"):
        load_metric("image_text_retrieval").compute(
            image_ids=[0, 1], image_to_text_ranks=[1, 2], text_to_image_ranks=[0, 1]
        )


def test_zero_shot_metric_equals_the_written_out_accuracies():
    rng = np.random.default_rng(0)
    references = rng.integers(8, size=60) % 7
    predictions = np.stack([rng.permutation(9)[:6] for _ in references])
    results = load_metric("zero_shot_classification").compute(
        predictions=predictions, references=references, bootstrap_resamples=4000
    )
    correct = predictions[:, 0] == references
    assert results["accuracy"] == pytest.approx(correct.mean())
    by_class = [correct[references == label].mean() for label in set(references.tolist())]
    assert results["mean_per_class_accuracy"] == pytest.approx(np.mean(by_class))
    in_five = [label in row[:5] for label, row in zip(references, predictions, strict=True)]
    assert results["top_5_accuracy"] == pytest.approx(np.mean(in_five))
    resampled = [correct[rng.integers(60, size=60)].mean() for _ in range(4000)]
    assert results["intervals"]["accuracy"] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.02)


@pytest.mark.parametrize("name", ["image_text_retrieval", "zero_shot_classification"])
def test_the_examples_in_the_metrics_descriptions_are_true(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    description = load_metric(name).inputs_description
    example = doctest.DocTestParser().get_doctest(description, {"evaluate": evaluate}, name, None, 0)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


# Ranks


def written_out_ranks(similarity: np.ndarray, image_of_text: np.ndarray) -> tuple[list[int], list[int]]:
    image_to_text = []
    for image, row in enumerate(similarity):
        best = max(row[image_of_text == image])
        image_to_text.append(1 + sum(value >= best - 1e-6 for value in row[image_of_text != image]))
    text_to_image = []
    for text, image in enumerate(image_of_text):
        column = similarity[:, text]
        text_to_image.append(sum(value >= column[image] - 1e-6 for value in column))
    return image_to_text, text_to_image


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 20), st.integers(1, 4), st.integers(1, 60))
def test_ranks_equal_the_written_out_ones_for_any_block_size(seed, num_images, more_texts, dim, block):
    rng = np.random.default_rng(seed)
    image_of_text = rng.permutation(np.r_[np.arange(num_images), rng.integers(num_images, size=more_texts)])
    # Few distinct directions, hence many exact ties.
    images, texts = (
        torch.tensor(rng.choice([-1.0, 0.5, 2.0], size=(count, dim)), dtype=torch.float32)
        for count in (num_images, len(image_of_text))
    )
    images, texts = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    expected = written_out_ranks((images.double() @ texts.double().t()).numpy(), image_of_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "BLOCK_ELEMENTS", block)
        ranks = retrieval_ranks(images, texts, torch.tensor(image_of_text))
    assert tuple(rank.tolist() for rank in ranks) == expected


@pytest.mark.parametrize("value", [1 / 3, float("nan")], ids=["constant", "nan"])
def test_an_encoder_that_tells_nothing_apart_finds_nothing(value):
    image_of_text = torch.arange(20).repeat_interleave(3)
    results = retrieval_metrics(
        torch.full((20, 9), value), torch.full((60, 9), value), image_of_text, bootstrap_resamples=0
    )
    assert [results[name] for name in RECALLS] == [0] * 6
    assert results["image_to_text_median_rank"] == 58  # behind the 57 captions of the other images
    assert results["text_to_image_median_rank"] == 20


def random_embeds(count: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, 32, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_perfect_embeddings_find_everything():
    images, image_of_text = random_embeds(300, seed=0), torch.arange(300).repeat_interleave(2)
    results = retrieval_metrics(images, images[image_of_text], image_of_text, bootstrap_resamples=0)
    assert [results[name] for name in RECALLS] == [1] * 6
    assert "intervals" not in results


def test_random_embeddings_find_what_chance_allows():
    image_of_text = torch.arange(100).repeat_interleave(2)
    runs = [
        retrieval_metrics(random_embeds(100, seed), random_embeds(200, seed + 1), image_of_text, bootstrap_resamples=0)
        for seed in range(0, 60, 2)
    ]
    for name in RECALLS:
        chance = runs[0]["chance"][name]
        four_standard_errors = 4 * (chance * (1 - chance) / (30 * 100)) ** 0.5
        assert np.mean([run[name] for run in runs]) == pytest.approx(chance, abs=four_standard_errors), name


@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_chance_recall_equals_the_average_over_every_order(k):
    image_of_text = torch.tensor([1, 0, 1, 1, 2])
    orders = list(itertools.permutations(image_of_text.tolist()))
    found = np.mean([[image in order[:k] for image in range(3)] for order in orders])
    assert chance_recall(image_of_text, k)[f"image_to_text_recall@{k}"] == pytest.approx(found)
    assert chance_recall(image_of_text, k)[f"text_to_image_recall@{k}"] == pytest.approx(min(k / 3, 1))


def test_the_full_similarity_matrix_is_never_held():
    code = """
import resource, torch
torch.set_num_threads(1)
from miniclip.evaluation.retrieval import retrieval_ranks
peak_mb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
embeds = torch.nn.functional.normalize(torch.randn(8000, 8), dim=1)
retrieval_ranks(embeds[:64], embeds[:64], torch.arange(64))
before = peak_mb()
ranks = retrieval_ranks(embeds, embeds, torch.arange(8000))
print(peak_mb() - before, ranks[0].float().median().item())
"""
    extra_mb, median_rank = map(float, run_python("-c", code).stdout.split())
    full_matrix_mb = 8000**2 * 4 / 2**20
    assert extra_mb < 0.4 * full_matrix_mb
    assert median_rank == 1


# Embedding


def test_texts_come_back_in_their_own_order(tiny_model, tiny_processor):
    # Short and long ones mixed: they are embedded sorted by length.
    texts = ["a child plays on the beach above a circle", "two", "a red circle", "", "dogs run on the beach", "two"]
    settings = {"batch_size": 2, "mixed_precision": "no", "progress": False}
    together = embed_texts(tiny_model, tiny_processor, texts, **settings)
    alone = [tiny_model.encode_text(**tiny_processor(text=[text], return_tensors="pt"))[0] for text in texts]
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)
    assert not torch.allclose(together[0], together[2], atol=1e-3)


def test_unusable_rows_are_left_out_counted_and_named(tiny_model, tiny_processor):
    rows = captioned_rows(7)
    whole = evaluate_retrieval(tiny_model, tiny_processor, undecoded(rows), COLUMNS, progress=False)
    assert whole["skipped"] == {"count": 0, "first": []}
    rows["image"][2] = {"bytes": b"no image", "path": None}
    rows["captions"][5] = ["  ", None]
    results = evaluate_retrieval(tiny_model, tiny_processor, undecoded(rows), COLUMNS, batch_size=3, progress=False)
    assert results["num_images"] == 5
    assert results["num_captions"] == whole["num_captions"] - 6
    assert results["skipped"]["count"] == 2
    assert [line.split(":")[0] for line in results["skipped"]["first"]] == ["row 2", "row 5"]
    kept = [i for i in range(7) if i not in (2, 5)]
    without = {name: [values[i] for i in kept] for name, values in rows.items()}
    expected = evaluate_retrieval(tiny_model, tiny_processor, undecoded(without), COLUMNS, progress=False)
    assert {name: results[name] for name in RECALLS} == {name: expected[name] for name in RECALLS}


def test_nothing_usable_is_an_error_that_says_why(tiny_model, tiny_processor):
    rows = {"image": [{"bytes": b"no image", "path": None}] * 2, "captions": [["a red circle"], ["two dogs"]]}
    with pytest.raises(UserError, match="row 0: unreadable image"):
        evaluate_retrieval(tiny_model, tiny_processor, undecoded(rows), COLUMNS, progress=False)


def test_streams_and_workers_give_the_same_embeddings(tiny_model, tiny_processor):
    dataset = undecoded(captioned_rows(9))
    settings = {"batch_size": 4, "mixed_precision": "no", "progress": False}

    def embed(dataset, **more):
        result = embed_images(
            tiny_model, tiny_processor, dataset, "image", lambda row: row["captions"], **settings, **more
        )
        return result.image_embeds, result.kept

    embeds, kept = embed(dataset)
    assert kept == dataset["captions"][:]
    for other in (embed(dataset, num_workers=2), embed(dataset.to_iterable_dataset(num_shards=3), num_workers=2)):
        assert torch.allclose(other[0], embeds, atol=1e-6)
        assert other[1] == kept


def test_evaluation_leaves_the_model_as_it_was(tiny_model, tiny_processor):
    tiny_model.train()
    tiny_model.vision_model.eval()  # as a trainer does that freezes batch norms
    before = {name: module.training for name, module in tiny_model.named_modules()}
    state = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    dataset = undecoded(captioned_rows(6))
    results = [evaluate_retrieval(tiny_model, tiny_processor, dataset, COLUMNS, progress=False) for _ in range(2)]
    assert results[0] == results[1]  # dropout was off
    assert {name: module.training for name, module in tiny_model.named_modules()} == before
    assert all(torch.equal(value, state[name]) for name, value in tiny_model.state_dict().items())
    assert torch.is_grad_enabled()


def test_bf16_embeddings_stay_close_to_fp32(tiny_model, tiny_processor):
    full = embed_texts(tiny_model, tiny_processor, CAPTIONS, mixed_precision="no", progress=False)
    half = embed_texts(tiny_model, tiny_processor, CAPTIONS, mixed_precision="bf16", progress=False)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    assert (half * full).sum(dim=1).min() > 0.99


# Zero-shot classification


def test_prompts_take_the_class_name_as_words():
    assert class_prompts("garbage_truck", ("a {}.", "{} or {}")) == [
        "a garbage truck.",
        "garbage truck or garbage truck",
    ]


def test_ensembling_averages_directions():
    prompts = F.normalize(torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    for class_embeds, class_prompts_ in zip(ensemble(prompts), prompts, strict=True):
        mean = class_prompts_.mean(dim=0)
        assert torch.allclose(class_embeds, mean / mean.norm(), atol=1e-6)


def test_nearest_classes_are_sorted_and_embeddings_that_are_not_finite_get_none():
    class_embeds = torch.eye(4)
    images = torch.tensor([[0.1, 0.9, 0.3, 0.2], [0.5, float("nan"), 0.1, 0.1]])
    assert nearest_classes(images, class_embeds, k=3).tolist() == [[1, 2, 3], [-1, -1, -1]]
    assert nearest_classes(images, class_embeds, k=9).shape == (2, 4)


def test_zero_shot_accuracy_equals_one_image_at_a_time(tiny_model, tiny_processor, labelled_folder):
    dataset = load_split(str(labelled_folder), "validation")
    templates = ["{}", "two {} dogs"]
    settings = {"templates": templates, "mixed_precision": "no", "progress": False}
    results = evaluate_zero_shot(tiny_model, tiny_processor, dataset, "image", "label", COLOURS, **settings)
    assert results["accuracy"] != results["plain"]["accuracy"]  # or the one might be the other

    def right_answers(templates):
        answers = []
        for row in dataset:
            image = Image.open(io.BytesIO(row["image"]["bytes"]))
            scores = []
            for colour in COLOURS:
                prompts = [template.replace("{}", colour) for template in templates]
                inputs = tiny_processor(images=image, text=prompts, return_tensors="pt")
                outputs = tiny_model(**inputs)
                scores.append(outputs.image_embeds[0] @ F.normalize(outputs.text_embeds.mean(dim=0), dim=0))
            answers.append(int(torch.stack(scores).argmax()) == row["label"])
        return np.mean(answers)

    assert results["accuracy"] == pytest.approx(right_answers(templates))
    assert results["plain"]["accuracy"] == pytest.approx(right_answers(templates[:1]))
    assert results["chance"] == pytest.approx(1 / 3)
    assert results["top_5_accuracy"] == 1


def test_templates_come_from_the_model_unless_given(tiny_model, tiny_processor, labelled_folder):
    dataset = load_split(str(labelled_folder), "validation")
    arguments = (tiny_model, tiny_processor, dataset, "image", "label", COLOURS)
    assert len(evaluate_zero_shot(*arguments, progress=False)["templates"]) > 1
    tiny_model.config.zero_shot_templates = ["a {} square"]
    assert evaluate_zero_shot(*arguments, progress=False)["templates"] == ["a {} square"]


def test_rows_without_a_known_label_are_left_out(tiny_model, tiny_processor):
    rows = {"image": [encoded_image(colour) for colour in COLOURS], "label": [0, -1, 1]}
    results = evaluate_zero_shot(
        tiny_model, tiny_processor, undecoded(rows), "image", "label", ["red", "blue"], progress=False
    )
    assert results["num_images"] == 2
    assert results["skipped"]["first"] == ["row 1: label -1 is not one of the 2 classes"]


def test_an_empty_label_list_is_refused(tiny_model, tiny_processor):
    rows = {"image": [encoded_image("red")], "label": [0]}
    with pytest.raises(UserError, match="empty list of class names"):
        evaluate_zero_shot(tiny_model, tiny_processor, undecoded(rows), "image", "label", [], progress=False)


# The script


def test_the_script_writes_what_evaluating_in_memory_gives(tiny_folder, captioned_folder, labelled_folder, tmp_path):
    output = tmp_path / "new" / "results.json"
    process = run_python(
        "evaluate_miniclip.py",
        "--model_name_or_path", tiny_folder,
        "--dataset_name", captioned_folder,
        "--zero_shot_dataset", labelled_folder, "shapes",
        "--zero_shot_split", "validation", "unseen",
        "--max_samples", "100",
        "--output_json", output,
    )  # fmt: skip
    results = json.loads(output.read_text())
    model, processor = load_model(str(tiny_folder))
    dataset = load_split(str(captioned_folder), "test")
    expected = evaluate_retrieval(model, processor, dataset, find_columns(dataset), progress=False)
    assert {name: results["retrieval"][name] for name in expected} == expected
    assert results["zero_shot"] == results["zero_shot_sets"][labelled_folder.name]
    labelled = load_split(str(labelled_folder), "validation")
    expected = evaluate_zero_shot(model, processor, labelled, "image", "label", COLOURS, progress=False)
    for name in ("accuracy", "mean_per_class_accuracy", "top_5_accuracy", "plain", "templates"):
        assert results["zero_shot"][name] == expected[name], name
    assert results["zero_shot_sets"]["shapes"]["num_images"] == 100
    shapes = results["zero_shot_sets"]["shapes"]
    assert shapes["chance"] == pytest.approx(1 / shapes["num_classes"])
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert results["seed"] == 0
    assert "--max_samples 100" in results["command"]
    shown = f"image to text R@5 {100 * results['retrieval']['image_to_text_recall@5']:.1f}"
    assert shown in " ".join(process.stdout.split())


def test_configurations_of_several_datasets(monkeypatch):
    """One for all or one each, as splits are."""
    loaded = []

    def load(name, split, dataset_config_name, **columns):
        loaded.append((name, split, dataset_config_name))
        return undecoded({"image": [encoded_image("red")], "label": [0]}, label=datasets.ClassLabel(names=["red"]))

    monkeypatch.setattr(commands_evaluate, "load_split", load)
    arguments = commands_evaluate.EvaluationArguments("model", dataset_name="c", dataset_config_name="x")
    commands_evaluate.load_captioned(arguments, "test")
    arguments.zero_shot_dataset, arguments.zero_shot_config_name = ["a", "b"], ["first", "second"]
    commands_evaluate.load_labelled(arguments)
    assert loaded == [("c", "test", "x"), ("a", "test", "first"), ("b", "test", "second")]
    arguments.zero_shot_config_name = ["1", "2", "3"]
    with pytest.raises(UserError, match="zero_shot_config_name has 3 values for 2 datasets"):
        commands_evaluate.load_labelled(arguments)


def test_calibration_is_kept_in_the_models_folder(monkeypatch, tiny_folder, captioned_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    before = json.loads((folder / "config.json").read_text())
    arguments = ["--model_name_or_path", folder, "--dataset_name", captioned_folder, "--calibration_split", "test"]
    monkeypatch.setattr(sys, "argv", ["evaluate_miniclip.py", *map(str, arguments)])
    evaluate_miniclip.main()
    after = json.loads((folder / "config.json").read_text())
    assert after.pop("zero_shot_calibration") != before.pop("zero_shot_calibration")
    assert after == before
    model, processor = load_model(str(folder))
    answers = model.zero_shot_classifier(processor)(Image.new("RGB", (40, 40)), "a dog, a cat", none_of_these=True)
    assert {answer["label"] for answer in answers} == {"a dog", "a cat", "none of these"}


def test_validation_while_training_calibrates_as_the_whole_split_does(tiny_model, tiny_processor):
    dataset = undecoded(captioned_rows())
    images = tiny_processor.image_processor
    prepare = BatchPreparer(tiny_model.device, images.image_mean, images.image_std, chunk_size=4)
    validator = Validator(tiny_model, tiny_processor, dataset, COLUMNS, prepare, "no")
    validator(tiny_model)
    validator.calibrate(tiny_model)
    stored = dict(tiny_model.config.zero_shot_calibration)
    calibrate(tiny_model, tiny_processor, dataset, COLUMNS, mixed_precision="no", progress=False)
    expected = tiny_model.config.zero_shot_calibration
    for name in ("image_mean", "label_mean"):
        assert stored.pop(name) == pytest.approx(expected.pop(name), abs=0.01)
    assert stored == pytest.approx(expected, rel=0.05, abs=0.05)


def test_none_of_these_rates(tiny_model, tiny_processor):
    """Counted by hand from the answers for one image at a time, with and without the image's own label."""
    generator = torch.Generator().manual_seed(0)
    dim = tiny_model.config.projection_dim
    classes = F.normalize(torch.randn(4, dim, generator=generator), dim=1)
    labels = torch.arange(40) % 4
    images = F.normalize(classes[labels] + 0.3 * torch.randn(40, dim, generator=generator), dim=1)
    tiny_model.calibrate_zero_shot(images, classes, (labels[:, None] == torch.arange(4)).float())
    classifier = tiny_model.zero_shot_classifier(tiny_processor)

    def wins(image, offered) -> bool:
        scores = classifier.probabilities(image[None], classes[offered], none_of_these=True)[0]
        return scores.argmax().item() == len(offered)

    rates = none_of_these_rates(tiny_model, tiny_processor, images, classes, labels)
    with_label = np.mean([wins(image, range(4)) for image in images])
    pairs = zip(images, labels.tolist(), strict=True)
    without = np.mean([wins(image, [c for c in range(4) if c != label]) for image, label in pairs])
    assert rates["first_with_right_label"] == pytest.approx(with_label)
    assert rates["first_without_right_label"] == pytest.approx(without)
    assert rates["auroc"] > 0.9 and without > 0.5 > with_label


def test_random_weights_are_not_calibrated(calibrated_folder):
    """A calibration is of the trained ones, which keep it."""
    model, _ = load_model(str(calibrated_folder))
    assert commands_evaluate.untrained(model, model.device).config.zero_shot_calibration is None
    assert model.config.zero_shot_calibration


def test_a_split_of_one_image_cannot_calibrate(tiny_model, tiny_processor):
    with pytest.raises(UserError, match="labels that do not"):
        calibrate(tiny_model, tiny_processor, undecoded(captioned_rows(1)), COLUMNS, progress=False)


def test_an_unreachable_hub_is_one_line_without_retries(tiny_folder):
    unreachable = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    for arguments in (
        ["--model_name_or_path", "nobody/nothing", "--dataset_name", "shapes"],
        ["--model_name_or_path", tiny_folder, "--dataset_name", "nobody/nothing"],
    ):
        process = run_python("evaluate_miniclip.py", *arguments, check=False, **unreachable)
        assert process.returncode == 2
        assert "cannot be loaded from the Hub" in process.stderr.strip().splitlines()[-1]
        assert "Retry" not in process.stderr
        assert "Traceback" not in process.stderr


def script_error(monkeypatch, capsys, *arguments) -> str:
    """What the script says before it exits with status 2."""
    monkeypatch.setattr(sys, "argv", ["evaluate_miniclip.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        evaluate_miniclip.main()
    assert exit_.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --dataset_name"),
        (["--dataset_name", "./nowhere"], "not found"),
        (["--dataset_name", "CAPTIONED", "--split", "nosplit"], "nosplit"),
        (["--dataset_name", "CAPTIONED", "--caption_columns", "words"], "words"),
        (["--zero_shot_dataset", "CAPTIONED"], "--label_column"),
        (["--zero_shot_dataset", "LABELLED", "--zero_shot_split", "validation", "test"], "one for all or one each"),
        (["--dataset_name", "CAPTIONED", "--mixed_precision", "fp16"], "bf16"),
        (["--dataset_name", "CAPTIONED", "--templates", "a photo"], "{}"),
        (["--dataset_name", "CAPTIONED", "--batch_size", "0"], "at least 1"),
        (["--dataset_name", "CAPTIONED", "--output_json", "LABELLED"], "is a folder"),
        (["--zero_shot_dataset", "LABELLED", "--calibration_split", "validation"], "--dataset_name"),
        (["--dataset_name", "CAPTIONED", "--calibration_split", "nosplit"], "nosplit"),
        (["--dataset_name", "CAPTIONED", "--calibration_split", "test", "--model_name_or_path", "a/b"], "folder"),
    ],
)
def test_mistakes_get_one_line(monkeypatch, capsys, tiny_folder, captioned_folder, labelled_folder, arguments, message):
    folders = {"CAPTIONED": captioned_folder, "LABELLED": labelled_folder}
    arguments = [folders.get(argument, argument) for argument in arguments]
    assert message in script_error(monkeypatch, capsys, "--model_name_or_path", tiny_folder, *arguments)


def test_an_unwritable_result_file_still_leaves_the_table(monkeypatch, capsys, tiny_folder, captioned_folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    arguments = ["--model_name_or_path", tiny_folder, "--dataset_name", captioned_folder]
    monkeypatch.setattr(
        sys, "argv", ["evaluate_miniclip.py", *map(str, arguments), "--output_json", str(tmp_path / "file" / "x")]
    )
    with pytest.raises(SystemExit):
        evaluate_miniclip.main()
    captured = capsys.readouterr()
    assert "text to image R@10" in captured.out
    assert "cannot be written" in captured.err.strip().splitlines()[-1]


@pytest.mark.parametrize("model", ["./nowhere", "nowhere", "nobody/nothing"])
def test_a_missing_model_is_one_line(monkeypatch, capsys, model, captioned_folder):
    error = script_error(monkeypatch, capsys, "--model_name_or_path", model, "--dataset_name", captioned_folder)
    assert model in error


def test_models_that_are_damaged_or_of_another_kind_are_refused(tiny_folder, tmp_path):
    for file in tiny_folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    load_model(str(tmp_path))
    weights = load_file(tmp_path / "model.safetensors")
    del weights["text_projection.fc.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="text_projection.fc.weight"):
        load_model(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="'clip'"):
        load_model(str(tmp_path))
