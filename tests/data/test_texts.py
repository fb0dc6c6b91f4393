"""Texts without images, in whatever files people keep them."""

import bz2
import gzip
import json
import shutil

import datasets
import pandas as pd
import pytest
import yaml

from miniclip.data.texts import read_texts
from miniclip.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")

TEXTS = [f'a {colour} dog, number {n}, runs "far" away' for n, colour in enumerate(["red", "green", "blue", "brown"])]
TABLE = pd.DataFrame({"id": range(4), "caption": TEXTS, "source": ["cc3m"] * 4})
ALONE = TABLE[["caption"]]
LINES = "\n".join(TEXTS)
RECORDS = [{"text": text, "id": number} for number, text in enumerate(TEXTS)]
COCO = {
    "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(4)],
    "annotations": [{"image_id": number, "caption": text} for number, text in enumerate(TEXTS)],
}
NAMED = [f"{number}.jpg\t{text}" for number, text in enumerate(TEXTS)]
FILES = {
    "lines.txt": LINES,
    "lines": LINES,
    "utf16.txt": LINES.encode("utf-16"),
    "windows.txt": LINES.replace("\n", "\r\n") + "\r\n\r\n",
    "numbered.txt": "\n".join(f"{number}. {text}" for number, text in enumerate(TEXTS, start=1)),
    "bullets.md": "# Captions\n\n" + "\n".join(f"- {text}" for text in TEXTS),
    "quoted.txt": "\n".join('"' + text.replace('"', '""') + '"' for text in TEXTS),
    "lines.txt.gz": gzip.compress(LINES.encode()),
    "table.csv.bz2": bz2.compress(TABLE.to_csv(index=False).encode()),
    "table.csv": TABLE.to_csv(index=False),
    "one column.csv": ALONE.to_csv(index=False),
    "without a header.csv": ALONE.to_csv(index=False, header=False),
    "without quotes.csv": "caption\n" + LINES,
    "table.tsv": TABLE.to_csv(index=False, sep="\t"),
    "Conceptual Captions.tsv": "\n".join(f"{text}\thttps://example.com/{n}.jpg" for n, text in enumerate(TEXTS)),
    "with images.txt": "\n".join(["image\tcaption", *NAMED]),
    "results.token": "\n".join(line.replace("\t", "#0\t") for line in NAMED),
    "list.json": json.dumps(TEXTS),
    "records.json": json.dumps(RECORDS),
    "wrapped.json": json.dumps({"version": 1, "captions": TEXTS}),
    "captions_train2017.json": json.dumps(COCO),
    "records.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "texts.jsonl": "\n".join(map(json.dumps, TEXTS)),
    "lists.jsonl": "\n".join(json.dumps({"captions": TEXTS[n : n + 2]}) for n in (0, 2)),
    "list.yaml": yaml.safe_dump(TEXTS),
    "records.yaml": yaml.safe_dump(RECORDS),
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name):
    content = FILES[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_texts(str(tmp_path / name)) == TEXTS


@pytest.mark.parametrize("frame", [TABLE, ALONE])
@pytest.mark.parametrize("suffix", ["xlsx", "parquet", "feather"])
def test_tables_in_binary_files(tmp_path, frame, suffix):
    file = tmp_path / f"table.{suffix}"
    if suffix == "xlsx":
        frame.to_excel(file, index=False)
    else:
        getattr(frame, f"to_{suffix}")(file)
    assert read_texts(str(file)) == TEXTS


def test_columns_with_several_texts(tmp_path):
    frame = pd.DataFrame({"caption_0": TEXTS[:2], "caption_1": TEXTS[2:]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    assert read_texts(str(tmp_path / "table.csv")) == TEXTS


@pytest.mark.parametrize("nested", [False, True])
def test_saved_datasets(tmp_path, nested):
    saved = datasets.Dataset.from_dict({"text": TEXTS, "id": range(4)})
    parts = datasets.DatasetDict(train=saved, test=saved.select([0]))
    (parts if nested else saved).save_to_disk(tmp_path / "saved")
    assert read_texts(str(tmp_path / "saved")) == TEXTS
    if nested:
        assert read_texts(str(tmp_path / "saved"), "test") == TEXTS[:1]


def test_folders_patterns_and_archives(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text)
    (folder / "README.md").write_text("# My texts\n\nPlease cite.")
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    for name in ("texts", "texts/*.txt", "texts/{0..3}.txt", "packed.zip"):
        assert read_texts(str(tmp_path / name)) == TEXTS, name


def test_the_split_of_a_folder(tmp_path):
    (tmp_path / "train.txt").write_text(LINES)
    (tmp_path / "val.txt").write_text("something else")
    assert read_texts(str(tmp_path)) == TEXTS
    assert read_texts(str(tmp_path), "validation") == ["something else"]


@pytest.mark.parametrize("content", ["", "\n\n", "id,width\n1,2\n"])
def test_no_texts_are_told(tmp_path, content):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(UserError, match="no texts in"):
        read_texts(str(tmp_path / "table.csv"))
