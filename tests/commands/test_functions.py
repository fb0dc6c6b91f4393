"""The scripts' work as functions of `miniclip`, one after the other."""

import inspect

import pytest
from conftest import ROOT, TINY_SETTINGS, run_python
from PIL import Image

import miniclip
from miniclip.commands.embed import EmbedArguments
from miniclip.utils.errors import UserError


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for split in ("train", "validation"):
        (folder / split).mkdir()
        lines = ["file_name,text"]
        for number, colour in enumerate(("red", "green", "blue", "white")):
            Image.new("RGB", (40, 40), colour).save(folder / split / f"{number}.png")
            lines.append(f"{number}.png,a {colour} picture")
        (folder / split / "metadata.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY_SETTINGS)
    return miniclip.train(
        data=str(photos), output_dir=folder / "run", config=folder / "tiny.yaml", num_train_epochs=2,
        cache_dir="none", report_to="none", text_config={"vocab_size": 300, "dim": 32, "n_layers": 1, "n_heads": 2},
    )  # fmt: skip


def test_train(trained):
    assert trained.results["settings"]["num_train_epochs"] == 2
    model, processor = trained.load()
    assert (model.config.text_config.n_layers, processor.image_size) == (1, 32)
    assert str(trained.folder) in str(trained)
    assert "<table>" in trained._repr_html_() and "data:image/png;base64," in trained._repr_html_()


def test_evaluate(trained, photos):
    evaluation = miniclip.evaluate(trained.folder, str(photos), split="validation", bootstrap_resamples=0)
    assert 0 <= evaluation["retrieval"]["image_to_text_recall@1"] <= 1
    assert "4 images, 4 captions" in str(evaluation)
    assert "<pre>" in evaluation._repr_html_()


def test_embed(trained, photos, tmp_path):
    embeddings = miniclip.embed(trained.folder, photos, tmp_path, split="train")
    assert len(embeddings.dataset()) == embeddings.rows == 4


def test_search(trained, photos, tmp_path):
    embeddings = miniclip.embed(trained.folder, photos, tmp_path, split="train")
    results = miniclip.search("a red picture", embeddings.folder, count=2)
    assert len(results) == 2 and results[0].captions[0].endswith("picture")
    assert "of 4 pictures" in str(results) and "data:image/jpeg" in results._repr_html_()


def test_export(trained, tmp_path):
    pytest.importorskip("onnx")
    exported = miniclip.export(trained.folder, tmp_path)
    assert "vision_model.onnx" in str(exported) and (tmp_path / "text_model.onnx").is_file()


def test_publish(trained, tmp_path):
    published = miniclip.publish(trained.folder, "ada/tiny", dry_run=tmp_path / "files")
    assert (tmp_path / "files" / "modules.json").is_file() and published.folder == tmp_path / "files"
    assert "modules.json" in str(published) and "nothing uploaded" in published._repr_html_()
    with pytest.raises(UserError, match="not a folder"):
        miniclip.publish(tmp_path / "nothing", "ada/tiny")


def test_mistakes_are_those_of_the_scripts(tmp_path):
    with pytest.raises(UserError, match="did you mean --learning_rate"):
        miniclip.train(data="shapes", output_dir=tmp_path, learningrate=1e-3)
    with pytest.raises(UserError, match="nothing to evaluate on"):
        miniclip.evaluate("runs/mine")


def test_names_and_defaults_are_the_scripts():
    scripts = {"embed_dataset": "embed", "evaluate_miniclip": "evaluate", "export_onnx": "export", "publish": "publish"}
    for script, command in scripts.items():
        assert f"from miniclip.commands.{command} import" in (ROOT / f"{script}.py").read_text()
    assert inspect.signature(miniclip.embed).parameters["output_dir"].default == EmbedArguments.output_dir


def test_importing_the_package_is_quick(tmp_path):
    script = "import sys, miniclip; print(sorted({'torch', 'transformers', 'gradio'} & set(sys.modules)))"
    assert run_python("-c", script, PYTHONPATH=str(ROOT), cwd=tmp_path).stdout.strip() == "[]"
    assert set(miniclip.__all__) <= set(dir(miniclip))
