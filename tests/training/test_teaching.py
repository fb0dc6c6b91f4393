"""Training with teachers as users run it: several at once, photos without captions, captions without photos."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from conftest import CAPTIONS, ROOT, TINY_SETTINGS, TINY_TEXT, cut_at, run_python
from safetensors.torch import load_file
from test_training import launch_two
from tiny_teachers import save_teacher

from miniclip.data.shapes import shapes_split
from miniclip.data.texts import read_texts
from miniclip.training.arguments import parse_arguments
from miniclip.training.teacher_cache import TeacherCache
from miniclip.training.teachers import load_teacher
from miniclip.training.trainer import Trainer
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor

SETTINGS = (
    TINY_SETTINGS
    + """
per_device_train_batch_size: 8
gradient_accumulation_steps: 2
num_train_epochs: 2
learning_rate: 5e-3
image_encoder_learning_rate: 5e-3
text_encoder_learning_rate: 5e-3
validation_split: ""
checkpointing_steps: no
report_to: none
"""
)


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_tokenizer):
    """Configuration, photos, words and two teachers."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("pairs", "photos"):
        (folder / name).mkdir()
    shapes_split("train", 40).to_parquet(folder / "pairs" / "train.parquet")
    shapes_split("validation", 20).to_parquet(folder / "pairs" / "validation.parquet")
    for number, row in enumerate(shapes_split("test", 30)):
        row["image"].save(folder / "photos" / f"{number}.png")
    (folder / "words.txt").write_text("\n".join(f"{caption} {number}" for caption in CAPTIONS for number in range(6)))
    for kind in ("clip", "siglip"):
        save_teacher(kind, folder / kind, cut_at(24, tiny_tokenizer))
    (folder / "tiny.yaml").write_text(
        f"{SETTINGS}\ndataset_name: {folder / 'pairs'}\ncache_dir: {folder / 'cache'}\n"
        f"teacher_name_or_path: {folder / 'clip'}\n"
    )
    return folder


def train(data, output_dir, *arguments) -> Trainer:
    """Every stage of a run, in this process."""
    settings = [data / "tiny.yaml", "--output_dir", output_dir, *arguments]
    stages = parse_arguments(list(map(str, settings)))
    for stage in stages:
        AcceleratorState._reset_state(reset_partial_state=True)
        set_seed(stage.training.seed)
        accelerator = Accelerator(cpu=True, mixed_precision="no", step_scheduler_with_optimizer=False)
        trainer = Trainer(accelerator, stage, output_dir)
        trainer.fit()
    return trainer


@pytest.fixture
def embedded(monkeypatch) -> list[str]:
    """The names of the teachers that embed anything from here on, apart from the test picture and text."""
    names, compute = [], TeacherCache._compute_shards

    def noted(self, folder, shards, embed, kind):
        names.append(self.teacher.name)
        return compute(self, folder, shards, embed, kind)

    monkeypatch.setattr(TeacherCache, "_compute_shards", noted)
    return names


def history(run) -> list[dict]:
    return json.loads((run / "training_results.json").read_text())["history"]


def test_a_student_comes_to_agree_with_two_teachers_and_keeps_no_adaptor(data, tmp_path, embedded, capsys):
    settings = ["--teacher_name_or_path", f"{data / 'clip'},{data / 'siglip'}", "--num_train_epochs", "8"]
    settings += ["--distillation", "contrastive=0,embeddings=1,relations=1,interactive=1,crops=3"]
    train(data, tmp_path / "run", *settings)
    losses = [record["train_loss"] for record in history(tmp_path / "run")]
    assert losses[-1] < 0.9 * losses[0]
    assert "chance" not in "".join(capsys.readouterr())
    assert not [name for name in load_file(tmp_path / "run" / "model.safetensors") if "adaptor" in name]
    assert embedded == [str(data / kind) for kind in ("clip", "clip", "siglip", "siglip")]  # images and captions
    train(data, tmp_path / "again", *settings)
    assert len(embedded) == 4  # what the teachers said is on disk
    assert history(tmp_path / "again")[-1]["train_loss"] == losses[-1]


def test_a_run_with_a_teacher_goes_on_after_a_checkpoint(data, tmp_path):
    """The adaptor belongs to the checkpoint, too."""
    train(data, tmp_path / "whole", "--checkpointing_steps", "2")
    checkpoint = tmp_path / "whole" / "checkpoints" / "checkpoint-2"
    train(data, tmp_path / "resumed", "--existing_run", checkpoint, "--checkpointing_steps", "no")
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_captions_teach_beside_another_teacher_and_from_remembered_crops(data, tmp_path, embedded):
    """No further model embeds anything for them, and the next stage finds what the text encoder has read."""
    settings = ["--teacher_name_or_path", f"captions,{data / 'clip'}", "--num_train_epochs", "8"]
    settings += ["--distillation", "contrastive=0,embeddings=1,relations=1,interactive=1,crops=2"]
    trainer = train(data, tmp_path / "run", *settings)
    losses = [record["train_loss"] for record in history(tmp_path / "run")]
    assert losses[-1] < 0.9 * losses[0]
    assert set(embedded) <= {str(data / "clip")}
    assert [facts.width for facts in trainer.data.teachers] == [32, 24]


@pytest.mark.parametrize("locked", [False, True])
def test_photos_without_captions_and_captions_without_photos_are_mixed_in(data, tmp_path, locked):
    settings = ["--unlabelled_images", data / "photos", "--unlabelled_texts", data / "words.txt"]
    settings += ["--distillation", "embeddings=1,relations=1,interactive=1,crops=2"]
    if locked:
        settings += ["--trainable_image_layers", "0", "--trainable_text_layers", "0"]
    trainer = train(data, tmp_path / "run", *settings)
    assert (len(trainer.data.dataset), trainer.total_steps) == (70, 8)
    MiniCLIPModel.from_pretrained(tmp_path / "run")


def test_images_alone(data, tmp_path):
    """The image side of a model learns the teacher's embeddings; its text side stays as it was."""
    start = tmp_path / "start"
    train(data, start, "--max_train_steps", "1", "--projection_dim", "24")
    settings = ["--model_name_or_path", start, "--dataset_name", "none", "--unlabelled_images", data / "photos"]
    train(data, tmp_path / "run", *settings, "--num_train_epochs", "12")
    losses = [record["train_loss"] for record in history(tmp_path / "run")]
    assert losses[-1] < 0.8 * losses[0]
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "run"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"vision_model", "visual_projection"}
    MiniCLIPProcessor.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--unlabelled_texts", "words.txt"], "give --teacher_name_or_path"),
        (["--dataset_name", "none", "--teacher_name_or_path", "x"], "give --unlabelled_images"),
        (
            ["--dataset_name", "none", "--teacher_name_or_path", "x", "--unlabelled_images", "photos"]
            + ["--distillation", "relations=1"],
            "--distillation embeddings=4",
        ),
        (["--teacher_name_or_path", "captions", "--unlabelled_images", "x"], "drop --unlabelled_images"),
        (["--teacher_name_or_path", "captions", "--text_encoder", "teacher"], "needs a model"),
        (["--streaming", "true", "--max_train_steps", "3", "--teacher_name_or_path", "x"], "drop --streaming"),
    ],
)
def test_settings_that_leave_nothing_to_learn_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        parse_arguments(arguments)


def test_the_old_names_do_what_they_did():
    (arguments,) = parse_arguments(["--distillation_weight", "0.25", "--max_train_samples", "100"])
    assert arguments.training.distillation == "contrastive=0.75,relations=0.25"
    assert arguments.data.train_split == "train[:100]"


def test_texts_in_any_layout(tmp_path):
    expected = ["a dog, running", "two cats"]
    (tmp_path / "lines.txt").write_text("a dog, running\n\n two cats \ntwo cats\n")
    (tmp_path / "table.csv").write_text('id,caption\n1,"a dog, running"\n2,two cats\n')
    (tmp_path / "lists.jsonl").write_text('{"captions": ["a dog, running", "two cats"]}\n')
    shapes_split("validation", 4).to_parquet(tmp_path / "pairs.parquet")
    shapes_split("validation", 4).select_columns(["captions"]).to_parquet(tmp_path / "captions.parquet")
    for name in ("lines.txt", "table.csv", "lists.jsonl"):
        assert read_texts(str(tmp_path / name)) == expected, name
    every = list(dict.fromkeys(text for texts in shapes_split("validation", 4)["captions"] for text in texts))
    assert read_texts(str(tmp_path / "captions.parquet")) == every
    assert set(read_texts(str(tmp_path / "pairs.parquet"))) <= set(every)
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(UserError, match="no texts in"):
        read_texts(str(tmp_path / "empty.txt"))


@pytest.mark.parametrize("kind", ["miniclip", "clip", "siglip"])
def test_a_teachers_text_encoder_is_kept_without_a_caption(data, tiny_folder, tmp_path, kind):
    """Photos alone teach an image encoder to stand in for the teacher's; words are embedded as by the teacher."""
    name = str(tiny_folder if kind == "miniclip" else data / kind)
    settings = ["--dataset_name", "none", "--unlabelled_images", data / "photos", "--teacher_name_or_path", name]
    train(
        data, tmp_path / "run", *settings, "--text_encoder", "teacher", "--text_config", "", "--num_train_epochs", "8"
    )
    teacher = load_teacher(name)
    model = MiniCLIPModel.from_pretrained(tmp_path / "run").eval()
    words = MiniCLIPProcessor.from_pretrained(tmp_path / "run")(text=CAPTIONS, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(**words), teacher.encode_texts(CAPTIONS, "no"), atol=1e-4, rtol=0)
    losses = [record["train_loss"] for record in history(tmp_path / "run")]
    assert losses[-1] < 0.9 * losses[0]


def test_two_processes_share_the_teachers_work_and_are_one(data, tmp_path, embedded):
    """Half of each batch on each of two gloo processes, some chunks without a caption; the same batches by one."""
    text_config = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "dropout": 0, "attention_dropout": 0}
    settings = ["--text_config", json.dumps(text_config), "--projection_dropout", "0", "--train_split", "train[:8]"]
    settings += ["--unlabelled_images", data / "photos", "--per_device_train_batch_size", "4"]
    settings += ["--distillation", "embeddings=1,relations=1,interactive=1,crops=2", "--teacher_name_or_path"]
    settings += [f"{data / 'clip'},{data / 'siglip'}"]
    shared = [*settings, "--cache_dir", tmp_path / "cache"]
    launch_two(data / "tiny.yaml", "--output_dir", tmp_path / "two", *shared)
    train(data, tmp_path / "one", *shared, "--gradient_accumulation_steps", "4")
    assert not embedded  # both processes together had done all of it
    for two, one in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
    train(data, tmp_path / "anew", *settings, "--gradient_accumulation_steps", "4", "--cache_dir", tmp_path / "other")
    for part in ("images", "texts"):
        files = [sorted((tmp_path / name).glob(f"teacher-{part}-*/embeddings.npy")) for name in ("cache", "other")]
        assert len(files[0]) == len(files[1]) == 4
        for one, other in zip(*files, strict=True):
            assert one.parent.name == other.parent.name
            assert np.allclose(np.load(one), np.load(other), atol=2e-3)


def test_two_processes_keep_the_teachers_text_encoder(data, tmp_path):
    """Each process takes it out of the teacher for itself."""
    settings = ["--dataset_name", "none", "--unlabelled_images", data / "photos", "--text_encoder", "teacher"]
    settings += ["--text_config", "", "--projection_dropout", "0", "--per_device_train_batch_size", "4"]
    launch_two(data / "tiny.yaml", "--output_dir", tmp_path / "two", *settings)
    train(data, tmp_path / "one", *settings, "--gradient_accumulation_steps", "4")
    for two, one in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)


def test_the_presets_train_in_miniature(data, tmp_path):
    tiny = ["--image_encoder", "test_resnet", "--image_size", "32", "--pretrained", "false", "--num_train_epochs", "1"]
    tiny += ["--mixed_precision", "no", "--report_to", "none", "--cache_dir", data / "cache"]
    pairs = ["--text_encoder", "distilbert", "--text_config", json.dumps(TINY_TEXT), "--dataset_name", data / "pairs"]
    photos = ["--unlabelled_images", data / "photos"]
    for preset, own, teacher in (("resnet18", [*pairs, *photos], "siglip"), ("images", photos, "clip")):
        command = ["train_accelerate.py", ROOT / f"configs/distil_{preset}.yaml", *tiny, *own]
        run_python(*command, "--teacher_name_or_path", data / teacher, "--output_dir", tmp_path / preset)
        MiniCLIPModel.from_pretrained(tmp_path / preset)
