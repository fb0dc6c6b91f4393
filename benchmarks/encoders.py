"""Which feature works with which encoder: all families of timm and all kinds of text encoders, with random weights.

python benchmarks/encoders.py [--only swin_transformer bert ...]

Each feature either works or says in one sentence why it cannot. The result is a table in docs/encoders.md.
"""

import argparse
import json
import multiprocessing
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import records
import torch
from PIL import Image

from miniclip.data.tokenizer import train_tokenizer
from miniclip.exporting.onnx import (
    TOLERANCE,
    export_text_model,
    export_vision_model,
    longest_text,
    onnx_config,
    text_difference,
    vision_difference,
)
from miniclip.training.optimization import PARTS, freeze, layer_ids, parameter_groups
from miniclip.utils.errors import UserError
from miniclip.utils.provenance import git_commit
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor, image_processor_for

WORKS = "yes"
CAPTIONS = ["a red circle", "a green square above a blue circle", "two dogs run on the beach", "a child plays"]
TINY_TEXT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
# A small model of each family, by the file of timm that defines it.
IMAGE_ENCODERS = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "mixer_s32_224",
    "mobilenetv3": "lcnet_035",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
# Families without a small model: two blocks of the smallest.
SHALLOW = {
    name: {"depth": 2}
    for name in (
        "beit_base_patch16_224",
        "deepseek_vit_412m",
        "gemma4_vit_167m",
        "qwen3_vit_88m",
        "samvit_base_patch16_224",
    )
}
# What makes each kind of text encoder small; the first entry holds for all that are not listed.
TEXT_SIZES = {
    "": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "distilbert": TINY_TEXT,
    "xlnet": {"d_model": 32, "n_head": 2, "d_inner": 64, "n_layer": 2},
    "squeezebert": {
        "hidden_size": 32,
        "embedding_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "q_groups": 2,
        "k_groups": 2,
        "v_groups": 2,
        "post_attention_groups": 1,
        "intermediate_groups": 2,
        "output_groups": 2,
    },
    "xmod": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "default_language": "en_XX",
    },
    "reformer": {
        "hidden_size": 32,
        "attention_head_size": 16,
        "num_attention_heads": 2,
        "feed_forward_size": 64,
        "attn_layers": ["local", "local"],
        "axial_pos_embds": False,
    },
    "funnel": {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]},
    **dict.fromkeys(
        ("gemma3_text", "qwen3"),
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "intermediate_size": 64,
        },
    ),
}


TEXT_ENCODERS = {
    "albert": "albert",
    "bert": "bert",
    "big_bird": "big_bird",
    "camembert": "camembert",
    "canine": "canine",
    "clip_text_model": "clip_text_model",
    "convbert": "convbert",
    "data2vec-text": "data2vec-text",
    "deberta": "deberta",
    "deberta-v2": "deberta-v2",
    "distilbert": "distilbert",
    "electra": "electra",
    "ernie": "ernie",
    "eurobert": "eurobert",
    "flaubert": "flaubert",
    "fnet": "fnet",
    "funnel": "funnel",
    "gemma3_text": "gemma3_text",
    "gpt2": "gpt2",
    "gte": "gte",
    "ibert": "ibert",
    "jina_embeddings_v3": "jina_embeddings_v3",
    "layoutlm": "layoutlm",
    "longformer": "longformer",
    "megatron-bert": "megatron-bert",
    "mobilebert": "mobilebert",
    "modernbert": "modernbert",
    "mpnet": "mpnet",
    "mra": "mra",
    "mt5": "mt5",
    "nomic_bert": "nomic_bert",
    "nystromformer": "nystromformer",
    "opt": "opt",
    "qwen3": "qwen3",
    "reformer": "reformer",
    "rembert": "rembert",
    "roberta": "roberta",
    "roberta-prelayernorm": "roberta-prelayernorm",
    "roc_bert": "roc_bert",
    "roformer": "roformer",
    "siglip_text_model": "siglip_text_model",
    "siglip2_text_model": "siglip2_text_model",
    "squeezebert": "squeezebert",
    "t5": "t5",
    "umt5": "umt5",
    "xlm": "xlm",
    "xlm-roberta": "xlm-roberta",
    "xlm-roberta-xl": "xlm-roberta-xl",
    "xlnet": "xlnet",
    "xmod": "xmod",
    "yoso": "yoso",
}


class Refused(Exception):
    """A feature that the program says it cannot offer."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)


def image_model(name: str) -> tuple[MiniCLIPModel, MiniCLIPProcessor]:
    """A model of this image encoder with random weights, and its processor."""
    return build(name, "distilbert", TINY_TEXT, vision_config=SHALLOW.get(name))


def text_model(kind: str) -> tuple[MiniCLIPModel, MiniCLIPProcessor]:
    """A model of this kind of text encoder with random weights, and its processor."""
    return build("test_resnet", kind, TEXT_SIZES.get(kind, TEXT_SIZES[""]))


def build(
    image_encoder: str, text_encoder: str, text_config: dict, vision_config: dict | None = None
) -> tuple[MiniCLIPModel, MiniCLIPProcessor]:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=200, max_length=32)
    text_config = text_config | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    model = MiniCLIPModel.from_encoders(
        image_encoder, text_encoder, pretrained=False, text_config=text_config, projection_dim=16,
        projection_head="linear", vision_config=vision_config,
    )  # fmt: skip
    return model, MiniCLIPProcessor(image_processor_for(image_encoder), tokenizer)


def inputs_for(model: MiniCLIPModel, processor: MiniCLIPProcessor, count: int = 2) -> dict[str, torch.Tensor]:
    size = processor.image_processor.crop_size
    generator = torch.Generator().manual_seed(0)
    texts = processor(text=CAPTIONS[:count], return_tensors="pt")
    pixels = torch.randn(count, 3, size["height"], size["width"], generator=generator)
    return {"pixel_values": pixels, "input_ids": texts["input_ids"], "attention_mask": texts["attention_mask"]}


def train_step(model: MiniCLIPModel, processor: MiniCLIPProcessor, part: str) -> None:
    """A step changes the encoder's output, and all its parameters get a gradient."""
    inputs = inputs_for(model, processor)
    tower = model.vision_model if part == "image_encoder" else model.text_model
    before = embed(model, inputs, part)
    model.train()
    groups = parameter_groups(model, dict.fromkeys(PARTS, 1e-2), 0.1)
    optimizer = torch.optim.AdamW(groups)
    model(**inputs, return_loss=True).loss.backward()
    wanted = {name: parameter for name, parameter in tower.named_parameters() if parameter.requires_grad}
    idle = [name for name, parameter in wanted.items() if parameter.grad is None]
    optimizer.step()
    model.eval()
    require((embed(model, inputs, part) - before).abs().max() > 1e-6, "a step changes nothing")
    if idle:
        raise Refused(f"{len(idle)} parameters such as {idle[0]} get no gradient, so only one process can train it")


def freeze_layers(model: MiniCLIPModel, processor: MiniCLIPProcessor, part: str) -> None:
    """With one layer to learn, some of the encoder's parameters learn and most others do not."""
    freeze(model, *((1, -1) if part == "image_encoder" else (-1, 1)))
    layers = layer_ids(model, part)
    parameters = dict(model.named_parameters())
    learning = [name for name in layers if parameters[name].requires_grad]
    require(0 < len(learning) < len(layers), f"{len(learning)} of {len(layers)} parameters learn")
    model.train()
    model(**inputs_for(model, processor), return_loss=True).loss.backward()
    require(any(parameters[name].grad is not None for name in learning), "no layer gets a gradient")


def save_and_load(model: MiniCLIPModel, processor: MiniCLIPProcessor, part: str) -> None:
    inputs = inputs_for(model, processor)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = MiniCLIPModel.from_pretrained(folder)
    torch.testing.assert_close(embed(loaded, inputs, part), embed(model, inputs, part))


def fast(model: MiniCLIPModel, processor: MiniCLIPProcessor, part: str) -> None:
    exact, classifier = (model.zero_shot_classifier(processor, fast=fast) for fast in (False, True))
    if part == "image_encoder":
        image = photo()
        same = exact.embed_images([image]) * classifier.embed_images([image])
        engine = classifier.engines["image"]
    else:
        same = exact.embed_labels(CAPTIONS) * classifier.embed_labels(CAPTIONS)
        engine = classifier.engines["text"]
    if not engine.startswith("OpenVINO"):
        raise Refused(f"runs on {engine}")
    require(same.sum(dim=1).min() > 0.99, "other embeddings")


def heat_map(model: MiniCLIPModel, processor: MiniCLIPProcessor, part: str) -> None:
    classifier, image = model.zero_shot_classifier(processor), photo()
    highest = 0.0
    for label in CAPTIONS:  # a random model may find nothing that speaks for one of them
        seen, heat = classifier.heat_map(image, label)
        require(heat.shape == (seen.height, seen.width) and bool(heat.isfinite().all()), "no map of the image's size")
        highest = max(highest, heat.max().item())
    if highest == 0:
        raise Refused("the maps of random weights are empty")


def onnx(model: MiniCLIPModel, processor: MiniCLIPProcessor, part: str) -> None:
    settings, max_length = onnx_config(model, processor), longest_text(model, processor)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.onnx"
        if part == "image_encoder":
            export_vision_model(model, settings, path)
            difference = vision_difference(model, settings, path)
        else:
            export_text_model(model, max_length, path)
            difference = text_difference(model, max_length, path)
    require(difference < TOLERANCE, f"differs by {difference:.1e}")


def photo() -> Image.Image:
    return Image.effect_noise((96, 64), 90).convert("RGB")


@torch.no_grad()
def embed(model: MiniCLIPModel, inputs: dict, part: str) -> torch.Tensor:
    model.eval()
    if part == "image_encoder":
        return model.encode_image(inputs["pixel_values"])
    return model.encode_text(inputs["input_ids"], inputs["attention_mask"])


FEATURES: dict[str, Callable] = {
    "train": train_step,
    "freeze by layers": freeze_layers,
    "save = load": save_and_load,
    "fast=True": fast,
    "heat map": heat_map,
    "ONNX": onnx,
}


def check(name: str, part: str, features: list[str] | None = None) -> dict[str, str]:
    """`yes` or a sentence for each feature of an encoder, beginning with `build`."""
    make = image_model if part == "image_encoder" else text_model
    results = {"build": answer(lambda: make(name))}
    if results["build"] != WORKS:
        return results
    for feature in features or FEATURES:
        if part == "image_encoder" or feature != "heat map":
            results[feature] = answer(lambda feature=feature: FEATURES[feature](*make(name), part))
    return results


def answer(call: Callable) -> str:
    """`yes`, the program's own sentence, or the name and the first line of an error that nobody expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except (UserError, Refused, OSError) as error:
            return f"no: {first_line(error)}"
        except ValueError as error:
            return f"no: {first_line(error)}"
        except Exception as error:
            return f"FAILS: {type(error).__name__}: {first_line(error)}"
    return WORKS


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


class Workers:
    """One process at a time, replaced after some calls, since compiled code and cached shapes take up memory."""

    def __init__(self):
        self.pool = None

    def check(self, name: str, part: str, features: list[str] | None) -> dict[str, str]:
        self.pool = self.pool or ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=10)
        try:
            return self.pool.submit(check, name, part, features).result()
        except BrokenProcessPool:  # the next family gets another process
            self.pool = None
            return {"build": "FAILS: the process was killed, probably for lack of memory"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="families to check; the others keep the results that they have")
    parser.add_argument("--features", nargs="+", choices=FEATURES, help="features to check; all by default")
    parser.add_argument("--output", type=Path, default=records.RESULTS / "encoders.json")
    arguments = parser.parse_args()
    kept = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    figures = {part: kept.get(part, {}) for part in ("image_encoder", "text_encoder")}
    workers, commit = Workers(), git_commit()
    for part, encoders in (("image_encoder", IMAGE_ENCODERS), ("text_encoder", TEXT_ENCODERS)):
        rows = figures[part]
        for family, name in encoders.items():
            if not arguments.only or family in arguments.only:
                found = workers.check(name, part, arguments.features)
                about = {"encoder": f"{name}, two blocks" if name in SHALLOW else name, "git_commit": commit}
                rows[family] = rows.get(family, {}) | about | found
                print(f"{family} ({name}): {found}", flush=True)
                arguments.output.write_text(json.dumps(figures, indent=1) + "\n")  # what there is, if interrupted
    records.save(figures, arguments.output, 0, torch.device("cpu"))


if __name__ == "__main__":
    main()
