"""A law: the same pairs are read, however names, references, tables, folders and archives are combined."""

import csv
import io
import json
import random
import shutil
import sqlite3
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
import yaml
from drawn_datasets import drawn, pictures_and_captions

from miniclip.data.reader import load_split

pytestmark = pytest.mark.usefixtures("own_cache")

IMAGES = 15
SUBJECTS = ("a brown dog", "two children", "the red car", "an old man", "a boat", "women in hats", "a cat on a sofa")
ACTIONS = (
    *("on the beach", "and a ball, laughing", 'in the "old" town', "near trees; at night", "at 5 pm"),
    "- seen from above",
)
NAMES = {
    "numbers": lambda n: f"{n + 1}",
    "padded": lambda n: f"{37 * n + 11:06d}",
    "hashes": lambda n: f"{(n + 1) * 2654435761 * 97 % 16**12:012x}",
    "words": lambda n: f"{SUBJECTS[n % 7]} {n}".replace(" ", "_"),
    "accents": lambda n: unicodedata.normalize("NFD", f"Café ñandú {n}"),
    "brackets": lambda n: f"IMG ({n + 1})",
    "COCO": lambda n: f"COCO_val2014_{991 * n + 9:012d}",
    "dots": lambda n: f"photo.{n + 1}.final",
    "dates": lambda n: f"2023-07-{n + 1:02d} 10.22.{n + 10:02d}",
}
FOLDERS = ("", "images", "data/images", "photos 2023", "in shards")
HEADERS = (
    *(("image", "caption"), ("file_name", "text"), ("filename", "sentence"), ("photo", "alt_text"), ("path", "title")),
    *(("Image File", "Caption Text"), ("image_id", "prompt"), ("img_path", "comment"), ("Bild", "Beschreibung")),
    *(("url", "alt"), ("picture", "what it shows")),
)
REFERENCES = {
    "name": lambda path: path.name,
    "path": str,
    "dotted": lambda path: f"./{path}",
    "stem": lambda path: path.stem,
    "elsewhere": lambda path: f"/home/anna/data/{path}",
    "windows": lambda path: "C:\\data\\" + str(path).replace("/", "\\"),
    "address": lambda path: f"https://example.com/files/{path}".replace(" ", "%20"),
    "other suffix": lambda path: f"{path.stem}.jpg",
}
TABLES = ("csv", "csv;", "csv|", "tsv", "jsonl", "json", "columns", "parquet", "xlsx", "yaml", "sqlite")
FORMATS = (*TABLES, "mapping", "coco", "text files", "json files")
SPLITS = {n: ("train", "train", "train", "val", "test")[n % 5] for n in range(IMAGES)}
CLUTTER = {
    "README.md": "# Photos\n\nSome photos of mine. Please cite.\n",
    "LICENSE.txt": "Permission is hereby granted, free of charge,\nto any person: to use it.\n",
    "config.json": '{"version": 1, "author": "me"}',
    "download.py": "for number in range(10):\n    print(number)\n",
    ".DS_Store": "\0\0\0\1Bud1",
    "empty.csv": "",
}


def caption(number: int, place: int = 0) -> str:
    text = f"{SUBJECTS[(number + 3 * place) % 7]} {ACTIONS[(5 * number + place) % 6]}, number {number}"
    return (text, text.capitalize() + ".", text.capitalize() + " .")[number % 3]


def choose(seed: int) -> dict:
    """One of some million ways to keep the pairs."""
    pick = random.Random(seed).choice  # noqa: S311
    way = {
        "format": pick(FORMATS),
        "names": pick(list(NAMES)),
        "folder": pick(FOLDERS),
        "header": pick(HEADERS),
        "reference": pick(list(REFERENCES)),
        "several": pick(["one", "one", "rows", "columns", "list"]),
        "splits": pick(["none", "none", "column", "tables", "folders"]),
        "further": pick([(), ("width",), ("license", "user"), ("date", "score", "source")]),
        "clutter": pick([(), ("README.md", ".DS_Store"), ("LICENSE.txt", "config.json"), ("download.py", "empty.csv")]),
        "archive": pick(["", "", "", "nested", "zip", "gztar", "zip of images", "previews"]),
        "line end": pick(["\n", "\n", "\r\n"]),
        "mark": pick(["", "", "\ufeff"]),
    }
    if way["format"] not in TABLES:
        way["several"] = "list" if way["format"] == "mapping" and way["several"] != "one" else "one"
        way["splits"] = "folders" if way["splits"] == "folders" else "none"
    if way["splits"] == "folders":
        way["folder"] = "splits"
    return way


def captions_of(number: int, way: dict) -> list[str]:
    return [caption(number, place) for place in range(1 if way["several"] == "one" else 3)]


def records(numbers, paths: dict[int, Path], way: dict) -> list[dict]:
    image, text = way["header"]
    values = {"width": 640, "license": "cc-by", "user": "anna", "date": "2023-07-01", "score": 0.5, "source": "flickr"}
    further = {name: values[name] for name in way["further"]}
    found = []
    for number in numbers:
        texts = captions_of(number, way)
        cells = {"one": [{text: texts[0]}], "rows": [{text: part} for part in texts], "list": [{text: texts}]}
        cells["columns"] = [{f"{text}_{place}": part for place, part in enumerate(texts)}]
        split = {"split": SPLITS[number]} if way["splits"] == "column" else {}
        reference = {image: REFERENCES[way["reference"]](paths[number])}
        found += [reference | part | further | split for part in cells[way["several"]]]
    return found


def write_table(file: Path, numbers, paths: dict[int, Path], way: dict) -> None:
    rows, form = records(numbers, paths, way), way["format"]
    as_json = [{key: json.dumps(cell) if isinstance(cell, list) else cell for key, cell in row.items()} for row in rows]
    if form == "parquet":
        pd.DataFrame(rows).to_parquet(file.with_suffix(".parquet"))
    elif form == "xlsx":
        pd.DataFrame(as_json).to_excel(file.with_suffix(".xlsx"), index=False)
    elif form == "sqlite":
        with sqlite3.connect(file.with_suffix(".db")) as database:
            pd.DataFrame(as_json).to_sql("photos", database, index=False)
    else:
        suffix, text = written(form, rows, as_json)
        text = way["mark"] + text.replace("\n", way["line end"])
        file.with_suffix(suffix).write_bytes(text.encode())


def written(form: str, rows: list[dict], as_json: list[dict]) -> tuple[str, str]:
    if form == "jsonl":
        return ".jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if form == "json":
        return ".json", json.dumps(rows, indent=1)
    if form == "columns":
        return ".json", json.dumps({name: [row[name] for row in rows] for name in rows[0]})
    if form == "yaml":
        return ".yaml", yaml.safe_dump(rows, allow_unicode=True, sort_keys=False)
    out = io.StringIO()
    delimiter = "\t" if form == "tsv" else form.removeprefix("csv") or ","
    writer = csv.DictWriter(out, list(as_json[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_json)
    return f".{form[:3]}", out.getvalue()


def write_captions(folder: Path, paths: dict[int, Path], way: dict) -> None:
    refer = REFERENCES[way["reference"]]
    if way["format"] in ("text files", "json files"):
        for number, path in paths.items():
            text = caption(number)
            suffix = ".txt" if way["format"] == "text files" else ".json"
            text = text if suffix == ".txt" else json.dumps({way["header"][1]: text, "width": 640})
            (folder / path).with_suffix(suffix).write_text(text, encoding="utf-8")
    elif way["format"] == "mapping":
        captions = {refer(path): captions_of(number, way) for number, path in paths.items()}
        captions = captions if way["several"] == "list" else {name: texts[0] for name, texts in captions.items()}
        (folder / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    elif way["format"] == "coco":
        images = [{"id": 3 * number + 7, "file_name": refer(path)} for number, path in paths.items()]
        texts = [{"image_id": 3 * number + 7, "caption": caption(number)} for number in paths]
        (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}), encoding="utf-8")
    elif way["splits"] == "tables":
        for split in ("train", "val", "test"):
            write_table(folder / split, [number for number in paths if SPLITS[number] == split], paths, way)
    else:
        write_table(folder / "captions", list(paths), paths, way)


def archive(folder: Path, paths: dict[int, Path], kind: str) -> None:
    """Put what is in a folder into one below it or into an archive, or add small copies of the images."""
    tops = sorted({path.parts[0] for path in paths.values() if len(path.parts) > 1})
    if kind in ("nested", "zip", "gztar"):
        inner = shutil.move(folder, folder.with_name("inner"))
        folder.mkdir()
        if kind == "nested":
            shutil.move(inner, folder / "my-photos-main")
        else:
            shutil.make_archive(str(folder / "photos"), kind, inner)
    elif kind == "zip of images":
        for top in tops:
            shutil.make_archive(str(folder / top), "zip", folder, top)
            shutil.rmtree(folder / top)
    elif kind == "previews" and tops:
        for number, path in paths.items():
            preview = folder / "thumbnails" / path
            preview.parent.mkdir(parents=True, exist_ok=True)
            preview.write_bytes(drawn(number, "JPEG"))


def write(folder: Path, way: dict) -> None:
    folder.mkdir()
    paths = {}
    for number in range(IMAGES):
        inner = {"splits": SPLITS[number], "in shards": f"images/{number % 3:02d}"}.get(way["folder"], way["folder"])
        paths[number] = Path(inner, NAMES[way["names"]](number) + ".png")
        (folder / inner).mkdir(parents=True, exist_ok=True)
        (folder / paths[number]).write_bytes(drawn(number))
    write_captions(folder, paths, way)
    for name in way["clutter"]:
        (folder / name).write_text(CLUTTER[name], encoding="utf-8")
    archive(folder, paths, way["archive"])


@pytest.mark.parametrize("seed", range(100))
def test_the_pairs_are_read(tmp_path, seed):
    way = choose(seed)
    write(tmp_path / "photos", way)
    found = pictures_and_captions(load_split(str(tmp_path / "photos"), "all"))
    assert found == {number: captions_of(number, way) for number in range(IMAGES)}, way
    if way["splits"] != "none":
        for split, name in {"train": "train", "val": "validation", "test": "test"}.items():
            found = pictures_and_captions(load_split(str(tmp_path / "photos"), name))
            assert sorted(found) == [number for number in SPLITS if SPLITS[number] == split], way
