"""Whatever a JSON file wraps around names and captions, and whether or not the names have suffixes, they are found."""

import json

import pytest
import yaml
from drawn_datasets import NUMBER, captions, pictures_and_captions, write_images

from miniclip.data.reader import load_split

pytestmark = pytest.mark.usefixtures("own_cache")

SPLITS = {number: ("train", "train", "val", "test")[number % 4] for number in range(NUMBER)}
NAMES = ("train", "val", "test")
TEXTS = {  # of one image
    "texts": lambda texts: texts,
    "records": lambda texts: [{"id": place, "text": text} for place, text in enumerate(texts)],
    "tokens": lambda texts: [{"raw": text, "tokens": text.split()} for text in texts],
}
STRUCTURES = {}


def structure(make):
    STRUCTURES[make.__name__] = make
    return make


def records(pairs) -> list[dict]:
    return [{"file": name, "sentences": texts, "size": [8, 6]} for name, texts in pairs]


@structure
def a_list(pairs):
    return records(pairs)


@structure
def names_and_captions(pairs):
    return dict(pairs)


@structure
def names_and_records(pairs):
    return {name: {"description": texts, "width": 8} for name, texts in pairs}


@structure
def pairs_in_lists(pairs):
    return [[name, texts] for name, texts in pairs]


@structure
def a_list_below_information(pairs):
    return {"version": "1.0", "info": {"url": "https://example.com", "about": "my photos"}, "entries": records(pairs)}


@structure
def a_list_deep_below(pairs):
    return {"dataset": {"meta": {"number": len(pairs)}, "content": {"items": records(pairs)}}}


@structure
def records_by_a_key(pairs):
    return {f"item_{number}": record for number, record in enumerate(records(pairs))}


@structure
def lists_by_split(pairs):
    return {
        split: [r for n, r in enumerate(records(pairs)) if SPLITS[n] == split] for split in ("train", "val", "test")
    }


@structure
def names_and_captions_by_split(pairs):
    return {
        split: {p[0]: p[1] for n, p in enumerate(pairs) if SPLITS[n] == split} for split in ("train", "val", "test")
    }


@structure
def a_record_of_the_image_in_each_record(pairs):
    parts = ({"image": {"file": name, "width": 8}, "caption": texts} for name, texts in pairs)
    return [{"id": number, **part} for number, part in enumerate(parts)]


@structure
def columns_and_rows(pairs):
    return {"columns": ["path", "captions"], "data": [list(pair) for pair in pairs]}


@structure
def columns(pairs):
    return {"photo": [name for name, _ in pairs], "alt": [texts for _, texts in pairs]}


@pytest.mark.parametrize("suffix", [".png", ""])
@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("count", [1, 3])
def test_pairs_are_found(tmp_path, name, texts, suffix, count):
    names = write_images(tmp_path, "IMG ({}).png")
    pairs = [(image.removesuffix(".png") + suffix, TEXTS[texts](captions(n, count))) for n, image in enumerate(names)]
    (tmp_path / "data.json").write_text(json.dumps(STRUCTURES[name](pairs)), encoding="utf-8")
    expected = {number: captions(number, count) for number in range(NUMBER)}
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == expected
    if "split" in name:
        found = pictures_and_captions(load_split(str(tmp_path), "validation"))
        assert sorted(found) == [number for number in SPLITS if SPLITS[number] == "val"]


@pytest.mark.parametrize("field", ["text", "alt_text", "title"])
@pytest.mark.parametrize("lists", [("images", "captions"), ("photos", "texts"), ("images", "annotations")])
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_two_lists_with_a_common_key(tmp_path, field, lists, suffix):
    names = write_images(tmp_path)
    images = [{"id": 3 * number + 7, "name": name, "split": SPLITS[number]} for number, name in enumerate(names)]
    texts = [{"image_id": 3 * n + 7, "id": k, field: captions(n)[k]} for n in range(NUMBER) for k in range(2)]
    value = dict(zip(lists, (images, texts), strict=True))
    text = json.dumps(value) if suffix == "json" else yaml.safe_dump(value, allow_unicode=True)
    (tmp_path / f"data.{suffix}").write_text(text, encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: captions(n, 2) for n in range(NUMBER)}
    assert len(load_split(str(tmp_path), "test")) == NUMBER // 4


@pytest.mark.parametrize("parts", [("train", "val"), ("first", "second")])
def test_two_lists_of_one_kind_are_not_joined(tmp_path, parts):
    """Although the keys of the second one are among those of the first one."""
    names = write_images(tmp_path)
    records = [{"id": n % 16, "image_id": n % 16, "file": names[n], "caption": captions(n)[0]} for n in range(NUMBER)]
    value = {parts[0]: records[:16], parts[1]: records[16:]}
    (tmp_path / "data.json").write_text(json.dumps(value), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: captions(n, 1) for n in range(NUMBER)}
