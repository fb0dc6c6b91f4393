"""The tables of docs/recipes.md from figures of ablations, whether all of them are there or none."""

import json
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import ablation_tables


def figures(recall: float, seeds: int = 1, commit: str = "c" * 40) -> dict:
    run = {"image_to_text_recall@1": recall + 0.05, "text_to_image_recall@1": recall - 0.05, "train_loss": 2.0}
    return {f"seed {seed}": run | {"epochs": 2, "minutes": 1.5, "git_commit": commit} for seed in range(seeds)}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Writes a result file where the tables look for it."""
    monkeypatch.setattr(ablation_tables, "RESULTS", tmp_path)
    origin = {"seed": 0, "machine": "a machine", "command": "python benchmarks/ablations.py"}
    return lambda **tables: (tmp_path / "ablations.json").write_text(json.dumps(origin | tables))


def test_changes_stand_in_the_order_of_what_they_gain(results):
    results(tuning={"worse": figures(0.25), "the recipe": figures(0.3, seeds=2), "better": figures(0.313)})
    _, _, *lines = ablation_tables.tuning().split("\n\n")[0].splitlines()
    assert lines == [
        "| the recipe | 35.0 | 25.0 |  | 2.00 | 1.50 | 0, 1 |",
        "| better | 36.3 | 26.3 | +1.3 | 2.00 | 1.50 | 0 |",
        "| worse | 30.0 | 20.0 | -5.0 | 2.00 | 1.50 | 0 |",
    ]


def test_nothing_gained_has_no_minus(results):
    results(tuning={"the recipe": figures(0.3), "as good": figures(0.2999)})
    assert "| +0.0 |" in ablation_tables.tuning()


def test_gains_are_over_the_same_seed(results):
    recipe = figures(0.3) | {"seed 1": figures(0.4)["seed 0"]}
    results(heads={"the recipe's heads": recipe, "a change": figures(0.32)})
    *_, line = ablation_tables.heads().split("\n\n")[0].splitlines()
    assert line == "| a change | 37.0 | 27.0 | +2.0 | 2.00 | 1.50 | 0 |"


def test_every_row_keeps_the_commit_that_trained_it(results):
    results(tuning={"the recipe": figures(0.3), "a": figures(0.3, commit="a" * 40), "b": figures(0.3, seeds=2)})
    assert "Commit cccccccccccc, aaaaaaaaaaaa;" in ablation_tables.tuning()


def test_the_command_named_makes_the_whole_table(results):
    words = "--only 'the recipe' 'a change' --dataset_name photos --seeds 1 --tables heads tuning"
    results(tuning={"the recipe": figures(0.3)}, command=f"python benchmarks/ablations.py {words}")
    whole = "python benchmarks/ablations.py --dataset_name photos --tables tuning"
    assert f"`{whole}`" in ablation_tables.tuning()


def test_without_the_recipe_there_is_nothing_to_compare_with(results):
    results(tuning={"better": figures(0.313)})
    assert ablation_tables.tuning() == ablation_tables.heads() == "Not measured yet."


def test_the_row_to_compare_with_is_measured():
    import ablations

    assert (
        ablation_tables.REFERENCES.keys()
        == ablations.TABLES.keys()
        == ablations.RECIPES.keys()
        == ablations.FILES.keys()
    )
    for table, name in ablation_tables.REFERENCES.items():
        assert ablations.TABLES[table][name] == {}
