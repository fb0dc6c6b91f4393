"""Datasets as their authors publish them, and lists as programs for photos and annotation write them."""

import json

import pytest
from drawn_datasets import NUMBER, captions, number_of, pictures_and_captions, write_images

from miniclip.data.reader import find_image_column, find_label_column, load_split, understanding_of

pytestmark = pytest.mark.usefixtures("own_cache")

FIRST = [captions(number)[0] for number in range(NUMBER)]
ONE = {number: [text] for number, text in enumerate(FIRST)}
PUBLISHED = {}


def published(write):
    """Register a function that writes a folder and returns the captions that it must be read as, if not `ONE`."""
    PUBLISHED[write.__name__] = write
    return write


def write_lines(file, lines) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@published
def roco(folder):
    """Keywords and addresses of the same images are in further lists without headers."""
    for split, numbers in (("train", range(16)), ("validation", range(16, 20)), ("test", range(20, NUMBER))):
        files = folder / "data" / split / "radiology"
        write_images(files / "images", "ROCO_{:05d}.png", numbers)
        write_lines(files / "captions.txt", (f"ROCO_{n:05d}\t {FIRST[n]}" for n in numbers))
        write_lines(files / "keywords.txt", (f"ROCO_{n:05d}\tball\ttable" for n in numbers))
        write_lines(files / "cuis.txt", (f"ROCO_{n:05d}\tC0040405\tC00{n}" for n in numbers))
        links = (f"ROCO_{n:05d}\twget -r ftp://example.org/{n}.tar.gz -O PMC{n}.tar.gz" for n in numbers)
        write_lines(files / "dlinks.txt", links)
        table = (f'ROCO_{n:05d},img-{n}.jpg," {FIRST[n]}"' for n in numbers)
        write_lines(files / f"{split}data.csv", ["id,name,caption", *table])


@published
def imageclef(folder):
    """A second table has codes for the concepts in each image."""
    for split, numbers in (("train", range(16)), ("valid", range(16, NUMBER))):
        write_images(folder / split / "images", f"ImageCLEF_2023_{split}_{{:06d}}.png", numbers)
        for kind, header, cells in (
            ("caption_prediction", "ID\tCaption", FIRST),
            ("concept_detection", "ID\tCUIs", [f"C0040405;C00{number}" for number in range(NUMBER)]),
        ):
            lines = (f"ImageCLEF_2023_{split}_{n:06d}\t{cells[n]}" for n in numbers)
            write_lines(folder / split / f"ImageCLEF_2023_{kind}_{split}_labels.csv", [header, *lines])


@published
def vist(folder):
    """Each sentence of a story is in a list of its own."""
    write_images(folder / "images" / "train", "{}.png")
    sentences = [[{"text": text, "photo_flickr_id": str(n), "story_id": "30"}] for n, text in enumerate(FIRST)]
    images = [{"id": str(n), "title": f"T{n}", "url_o": f"https://example.org/{n}_o.jpg"} for n in range(NUMBER)]
    story = {"info": {}, "images": images, "albums": [], "type": "sis", "annotations": sentences}
    (folder / "train.story-in-sequence.json").write_text(json.dumps(story))


@published
def doccano(folder):
    """The captions are lists in a field called label."""
    names = write_images(folder / "images")
    texts = {n: [text, f"{text} again"] for n, text in enumerate(FIRST)}
    records = ({"id": n, "filename": name, "label": texts[n], "Comments": []} for n, name in enumerate(names))
    write_lines(folder / "admin.jsonl", map(json.dumps, records))
    return texts


@published
def supervisely(folder):
    for number, name in enumerate(write_images(folder / "ds0" / "img")):
        record = {"description": FIRST[number], "tags": [], "size": {"height": 48, "width": 64}, "objects": []}
        write_lines(folder / "ds0" / "ann" / f"{name}.json", [json.dumps(record)])
    write_lines(folder / "meta.json", [json.dumps({"classes": [], "tags": [], "projectType": "images"})])


@published
def cards_of_anki(folder):
    names = write_images(folder / "collection.media", "paste-{:08x}.png")
    cards = (f'"<img src=""{name}"">"\t{text}' for name, text in zip(names, FIRST, strict=True))
    write_lines(folder / "deck.txt", ["#separator:tab", "#html:true", *cards])


@published
def descriptions_of_irfanview(folder):
    names = write_images(folder, "photo {}.png")
    write_lines(folder / "descript.ion", (f'"{name}" {text}' for name, text in zip(names, FIRST, strict=True)))


@published
def comments_of_jalbum(folder):
    names = write_images(folder)
    write_lines(folder / "comments.properties", (f"{name}={text}" for name, text in zip(names, FIRST, strict=True)))


@published
def products_of_woocommerce(folder):
    """The descriptions are HTML."""
    names = write_images(folder / "uploads", "ball-{}.png")
    rows = (
        f'{n},simple,B{n},Ball {n},"<p>{FIRST[n]},<br/>made in <b class=""x"">Spain</b></p>",'
        f"https://shop.example/wp-content/uploads/{name}"
        for n, name in enumerate(names)
    )
    write_lines(folder / "products.csv", ["ID,Type,SKU,Name,Description,Images", *rows])
    return {n: [f"{text}, made in Spain"] for n, text in enumerate(FIRST)}


@published
def fields_in_a_line(folder):
    names = write_images(folder)
    lines = (f"Image: {name}, Caption: {text}, at home" for name, text in zip(names, FIRST, strict=True))
    write_lines(folder / "notes.txt", lines)
    return {n: [f"{text}, at home"] for n, text in enumerate(FIRST)}


@published
def fields_in_quotes(folder):
    names = write_images(folder)
    write_lines(folder / "notes.txt", (f"file='{name}' text='{text}'" for name, text in zip(names, FIRST, strict=True)))


@published
def several_labels_of_an_image(folder):
    names = write_images(folder)
    labels = [["cat", "red fox"], ["dog"], ["dog", "cat"]]
    records = ({"image": name, "labels": labels[n % 3]} for n, name in enumerate(names))
    write_lines(folder / "labels.jsonl", map(json.dumps, records))
    return {n: [", ".join(labels[n % 3])] for n in range(NUMBER)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_captions_are_read(tmp_path, name):
    expected = PUBLISHED[name](tmp_path) or ONE
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == expected


# ---------------------------------------------------------------- attributes and labels


def attributes(number: int) -> list[str]:
    return [name for name, every in (("5 o Clock Shadow", 2), ("Smiling", 3)) if number % every == 0]


def marks(number: int, other: str = "-1") -> list[str]:
    return ["1" if name in attributes(number) else other for name in ("5 o Clock Shadow", "Smiling", "Male")]


@pytest.mark.parametrize("form", ["txt", "csv"])
def test_attributes_of_celeba_are_captions(tmp_path, form):
    """Its authors write lists with the number of images above; Kaggle writes tables."""
    names = write_images(tmp_path / "img_align_celeba", "{:06d}.png")
    parts = [0 if number < 16 else 1 if number < 20 else 2 for number in range(NUMBER)]
    header = ["5_o_Clock_Shadow", "Smiling", "Male"]
    if form == "txt":
        lines = (f"{name}  {' '.join(marks(n))}" for n, name in enumerate(names))
        write_lines(tmp_path / "list_attr_celeba.txt", [str(NUMBER), " ".join(header) + " ", *lines])
        write_lines(tmp_path / "list_eval_partition.txt", (f"{name} {parts[n]}" for n, name in enumerate(names)))
    else:
        lines = (",".join([name, *marks(n)]) for n, name in enumerate(names))
        write_lines(tmp_path / "list_attr_celeba.csv", [",".join(["image_id", *header]), *lines])
        lines = (f"{name},{parts[n]}" for n, name in enumerate(names))
        write_lines(tmp_path / "list_eval_partition.csv", ["image_id,partition", *lines])
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {n: [", ".join(attributes(n))] if attributes(n) else [] for n in range(NUMBER)}
    assert understanding_of(str(tmp_path)).sizes == {"train": 16, "validation": 4, "test": 4}


def test_findings_of_chexpert_are_captions(tmp_path):
    """A finding may be there, not be there, be uncertain (-1), or not be mentioned."""
    names = write_images(tmp_path / "CheXpert-v1.0-small" / "train", "patient{:05d}/study1/view1_frontal.png")
    header = "Path,Sex,Age,AP/PA,5 o Clock Shadow,Smiling,Male"
    cells = (marks(n, ("0.0", "", "-1.0")[n % 3]) for n in range(NUMBER))
    rows = [
        f"CheXpert-v1.0-small/train/{name},Female,{50 + n},AP,{','.join(part[:2])},{-1.0 if n else 1.0}"
        for n, (name, part) in enumerate(zip(names, cells, strict=True))
    ]
    write_lines(tmp_path / "CheXpert-v1.0-small" / "train.csv", [header, *rows])
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found[1] == [] and found[2] == ["5 o Clock Shadow"] and found[6] == ["5 o Clock Shadow, Smiling"]


CLASSES = ("red fox", "dog", "cat")


def classes_of(dataset) -> dict[int, str]:
    image, (label, names) = find_image_column(dataset), find_label_column(dataset)
    return {number_of(row[image]): names[row[label]] for row in dataset}


def test_class_numbers_are_named_after_folders(tmp_path):
    """In MXNet's lists, and in those that people write for PyTorch."""
    names = [f"{CLASSES[n % 3].replace(' ', '_')}/{n}.png" for n in range(NUMBER)]
    for number, name in enumerate(names):
        write_images(tmp_path / "images", name.replace(str(number), "{}"), [number])
    write_lines(tmp_path / "data.lst", (f"{n}\t{n % 3:.6f}\t{name}" for n, name in enumerate(names)))
    assert classes_of(load_split(str(tmp_path), "all")) == {n: CLASSES[n % 3] for n in range(NUMBER)}


def test_codes_of_open_images_have_words(tmp_path):
    """The name of a class, `/m/01`, is no number of an image."""
    write_images(tmp_path / "train", "{:016x}.png")
    write_lines(tmp_path / "class-descriptions.csv", (f"/m/0{n + 1},{name}" for n, name in enumerate(CLASSES)))
    rows = (f"{n:016x},verification,/m/0{n % 3 + 1},1" for n in range(NUMBER))
    write_lines(tmp_path / "train-annotations-human-imagelabels.csv", ["ImageID,Source,LabelName,Confidence", *rows])
    assert classes_of(load_split(str(tmp_path), "all")) == {n: CLASSES[n % 3] for n in range(NUMBER)}
