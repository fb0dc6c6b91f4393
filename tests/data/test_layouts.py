"""Layouts that people have, drawn in code: each loads as the same pictures with the same captions."""

import base64
import functools
import gzip
import html
import http.server
import io
import json
import os
import sqlite3
import tarfile
import threading
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pytest
import yaml
from datasets import Dataset, DatasetDict
from drawn_datasets import (
    ALL,
    NUMBER,
    ONE,
    captions,
    csv_text,
    drawn,
    number_of,
    pictures_and_captions,
    rows,
    write_images,
    write_tar,
)

from miniclip.data.reader import (
    captions_of,
    dataset_templates,
    find_columns,
    find_image_column,
    find_label_column,
    load_split,
    understanding_of,
)
from miniclip.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")

LAYOUTS: dict[str, Callable[[Path], tuple[str, dict]]] = {}


def layout(write):
    """Register a function that writes a layout, and returns what to type and what must be loaded."""
    LAYOUTS[write.__name__] = write
    return write


# ---------------------------------------------------------------- tables


@layout
def kaggle(folder):
    names = write_images(folder / "Images")
    (folder / "captions.txt").write_text(csv_text(rows(names)), encoding="utf-8")
    return str(folder), ALL


@layout
def karpathy(folder):
    names = write_images(folder / "images")
    images = [
        {
            "filename": name,
            "split": "restval" if n < 4 else "train",
            "sentences": [{"raw": text} for text in captions(n)],
        }
        for n, name in enumerate(names)
    ]
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"dataset": "flickr8k", "images": images}))
    return str(folder), ALL


@layout
def spreadsheet_as_csv(folder):
    names = write_images(folder / "photos", "Foto {:d}.JPG")
    text = csv_text(rows(names), "Bild;Beschreibung", ";").replace("\n", "\r\n")
    (folder / "table.csv").write_bytes(text.encode("cp1252"))
    return str(folder / "table.csv"), ALL


@layout
def text_files(folder):
    for number, name in enumerate(write_images(folder)):
        (folder / name).with_suffix(".txt").write_text(captions(number, 1)[0], encoding="utf-8")
    return str(folder), ONE


@layout
def packed_images_beside_a_table_are_told(folder):
    names = write_images(folder / "images")
    (folder / "captions.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    (folder / "images.zip").write_bytes(b"PK")
    return str(folder), ALL


@layout
def tabs_without_header_and_quotes(folder):
    names = write_images(folder / "images")
    lines = "".join(f"{name}\t{text}\r\n" for name, text in rows(names))
    (folder / "captions.txt").write_bytes(lines.encode("utf-8"))
    return str(folder), ALL


@layout
def open_clip_filepath_and_title(folder):
    names = write_images(folder / "pictures")
    frame = pd.DataFrame([(f"pictures/{name}", text) for name, text in rows(names)], columns=["filepath", "title"])
    frame.to_csv(folder / "train.tsv", sep="\t", index=False)
    return str(folder / "train.tsv"), ALL


@layout
def flickr30k_kaggle(folder):
    names = write_images(folder / "flickr30k_images" / "flickr30k_images", "{:07d}.jpg")
    lines = ["image_name| comment_number| comment"]
    lines += [f"{name}| {at}| {text}" for n, name in enumerate(names) for at, text in enumerate(captions(n))]
    lines.insert(8, f"{names[1]}| 4   A dog runs across the grass .")  # such a line is in the real file
    (folder / "flickr30k_images" / "results.csv").write_text("\n".join(lines), encoding="utf-8")
    return str(folder), ALL


@layout
def flickr30k_token(folder):
    names = write_images(folder / "flickr30k-images", "{:07d}.jpg")
    lines = [f"{name}#{at}\t{text}" for n, name in enumerate(names) for at, text in enumerate(captions(n))]
    (folder / "results_20130124.token").write_text("\n".join(lines), encoding="utf-8")
    (folder / "readme.txt").write_text("See our paper, and cite it.\nNo images, no captions.\n")
    return str(folder), ALL


@layout
def utf_16_from_excel(folder):
    names = write_images(folder)
    text = csv_text(rows(names), header="Image\tCaption", delimiter="\t")
    (folder / "captions.csv").write_bytes(text.encode("utf-16"))
    return str(folder), ALL


@layout
def names_with_blanks_percents_and_backslashes(folder):
    write_images(folder / "My Photos" / "2024", "Foto {:d}.JPG")
    names = [f"2024\\Foto%20{number}.JPG" for number in range(NUMBER)]
    (folder / "list.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    return str(folder), ALL


@layout
def umlauts_decomposed_and_other_case(folder):
    for number in range(NUMBER):
        name = unicodedata.normalize("NFD", f"Äpfel_{number}.JPG")
        (folder / "fotos").mkdir(exist_ok=True)
        (folder / "fotos" / name).write_bytes(drawn(number))
    names = [unicodedata.normalize("NFC", f"äpfel_{number}.jpg") for number in range(NUMBER)]
    (folder / "liste.csv").write_text(csv_text(rows(names), "Datei;Beschreibung", ";"), encoding="utf-8")
    return str(folder), ALL


@layout
def paths_of_another_machine(folder):
    write_images(folder / "train" / "a", "{:03d}.png", range(12))
    write_images(folder / "train" / "b", "{:03d}.png", range(12, NUMBER))
    names = [f"/home/ada/data/train/{'a' if n < 12 else 'b'}/{n:03d}.png" for n in range(NUMBER)]
    (folder / "captions.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    return str(folder), ALL


@layout
def names_without_extension(folder):
    write_images(folder / "images", "img_{:d}.png")
    names = [f"img_{number}" for number in range(NUMBER)]
    (folder / "captions.csv").write_text(csv_text(rows(names), "id,caption"), encoding="utf-8")
    return str(folder), ALL


@layout
def numbers_without_leading_zeros(folder):
    write_images(folder / "val2014", "COCO_val2014_{:012d}.jpg")
    names = [str(number) for number in range(NUMBER)]
    (folder / "captions.csv").write_text(csv_text(rows(names), "image_id,caption"), encoding="utf-8")
    return str(folder), ALL


@layout
def pandas_with_index_and_other_columns(folder):
    names = write_images(folder / "images")
    table = [(n, names[n], "cc-by", f"https://example.org/{n}", captions(n, 1)[0], 3.5 * n) for n in range(NUMBER)]
    frame = pd.DataFrame(table, columns=["id", "path", "licence", "url", "bildtext", "score"])
    frame.to_csv(folder / "dump.csv")
    return str(folder), ONE


@layout
def several_caption_columns(folder):
    names = write_images(folder)
    table = [(name, *captions(number)) for number, name in enumerate(names)]
    columns = ["File Name", *(f"Caption {number}" for number in range(1, 6))]
    pd.DataFrame(table, columns=columns).to_csv(folder / "labels.csv", index=False, sep=";")
    return str(folder), ALL


@layout
def list_as_python_prints_it(folder):
    names = write_images(folder / "images")
    pd.DataFrame({"file_name": names, "captions": list(ALL.values())}).to_csv(folder / "captions.csv", index=False)
    return str(folder), ALL


@layout
def commas_in_captions_without_quotes(folder):
    names = write_images(folder / "images")
    lines = ["image,caption"] + [f"{name},{text}" for name, text in rows(names)]
    (folder / "captions.txt").write_text("\n".join(lines), encoding="utf-8")
    return str(folder), ALL


@layout
def name_blank_text(folder):
    names = write_images(folder / "images")
    (folder / "captions.txt").write_text("\n".join(f"{name} {text}" for name, text in rows(names)), encoding="utf-8")
    return str(folder), ALL


@layout
def table_of_paths_in_parquet(folder):
    names = write_images(folder / "images")
    frame = pd.DataFrame(rows(names), columns=["image_path", "text"])
    frame.to_parquet(folder / "captions.parquet")
    return str(folder), ALL


@layout
def diffusers_metadata_jsonl(folder):
    names = write_images(folder)
    lines = [json.dumps({"file_name": name, "text": captions(n, 1)[0]}) for n, name in enumerate(names)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return str(folder), ONE


@layout
def jsonl_with_lists(folder):
    names = write_images(folder / "img")
    lines = [json.dumps({"image": f"img/{name}", "captions": captions(n)}) for n, name in enumerate(names)]
    (folder / "data.jsonl").write_text("\n".join(lines))
    return str(folder / "data.jsonl"), ALL


@layout
def one_folder_inside_another(folder):
    names = write_images(folder / "download" / "set-1.0" / "photos")
    (folder / "download" / "set-1.0" / "index.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._index.csv").write_bytes(b"\0\1\2")
    return str(folder), ALL


@layout
def zip_of_a_folder(folder):
    names = [f"{number:03d}.png" for number in range(NUMBER)]
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(f"photos/{name}", drawn(number))
        archive.writestr("photos/captions.csv", csv_text(rows(names)))
    return str(folder / "photos.zip"), ALL


@layout
def tar_of_a_folder(folder):
    names = [f"{number:03d}.png" for number in range(NUMBER)]
    files = {f"set/images/{name}": drawn(number) for number, name in enumerate(names)}
    files["set/captions.csv"] = csv_text(rows(names)).encode()
    write_tar(folder / "set.tar.gz", files, "w:gz")
    return str(folder / "set.tar.gz"), ALL


# ---------------------------------------------------------------- json


@layout
def llava(folder):
    names = write_images(folder / "images")
    records = [
        {
            "id": str(number),
            "image": name,
            "conversations": [
                {"from": "human", "value": "Describe the image.\n<image>"},
                {"from": "gpt", "value": captions(number, 1)[0]},
            ],
        }
        for number, name in enumerate(names)
    ]
    (folder / "chat.json").write_text(json.dumps(records))
    return str(folder), ONE


@layout
def list_of_pairs_of_names(folder):
    names = write_images(folder / "images")
    (folder / "pairs.json").write_text(json.dumps([{"img": name, "txt": text} for name, text in rows(names)]))
    return str(folder / "pairs.json"), ALL


@layout
def images_with_sentences(folder):
    names = write_images(folder / "images")
    images = [{"file_name": name, "sentences": captions(number)} for number, name in enumerate(names)]
    (folder / "data.json").write_text(json.dumps({"info": {}, "images": images}))
    return str(folder), ALL


@layout
def coco_2014_beside_other_annotations(folder):
    write_images(folder / "val2014", "COCO_val2014_{:012d}.jpg")
    images = [{"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg"} for n in range(NUMBER)]
    texts = [
        {"id": 10 * n + at, "image_id": n, "caption": text} for n in range(NUMBER) for at, text in enumerate(ALL[n])
    ]
    (folder / "annotations").mkdir()
    name = folder / "annotations" / "captions_val2014.json"
    name.write_text(json.dumps({"info": {}, "images": images, "annotations": texts}))
    boxes = [{"id": n, "image_id": n, "bbox": [0, 0, 1, 1], "category_id": 1} for n in range(NUMBER)]
    other = folder / "annotations" / "instances_val2014.json"
    other.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dog"}]}))
    return str(folder), ALL


@layout
def diffusiondb(folder):
    names = write_images(folder)
    parts = {name: {"p": captions(number, 1)[0], "se": 1, "c": 7.0, "sa": "k_lms"} for number, name in enumerate(names)}
    (folder / "part-000001.json").write_text(json.dumps(parts))
    return str(folder), ONE


@layout
def pandas_json_by_columns(folder):
    names = write_images(folder)
    pd.DataFrame(rows(names), columns=["image", "caption"]).to_json(folder / "dump.json")
    return str(folder), ALL


@layout
def pandas_json_split(folder):
    names = write_images(folder)
    pd.DataFrame(rows(names), columns=["image", "caption"]).to_json(folder / "dump.json", orient="split")
    return str(folder), ALL


@layout
def a_name_twice_in_json(folder):
    names = write_images(folder)
    parts = [f"{json.dumps(name)}: {json.dumps([text])}" for name, text in rows(names)]
    (folder / "captions.json").write_text("{" + ",\n".join(parts) + "}")
    return str(folder), ALL


# ---------------------------------------------------------------- a text file for each picture


@layout
def caption_files(folder):
    for number, name in enumerate(write_images(folder)):
        (folder / name).with_suffix(".caption").write_text(captions(number, 1)[0], encoding="utf-8")
    return str(folder), ONE


@layout
def texts_in_a_folder_of_their_own(folder):
    names = write_images(folder / "images")
    (folder / "text").mkdir()
    for number, name in enumerate(names):
        (folder / "text" / f"{Path(name).stem}.txt").write_text("\n".join(captions(number)), encoding="utf-8")
    return str(folder), ALL


@layout
def img2dataset_as_files(folder):
    names = write_images(folder / "00000", "{:09d}.jpg")
    for number, name in enumerate(names):
        record = {"caption": captions(number, 1)[0], "url": "https://example.org/x.jpg", "key": Path(name).stem}
        (folder / "00000" / name).with_suffix(".txt").write_text(captions(number, 1)[0])
        (folder / "00000" / name).with_suffix(".json").write_text(json.dumps(record))
    (folder / "00000_stats.json").write_text(json.dumps({"count": NUMBER, "successes": NUMBER}))
    return str(folder), ONE


# ---------------------------------------------------------------- files that contain the pictures


@layout
def parquet_one_caption_a_row(folder):
    table = [{"image": {"bytes": drawn(n), "path": f"{n}.png"}, "caption": text} for n in ALL for text in ALL[n]]
    Dataset.from_list(table).to_parquet(folder / "data.parquet")
    return str(folder), ALL


@layout
def parquet_of_bytes(folder):
    frame = pd.DataFrame({"picture_data": [drawn(n) for n in ALL], "alt": [texts[0] for texts in ONE.values()]})
    frame.to_parquet(folder / "part-0.parquet")
    return str(folder), ONE


@layout
def saved_to_disk(folder):
    table = Dataset.from_list([{"image": {"bytes": drawn(n), "path": None}, "text": ALL[n]} for n in ALL])
    DatasetDict(train=table.cast_column("image", datasets.Image())).save_to_disk(folder / "saved")
    return str(folder / "saved"), ALL


@layout
def img2dataset_shards(folder):
    for shard in range(2):
        members, table = {}, []
        for n in range(12 * shard, 12 * shard + 12):
            record = {"url": f"https://example.org/{n}", "caption": ONE[n][0], "key": f"{n:09d}", "status": "success"}
            table.append(record)
            members |= {f"{n:09d}.jpg": drawn(n), f"{n:09d}.txt": ONE[n][0].encode()}
            members[f"{n:09d}.json"] = json.dumps(record).encode()
        write_tar(folder / f"{shard:05d}.tar", members)
        pd.DataFrame(table).to_parquet(folder / f"{shard:05d}.parquet")
        (folder / f"{shard:05d}_stats.json").write_text("{}")
    return str(folder / "{00000..00001}.tar"), ONE


@layout
def shards_with_json_alone(folder):
    members = {}
    for n in ONE:
        members |= {f"{n}.webp": drawn(n), f"{n}.json": json.dumps({"caption": ONE[n][0], "width": 8}).encode()}
    write_tar(folder / "train-0.tar", members)
    return str(folder / "train-*.tar"), ONE


@layout
def google_takeout(folder):
    for number, name in enumerate(write_images(folder / "Photos from 2020", "IMG_{:04d}.jpg")):
        ending = (".json", ".supplemental-metadata.json", ".supplemental-me.json")[number % 3]
        record = {"title": name, "description": captions(number)[0], "creationTime": {"timestamp": "1"}}
        (folder / "Photos from 2020" / f"{name}{ending}").write_text(json.dumps(record))
    return str(folder), ONE


@layout
def compressed_table(folder):
    text = csv_text(rows(write_images(folder / "images")))
    (folder / "captions.csv.gz").write_bytes(gzip.compress(text.encode()))
    return str(folder / "captions.csv.gz"), ALL


@layout
def yaml_mapping(folder):
    names = write_images(folder)
    (folder / "captions.yaml").write_text(yaml.safe_dump({name: captions(n) for n, name in enumerate(names)}))
    return str(folder), ALL


@layout
def export_of_label_studio(folder):
    tasks = []
    for number, name in enumerate(write_images(folder / "upload")):
        result = [{"value": {"text": [text]}, "from_name": "caption", "type": "textarea"} for text in captions(number)]
        annotations = [{"id": number, "created_at": "2026-01-01T10:00:00Z", "result": result}]
        tasks.append({"id": number, "data": {"image": f"/data/upload/{name}"}, "annotations": annotations})
    (folder / "project.json").write_text(json.dumps(tasks))
    return str(folder), ALL


@layout
def questions_and_answers(folder):
    names = write_images(folder / "images")
    lines = [
        json.dumps({"query": "describe the picture", "response": captions(n)[0], "images": [f"images/{name}"]})
        for n, name in enumerate(names)
    ]
    (folder / "data.jsonl").write_text("\n".join(lines))
    return str(folder), ONE


@layout
def coco_with_booleans_as_in_vizwiz(folder):
    names = write_images(folder / "train")
    images = [{"file_name": name, "id": n, "text_detected": n % 2 == 0} for n, name in enumerate(names)]
    notes = [{"image_id": n, "caption": text, "is_rejected": False} for n in range(NUMBER) for text in captions(n)]
    (folder / "annotations").mkdir()
    (folder / "annotations" / "train.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return str(folder), ALL


@layout
def names_and_single_words(folder):
    names = write_images(folder)
    words = [f"product{chr(97 + number)}" for number in range(NUMBER)]
    (folder / "products.csv").write_text("\n".join(["file,name", *map(",".join, zip(names, words, strict=True))]))
    return str(folder), {number: [word] for number, word in enumerate(words)}


def written(number: int, form: str = "JPEG") -> str:
    return base64.b64encode(drawn(number, form)).decode()


@layout
def chinese_clip(folder):
    (folder / "train_imgs.tsv").write_text("".join(f"{1000 + n}\t{written(n)}\n" for n in range(NUMBER)))
    texts = [
        {"text_id": n, "text": "a picture that is the same", "image_ids": [1000 + n, 1001 + n]}
        for n in range(0, NUMBER, 2)
    ]
    (folder / "train_texts.jsonl").write_text("\n".join(map(json.dumps, texts)))
    return str(folder), {number: ["a picture that is the same"] for number in range(NUMBER)}


@layout
def ofa(folder):
    lines = [f"{n}\t{n + 70}\t{text}\t\t{written(n)}\n" for n in range(NUMBER) for text in captions(n)]
    (folder / "caption_stage1_train.tsv").write_text("".join(lines))
    return str(folder / "caption_stage1_train.tsv"), ALL


@layout
def data_addresses_in_json(folder):
    records = [{"image": f"data:image/png;base64,{written(n, 'PNG')}", "captions": ALL[n]} for n in range(NUMBER)]
    (folder / "data.json").write_text(json.dumps(records, indent=1).replace("/", "\\/"))
    return str(folder), ALL


@layout
def spreadsheet_of_base64(folder):
    lines = [f"{captions(n)[0]};{written(n, 'WEBP')}" for n in range(NUMBER)]
    (folder / "photos.csv").write_text("\n".join(["Beschreibung;Bild", *lines]), encoding="cp1252")
    return str(folder / "photos.csv"), ONE


@layout
def base64_beside_a_preview(folder):
    spreadsheet_of_base64(folder)
    (folder / "preview.png").write_bytes(drawn(0))
    return str(folder), ONE


@layout
def base64_folded_as_in_mails(folder):
    """`base64.encodebytes` and others break lines after 76 characters and end with a line break."""
    folded = [base64.encodebytes(drawn(n, form)).decode() for n, form in enumerate(["PNG", "JPEG"] * (NUMBER // 2))]
    lines = [f'"{"data:image/jpeg;base64," * (n % 2)}{text}","{ALL[n][1]}"\r\n' for n, text in enumerate(folded)]
    (folder / "photos.csv").write_bytes("".join(["image,caption\r\n", *lines]).encode())
    return str(folder), {n: ALL[n][1:2] for n in range(NUMBER)}


@layout
def names_of_missing_files_beside_base64(folder):
    records = [{"filename": f"{n}.jpg", "image": written(n), "caption": ALL[n]} for n in range(NUMBER)]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, records)))
    return str(folder), ALL


@layout
def photos_with_previews_in_json(folder):
    """Web programs keep a tiny preview of each photo beside its name."""
    preview = f"data:image/jpeg;base64,{written(0)}"
    records = [
        {"src": f"photos/{name}", "alt": ALL[n][0], "blurDataURL": preview}
        for n, name in enumerate(write_images(folder / "photos"))
    ]
    (folder / "photos.json").write_text(json.dumps(records))
    return str(folder / "photos.json"), ONE


@layout
def captions_beside_annotations_of_labelme(folder):
    """LabelMe writes a JSON file beside each photo, with the photo in it."""
    for n, name in enumerate(names := write_images(folder)):
        note = {"shapes": [{"label": "thing"}], "imagePath": name, "imageData": written(n, "PNG")}
        (folder / f"{n:03d}.json").write_text(json.dumps(note))
    (folder / "captions.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    return str(folder), ALL


@layout
def base64_in_parquet_as_in_m3it(folder):
    rows = [{"image_base64_str": [written(n)], "outputs": ALL[n][0]} for n in range(NUMBER)]
    pd.DataFrame(rows).to_parquet(folder / "train.parquet")
    return str(folder), ONE


@layout
def compressed_base64(folder):
    lines = [f"{ALL[n][0]}\t{written(n)}\n" for n in range(NUMBER)]
    (folder / "train.tsv.gz").write_bytes(gzip.compress("".join(lines).encode()))
    return str(folder / "train.tsv.gz"), ONE


@layout
def page_in_one_file(folder):
    figures = [
        f'<figure><img src="data:image/jpeg;base64,{written(n)}"><figcaption>{html.escape(text)}</figcaption></figure>'
        for n, (text,) in ONE.items()
    ]
    (folder / "album.html").write_text("".join(figures), encoding="utf-8")
    return str(folder / "album.html"), ONE


@layout
def markdown_notes(folder):
    names = write_images(folder / "attachments", "photo ({:d}).png")
    forms = ("![{}](attachments/{})", "![{}](<attachments/{}>)", "![[{1}|{0}]]")
    notes = [f"## Day {n}\n\n{forms[n % 3].format(captions(n)[0], name)}\n" for n, name in enumerate(names)]
    (folder / "journey.md").write_text("\n".join(notes), encoding="utf-8")
    return str(folder), ONE


@layout
def html_album(folder):
    names = write_images(folder / "album_files")
    figures = [
        f'<figure><img src="album_files/{name}" alt="{html.escape(ALL[n][0])}">'
        f"<figcaption>{html.escape(ALL[n][1]).replace(' ', ' <b>', 1)}</b></figcaption></figure>"
        for n, name in enumerate(names)
    ]
    (folder / "album.html").write_text(f"<html><body>{''.join(figures)}</body></html>", encoding="utf-8")
    return str(folder), {number: texts[:2] for number, texts in ALL.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_pictures_keep_their_captions(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    typed, expected = LAYOUTS[name](folder)
    for split in ("all", "validation" if "val2014" in str(list(folder.rglob("*"))) and "coco_2014" in name else "all"):
        assert pictures_and_captions(load_split(typed, split)) == expected


@pytest.mark.parametrize(
    "name",
    ["flickr30k_token", "img2dataset_shards", "parquet_one_caption_a_row", "llava", "base64_in_parquet_as_in_m3it"],
)
def test_streams_give_the_same(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    typed, expected = LAYOUTS[name](folder)
    assert pictures_and_captions(load_split(typed, "all", streaming=True)) == expected
    parts = [pictures_and_captions(load_split(typed, split, streaming=True)) for split in DRAWN]
    assert parts == [pictures_and_captions(load_split(typed, split)) for split in DRAWN]


DRAWN = ("train", "validation", "test")


@pytest.mark.parametrize("name", ["tabs_without_header_and_quotes", "parquet_of_bytes", "shards_with_json_alone"])
def test_one_split_is_divided_by_image(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    typed, expected = LAYOUTS[name](folder)
    train, validation, test = (pictures_and_captions(load_split(typed, split)) for split in DRAWN)
    assert (len(train), len(validation), len(test)) == (22, 1, 1)
    assert train | validation | test == expected
    assert understanding_of(typed).drawn
    with pytest.raises(UserError, match="unknown split"):
        load_split(typed, "minival")


# ---------------------------------------------------------------- official splits


def split_folders(folder, names=("train", "val", "test")):
    parts = dict(zip(names, (range(16), range(16, 20), range(20, NUMBER)), strict=True))
    for split, numbers in parts.items():
        for number in numbers:
            yield split, number


def by_csv_files(folder):
    write_images(folder / "images")
    for split in ("train", "val", "test"):
        numbers = [number for name, number in split_folders(folder) if name == split]
        pairs = [(f"{number:03d}.png", text) for number in numbers for text in captions(number)]
        (folder / f"{split}.csv").write_text(csv_text(pairs), encoding="utf-8")


def by_a_column(folder):
    write_images(folder / "images")
    table = [(f"{n:03d}.png", ALL[n], split) for split, n in split_folders(folder, ("train", "valid", "eval"))]
    frame = pd.DataFrame(table, columns=["filename", "raw", "split"])
    frame["split"] = frame["split"].replace("eval", "test")
    frame["raw"] = frame["raw"].map(json.dumps)
    frame.to_csv(folder / "flickr_annotations_30k.csv", index=False)


def by_keys_of_json(folder):
    write_images(folder / "images")
    parts: dict = {}
    for split, number in split_folders(folder, ("train", "dev", "test")):
        parts.setdefault(split, {})[f"{number:03d}.png"] = captions(number)
    (folder / "splits.json").write_text(json.dumps(parts))


def by_lists(folder):
    names = write_images(folder / "Images")
    (folder / "captions.txt").write_text(csv_text(rows(names)), encoding="utf-8")
    for split, number in split_folders(folder):
        with (folder / f"{split}.txt").open("a") as file:
            file.write(f"{number:03d}\n")


def by_side_files_in_folders(folder):
    for split, number in split_folders(folder, ("training", "validation", "testing")):
        (folder / split).mkdir(exist_ok=True)
        (folder / split / f"{number:03d}.png").write_bytes(drawn(number))
        (folder / split / f"{number:03d}.txt").write_text("\n".join(captions(number)), encoding="utf-8")


def by_parquet_names(folder):
    parts: dict = {}
    for split, number in split_folders(folder, ("train", "val", "test")):
        record = {"image": {"bytes": drawn(number), "path": None}, "captions": captions(number)}
        parts.setdefault(split, []).append(record)
    for split, records in parts.items():
        Dataset.from_list(records).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def by_a_column_of_parquet(folder):
    table = [
        {"image": {"bytes": drawn(n), "path": None}, "caption": captions(n), "split": split}
        for split, n in split_folders(folder)
    ]
    Dataset.from_list(table).to_parquet(folder / "data.parquet")


SPLIT_LAYOUTS = [
    by_csv_files,
    by_a_column,
    by_keys_of_json,
    by_lists,
    by_side_files_in_folders,
    by_parquet_names,
    by_a_column_of_parquet,
]


@pytest.mark.parametrize("write", SPLIT_LAYOUTS, ids=lambda write: write.__name__)
def test_official_splits_are_kept(tmp_path, write):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)
    expected = {"train": range(16), "validation": range(16, 20), "test": range(20, NUMBER), "all": range(NUMBER)}
    for split, numbers in expected.items():
        found = pictures_and_captions(load_split(str(folder), split))
        assert found == {number: captions(number) for number in numbers}, split
    assert pictures_and_captions(load_split(str(folder), "val")).keys() == set(range(16, 20))
    assert not understanding_of(str(folder)).drawn
    with pytest.raises(UserError, match=r'unknown split "minival".*train \(16 images\)'):
        load_split(str(folder), "minival")


def test_slices_and_sums_of_splits(tmp_path):
    by_csv_files(tmp_path)
    assert set(pictures_and_captions(load_split(str(tmp_path), "train[:25%]+test[1:]"))) == {0, 1, 2, 3, 21, 22, 23}
    with pytest.raises(UserError, match="cannot be read as a slice"):
        load_split(str(tmp_path), "train[a:b]")


def test_a_dataset_of_test_pictures_alone_is_not_trained_on(tmp_path):
    names = write_images(tmp_path / "images")
    (tmp_path / "test.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    assert len(load_split(str(tmp_path / "test.csv"), "test")) == NUMBER
    with pytest.raises(UserError, match='unknown split "train"'):
        load_split(str(tmp_path / "test.csv"), "train")


def test_copies_of_one_file_stay_on_one_side(tmp_path):
    table = [{"image": {"bytes": drawn(n // 2), "path": None}, "captions": [f"{n}", f"number {n}"]} for n in range(48)]
    Dataset.from_list(table).to_parquet(tmp_path / "data.parquet")
    sides = [set(map(number_of, load_split(str(tmp_path), split)["image"])) for split in DRAWN]
    assert sides[0] | sides[1] | sides[2] == set(range(NUMBER))
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("split_first", [True, False])
def test_class_folders_have_words_for_names(tmp_path, split_first):
    for name in ("03_tench", "goldfish_carassius", "AnnualCrop"):
        for split in ("train", "val"):
            folder = tmp_path / split / name if split_first else tmp_path / name / split
            write_images(folder, numbers=range(3))
    dataset = load_split(str(tmp_path), "validation")
    assert len(dataset) == 9
    assert find_label_column(dataset) == ("label", ["tench", "annual crop", "goldfish carassius"])
    assert any("03_tench as 'tench'" in note for note in understanding_of(str(tmp_path)).notes)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classnames.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"),
        ("words.txt", "n01440764\ttench\nn01443537\tgoldfish\nn99999999\tother\n"),
        ("imagenet_class_index.json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}'),
        ("classes.txt", "tench\ngoldfish\n"),
    ],
)
def test_codes_have_the_words_of_a_names_file(tmp_path, file, text):
    for name in ("n01440764", "n01443537"):
        write_images(tmp_path / name, numbers=range(3))
    (tmp_path / file).write_text(text.replace("tench", "my tench"))
    assert find_label_column(load_split(str(tmp_path), "all")) == ("label", ["my tench", "goldfish"])


def test_codes_of_imagenet_have_words(tmp_path):
    for name in ("n01440764", "n02012849", "n03126707"):
        write_images(tmp_path / name, numbers=range(3))
    _, (tench, bird, machine) = find_label_column(load_split(str(tmp_path), "all"))
    assert tench == "tench"
    assert bird.startswith("crane, large long-necked wading bird")
    assert machine.startswith("crane, lifts and moves heavy objects")


def test_other_codes_are_told_and_mended_by_a_names_file(tmp_path):
    for name in ("0", "1"):
        write_images(tmp_path / name, numbers=range(3))
    assert any("mean nothing to a text encoder" in note for note in understanding_of(str(tmp_path)).notes)
    (tmp_path / "label_num_to_disease_map.json").write_text('{"0": "Mosaic Disease", "1": "Healthy"}')
    assert find_label_column(load_split(str(tmp_path), "all")) == ("label", ["Mosaic Disease", "Healthy"])


def test_a_table_of_labels(tmp_path):
    names = write_images(tmp_path / "images")
    table = pd.DataFrame({"image": names, "label": [f"kind {number % 3}" for number in range(NUMBER)]})
    table.to_csv(tmp_path / "labels.csv", index=False)
    dataset = load_split(str(tmp_path), "all")
    assert find_label_column(dataset) == ("label", ["kind 0", "kind 1", "kind 2"])
    assert [row["label"] for row in dataset] == [number % 3 for number in range(NUMBER)]


def test_a_table_of_breeds_without_suffixes(tmp_path):
    names = write_images(tmp_path / "train", "{:032x}.jpg")
    kinds = ["boston_bull", "dingo", "pekinese"]
    lines = [f"{Path(name).stem},{kinds[number % 3]}" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,breed", *lines]))
    dataset = load_split(str(tmp_path), "all")
    assert find_columns(dataset).captions == ("breed",)
    assert captions_of(dataset[1], find_columns(dataset)) == ["a photo of a dingo."]


def test_a_list_of_paths_and_class_numbers(tmp_path):
    names = write_images(tmp_path / "images")
    (tmp_path / "train.txt").write_text("".join(f"images/{name} {n % 3}\n" for n, name in enumerate(names)))
    (tmp_path / "classes.txt").write_text("red car\nblue car\ngreen car\n")
    dataset = load_split(str(tmp_path), "all")
    assert find_label_column(dataset) == ("label", ["red car", "blue car", "green car"])
    assert dataset["label"] == [number % 3 for number in range(NUMBER)]


@pytest.mark.parametrize("several", [False, True])
def test_columns_of_zeros_and_ones(tmp_path, several):
    names = write_images(tmp_path / "train")
    lines = [f"{name}, {int(n % 2 == 0)}, {int(n % 2 == 1)}, {int(several)}" for n, name in enumerate(names)]
    (tmp_path / "train" / "_classes.csv").write_text("\n".join(["filename, cat, dog, bird", *lines]))
    dataset = load_split(str(tmp_path), "train")
    expected = [["cat, bird"], ["dog, bird"]] if several else [["a photo of a cat."], ["a photo of a dog."]]
    found = {number_of(row["filename"]): captions_of(row, find_columns(dataset)) for row in dataset}
    assert all(texts == expected[number % 2] for number, texts in found.items()) and found


def test_an_export_of_clip_benchmark(tmp_path):
    members = {}
    for n in range(NUMBER):
        members |= {f"s{n:07d}.webp": drawn(n), f"s{n:07d}.cls": str(n % 2).encode()}
    (tmp_path / "test").mkdir()
    write_tar(tmp_path / "test" / "0.tar", members)
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\na {c}\n")
    dataset = load_split(str(tmp_path), "test")
    assert find_label_column(dataset) == ("label", ["cat", "dog"])
    assert [number_of(row["image"]) % 2 for row in dataset] == dataset["label"]
    assert dataset_templates(str(tmp_path)) == ("a photo of a {}.", "a {}")


# ---------------------------------------------------------------- messages


def test_web_addresses_alone_are_told_how_to_be_had(tmp_path):
    table = pd.DataFrame({"caption": ONE.values(), "url": [f"https://example.org/{n}.jpg" for n in ONE]})
    table["caption"] = table["caption"].map(lambda texts: texts[0])
    table.to_csv(tmp_path / "Train_GCC-training.tsv", sep="\t", index=False, header=False)
    with pytest.raises(UserError, match="img2dataset --url_list Train_GCC-training.tsv --input_format tsv"):
        load_split(str(tmp_path), "train")
    laion = table.rename(columns={"caption": "TEXT", "url": "URL"})
    laion.to_parquet(tmp_path / "laion.parquet")
    with pytest.raises(UserError, match="web addresses"):
        load_split(str(tmp_path / "laion.parquet"), "train")


def test_what_is_missing_is_counted_and_the_first_five_named(tmp_path):
    names = write_images(tmp_path / "images")
    (tmp_path / "captions.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    for number in range(2):
        (tmp_path / "images" / names[number]).unlink()
    understanding = understanding_of(str(tmp_path))
    assert understanding.skipped.count == 10 and len(understanding.skipped.first) == 5
    said = str(understanding)
    assert "22 images with 110 captions (5 each)" in said
    assert "captions.csv row 1: no such image file: '000.png'" in said and "and 5 more" in said
    assert "train 20, validation 1, test 1" in said


def test_what_is_not_understood_is_answered_with_what_was_seen(tmp_path):
    (tmp_path / "notes.txt").write_text("Buy milk.\nCall mother.\n")
    (tmp_path / "table.csv").write_text("name,age\nAda,36\nAlan,41\n")
    with pytest.raises(UserError) as error:
        load_split(str(tmp_path), "train")
    message = str(error.value)
    assert "table.csv has the columns name, age" in message
    assert "captions.csv" in message and "--image_column" in message and "\n" not in message


def test_named_columns_win(tmp_path):
    names = write_images(tmp_path / "images")
    table = {
        "a": names,
        "b": ["unused.png"] * NUMBER,
        "caption": ["no"] * NUMBER,
        "Überschrift": [ONE[n][0] for n in ONE],
    }
    pd.DataFrame(table).to_csv(tmp_path / "table.csv", index=False)
    options = {"image_column": "a", "caption_columns": "überschrift"}
    dataset = load_split(str(tmp_path), "all", **options)
    columns = find_columns(dataset, **options)
    assert {number_of(row[columns.image]): captions_of(row, columns) for row in dataset} == ONE
    with pytest.raises(UserError, match="no column 'headline'"):
        load_split(str(tmp_path), "all", caption_columns="headline")


def test_a_spreadsheet_and_a_pickle_are_answered(tmp_path):
    pd.DataFrame({"image": ["a.png"]}).to_pickle(tmp_path / "data.pkl")
    with pytest.raises(UserError, match="pickle, which can run code"):
        load_split(str(tmp_path / "data.pkl"), "train")
    (tmp_path / "data.xlsx").write_bytes(b"PK\3\4 no spreadsheet")
    with pytest.raises(UserError, match="save (the sheet|it) as CSV"):
        load_split(str(tmp_path / "data.xlsx"), "train")


# ---------------------------------------------------------------- nothing outside the folder is read


def test_a_folder_does_not_lead_out_of_itself(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(drawn(0))
    folder = tmp_path / "downloaded"
    names = write_images(folder / "images", numbers=range(3))
    os.symlink(secret, folder / "images" / "link.png")
    outside = ["../secret.png", str(secret), "images/link.png", "images/../../secret.png"]
    pairs = [(name, f"picture {name}") for name in [*names, *outside]]
    (folder / "captions.csv").write_text(csv_text(pairs), encoding="utf-8")
    dataset = load_split(str(folder), "all")
    assert len(dataset) == 3
    assert not any("secret" in row["image"]["path"] or "link" in row["image"]["path"] for row in dataset)
    assert understanding_of(str(folder)).skipped.count == 4


def test_an_archive_does_not_lead_out_of_itself(tmp_path):
    (tmp_path / "secret.png").write_bytes(drawn(0))
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in ("../secret", "a"):
            for suffix, content in ((".png", drawn(3)), (".txt", b"a picture")):
                member = tarfile.TarInfo(name + suffix)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.png")
        archive.addfile(link)
    dataset = load_split(str(tmp_path / "shard.tar"), "all")
    assert {number_of(row["image"]) for row in dataset} == {3}
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("../outside.png", drawn(1))
        archive.writestr("1.png", drawn(1))
        archive.writestr("2.png", drawn(2))
        archive.writestr("captions.csv", csv_text([("1.png", "one picture"), ("../secret.png", "a secret one")]))
    assert len(load_split(str(tmp_path / "set.zip"), "all")) == 1
    assert not list(tmp_path.rglob("outside.png"))


# ---------------------------------------------------------------- several files, other file systems


def test_patterns_stand_for_several_files(tmp_path):
    LAYOUTS["img2dataset_shards"](tmp_path)
    for typed in ("*.tar", "{00000..00001}.tar", "0000[01].tar", "{00000,00001}.tar"):
        assert pictures_and_captions(load_split(str(tmp_path / typed), "all")) == ONE, typed
    with pytest.raises(UserError, match="00002.tar"):
        load_split(str(tmp_path / "{00000..00002}.tar"), "all")
    with pytest.raises(UserError, match="no file matches"):
        load_split(str(tmp_path / "train-*.parquet"), "all")


def test_what_fsspec_reaches(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    LAYOUTS["img2dataset_shards"](tmp_path)
    for shard in ("00000.tar", "00001.tar"):
        memory.pipe(f"/bucket/{shard}", (tmp_path / shard).read_bytes())
    for typed in ("memory://bucket/{00000..00001}.tar", "memory://bucket/*.tar"):
        for streaming in (True, False):
            assert pictures_and_captions(load_split(typed, "all", streaming=streaming)) == ONE


@pytest.fixture
def web(tmp_path):
    """The address of a web server, and its folder."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *message):
        pass


@pytest.mark.parametrize("streaming", [False, True])
def test_shards_from_a_web_server(web, streaming):
    address, folder = web
    LAYOUTS["img2dataset_shards"](folder)
    assert pictures_and_captions(load_split(f"{address}/{{00000..00001}}.tar", "all", streaming=streaming)) == ONE


def test_a_table_and_its_images_from_a_web_server(web):
    address, folder = web
    LAYOUTS["flickr30k_token"](folder)
    assert pictures_and_captions(load_split(f"{address}/results_20130124.token", "all")) == ALL
    with pytest.raises(UserError, match="nothing.csv does not exist"):
        load_split(f"{address}/nothing.csv", "all")


def test_a_folder_behind_an_address(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    LAYOUTS["flickr30k_token"](tmp_path)
    for file in tmp_path.rglob("*.*"):
        memory.pipe(f"/remote/{file.relative_to(tmp_path)}", file.read_bytes())
    dataset = load_split("memory://remote", "all")
    columns = find_columns(dataset)
    assert [captions_of(row, columns) for row in dataset] == list(ALL.values())
    assert dataset[0][columns.image]["path"] == "memory://remote/flickr30k-images/0000000.jpg"
    table = load_split("memory://remote/results_20130124.token", "all")
    assert table[columns.image] == dataset[columns.image]
    with pytest.raises(UserError, match="no files there"):
        load_split("memory://nowhere", "all")


# ---------------------------------------------------------------- a second start


def test_a_second_start_reads_no_table(tmp_path, monkeypatch):
    from miniclip.data import reader, table_cache
    from miniclip.data.layouts import tables

    monkeypatch.setattr(table_cache, "SMALLEST", 1)
    folder = tmp_path / "data"
    folder.mkdir()
    typed, expected = LAYOUTS["flickr30k_token"](folder)
    reads: list = []
    monkeypatch.setattr(
        tables, "read_tables", lambda *args, original=tables.read_tables: reads.append(1) or original(*args)
    )

    def start() -> int:
        reads.clear()
        reader._understood.clear()
        assert pictures_and_captions(load_split(typed, "all")) == expected
        return len(reads)

    assert start() > 0
    first = load_split(typed, "train")._fingerprint
    assert start() == 0
    assert load_split(typed, "train")._fingerprint == first
    (stored,) = (tmp_path / "datasets-cache" / "miniclip").rglob("*.arrow")
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 255
    stored.write_bytes(content)
    assert start() > 0 and start() == 0
    expected[0].append("one more")
    with (folder / "results_20130124.token").open("a") as file:
        file.write("\n0000000.jpg#5\tone more")
    assert start() > 0
    expected[0].pop()


def test_a_broken_yaml_file_matters_only_if_it_names_images(tmp_path):
    names = write_images(tmp_path)
    (tmp_path / "pipeline.yaml").write_text("stages: {{ a: b: c\n\t- x")
    assert len(load_split(str(tmp_path), "all")) == NUMBER
    (tmp_path / "captions.yaml").write_text(f"{names[0]}: a: b\n\t- x")
    with pytest.raises(UserError, match="captions.yaml is no valid YAML at line 1"):
        load_split(str(tmp_path), "all")


def test_databases_are_no_images(tmp_path):
    sqlite3.connect(tmp_path / "Thumbs.db").close()
    (tmp_path / "notes.docx").write_bytes(b"x")
    with pytest.raises(UserError, match="not understood"):
        load_split(str(tmp_path), "train")


def test_images_alone_are_images_without_captions(tmp_path):
    write_images(tmp_path)
    dataset = load_split(str(tmp_path), "all")
    assert len(dataset) == NUMBER and find_image_column(dataset) == "image"
    with pytest.raises(UserError, match="no caption column"):
        find_columns(dataset)
