"""The zero-shot engine: labels as people type them, a cache that is never stale, calibrated answers, heat maps."""

import copy
import io
import json
import math
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import ROOT, build_tiny, run_python
from PIL import Image
from transformers import pipeline

from engine_miniclip import fast_pixel_values
from processing_miniclip import MiniCLIPProcessor, image_processor_for
from zero_shot_miniclip import (
    DEFAULT_TEMPLATES,
    FALSE_ALARMS,
    NONE_OF_THESE,
    ZeroShotCalibration,
    ZeroShotClassifier,
    auroc,
    parse_labels,
    parse_templates,
)

LABELS = ["a red circle", "two dogs on the beach", "a child"]


@pytest.fixture
def classifier(tiny_model, tiny_processor) -> ZeroShotClassifier:
    return tiny_model.zero_shot_classifier(tiny_processor)


def photo(seed: int = 0, size=(60, 40)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def scores_of(answers: list[dict]) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in answers}


def count_texts(model) -> list[int]:
    """Number of texts of every call of the text tower from now on."""
    calls = []
    model.text_model.register_forward_hook(
        lambda module, args, kwargs, output: calls.append(len(output[0])), with_kwargs=True
    )
    return calls


def calibrate(model, seed: int = 0) -> ZeroShotCalibration:
    return model.calibrate_zero_shot(*made_up_split(model.config.projection_dim, seed=seed))


def made_up_split(dim=16, num_images=300, texts_per_image=3, closeness=1.2, seed=0):
    """Embeddings whose matching pairs are nearer than others, all sharing a direction as real ones do, and which text
    fits which image."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(num_images, dim, generator=generator)
    shared = 2.0 * torch.ones(dim) / dim**0.5
    images = torch.nn.functional.normalize(own + shared, dim=1)
    ids = torch.arange(num_images).repeat_interleave(texts_per_image)
    noise = torch.randn(len(ids), dim, generator=generator)
    texts = torch.nn.functional.normalize(closeness * own[ids] + noise + shared, dim=1)
    return images, texts, (torch.arange(num_images)[:, None] == ids).float()


class TestLabels:
    @pytest.mark.parametrize(
        "typed, labels",
        [
            ("a dog, a car", ["a dog", "a car"]),
            ("a dog\na car\r\n\n", ["a dog", "a car"]),
            (" a  dog ,, A Dog\n,a\tcar,", ["a dog", "a car"]),
            (["a dog, running", " ", "a dog, running"], ["a dog, running"]),
            ("🐶, <b>dog</b>", ["🐶", "<b>dog</b>"]),
        ],
    )
    def test_cleaned_in_their_order(self, typed, labels):
        assert parse_labels(typed) == labels

    @pytest.mark.parametrize("nothing", ["", " ,\n, ", [], ["", "  "]])
    def test_none_left(self, nothing):
        with pytest.raises(ValueError, match="no labels"):
            parse_labels(nothing)

    def test_not_text(self):
        with pytest.raises(TypeError, match="int"):
            parse_labels(["a dog", 3])

    def test_templates(self):
        assert parse_templates("a photo of {}.\n\n {} \n{}") == ("a photo of {}.", "{}")
        with pytest.raises(ValueError, match="{}"):
            parse_templates(["a photo of {}", "a photo"])
        with pytest.raises(ValueError, match="no prompt template"):
            parse_templates([])

    def test_a_label_is_never_taken_for_a_format(self, classifier):
        """`str.format` would let a label or template reach into objects."""
        answers = classifier(photo(), ["{0.__class__}", "{", "a child"], templates="{} {0} {x}")
        assert {answer["label"] for answer in answers} == {"{0.__class__}", "{", "a child"}


class TestAnswers:
    def test_equal_to_the_pipeline(self, tiny_folder, classifier):
        labels = ["a red circle", "two dogs", "a child"]  # short, since the pipeline does not truncate
        images = [photo(0), photo(1), photo(2)]
        pipe = pipeline("zero-shot-image-classification", model=str(tiny_folder), trust_remote_code=True)
        theirs = pipe(images, candidate_labels=labels, hypothesis_template="a photo of {}.")
        ours = classifier(images, labels, templates="a photo of {}.")
        for their, our in zip(theirs, ours, strict=True):
            assert scores_of(our) == pytest.approx(scores_of(their), abs=1e-5)
            assert [a["score"] for a in our] == sorted((a["score"] for a in our), reverse=True)

    def test_every_kind_of_image(self, classifier, tmp_path):
        data = jpeg(photo())
        (tmp_path / "photo.jpg").write_bytes(data)
        opened = Image.open(io.BytesIO(data))
        expected = scores_of(classifier(opened, LABELS))
        for image in (data, tmp_path / "photo.jpg", str(tmp_path / "photo.jpg"), np.array(opened)):
            assert scores_of(classifier(image, LABELS)) == pytest.approx(expected, abs=1e-6)

    def test_large_jpeg_is_decoded_small_with_little_change(self, classifier):
        data = jpeg(photo(size=(1600, 1200)))
        assert classifier.open_image(data).size == (200, 150)
        whole = classifier(Image.open(io.BytesIO(data)), LABELS)
        assert scores_of(classifier(data, LABELS)) == pytest.approx(scores_of(whole), abs=0.01)

    def test_batches_and_top_k(self, classifier):
        images = [photo(seed) for seed in range(7)]
        together = classifier(images, LABELS, batch_size=3)
        assert len(together) == 7
        for image, answers in zip(images, together, strict=True):
            assert scores_of(classifier(image, LABELS)) == pytest.approx(scores_of(answers), abs=1e-5)
            assert classifier(image, LABELS, top_k=2) == classifier(image, LABELS)[:2]
        assert classifier([], LABELS) == []

    def test_templates_are_averaged_as_unit_vectors(self, classifier):
        one, other = (classifier.embed_labels(LABELS, template) for template in ("a photo of {}", "{} plays"))
        expected = torch.nn.functional.normalize(one + other, dim=-1)
        torch.testing.assert_close(classifier.embed_labels(LABELS, ["a photo of {}", "{} plays"]), expected)

    def test_own_templates_travel_with_the_model(self, tiny_model, tiny_processor, tmp_path):
        assert tiny_model.zero_shot_classifier(tiny_processor).templates == DEFAULT_TEMPLATES
        tiny_model.config.zero_shot_templates = ["{} plays"]
        tiny_model.save_pretrained(tmp_path)
        loaded = type(tiny_model).from_pretrained(tmp_path).zero_shot_classifier(tiny_processor)
        torch.testing.assert_close(loaded.embed_labels(LABELS), loaded.embed_labels(LABELS, "{} plays"))

    def test_long_labels_are_cut(self, classifier):
        endless = "a red circle " * 8000  # 100 kB
        cut = " ".join(endless.split()[:200])
        torch.testing.assert_close(classifier.embed_labels([endless]), classifier.embed_labels([cut]))

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"scores": "sigmoid"}, "softmax, independent"),
            ({"scores": "independent"}, "calibrate_zero_shot"),
            ({"none_of_these": True}, "calibrate_zero_shot"),
            ({"templates": "a photo"}, "{}"),
        ],
    )
    def test_mistakes_name_the_remedy(self, classifier, options, message):
        with pytest.raises(ValueError, match=message):
            classifier(photo(), LABELS, **options)

    def test_a_model_that_was_built_needs_a_processor(self, tiny_model):
        with pytest.raises(ValueError, match="pass its processor"):
            tiny_model.zero_shot(photo(), LABELS)


class TestCache:
    def test_labels_are_encoded_once(self, classifier):
        texts = count_texts(classifier.model)
        first = classifier(photo(), LABELS)
        assert classifier(photo(), LABELS) == first
        classifier(photo(1), [*reversed(LABELS), "a new label"])
        assert texts == [3, 1]
        classifier(photo(), LABELS, templates="{}")
        assert texts == [3, 1, 3]

    def test_never_stale(self, classifier):
        image = photo()
        classifier.fast = True
        before = classifier.embed_labels(LABELS), classifier.embed_images([image])
        optimizer = torch.optim.AdamW(classifier.model.parameters(), lr=1e-2)
        inputs = classifier.processor(images=[image] * 3, text=LABELS, return_tensors="pt")
        classifier.model(**inputs, return_loss=True).loss.backward()
        optimizer.step()
        fresh = ZeroShotClassifier(classifier.model, classifier.processor, fast=True)
        for old, now, expected in (
            (before[0], classifier.embed_labels(LABELS), fresh.embed_labels(LABELS)),
            (before[1], classifier.embed_images([image]), fresh.embed_images([image])),
        ):
            torch.testing.assert_close(now, expected)
            assert (now - old).abs().max() > 1e-3

    def test_bounded(self, classifier, monkeypatch):
        monkeypatch.setattr("zero_shot_miniclip._CACHED_LABELS", 5)
        texts = count_texts(classifier.model)
        many = [f"label {i}" for i in range(8)]
        assert len(classifier(photo(), many)) == 8
        assert len(classifier._labels) == 5
        classifier.embed_labels(many[-5:])
        assert texts == [8]

    def test_model_can_still_be_copied(self, tiny_folder, tiny_model):
        model = type(tiny_model).from_pretrained(tiny_folder)
        answers = model.zero_shot(photo(), LABELS)
        assert scores_of(copy.deepcopy(model).zero_shot(photo(), LABELS)) == pytest.approx(scores_of(answers))


class TestFast:
    @pytest.mark.parametrize("pooling", ["encoder", "stages"])
    @pytest.mark.parametrize(
        "encoder", ["test_resnet", "test_efficientnet", "test_vit", "swin_tiny_patch4_window7_224"]
    )
    def test_close_to_exact(self, tiny_tokenizer, encoder, pooling):
        model = build_tiny(tiny_tokenizer, encoder, image_pooling=pooling)
        randomise_batch_norms(model)
        processor = MiniCLIPProcessor(image_processor_for(encoder), tiny_tokenizer)
        images = [photo(seed) for seed in range(4)]
        exact = model.zero_shot_classifier(processor).embed_images(images)
        fast = model.zero_shot_classifier(processor, fast=True).embed_images(images)
        assert fast.dtype == torch.float32
        assert (fast * exact).sum(dim=1).min() > 0.999

    def test_weights_of_five_dimensions(self, tiny_tokenizer, tiny_processor, engine):
        """Swin's, which PyTorch cannot lay out channels last."""
        small = {"img_size": 32, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
        model = build_tiny(tiny_tokenizer, "swin_tiny_patch4_window7_224", vision_config=small)
        fast = model.zero_shot_classifier(tiny_processor, fast=True)
        exact = model.zero_shot_classifier(tiny_processor).embed_images([photo()])
        assert (fast.embed_images([photo()]) * exact).sum() > 0.999
        assert fast.engines["image"].startswith(engine)

    def test_float32_engines_are_exact(self, tiny_tokenizer, tiny_processor, monkeypatch, engine):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        model = build_tiny(tiny_tokenizer)
        randomise_batch_norms(model)
        weights = copy.deepcopy(model.state_dict())
        exact = model.zero_shot_classifier(tiny_processor)
        fast = model.zero_shot_classifier(tiny_processor, fast=True)
        pixel_values = exact.processor(images=[photo(0), photo(1)], return_tensors="pt").pixel_values
        with torch.no_grad():
            found = fast._encode_images(pixel_values)
            torch.testing.assert_close(found, exact._encode_images(pixel_values), atol=1e-5, rtol=0)
        torch.testing.assert_close(fast.embed_labels(LABELS), exact.embed_labels(LABELS), atol=1e-5, rtol=0)
        assert all(name.startswith(engine) for name in fast.engines.values()), fast.engines
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, weights[name]), f"{name} was changed"

    def test_an_encoder_that_no_engine_takes_runs_unchanged(self, tiny_model, tiny_processor, monkeypatch):
        def refuse(*_):
            raise RuntimeError("no such operation")

        monkeypatch.setattr("engine_miniclip._openvino", refuse)
        monkeypatch.setattr("engine_miniclip._pytorch", refuse)
        fast = tiny_model.zero_shot_classifier(tiny_processor, fast=True)
        assert fast(photo(), LABELS)
        assert set(fast.engines.values()) == {"PyTorch, unchanged"}

    def test_a_wrongly_captured_graph_is_not_used(self, tiny_model, tiny_processor, monkeypatch):
        monkeypatch.setattr("engine_miniclip._openvino", lambda *_: (lambda x, *_: torch.ones(len(x), 16), "wrong"))
        fast = tiny_model.zero_shot_classifier(tiny_processor, fast=True)
        fast(photo(), LABELS)
        assert all(name.startswith("PyTorch") for name in fast.engines.values())

    def test_threads_and_copies(self, tiny_model, tiny_processor, engine):
        fast = tiny_model.zero_shot_classifier(tiny_processor, fast=True)
        images = [photo(seed) for seed in range(8)]
        expected = fast.embed_images(images)
        with ThreadPoolExecutor(4) as pool:
            found = torch.cat(list(pool.map(lambda image: fast.embed_images([image]), images)))
        torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)
        again = copy.deepcopy(fast)
        torch.testing.assert_close(again.embed_images(images), expected, atol=2e-2, rtol=0)

    @pytest.mark.parametrize("size", [(60, 40), (40, 61), (32, 32), (301, 299), (20, 25)])
    @pytest.mark.parametrize("crop_mode", ["center", "squash"])
    def test_pixels_are_those_of_the_processor(self, tiny_tokenizer, size, crop_mode):
        """Two grey levels at most, and a fifth of one on average: Pillow's resize in place of torchvision's, which may
        round less exactly in older versions."""
        image_processor = image_processor_for("test_resnet", 32, crop_mode)
        image = photo(size=size)
        expected = image_processor(images=[image], return_tensors="pt").pixel_values
        grey_level = 1 / (255 * min(image_processor.image_std))
        difference = (fast_pixel_values(image_processor, [image]) - expected).abs() / grey_level
        assert difference.max() < 2.1
        assert difference.mean() < 0.2


@pytest.fixture(params=["OpenVINO", "PyTorch"])
def engine(request, monkeypatch) -> str:
    """Each engine in turn, the first only where it is installed."""
    if request.param == "OpenVINO":
        pytest.importorskip("openvino")
    else:
        monkeypatch.setattr("engine_miniclip.importlib.util.find_spec", lambda name: None)
    return request.param


def randomise_batch_norms(model) -> None:
    """Untrained ones do nothing, so that leaving them out would go unnoticed."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))


class TestCalibration:
    def test_probabilities_mean_what_they_say(self):
        """On another draw of the same distribution: among labels given 70 %, 70 % fit (half match, half do not)."""
        calibration = ZeroShotCalibration.fit(*made_up_split(num_images=1000, closeness=0.6, seed=0))
        images, texts, matches = made_up_split(num_images=1000, closeness=0.6, seed=1)
        probabilities = calibration.label_log_odds(images, texts).sigmoid()
        weight = torch.where(matches == 1, 0.5 / matches.sum(), 0.5 / (1 - matches).sum())
        for low in (0.1, 0.3, 0.5, 0.7):
            chosen = (probabilities >= low) & (probabilities < low + 0.2)
            said = (weight * probabilities)[chosen].sum() / weight[chosen].sum()
            fitted = (weight * matches)[chosen].sum() / weight[chosen].sum()
            assert fitted.item() == pytest.approx(said.item(), abs=0.06)

    def test_none_of_these(self):
        """On another draw of the same distribution: it rarely wins if a text fits, and mostly if none does."""
        calibration = ZeroShotCalibration.fit(*made_up_split(seed=0))
        images, texts, matches = made_up_split(seed=1)
        generator = torch.Generator().manual_seed(0)
        log_odds = calibration.label_log_odds(images, texts)
        own, with_own, without = torch.arange(len(images))[:, None] * 3, [], []
        for size in (2, 3, 5, 10, 20):
            others = torch.multinomial(1 - matches, size, generator=generator)
            with_own.append(calibration.none_evidence(log_odds.gather(1, torch.cat([own, others[:, 1:]], 1)))[:, 0])
            without.append(calibration.none_evidence(log_odds.gather(1, others))[:, 0])
        with_own, without = torch.cat(with_own), torch.cat(without)
        assert (with_own > 0).float().mean().item() == pytest.approx(FALSE_ALARMS, abs=0.05)
        assert (without > 0).float().mean().item() == pytest.approx(calibration.none_told, abs=0.08)
        assert auroc(without, with_own) == pytest.approx(calibration.none_auroc, abs=0.05)
        assert calibration.tells_none and calibration.none_told > 0.5

    def test_a_model_that_cannot_tell_says_so(self, classifier):
        """Its "none of these" can still be asked for, with a warning."""
        images, texts, matches = made_up_split(classifier.model.config.projection_dim, closeness=0.1)
        calibration = classifier.model.calibrate_zero_shot(images, texts, matches)
        assert not classifier.tells_none and 0.05 < calibration.none_told < 0.3 and calibration.none_auroc < 0.65
        with pytest.warns(UserWarning, match=r"do not rely on .none of these.*told only \d+ %"):
            assert len(classifier(photo(), LABELS, none_of_these=True)) == 4
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classifier(photo(), LABELS)

    @pytest.mark.parametrize("scores", ["softmax", "independent"])
    def test_none_ranks_first_exactly_beyond_the_threshold(self, classifier, scores):
        calibration = calibrate(classifier.model)
        images, texts, _ = made_up_split(classifier.model.config.projection_dim, seed=2)
        texts = texts[:7]
        found = classifier.probabilities(images, texts, scores, none_of_these=True).argmax(dim=1) == len(texts)
        expected = calibration.none_evidence(calibration.label_log_odds(images, texts))[:, 0] > 0
        assert torch.equal(found, expected) and 0 < expected.float().mean() < 1

    def test_calibrations_of_earlier_versions_still_work(self, classifier):
        calibrate(classifier.model)
        stored = classifier.model.config.zero_shot_calibration
        for name in ("label_mean", "none_auroc", "none_told", "tells_none"):
            del stored[name]
        assert len(classifier(photo(), LABELS, none_of_these=True)) == 4
        assert not classifier.tells_none

    def test_auroc_counts_pairs(self):
        generator = torch.Generator().manual_seed(0)
        positive, negative = (
            torch.randint(5, (40,), generator=generator),
            torch.randint(-2, 4, (30,), generator=generator),
        )
        difference = positive[:, None] - negative
        expected = ((difference > 0).double() + 0.5 * (difference == 0)).mean().item()
        assert auroc(positive, negative) == pytest.approx(expected)

    def test_what_nobody_knows_changes_nothing(self):
        """Pairs whose match is unknown are left out, however near they lie."""
        images, texts, matches = made_up_split(num_images=40)
        expected = ZeroShotCalibration.fit(images, texts, matches)
        texts = torch.cat([texts, images.repeat(20, 1)])
        fits = torch.cat([matches, torch.full((len(images), len(texts) - matches.shape[1]), math.nan)], dim=1)
        found = ZeroShotCalibration.fit(images, texts, fits)
        assert (found.slope, found.intercept) == pytest.approx((expected.slope, expected.intercept), rel=1e-4)
        assert found.label_mean == expected.label_mean
        assert found.none_slope == pytest.approx(expected.none_slope, rel=0.25)  # its questions are drawn anew

    @pytest.mark.parametrize("fits", [torch.ones(1, 3), torch.zeros(1, 3), torch.full((2, 2), math.nan)])
    def test_nothing_to_tell_apart(self, fits):
        images, texts, _ = made_up_split()
        with pytest.raises(ValueError, match="labels that do not"):
            ZeroShotCalibration.fit(images[: len(fits)], texts[: fits.shape[1]], fits)

    def test_separable_data_has_an_answer(self):
        calibration = ZeroShotCalibration.fit(*made_up_split(dim=64, closeness=1000.0))
        assert all(np.isfinite([calibration.slope, calibration.intercept, calibration.none_slope]))

    def test_softmax_leaves_room_for_none(self, classifier):
        plain = scores_of(classifier(photo(), LABELS))
        calibrate(classifier.model)
        with_none = scores_of(classifier(photo(), LABELS, none_of_these=True))
        none = with_none.pop(NONE_OF_THESE)
        assert sum(with_none.values()) + none == pytest.approx(1)
        assert 0 < none < 1
        assert with_none == pytest.approx({label: score * (1 - none) for label, score in plain.items()})

    def test_none_of_these_is_no_label_of_its_own(self, classifier):
        calibrate(classifier.model)
        typed = classifier(photo(), [*LABELS, "None of these"], none_of_these=True)
        assert typed == classifier(photo(), LABELS, none_of_these=True)

    def test_a_label_that_says_none_is_the_answer_itself(self, classifier):
        calibrate(classifier.model)
        answers = classifier(photo(), [*LABELS, "None of these"], none_of_these=True)
        assert sorted(a["label"] for a in answers) == sorted([*LABELS, NONE_OF_THESE])

    def test_independent_scores_do_not_depend_on_each_other(self, classifier):
        calibrate(classifier.model)
        together = scores_of(classifier(photo(), LABELS, scores="independent"))
        for label in LABELS:
            assert scores_of(classifier(photo(), [label], scores="independent"))[label] == pytest.approx(
                together[label]
            )

    def test_saved_with_the_model(self, tiny_model, tiny_processor, tmp_path):
        calibrate(tiny_model)
        question = {"labels": LABELS, "none_of_these": True, "scores": "independent"}
        expected = tiny_model.zero_shot_classifier(tiny_processor)(photo(), **question)
        tiny_model.save_pretrained(tmp_path)
        tiny_processor.save_pretrained(tmp_path)
        answers = type(tiny_model).from_pretrained(tmp_path).zero_shot(photo(), **question)
        assert scores_of(answers) == pytest.approx(scores_of(expected), rel=1e-4)


class TestHeatMap:
    def test_equal_to_the_class_activation_map(self, tiny_tokenizer, tiny_processor):
        """With a linear head on averaged features, each place's share of the similarity can be written out."""
        model = build_tiny(tiny_tokenizer, projection_head="linear")
        processor = MiniCLIPProcessor(image_processor_for("test_resnet", 128), tiny_tokenizer)
        processor.image_processor.size = {"height": 128, "width": 128}  # the whole image is seen
        classifier = model.zero_shot_classifier(processor)
        image = photo(size=(128, 128))
        seen, heat = classifier.heat_map(image, "a red circle")
        assert seen.size == (128, 128) and heat.shape == (128, 128)
        pixel_values = classifier.processor(images=image, return_tensors="pt").pixel_values
        with torch.no_grad():
            features = model.get_image_features(pixel_values).last_hidden_state[0]
            text, unit = classifier.embed_labels(["a red circle"])[0], model.encode_image(pixel_values)[0]
            direction = model.visual_projection.weight.t() @ (text - (text @ unit) * unit)
            expected = torch.einsum("chw,c->hw", features, direction).relu()
        shrunk = torch.nn.functional.adaptive_avg_pool2d(heat[None], expected.shape)[0]
        assert torch.corrcoef(torch.stack([shrunk.flatten(), expected.flatten()]))[0, 1] > 0.9
        assert heat.max() == pytest.approx(1) and heat.min() >= 0

    @pytest.mark.parametrize("pooling", ["encoder", "stages"])
    @pytest.mark.parametrize("encoder", ["test_vit", "test_convnext", "test_efficientnet"])
    def test_other_encoders(self, tiny_tokenizer, encoder, pooling):
        model = build_tiny(tiny_tokenizer, encoder, image_pooling=pooling)
        classifier = model.zero_shot_classifier(MiniCLIPProcessor(image_processor_for(encoder), tiny_tokenizer))
        seen, heat = classifier.heat_map(photo(size=(300, 200)), "a red circle")
        assert heat.shape == (seen.height, seen.width)
        assert heat.max() == pytest.approx(1) and heat.std() > 0
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_shows_what_the_encoder_sees(self, tiny_tokenizer, tiny_model):
        """The border that resize and crop drop is not in the picture either."""
        processor = MiniCLIPProcessor(image_processor_for("test_resnet", 32), tiny_tokenizer)
        processor.image_processor.size = {"shortest_edge": 40}
        wide = Image.new("RGB", (400, 200))
        wide.paste("white", (120, 20, 280, 180))
        seen, _ = tiny_model.zero_shot_classifier(processor).heat_map(wide, "a child")
        assert seen.size == (160, 160)
        assert seen.getextrema() == ((255, 255),) * 3


REMOTE = """
import json, sys
from transformers import AutoModel, AutoProcessor, pipeline
first, second, photo = sys.argv[1:]
model = AutoModel.from_pretrained(first, trust_remote_code=True)
print(json.dumps(model.zero_shot(photo, "a red circle, a child", none_of_these=True)))
if second != first:
    model.save_pretrained(second)
    AutoProcessor.from_pretrained(first, trust_remote_code=True).save_pretrained(second)
    pipe = pipeline("zero-shot-image-classification", model=second, trust_remote_code=True)
    assert len(pipe(photo, candidate_labels=["a red circle", "a child"])) == 2
"""


SIGNALLED = """
import faulthandler, gc, os, signal, sys
from zero_shot_miniclip import ZeroShotClassifier
faulthandler.enable()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
first, second = (ZeroShotClassifier.from_pretrained(sys.argv[1], fast=True) for _ in range(2))
for classifier in (first, second):
    classifier.embed_labels(["a dog"])
del classifier, first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""


FORKED = """
import os, sys
import torch
torch.set_num_threads(1)  # PyTorch's own threads do not survive a fork either
from zero_shot_miniclip import ZeroShotClassifier
classifier = ZeroShotClassifier.from_pretrained(sys.argv[1], fast=True)
expected = classifier(sys.argv[2], "a red circle, a child")
if os.fork() == 0:
    found = classifier(sys.argv[2], "a red circle, a child")
    assert all(abs(a["score"] - b["score"]) < 1e-2 for a, b in zip(found, expected, strict=True))
    print("answered", flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_answers(tiny_folder, photo_file):
    """As in a server that forks its workers after a first answer. OpenVINO would wait for threads that it lost."""
    assert run_python("-c", FORKED, tiny_folder, photo_file, timeout=100).stdout == "answered\n"


def test_signals_are_handled_after_classifiers_are_gone(tiny_folder):
    """OpenVINO gives the thread a stack for signals and takes it away later; without one Ctrl-C ends in a crash."""
    pytest.importorskip("openvino")
    process = run_python("-c", SIGNALLED, tiny_folder, PYTHONPATH=str(ROOT))
    assert process.stdout == "handled\n"
    assert "loss_type" not in process.stderr  # a remark of transformers on what nobody asked for


def test_in_fresh_processes_and_after_a_second_save(tiny_model, tiny_processor, tmp_path):
    """The engine is part of the remote code: it is saved with a model, also with one that was itself remote code."""
    calibrate(tiny_model)
    first, second, elsewhere = tmp_path / "first", tmp_path / "second", tmp_path / "elsewhere"
    tiny_model.save_pretrained(first)
    tiny_processor.save_pretrained(first)
    elsewhere.mkdir()
    photo().save(tmp_path / "photo.png")
    environment = {"cwd": elsewhere, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    expected = tiny_model.zero_shot_classifier(tiny_processor)(photo(), "a red circle, a child", none_of_these=True)
    for source, target in ((first, second), (second, second)):
        printed = run_python("-c", REMOTE, source, target, tmp_path / "photo.png", **environment).stdout
        assert scores_of(json.loads(printed)) == pytest.approx(scores_of(expected), abs=1e-5)  # and no question asked
        assert (target / "zero_shot_miniclip.py").is_file()
        assert (target / "precision_miniclip.py").is_file()
