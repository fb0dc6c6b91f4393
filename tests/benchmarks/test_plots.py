"""Figures of a model and of the reference runs: drawn from what is there, and photographs never beside the others."""

import itertools
import json
import sys
from argparse import Namespace

import pytest
import torch
from conftest import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from miniclip.data.shapes import shapes_split
from miniclip.publishing import figures
from miniclip.utils.errors import UserError

sys.path.insert(0, str(ROOT / "benchmarks"))
import flickr8k_table
import plots


def test_a_model_is_drawn(tiny_folder, tmp_path, monkeypatch):
    for split in ("train", "test"):
        shapes_split(split, 30).to_parquet(tmp_path / "mine" / f"{split}.parquet")
    monkeypatch.setattr(plots, "PRIVATE_PLOTS", tmp_path / "private")
    monkeypatch.setattr(plots, "load_split", lambda name, split: plots_split(tmp_path, name, split))
    names = {"dataset_name": str(tmp_path / "mine"), "zero_shot_dataset": "shapes", "zero_shot_split": None}
    args = Namespace(model_name_or_path=str(tiny_folder), split="test", max_samples=40, **names)
    args.output_dir = tmp_path / "public"
    plots.draw_model(args)
    public = {file.name for file in (tmp_path / "public").iterdir()}
    assert public == {"mine_similarity.webp", "shapes_map.webp", "shapes_zero_shot.webp"}
    assert {file.name for file in (tmp_path / "private").iterdir()} == {
        "mine_text_to_image.webp",
        "mine_image_to_text.webp",
    }
    for file in tmp_path.glob("p*/*.webp"):
        assert Image.open(file).convert("L").getextrema() != (255, 255), file.name


def plots_split(folder, name, split):
    """As `load_split`, without drawing more shapes than are shown."""
    from miniclip.data.reader import load_split

    if name != "shapes":
        return load_split(name, split)
    shapes_split(split, 40).to_parquet(folder / "unseen.parquet")
    return load_split(str(folder / "unseen.parquet"), split)


@pytest.fixture
def history() -> list[list[dict]]:
    """Two stages, of which only some epochs were validated."""
    recalls = {"image_to_text_recall@1": 0.2, "text_to_image_recall@1": 0.1}
    first = [{"epoch": n, "train_loss_at_batch_64": 4.0 - n, "seconds": 10.0 * n} for n in (1, 2)]
    first[1] |= recalls
    return [first, [{"epoch": 1, "train_loss_at_batch_64": 1.0, "seconds": 60.0} | recalls]]


def test_curves_go_on_over_stages(history, tmp_path, monkeypatch):
    assert [round(minutes, 2) for minutes, _ in plots.with_minutes(history)] == [0.17, 0.33, 1.33]
    (tmp_path / "flickr8k_original_seed0.json").write_text(json.dumps({"history": history}))
    monkeypatch.setattr(flickr8k_table, "RESULTS", tmp_path)
    plots.draw_curves(Namespace(output_dir=tmp_path))
    assert (tmp_path / "flickr8k_curves.webp").stat().st_size > 10_000


def test_without_runs_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(flickr8k_table, "RESULTS", tmp_path)
    with pytest.raises(UserError, match="flickr8k.py --help"):
        plots.draw_curves(Namespace(output_dir=tmp_path))


def test_examples_are_spread_and_hold_failures():
    right = [True] * 6 + [False] * 5
    assert plots.right_and_wrong(right, 3, 2) == [0, 2, 4, 6, 8]
    assert plots.right_and_wrong([True, True], 3, 3) == [0, 1]


def test_the_map_separates_what_the_embeddings_separate():
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    directions = torch.eye(8)[:3]
    images = directions[labels] + 0.01 * torch.randn(60, 8) + torch.eye(8)[7]
    figure = figures.embedding_map(images, labels, directions, ["a", "b", "c"])
    (axes,) = figure.axes
    words = {text.get_text(): torch.tensor(text.get_position()) for text in axes.texts}
    points = torch.tensor(axes.collections[0].get_offsets().data, dtype=torch.float)
    nearest = torch.cdist(points, torch.stack([words[name] for name in "abc"])).argmin(dim=1)
    assert torch.equal(nearest, labels)


def test_no_word_of_the_map_covers_another():
    """Even of classes that the model cannot tell apart."""
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(10)]
    same = torch.eye(8)[0] + 0.001 * torch.randn(10, 8)
    figure = figures.embedding_map(torch.randn(60, 8), torch.arange(60) % 10, same, names)
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 10
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
