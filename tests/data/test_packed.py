"""What archives and saved datasets hold besides pairs of an image and a text."""

import json

import pytest
from datasets import Dataset, DatasetDict, Image
from drawn_datasets import ALL, NUMBER, ONE, captions, drawn, number_of, pictures_and_captions, write_images, write_tar

from miniclip.data.reader import load_split

pytestmark = pytest.mark.usefixtures("own_cache")

FIRST = [captions(number)[0] for number in range(NUMBER)]


def test_several_captions_in_the_json_of_a_sample(tmp_path):
    members = {}
    for number in range(NUMBER):
        record = {f"caption_{place}": text for place, text in enumerate(captions(number))}
        members |= {f"{number}.png": drawn(number), f"{number}.json": json.dumps(record | {"width": 8}).encode()}
    write_tar(tmp_path / "00000.tar", members)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ALL
    dataset = load_split(str(tmp_path), "all", caption_columns="caption_0,caption_1")
    assert dataset[3]["caption_1"] == captions(3)[1:2]


def test_a_licence_in_an_archive_is_no_caption(tmp_path):
    members = {"LICENSE.txt": b"You may use this."}
    for number in range(NUMBER):
        record = json.dumps({"title": FIRST[number]}).encode()
        members |= {f"images/{number}.png": drawn(number), f"images/{number}.json": record}
    write_tar(tmp_path / "photos.tar", members)
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_a_packed_folder_with_dots_in_its_names(tmp_path, kind, suffix):
    members = {}
    for number in range(NUMBER):
        text = FIRST[number] if suffix == "txt" else json.dumps({"alt": FIRST[number], "width": 8})
        members |= {f"photo.{number}.png": drawn(number), f"photo.{number}.{suffix}": text.encode()}
    write_tar(tmp_path / f"photos.{kind}", members, "w:gz" if kind == "tar.gz" else "w")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


def test_a_packed_folder_keeps_its_splits(tmp_path):
    split_of = ("train", "train", "val", "test")
    members = {}
    for number in range(NUMBER):
        path = f"{split_of[number % 4]}/{number}"
        members |= {f"{path}.png": drawn(number), f"{path}.txt": FIRST[number].encode()}
    write_tar(tmp_path / "photos.tar", members)
    for split in ("train", "val", "test"):
        numbers = [number for number in range(NUMBER) if split_of[number % 4] == split]
        name = {"val": "validation"}.get(split, split)
        assert sorted(pictures_and_captions(load_split(str(tmp_path), name))) == numbers


@pytest.fixture
def saved() -> Dataset:
    images = [{"bytes": drawn(number), "path": None} for number in range(NUMBER)]
    return Dataset.from_dict({"image": images, "caption": FIRST}).cast_column("image", Image())


def test_a_saved_dataset_beside_a_note(tmp_path, saved):
    parts = DatasetDict(train=saved.select(range(16)), test=saved.select(range(16, NUMBER)))
    parts.save_to_disk(tmp_path / "flowers")
    (tmp_path / "README.md").write_text("# Flowers", encoding="utf-8")
    assert sorted(pictures_and_captions(load_split(str(tmp_path), "test"))) == list(range(16, NUMBER))
    assert sorted(pictures_and_captions(load_split(str(tmp_path), "all"))) == list(range(NUMBER))


def test_what_map_left_beside_a_saved_dataset_is_not_read(tmp_path, saved):
    saved.save_to_disk(tmp_path / "flowers")
    (written,) = (tmp_path / "flowers").glob("data-*.arrow")
    (tmp_path / "flowers" / "cache-0123456789abcdef.arrow").write_bytes(written.read_bytes())
    (tmp_path / "README.md").write_text("# Flowers", encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "train")).keys() < ONE.keys()  # validation is drawn from it
    assert load_split(str(tmp_path), "all").num_rows == NUMBER


@pytest.mark.parametrize("previews", ["@eaDir", "thumbnails"])
def test_texts_belong_to_photos_and_not_to_previews(tmp_path, previews):
    for number, name in enumerate(write_images(tmp_path, "photos/1/{}.png")):
        (tmp_path / name).with_suffix(".json").write_text(json.dumps({"alt": FIRST[number]}), encoding="utf-8")
    write_images(tmp_path / previews, "photos/1/{}.png")
    dataset = load_split(str(tmp_path), "all")
    assert pictures_and_captions(dataset) == ONE
    assert not any(previews in row["image"]["path"] for row in dataset)


@pytest.mark.parametrize("field", ["alt_text", "what it shows", "Satz"])
def test_records_beside_images_with_fields_of_any_name(tmp_path, field):
    for number, name in enumerate(write_images(tmp_path)):
        record = {"source": "the Flickr8k dataset", "camera": {"model": "X 100"}, field: FIRST[number], "width": 8}
        (tmp_path / name).with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


def test_people_beside_images_are_no_captions(tmp_path):
    """Folders name the classes."""
    for number in range(NUMBER):
        write_images(tmp_path / ("cat", "dog")[number % 2], "{}.png", [number])
        record = {"author": f"Jane {'ABCD'[number % 4]}. Doe", "license": f"CC BY {1 + number % 4}.0", "width": 8}
        (tmp_path / ("cat", "dog")[number % 2] / f"{number}.json").write_text(json.dumps(record), encoding="utf-8")
    dataset = load_split(str(tmp_path), "all")
    names = dataset.features["label"].names
    assert {number_of(row["image"]): names[row["label"]] for row in dataset} == {
        number: ("cat", "dog")[number % 2] for number in range(NUMBER)
    }
