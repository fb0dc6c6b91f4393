"""What programs write: exports of social networks, annotation programs, photo programs, and lists for fine-tuning."""

import base64
import io
import json
import os
import sqlite3
import uuid
import zipfile
from contextlib import closing
from pathlib import Path

import datasets
import numpy as np
import openpyxl
import pandas as pd
import pytest
from datasets import Dataset
from drawn_datasets import (
    ALL,
    NUMBER,
    ONE,
    captions,
    csv_text,
    drawn,
    pictures_and_captions,
    rows,
    write_images,
    write_tar,
)
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from miniclip.data import sources
from miniclip.data.reader import load_split, understanding_of
from miniclip.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")

FIRST = [captions(number)[0] for number in range(NUMBER)]
EXPORTS = {}


def export(write):
    """Register a function that writes a folder and returns the captions that it must be read as, if not `ONE`."""
    EXPORTS[write.__name__] = write
    return write


def write_json(file: Path, value) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


def write_lines(file: Path, records) -> None:
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")


# ---------------------------------------------------------------- social networks and messengers


@export
def instagram(folder):
    """Its exports write the bytes of UTF-8 as characters."""
    names = write_images(folder / "media" / "posts")
    texts = [captions(number)[3] for number in range(NUMBER)]
    posts = [
        {"media": [{"uri": f"media/posts/{name}", "creation_timestamp": 1, "title": text.encode().decode("latin-1")}]}
        for name, text in zip(names, texts, strict=True)
    ]
    write_json(folder / "your_instagram_activity" / "content" / "posts_1.json", posts)
    return {number: [text] for number, text in enumerate(texts)}


@export
def facebook(folder):
    names = write_images(folder / "posts" / "media" / "album")
    posts = [
        {
            "timestamp": 1,
            "attachments": [{"data": [{"media": {"uri": f"posts/media/album/{name}", "description": text}}]}],
            "data": [{"post": "see my photo"}],
            "title": "Ada added a new photo.",
        }
        for name, text in zip(names, FIRST, strict=True)
    ]
    write_json(folder / "posts" / "your_posts_1.json", posts)


@export
def telegram(folder):
    """A text with bold words is written in pieces."""
    names = write_images(folder / "photos", "photo_{}@01-01-2020.png")
    pieces = ["a drawing of ", {"type": "bold", "text": "number"}]
    messages = [
        {"id": n, "type": "message", "from": "Ada", "photo": f"photos/{name}", "text": [*pieces, f" {n} ."]}
        for n, name in enumerate(names)
    ]
    messages.append({"id": 99, "type": "message", "from": "Bob", "text": "hello there"})
    write_json(folder / "result.json", {"name": "Ada", "type": "personal_chat", "messages": messages})


@export
def telegram_with_all_chats(folder):
    telegram(folder)
    chat = json.loads((folder / "result.json").read_text())
    write_json(folder / "result.json", {"about": "All your data.", "chats": {"about": "x", "list": [chat]}})


@export
def x_formerly_twitter(folder):
    """Pictures are named by the post's number and a name; a script holds the posts, which end with a short link."""
    (folder / "data" / "tweets_media").mkdir(parents=True)
    posts = []
    for number, text in enumerate(FIRST):
        post, name = str(1200000000000000000 + number), f"Ab{number}.png"
        (folder / "data" / "tweets_media" / f"{post}-{name}").write_bytes(drawn(number))
        media = [{"media_url_https": f"https://pbs.twimg.com/media/{name}", "url": "https://t.co/abc"}]
        posts.append({"tweet": {"id_str": post, "full_text": f"{text} https://t.co/abc", "entities": {"media": media}}})
    (folder / "data" / "tweets.js").write_text(f"window.YTD.tweets.part0 = {json.dumps(posts)}")


@export
def flickr(folder):
    """Its export names photos by title and number, and descriptions by the number alone."""
    (folder / "photos").mkdir()
    for number, text in enumerate(FIRST):
        photo = 48590000 + number
        (folder / "photos" / f"my-title_{photo}_o.png").write_bytes(drawn(number))
        record = {"id": str(photo), "name": "my title", "description": text, "count_views": "1", "tags": []}
        write_json(folder / "metadata" / f"photo_{photo}.json", record)


@export
def instaloader(folder):
    """A post has one text, and may have several pictures."""
    texts = {}
    for post in range(NUMBER // 2):
        name = f"2020-01-{post + 1:02d}_12-00-00_UTC"
        (folder / f"{name}.txt").write_text(FIRST[post])
        for picture in (1, 2):
            number = 2 * post + picture - 1
            (folder / f"{name}_{picture}.png").write_bytes(drawn(number))
            texts[number] = [FIRST[post]]
    return texts


@export
def midjourney(folder):
    animals = ["dog", "cat", "fox", "owl", "bee", "ant", "cow", "hen", "pig", "rat", "emu", "elk"]
    animals += ["yak", "ape", "bat", "cod", "eel", "gnu", "jay", "koi", "ram", "sow", "kid", "asp"]
    for number, animal in enumerate(animals):
        (folder / f"ada_a_drawing_of_the_{animal}_{uuid.UUID(int=number << 90)}.png").write_bytes(drawn(number))
    return {number: [f"ada a drawing of the {animal}"] for number, animal in enumerate(animals)}


# ---------------------------------------------------------------- annotation programs and databases


def file_attributes(folder) -> dict:
    names = write_images(folder)
    return {
        f"{name}123": {"filename": name, "size": 123, "regions": [], "file_attributes": {"caption": text}}
        for name, text in zip(names, FIRST, strict=True)
    }


@export
def via_annotations(folder):
    write_json(folder / "via_export.json", file_attributes(folder))


@export
def via_project(folder):
    project = {"_via_settings": {"ui": {}, "core": {}}, "_via_img_metadata": file_attributes(folder)}
    write_json(folder / "project.json", project | {"_via_attributes": {"file": {"caption": {"type": "text"}}}})


@export
def via_table(folder):
    names = write_images(folder)
    attributes = [json.dumps({"caption": text}) for text in FIRST]
    table = {"filename": names, "file_size": 1, "file_attributes": attributes, "region_count": 0}
    pd.DataFrame(table).to_csv(folder / "via_csv.csv", index=False)


@export
def workbook(folder):
    names = write_images(folder / "photos")
    book = openpyxl.Workbook()
    book.active.title = "about"
    book.active.append(["Captions of our photos"])
    for split, numbers in (("train", range(16)), ("validation", range(16, 20)), ("test", range(20, 24))):
        sheet = book.create_sheet(split)
        sheet.append(["Photo", "Description"])
        for number in numbers:
            sheet.append([names[number], FIRST[number]])
    book.save(folder / "captions.xlsx")


@export
def database_of_digikam(folder):
    names = write_images(folder / "2024" / "trip")
    with closing(sqlite3.connect(folder / "digikam4.db")) as database:
        database.execute("CREATE TABLE Albums (id INTEGER PRIMARY KEY, relativePath TEXT)")
        database.execute("CREATE TABLE Images (id INTEGER PRIMARY KEY, album INTEGER, name TEXT)")
        database.execute("CREATE TABLE ImageComments (imageid INTEGER, author TEXT, comment TEXT)")
        database.execute("INSERT INTO Albums VALUES (1, '/2024/trip')")
        images = [(100 + number, 1, name) for number, name in enumerate(names)]
        database.executemany("INSERT INTO Images VALUES (?, ?, ?)", images)
        comments = [(100 + number, "", text) for number, text in enumerate(FIRST)]
        database.executemany("INSERT INTO ImageComments VALUES (?, ?, ?)", comments)
        database.commit()


@export
def fiftyone(folder):
    names = write_images(folder / "data")
    samples = [
        {"_id": {"$oid": f"{n:024x}"}, "filepath": f"data/{name}", "tags": [], "caption": FIRST[n]}
        for n, name in enumerate(names)
    ]
    write_json(folder / "samples.json", {"samples": samples})
    write_json(folder / "metadata.json", {"name": "mine", "media_type": "image"})


@export
def firebase(folder):
    names = write_images(folder / "images")
    photos = {f"-M{n}": {"name": name, "text": FIRST[n], "likes": n} for n, name in enumerate(names)}
    write_json(folder / "export.json", {"photos": photos})


@export
def sagemaker(folder):
    names = write_images(folder / "images")
    records = ({"source-ref": f"s3://bucket/{name}", "caption": FIRST[n]} for n, name in enumerate(names))
    write_lines(folder / "output.manifest", records)


@export
def two_tables_of_a_database(folder):
    """The images and what is said about them share a key, as in the chest X-rays of Indiana University."""
    names = write_images(folder / "images", "{}_IM-0001.dcm.png")
    images = {"uid": range(100, 100 + NUMBER), "filename": names, "projection": "Frontal"}
    reports = {"uid": range(100, 100 + NUMBER), "MeSH": "normal", "findings": FIRST}
    pd.DataFrame(images).to_csv(folder / "indiana_projections.csv", index=False)
    pd.DataFrame(reports).to_csv(folder / "indiana_reports.csv", index=False)


@export
def keys_with_different_names(folder):
    names = write_images(folder / "images", "photo-{}-x.png")
    pd.DataFrame({"id": range(500, 500 + NUMBER), "file_name": names}).to_csv(folder / "images.csv", index=False)
    keys, texts = zip(*((500 + n, text) for n in range(NUMBER) for text in captions(n)), strict=True)
    pd.DataFrame({"image_id": keys, "caption": texts}).to_csv(folder / "captions.csv", index=False)
    return ALL


@export
def addresses_of_downloaded_images(folder):
    names = write_images(folder / "images")
    table = {"url": [f"https://example.org/p/{name}?width=300" for name in names], "caption": FIRST}
    pd.DataFrame(table).to_csv(folder / "table.csv", index=False)


@export
def cvat(folder):
    names = write_images(folder / "images")
    images = [
        f'<image id="{n}" name="{name}" width="8" height="6"><tag label="photo" source="manual">'
        f'<attribute name="caption">{FIRST[n]}</attribute></tag></image>'
        for n, name in enumerate(names)
    ]
    whole = (
        f"<annotations><version>1.1</version><meta><task><name>t</name></task></meta>{''.join(images)}</annotations>"
    )
    (folder / "annotations.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{whole}')


@export
def labelbox(folder):
    names = write_images(folder / "images")
    answers = [[{"name": "caption", "text_answer": {"content": text}}] for text in FIRST]
    records = [
        {
            "data_row": {"id": f"cl{n}", "external_id": name},
            "projects": {"p": {"labels": [{"annotations": {"objects": [], "classifications": answers[n]}}]}},
        }
        for n, name in enumerate(names)
    ]
    write_lines(folder / "export.ndjson", records)


@export
def airtable(folder):
    names = write_images(folder / "images")
    attachments = [f"{name} (https://v5.airtableusercontent.com/v3/{name})" for name in names]
    lines = [f'Photo {n},{attachment},"{FIRST[n]}"' for n, attachment in enumerate(attachments)]
    (folder / "Grid view.csv").write_text("\n".join(["Name,Photo,Description", *lines]))


@export
def photoprism(folder):
    write_images(folder)
    for number, text in enumerate(FIRST):
        lines = ["TakenAt: 2020-01-01T12:00:00Z", "Type: image", f"Title: Title {number}", f"Description: '{text}'"]
        (folder / f"{number:03d}.yml").write_text("\n".join([*lines, "Details:", "  Keywords: a, b"]))


@export
def exiftool_beside_each_photo(folder):
    for name, text in zip(write_images(folder), FIRST, strict=True):
        write_json(folder / f"{name}.json", [{"SourceFile": name, "IPTC:Caption-Abstract": text, "File:Size": "1 kB"}])


@export
def xml_beside_each_photo(folder):
    for name, text in zip(write_images(folder), FIRST, strict=True):
        xml = f"<annotation><filename>{name}</filename><description>{text}</description></annotation>"
        (folder / name).with_suffix(".xml").write_text(xml)


# ---------------------------------------------------------------- photo programs


@export
def xmp_files(folder):
    for name, text in zip(write_images(folder), FIRST, strict=True):
        words = f"<rdf:Alt><rdf:li xml:lang='x-default'>{text}</rdf:li></rdf:Alt>"
        packet = f"<x:xmpmeta><rdf:RDF><dc:description>{words}</dc:description></rdf:RDF></x:xmpmeta>"
        (folder / f"{name}.xmp").write_text(packet)


def photo(number: int, **saved) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (10 * number, 255 - 10 * number, 128)).save(file, "JPEG", quality=95, **saved)
    return file.getvalue()


@export
def exif_descriptions(folder):
    for number, text in enumerate(FIRST):
        exif = Image.Exif()
        exif[0x010E] = text
        (folder / f"IMG_{number:04d}.jpg").write_bytes(photo(number, exif=exif))


@export
def xmp_in_the_photos(folder):
    for number, text in enumerate(FIRST):
        packet = f"<x:xmpmeta><rdf:Description dc:description='{text}'/></x:xmpmeta>".encode()
        (folder / f"IMG_{number:04d}.jpg").write_bytes(photo(number, xmp=packet))


@export
def xmp_with_keywords_and_without_some_descriptions(folder):
    """Keywords are no captions, even where the description is empty."""
    keywords = "<dc:subject><rdf:Bag><rdf:li>holiday</rdf:li></rdf:Bag></dc:subject>"
    for number, text in enumerate(FIRST):
        words = f"<rdf:Alt><rdf:li/><rdf:li xml:lang='en'>{text}</rdf:li></rdf:Alt>" if number else "<rdf:Alt/>"
        packet = f"<x:xmpmeta><dc:description rdf:parseType=''>{words}</dc:description>{keywords}</x:xmpmeta>".encode()
        (folder / f"IMG_{number:04d}.jpg").write_bytes(photo(number, xmp=packet))
    return {number: [text] for number, text in enumerate(FIRST) if number}


@export
def titles_in_windows_explorer(folder):
    for number, text in enumerate(FIRST):
        exif = Image.Exif()
        exif[0x9C9B] = text.encode("utf-16-le") + b"\0\0"
        (folder / f"IMG_{number:04d}.jpg").write_bytes(photo(number, exif=exif))


@export
def exif_comments(folder):
    for number, text in enumerate(FIRST):
        exif = Image.Exif()
        exif.endian = "<>"[number % 2]  # Pillow writes the byte order that it is told
        comments = (
            b"ASCII\0\0\0" + text.encode(),
            b"UNICODE\0" + text.encode("utf-16-be" if exif.endian == ">" else "utf-16-le"),
            b"UNICODE\0" + text.encode("utf-16-be" if exif.endian == ">" else "utf-16-le"),
            text.encode(),
        )
        exif.get_ifd(0x8769)[0x9286] = comments[number % 4]
        (folder / f"IMG_{number:04d}.jpg").write_bytes(photo(number, exif=exif))


@export
def chinese_captions_as_file_names(folder):
    words = [f"一只{chr(0x4E00 + 97 * number)}色的动物在海边奔跑" for number in range(NUMBER)]
    for number, word in enumerate(words):
        (folder / f"{word}_{number:03d}.png").write_bytes(drawn(number))
    return {number: [word] for number, word in enumerate(words)}


@export
def captions_as_file_names(folder):
    letters = [chr(ord("a") + number) * 2 for number in range(NUMBER)]
    for number, word in enumerate(letters):
        (folder / f"a_drawing_of_{word}_things_{number:03d}.png").write_bytes(drawn(number))
    return {number: [f"a drawing of {word} things"] for number, word in enumerate(letters)}


# ---------------------------------------------------------------- lists for fine-tuning


@export
def llama_factory(folder):
    names = write_images(folder / "images")
    records = [
        {
            "messages": [
                {"role": "user", "content": "<image>Describe the picture."},
                {"role": "assistant", "content": FIRST[n]},
            ],
            "images": [f"images/{name}"],
        }
        for n, name in enumerate(names)
    ]
    write_json(folder / "data.json", records)


@export
def contents_in_pieces(folder):
    names = write_images(folder / "images")

    def record(number: int) -> dict:
        image = {"type": "image", "image": f"images/{names[number]}"}
        question = {"role": "user", "content": [image, {"type": "text", "text": "What is this?"}]}
        return {"messages": [question, {"role": "assistant", "content": [{"type": "text", "text": FIRST[number]}]}]}

    write_json(folder / "data.json", list(map(record, range(NUMBER))))


@export
def openai_messages_in_base64(folder):
    def record(number: int) -> dict:
        image = {"url": "data:image/png;base64," + base64.b64encode(drawn(number)).decode()}
        question = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": image}]
        answer = {"role": "assistant", "content": FIRST[number]}
        return {"messages": [{"role": "user", "content": question}, answer]}

    write_lines(folder / "train.jsonl", map(record, range(NUMBER)))


@export
def images_and_questions_in_parquet(folder):
    """The Cauldron and LLaVA-OneVision keep lists of images and of turns."""
    rows = {
        "images": [[{"bytes": drawn(number), "path": None}] for number in range(NUMBER)],
        "texts": [[{"user": "Describe the picture, please.", "assistant": text}] for text in FIRST],
    }
    table = Dataset.from_dict(rows).cast_column("images", datasets.List(datasets.Image()))
    table.to_parquet(folder / "train.parquet")


# ---------------------------------------------------------------- forms of text


@export
def texts_line_by_line(folder):
    """Multi30k names the images in one file, and has a caption for each line in others."""
    names = write_images(folder / "flickr30k-images")
    (folder / "train_images.txt").write_text("\n".join(names))
    for index in range(5):
        texts = (captions(number)[index] for number in range(NUMBER))
        (folder / f"train.{index + 1}.en").write_text("\n".join(texts), encoding="utf-8")
    return ALL


@export
def phrases_marked_as_in_flickr30k_entities(folder):
    for number, name in enumerate(write_images(folder / "images", "{:09d}.png")):
        lines = (f"[/EN#{number}/people/other {text[:4]}]{text[4:]}" for text in captions(number))
        file = folder / "Sentences" / f"{Path(name).stem}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines), encoding="utf-8")
    return ALL


@export
def a_python_dict(folder):
    names = write_images(folder / "images")
    (folder / "captions.txt").write_text(repr({name: captions(n) for n, name in enumerate(names)}), encoding="utf-8")
    return ALL


@export
def json_with_a_comma_too_many(folder):
    names = write_images(folder / "images")
    records = "".join(json.dumps({"image": name, "caption": FIRST[n]}) + ",\n" for n, name in enumerate(names))
    (folder / "data.json").write_text(f"[{records}]")


@export
def excel_naming_its_separator(folder):
    names = write_images(folder / "images")
    text = "sep=;\n" + csv_text(rows(names), "image;caption", ";")
    (folder / "table.csv").write_text(text, encoding="utf-8-sig")
    return ALL


@export
def comments_before_the_header(folder):
    names = write_images(folder / "images")
    (folder / "table.csv").write_text("# my photos\n# of 2020\n" + csv_text(rows(names), "#image,caption"))
    return ALL


@export
def a_table_saved_in_the_wrong_encoding(folder):
    names = write_images(folder / "images")
    text = csv_text(rows(names)).encode().decode("cp1252")
    (folder / "table.csv").write_text(text, encoding="utf-8")
    return ALL


@export
def columns_for_languages(folder):
    names = write_images(folder / "images")
    german = [captions(number)[3] for number in range(NUMBER)]
    table = {"image": names, "caption_en": FIRST, "caption_de": german}
    pd.DataFrame(table).to_csv(folder / "table.csv", index=False)
    return {number: list(texts) for number, texts in enumerate(zip(FIRST, german, strict=True))}


@export
def fields_for_languages(folder):
    """As in Crossmodal-3600."""
    names = write_images(folder / "images", "{:016x}.png")
    records = (
        {
            "image/key": Path(name).stem,
            "en": {"caption": captions(n)[:2], "caption/tokenized": ["x", "y"]},
            "de": {"caption": captions(n)[2:], "caption/tokenized": ["x", "y"]},
        }
        for n, name in enumerate(names)
    )
    write_lines(folder / "captions.jsonl", records)
    return ALL


@export
def what_datasets_writes_into_csv(folder):
    names = write_images(folder / "images")
    images = [str({"bytes": None, "path": f"/home/ada/images/{name}"}) for name in names]
    pd.DataFrame({"image": images, "caption": FIRST}).to_csv(folder / "table.csv", index=False)


@export
def a_snapshot_of_the_hub_cache(folder):
    """Its files are links to `blobs`, beside the snapshot."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "abc"
    blobs.mkdir()
    (snapshot / "images").mkdir(parents=True)
    names = [f"images/{number:03d}.png" for number in range(NUMBER)]
    for number, name in enumerate(names):
        (blobs / f"b{number}").write_bytes(drawn(number))
        os.symlink(f"../../../blobs/b{number}", snapshot / name)
    (blobs / "table").write_text(csv_text(rows(names), "file_name,text"), encoding="utf-8")
    os.symlink("../../blobs/table", snapshot / "metadata.csv")
    return ALL


# ---------------------------------------------------------------- datasets of researchers


@export
def nwpu_captions(folder):
    """A list of images for each class, and a field for each caption."""
    classes: dict[str, list] = {}
    for number in range(NUMBER):
        name = ("airplane", "beach", "bridge")[number % 3]
        file = f"{name}_{number:03d}.png"
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        (folder / "images" / name / file).write_bytes(drawn(number))
        texts = dict(zip(("raw", "raw_1", "raw_2", "raw_3", "raw_4"), captions(number), strict=True))
        classes.setdefault(name, []).append({"filename": file, "imgid": number, "split": "train", **texts})
    write_json(folder / "dataset_nwpu.json", classes)
    return ALL


@export
def flickr8k_cn(folder):
    names = write_images(folder / "images")
    lines = [f"{name}#zhm#{k} {text}" for n, name in enumerate(names) for k, text in enumerate(captions(n))]
    (folder / "flickr8kzhc.caption.txt").write_text("\n".join(lines), encoding="utf-8")
    return ALL


@export
def lines_in_the_order_of_numbered_images(folder):
    write_images(folder / "images", "{}.png")
    (folder / "captions.txt").write_text("\n".join(FIRST))


@export
def several_images_in_a_cell(folder):
    names = write_images(folder / "images")
    lines = (f'{names[n]};{names[n + 1]},"{FIRST[n]}"' for n in range(0, NUMBER, 2))
    (folder / "table.csv").write_text("\n".join(["images,caption", *lines]))
    return {number: [FIRST[number - number % 2]] for number in range(NUMBER)}


@export
def a_text_for_several_images(folder):
    names = write_images(folder / "images")
    write_lines(folder / "data.jsonl", [{"images": names[n : n + 2], "text": FIRST[n]} for n in range(0, NUMBER, 2)])
    return {number: [FIRST[number - number % 2]] for number in range(NUMBER)}


@export
def lists_of_images_and_of_their_captions(folder):
    names = write_images(folder / "images")
    records = [{"images": names[n : n + 3], "captions": FIRST[n : n + 3]} for n in range(0, NUMBER, 3)]
    write_json(folder / "stories.json", records)


@export
def captions_with_bars_between(folder):
    names = write_images(folder / "images")
    lines = [f"{name}\t{' | '.join(captions(n))}" for n, name in enumerate(names)]
    (folder / "captions.tsv").write_text("\n".join(["image\tcaptions", *lines]), encoding="utf-8")
    return ALL


@export
def names_of_a_site_are_no_further_captions(folder):
    names = write_images(folder / "images")
    texts = [f"{text} | Stock photos | The best site of all" for text in FIRST]
    (folder / "captions.tsv").write_text("\n".join(map("\t".join, zip(names, texts, strict=True))), encoding="utf-8")
    return {number: [text] for number, text in enumerate(texts)}


@export
def posts_of_a_static_site(folder):
    names = write_images(folder / "static" / "img")
    (folder / "posts").mkdir()
    for number, name in enumerate(names):
        matter = ["---", f"title: {FIRST[number]}", f"image: /img/{name}", "tags: [a, b]", "---", "", "Some text."]
        (folder / "posts" / f"2020-01-{number + 1:02d}.md").write_text("\n".join(matter))


@export
def geojson(folder):
    names = write_images(folder / "images")
    point = {"type": "Point", "coordinates": [1.0, 2.0]}
    places = [{"photo": name, "description": FIRST[n]} for n, name in enumerate(names)]
    features = [{"type": "Feature", "geometry": point, "properties": place} for place in places]
    write_json(folder / "photos.geojson", {"type": "FeatureCollection", "features": features})


@export
def toml(folder):
    write_images(folder / "images")
    entries = (f'[[images]]\nfile = "{n:03d}.png"\ncaption = "{text}"\n' for n, text in enumerate(FIRST))
    (folder / "captions.toml").write_text("\n".join(entries), encoding="utf-8")


@export
def a_table_in_markdown(folder):
    names = write_images(folder / "images")
    lines = [f"| ![](images/{name}) | {FIRST[n]} | {n} |" for n, name in enumerate(names)]
    text = ["# Results", "", "| Photo | Description | Score |", "|:---|:---:|---:|", *lines, "", "The end."]
    (folder / "results.md").write_text("\n".join(text), encoding="utf-8")


@export
def file_names_in_a_table_in_markdown(folder):
    names = write_images(folder)
    lines = [f"| `{name}` | {FIRST[n]} |" for n, name in enumerate(names)]
    (folder / "captions.md").write_text("\n".join(["| file | caption |", "|---|---|", *lines]), encoding="utf-8")


@export
def a_table_in_html(folder):
    names = write_images(folder / "images")
    shown = (f'<tr><td>{n}</td><td><img src="images/{name}"></td><td>{FIRST[n]}</td>' for n, name in enumerate(names))
    (folder / "index.html").write_text(f"<table>{'</tr>'.join(shown)}</tr></table>", encoding="utf-8")


@export
def several_images_in_a_row_of_html(folder):
    names = write_images(folder / "images")
    cells = [f'<td><a href="#"><img src="images/{name}"></a><br>{FIRST[n]}</td>' for n, name in enumerate(names)]
    shown = "".join(f"<tr>{''.join(cells[start : start + 3])}</tr>" for start in range(0, NUMBER, 3))
    (folder / "index.html").write_text(f"<table>{shown}</table>", encoding="utf-8")


def _in_file(folder, name):
    names = write_images(folder / "images")
    (folder / name).write_text("\n".join(f"{image}\t{FIRST[n]}" for n, image in enumerate(names)), encoding="utf-8")


@export
def a_table_without_suffix(folder):
    _in_file(folder, "captions")


@export
def a_table_called_list(folder):
    _in_file(folder, "train.lst")
    (folder / "download.log").write_text("2024-01-01 INFO saved 000.png in 0.3 s\n2024-01-01 INFO saved 001.png")


@export
def iapr_tc12(folder):
    write_images(folder / "images" / "00")
    (folder / "annotations" / "00").mkdir(parents=True)
    for number, text in enumerate(FIRST):
        words = f"<TITLE>Bed & breakfast</TITLE>\n<DESCRIPTION>{text}</DESCRIPTION>\n<LOCATION>Lima, Perú</LOCATION>"
        file = folder / "annotations" / "00" / f"{number:03d}.eng"
        file.write_text(f"<DOC>\n<DOCNO>{file.name}</DOCNO>\n{words}\n</DOC>", encoding="latin-1")


# ---------------------------------------------------------------- what language models write


def _batch(folder, answer):
    """Lines as a batch of requests answers them, whose ids are the names of the images."""
    names = write_images(folder / "images")
    records = [{"custom_id": name, "response": answer(FIRST[n]), "error": None} for n, name in enumerate(names)]
    write_lines(folder / "batch_output.jsonl", records)


@export
def a_batch_of_openai(folder):
    def answer(text):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o", "choices": [choice]}
        return {"status_code": 200, "request_id": "a b c", "body": body | {"usage": {"total_tokens": 3}}}

    _batch(folder, answer)


@export
def a_batch_of_openais_responses(folder):
    def answer(text):
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
        return {"status_code": 200, "body": {"object": "response", "output": [message]}}

    _batch(folder, answer)


@export
def a_batch_of_gemini(folder):
    _batch(folder, lambda text: {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}}]})


@export
def a_list_with_numbers_for_each_image(folder):
    write_images(folder)
    for number in range(NUMBER):
        lines = (f"{count}. {text}" for count, text in enumerate(captions(number), start=1))
        (folder / f"{number:03d}.txt").write_text("\n".join(lines), encoding="utf-8")
    return ALL


@export
def a_list_with_dashes_for_each_image(folder):
    write_images(folder)
    for number in range(NUMBER):
        text = "\n".join(f"- {text}" for text in captions(number))
        (folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    return ALL


# ---------------------------------------------------------------- lines that people write by hand


BETWEEN = {"colon": ": ", "dash": " - ", "long_dash": " – ", "arrow": " -> ", "double_arrow": " => ", "equals": " = "}


def _written_lines(between):
    def write(folder):
        names = write_images(folder, "my photo {}.png")
        lines = (f"{name}{between}{FIRST[n]}, and more, too" for n, name in enumerate(names))
        (folder / "captions.txt").write_text("\n".join(lines), encoding="utf-8")
        return {number: [f"{text}, and more, too"] for number, text in enumerate(FIRST)}

    return write


EXPORTS |= {f"lines_with_a_{name}": _written_lines(between) for name, between in BETWEEN.items()}


LINES = {
    "a_numbered_list": "{number}. {name} - {text}",
    "a_list_in_markdown": "- **{name}**: {text}",
    "names_in_backticks": "`{name}`: {text}",
    "names_in_brackets": "[{name}] {text}",
    "names_behind_texts": "{text} ({name})",
    "names_behind_a_dash": "{text} - {name}",
    "two_colons": "{name}::{text}",
    "headings": "## {name}\n\n{text}\n",
    "labels_in_front": "Image: {name}\nCaption: {text}\n",
}


def _formatted_lines(form, file):
    def write(folder):
        names = write_images(folder)
        lines = (form.format(number=n + 1, name=name, text=FIRST[n]) for n, name in enumerate(names))
        (folder / file).write_text("\n".join(["# My photos", "", *lines] if file == "list.md" else lines))

    return write


EXPORTS |= {
    f"{name}_in_{file}": _formatted_lines(form, file) for name, form in LINES.items() for file in ("a.txt", "list.md")
}


@export
def codes_of_web_pages(folder):
    names = write_images(folder)
    (folder / "captions.txt").write_text(
        "\n".join(f"{name}\tblack &amp; white &#8211; {n}" for n, name in enumerate(names))
    )
    return {number: [f"black & white – {number}"] for number in range(NUMBER)}


@export
def marks_of_tutorials(folder):
    names = write_images(folder)
    (folder / "descriptions.txt").write_text(
        "\n".join(f"{name}\tstartseq {FIRST[n]} endseq" for n, name in enumerate(names))
    )


@export
def lines_with_quotes(folder):
    names = write_images(folder)
    (folder / "captions.txt").write_text("\n".join(f'{name} "{FIRST[n]}"' for n, name in enumerate(names)))


@export
def names_above_their_captions(folder):
    names = write_images(folder)
    blocks = ("\n".join([name, *captions(number)]) for number, name in enumerate(names))
    (folder / "captions.txt").write_text("\n\n".join(blocks), encoding="utf-8")
    return ALL


@export
def lines_that_count_from_one(folder):
    write_images(folder, "{}.png")
    (folder / "captions.txt").write_text("\n".join(f"{n}. {text}" for n, text in enumerate(FIRST, start=1)))


@export
def lines_with_the_numbers_of_some_images(folder):
    write_images(folder, "{}.png")
    (folder / "captions.txt").write_text("\n".join(f"{n}: {text}" for n, text in enumerate(FIRST) if n % 5))
    return {number: [text] for number, text in enumerate(FIRST) if number % 5}


@export
def coco_cn(folder):
    write_images(folder / "images", "COCO_train2014_{:012d}.png")
    lines = (f"COCO_train2014_{number:012d}#zh#0\t{text}" for number, text in enumerate(FIRST))
    (folder / "imageid.human-written-caption.txt").write_text("\n".join(lines))


# ---------------------------------------------------------------- JSON that is not quite valid


def _json_text(write_text, file="captions.json"):
    def write(folder):
        names = write_images(folder)
        records = [json.dumps({"file": name, "caption": FIRST[n]}) for n, name in enumerate(names)]
        (folder / file).write_text(write_text(records), encoding="utf-8")

    return write


EXPORTS |= {
    "json_between_fences": _json_text(lambda records: f"```json\n[{', '.join(records)}]\n```"),
    "json_in_an_answer": _json_text(lambda records: f"Here you are:\n\n```json\n[{','.join(records)}]\n```\n", "a.txt"),
    "json_with_comments": _json_text(lambda records: "// mine\n[" + ", // next\n".join(records) + "]"),
    "json_with_a_last_comma": _json_text(lambda records: f"[{','.join(records)}, ]"),
    "json_values_one_after_the_other": _json_text("".join),
    "json_lines_with_commas": _json_text(",\n".join, "captions.jsonl"),
}


# ---------------------------------------------------------------- texts whose names are almost those of the images


AFFIXES = {
    "prefixes": ("image_{:03d}.png", "caption_{:03d}.txt"),
    "suffixes": ("{:03d}.png", "{:03d}_text.txt"),
    "both": ("photo_{:03d}_img.png", "photo_{:03d}.caption.txt"),
    "folders": ("images/image{:03d}.png", "texts/text{:03d}.txt"),
    "records": ("{:03d}/image.png", "{:03d}/metadata.json"),
}


def _with_affixes(image, text):
    def write(folder):
        write_images(folder, image)
        for number, caption in enumerate(FIRST):
            file = folder / text.format(number)
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps({"caption": caption}) if file.suffix == ".json" else caption)

    return write


EXPORTS |= {f"texts_with_{name}": _with_affixes(*names) for name, names in AFFIXES.items()}


@export
def the_same_names_in_every_split(folder):
    for split, numbers in (("train", range(20)), ("val", range(20, NUMBER))):
        for position, number in enumerate(numbers):
            write_images(folder / "images" / split, f"{position:03d}.png", [number])
            text = folder / "captions" / split / f"{position:03d}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(FIRST[number])


# ---------------------------------------------------------------- a text for a folder of images


@export
def reports_beside_the_folders_of_their_images(folder):
    """As in MIMIC-CXR."""
    for number in range(0, NUMBER, 2):
        study = folder / "files" / "p10" / f"s{number:02d}"
        write_images(study, numbers=(number, number + 1))
        study.with_suffix(".txt").write_text(FIRST[number])
    return {number: [FIRST[number - number % 2]] for number in range(NUMBER)}


@export
def a_caption_in_the_folder_of_its_images(folder):
    for number in range(NUMBER):
        write_images(folder / f"scene_{number:02d}", numbers=[number])
        (folder / f"scene_{number:02d}" / "caption.txt").write_text(FIRST[number])


# ---------------------------------------------------------------- records and tables


@export
def a_json_file_with_a_record_for_each_image(folder):
    names = write_images(folder / "photos")
    for number, name in enumerate(names):
        write_json(folder / "annotations" / f"ann_{number}.json", {"image": name, "short_caption": FIRST[number]})


@export
def jsonl_with_a_single_line(folder):
    names = write_images(folder / "img")
    records = [{"id": n, "img": f"img/{name}", "text": FIRST[n]} for n, name in enumerate(names)]
    for split, part in (("train", records[:-1]), ("test", records[-1:])):
        write_lines(folder / f"{split}.jsonl", part)


@export
def pairs_in_numbered_columns(folder):
    """As in Winoground."""
    names = write_images(folder / "images")
    records = [
        {"id": n, "image_0": names[n], "image_1": names[n + 1], "caption_0": FIRST[n], "caption_1": FIRST[n + 1]}
        for n in range(0, NUMBER, 2)
    ]
    write_lines(folder / "examples.jsonl", records)


@export
def products_of_shopify(folder):
    write_images(folder / "images", "product{}.png")
    lines = [
        f"ball-{n},Ball {n},<p>Our best {n}</p>,https://cdn.shopify.com/s/product{n}.png?v=1,{text}"
        for n, text in enumerate(FIRST)
    ]
    header = "Handle,Title,Body (HTML),Image Src,Image Alt Text"
    (folder / "products_export.csv").write_text("\n".join([header, *lines]), encoding="utf-8")


@export
def wordpress(folder):
    """Titles of its attachments are the names of the files."""
    names = write_images(folder / "wp-content" / "uploads", "photo{}.png")
    items = "".join(
        f"<item><title>photo{n}</title><content:encoded></content:encoded><excerpt:encoded>{FIRST[n]}</excerpt:encoded>"
        f"<wp:attachment_url>http://a.org/wp-content/uploads/{name}</wp:attachment_url></item>"
        for n, name in enumerate(names)
    )
    spaces = " ".join(f'xmlns:{name}="http://wordpress.org/{name}"' for name in ("excerpt", "content", "wp"))
    (folder / "export.xml").write_text(f"<rss {spaces}><channel>{items}</channel></rss>", encoding="utf-8")


# ---------------------------------------------------------------- images inside the rows


def _pixels(number):
    with Image.open(io.BytesIO(drawn(number))) as image:
        return np.asarray(image)


ARRAYS = {
    "of_bytes": lambda pixels: pixels,
    "of_floats": lambda pixels: pixels / 255,
    "with_channels_first": lambda pixels: pixels.transpose(2, 0, 1),
}


def _arrays(change):
    def write(folder):
        table = {"image": [change(_pixels(number)) for number in range(NUMBER)], "caption": FIRST}
        Dataset.from_dict(table).to_parquet(folder / "data.parquet")

    return write


EXPORTS |= {f"arrays_{name}": _arrays(change) for name, change in ARRAYS.items()}


@export
def two_images_in_a_row_with_their_captions(folder):
    """The captions of the second image do not belong to the first one."""
    images = [Image.open(io.BytesIO(drawn(number))) for number in range(NUMBER)]
    table = {"image_0": images, "image_1": images[::-1], "caption_0": FIRST, "caption_1": FIRST[::-1]}
    Dataset.from_dict(table).to_parquet(folder / "data.parquet")


# ---------------------------------------------------------------- generated images


def _generated(folder, name, text):
    folder.mkdir(exist_ok=True)
    for number, prompt in enumerate(FIRST):
        texts = PngInfo()
        texts.add_text(name, json.dumps(text(prompt)))
        with Image.open(io.BytesIO(drawn(number))) as image:
            image.save(folder / f"{number:05d}_.png", pnginfo=texts)


@export
def comfyui(folder):
    def workflow(prompt):
        return {
            "3": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["5", 0], "negative": ["7", 0]}},
            "5": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["9", 0], "clip": ["4", 1]}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly, blurry", "clip": ["4", 1]}},
            "9": {"class_type": "PrimitiveString", "inputs": {"value": prompt}},
        }

    _generated(folder, "prompt", workflow)


@export
def invokeai(folder):
    _generated(folder, "invokeai_metadata", lambda text: {"positive_prompt": text, "negative_prompt": "ugly, blurry"})


# ---------------------------------------------------------------- archives side by side


def write_zip(file: Path, members: dict[str, bytes | str]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@export
def images_and_captions_in_two_zips(folder):
    """As Flickr8k and COCO are downloaded."""
    write_zip(folder / "Flickr8k_Dataset.zip", {f"Flicker8k_Dataset/{n:03d}.png": drawn(n) for n in range(NUMBER)})
    lines = [f"{n:03d}.png#{k}\t{text}\n" for n in range(NUMBER) for k, text in enumerate(captions(n))]
    write_zip(folder / "Flickr8k_text.zip", {"Flickr8k.token.txt": "".join(lines), "readme.txt": "hello"})
    return ALL


@export
def a_table_beside_a_zip_of_images(folder):
    names = [f"{n:03d}.png" for n in range(NUMBER)]
    write_zip(folder / "images.zip", {f"images/{name}": drawn(n) for n, name in enumerate(names)})
    (folder / "captions.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    return ALL


@export
def a_parquet_table_beside_a_zip_of_images(folder):
    names = [f"{n:03d}.png" for n in range(NUMBER)]
    write_zip(folder / "images.zip", {f"images/{name}": drawn(n) for n, name in enumerate(names)})
    pd.DataFrame({"file_name": names, "caption": FIRST}).to_parquet(folder / "captions.parquet")


@export
def a_table_beside_several_tars_of_images(folder):
    for part in range(3):
        members = {f"images/{n:03d}.png": drawn(n) for n in range(8 * part, 8 * part + 8)}
        write_tar(folder / f"images_{part:03d}.tar.gz", members, "w:gz")
    (folder / "captions.csv").write_text(csv_text(rows([f"{n:03d}.png" for n in range(NUMBER)])), encoding="utf-8")
    return ALL


@export
def images_beside_a_zip_of_captions(folder):
    names = write_images(folder / "images")
    write_zip(folder / "text.zip", {"captions.csv": csv_text(rows(names))})
    return ALL


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_are_read(tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    expected = EXPORTS[name](folder) or ONE
    typed = folder / "snapshots" / "abc" if name == "a_snapshot_of_the_hub_cache" else folder
    assert pictures_and_captions(load_split(str(typed), "all")) == expected


def test_a_table_is_named_beside_a_zip_of_its_images(tmp_path):
    expected = a_table_beside_a_zip_of_images(tmp_path)
    assert pictures_and_captions(load_split(str(tmp_path / "captions.csv"), "all")) == expected


def test_archives_in_archives(tmp_path):
    inner = tmp_path / "inner.zip"
    write_zip(inner, {f"images/{n:03d}.png": drawn(n) for n in range(NUMBER)})
    folder = tmp_path / "data"
    folder.mkdir()
    write_zip(folder / "outer.zip", {"part/inner.zip": inner.read_bytes(), "part/readme.txt": "hello"})
    (folder / "captions.csv").write_text(csv_text(rows([f"{n:03d}.png" for n in range(NUMBER)])), encoding="utf-8")
    assert pictures_and_captions(load_split(str(folder), "all")) == ALL


def test_a_broken_zip_is_told(tmp_path):
    a_table_beside_a_zip_of_images(tmp_path)
    (tmp_path / "images.zip").write_bytes((tmp_path / "images.zip").read_bytes()[:500])
    with pytest.raises(UserError, match="images.zip is cut off or broken"):
        load_split(str(tmp_path), "all")


# ---------------------------------------------------------------- what must not be taken for captions


def test_a_note_beside_many_photos_is_no_caption_of_all(tmp_path):
    write_images(tmp_path, "photo_{:03d}.png")
    (tmp_path / "photo.txt").write_text("what we did on that day, at the lake")
    assert understanding_of(str(tmp_path)).layout == "images without captions or labels"


def test_a_date_in_a_name_is_not_the_number_of_a_photo(tmp_path):
    write_images(tmp_path, "IMG_20200101_{:06d}.png")
    (tmp_path / "notes_20200101.txt").write_text("what we did on that day, at the lake")
    assert understanding_of(str(tmp_path)).layout == "images without captions or labels"


@pytest.mark.parametrize("text", ["\n".join(FIRST[:12]), "\n".join(f"{n} photos/{n:03d}.png" for n in range(12))])
def test_a_list_beside_a_folder_is_not_the_text_of_all_its_images(tmp_path, text):
    write_images(tmp_path / "photos", "IMG_a{:03d}b.png", range(12))
    (tmp_path / "photos.txt").write_text(text)
    assert understanding_of(str(tmp_path)).layout == "images without captions or labels"


def test_a_text_of_another_split_is_not_taken_where_one_is_missing(tmp_path):
    the_same_names_in_every_split(tmp_path)
    (tmp_path / "captions" / "train" / "000.txt").unlink()
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {number: texts for number, texts in ONE.items() if number != 0}


def test_names_of_several_words_are_captions(tmp_path):
    texts = [f"a drawing of number {number}" for number in range(NUMBER)]
    for number, text in enumerate(texts):
        write_images(tmp_path, f"{text}.png", [number])
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *(f"{text}.png,{text}" for text in texts)]))
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {number: [text] for number, text in enumerate(texts)}


def test_json_lines_are_read_as_lines(tmp_path):
    jsonl_with_a_single_line(tmp_path)
    assert "train.jsonl: one JSON record per line, utf-8" in understanding_of(str(tmp_path)).notes


def test_boxes_below_names_are_no_captions(tmp_path):
    """As in WIDER FACE."""
    names = [*write_images(tmp_path / "0--Parade", "a_{}.png"), *write_images(tmp_path / "1--March", "b_{}.png")]
    (tmp_path / "boxes.txt").write_text("\n".join(f"{name}\n1\n449 330 122 {n} 0 0 0" for n, name in enumerate(names)))
    assert len(load_split(str(tmp_path), "all").features["label"].names) == 2


def test_a_log_is_no_table_of_captions(tmp_path):
    names = [*write_images(tmp_path / "cats", "cat_{}.png"), *write_images(tmp_path / "dogs", "dog_{}.png")]
    (tmp_path / "download.log").write_text("\n".join(f"10:00:00 INFO saved {name} (1 kB)" for name in names))
    assert load_split(str(tmp_path), "all").features["label"].names == ["cats", "dogs"]


@pytest.mark.parametrize(
    "name",
    ["train.h5", "images.npy", "tf-0.tfrecord", "data.pkl", "1.mp4", "1.svg", "a.sql", "a.docx", "a.numbers"]
    + ["train-images-idx3-ubyte", "cifar-10-batches-py/data_batch_1"],
)
def test_a_format_that_is_not_read_is_told_with_what_to_do(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=rf"{name} is not read, since .*(save_to_disk|ffmpeg|PNG|CSV|HTML)"):
        load_split(str(tmp_path), "all")
    write_images(tmp_path / "images")
    assert any(f"{name} is not read" in note for note in understanding_of(str(tmp_path)).notes)


def test_previews_are_not_taken_for_the_photos(tmp_path):
    names = write_images(tmp_path / "a_thumbs")
    (tmp_path / "photos").mkdir()
    for name in names:
        with Image.open(tmp_path / "a_thumbs" / name) as image:
            image.resize((200, 150)).save(tmp_path / "photos" / name)
    (tmp_path / "captions.csv").write_text(csv_text(rows(names)), encoding="utf-8")
    dataset = load_split(str(tmp_path), "all")
    assert all(Path(row["image"]["path"]).parent.name == "photos" for row in dataset)


def test_what_an_earlier_version_cached_is_not_used(tmp_path, monkeypatch):
    """It may have read other images in the same files."""
    write_images(tmp_path)
    before = understanding_of(str(tmp_path)).whole._fingerprint
    monkeypatch.setattr(sources, "READING", sources.READING + 1)
    assert understanding_of(str(tmp_path)).whole._fingerprint != before


def test_xml_with_entities_is_refused(tmp_path):
    """Entities within entities stand for gigabytes of text."""
    write_images(tmp_path)
    entities = '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">'
    (tmp_path / "annotations.xml").write_text(f'<!DOCTYPE x [{entities}]><x><image name="000.png">&b;</image></x>')
    with pytest.raises(UserError, match="annotations.xml is no valid XML .it defines entities"):
        understanding_of(str(tmp_path))


def test_what_cameras_write_is_no_caption(tmp_path):
    for number in range(NUMBER):
        exif = Image.Exif()
        exif[0x010E] = "OLYMPUS DIGITAL CAMERA"
        (tmp_path / f"P{number:07d}.jpg").write_bytes(photo(number, exif=exif))
    assert understanding_of(str(tmp_path)).layout == "images without captions or labels"


@pytest.mark.parametrize("name", ["WhatsApp Image 2021-01-{:02d} at 10.00.jpg", "Screenshot from 2021-01-{:02d}.jpg"])
def test_names_that_differ_by_numbers_are_no_captions(tmp_path, name):
    write_images(tmp_path, name, range(1, NUMBER))
    assert understanding_of(str(tmp_path)).layout == "images without captions or labels"


def test_a_reader_of_umlauts_keeps_what_was_encoded_once(tmp_path):
    names = write_images(tmp_path / "images")
    text = csv_text([(name, f"Ã und © {number}") for number, name in enumerate(names)])
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {number: [f"Ã und © {number}"] for number in range(NUMBER)}
