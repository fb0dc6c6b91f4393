"""Datasets as their authors publish them, and lists as programs for photos and annotation write them."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from drawn_datasets import NUMBER, captions, drawn, number_of, pictures_and_captions, write_images, write_tar

from miniclip.data.images import decode_image
from miniclip.data.reader import find_image_column, find_label_column, load_split, understanding_of
from miniclip.utils.errors import UserError

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
def vizwiz(folder):
    """Answers of crowd workers that saw nothing are marked."""
    names = write_images(folder / "train", "VizWiz_train_{:08d}.png")
    images = [{"file_name": name, "id": n, "text_detected": True} for n, name in enumerate(names)]
    annotations = [{"caption": text, "image_id": n, "is_rejected": False} for n, text in enumerate(FIRST)]
    severe = {"caption": "Quality issues are too severe.", "is_precanned": True, "is_rejected": True}
    annotations += [{"image_id": n, **severe} for n in range(0, NUMBER, 3)]
    content = {"info": {}, "images": images, "annotations": annotations}
    write_lines(folder / "annotations" / "train.json", [json.dumps(content)])


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


# ---------------------------------------------------------------- tables and texts as people keep them


@published
def answers_on_mechanical_turk(folder):
    """The task is described in each row."""
    write_images(folder)
    header = "HITId,Title,Description,CreationTime,WorkerId,Input.image_url,Answer.caption,Approve"
    task = "Describe an image,Write a sentence about the image,Mon Jan 01 10:00:{:02d} PST 2020"
    rows = (
        f"3A{n},{task.format(n)},W{k},https://bucket.example.org/{n:03d}.png,{FIRST[n]} {k},"
        for n in range(NUMBER)
        for k in range(2)
    )
    write_lines(folder / "Batch_1.csv", [header, *rows])
    return {n: [f"{text} 0", f"{text} 1"] for n, text in enumerate(FIRST)}


@published
def table_of_label_studio(folder):
    """It puts eight characters before the names of files, and numbers its tasks."""
    names = write_images(folder / "images")
    rows = (f"/data/upload/1/8c5e2f1a-{name},{NUMBER - n},{FIRST[n]},1,12.3" for n, name in enumerate(names))
    write_lines(folder / "project-1.csv", ["image,id,caption,annotator,lead_time", *rows])


@published
def formulas_of_a_spreadsheet(folder):
    names = write_images(folder / "photos")
    cells = (f'"=IMAGE(""https://example.org/photos/{name}"", 1)"' for name in names)
    write_lines(folder / "sheet.csv", ["photo,text", *map(",".join, zip(cells, FIRST, strict=True))])


@published
def names_with_commas(folder):
    names = write_images(folder, "ball, {}.png")
    write_lines(folder / "captions.csv", ["image,caption", *map(",".join, zip(names, FIRST, strict=True))])


@published
def cells_in_single_quotes(folder):
    names = write_images(folder)
    rows = (f"'{name}','{text}, at home'" for name, text in zip(names, FIRST, strict=True))
    write_lines(folder / "captions.csv", ["'file','caption'", *rows])
    return {n: [f"{text}, at home"] for n, text in enumerate(FIRST)}


@published
def lines_in_a_cell(folder):
    names = write_images(folder)
    rows = (f'{name},"{text}\n{text}, again\n{text}, once more"' for name, text in zip(names, FIRST, strict=True))
    write_lines(folder / "captions.csv", ["photo,words", *rows])
    return {n: [text, f"{text}, again", f"{text}, once more"] for n, text in enumerate(FIRST)}


@published
def columns_of_annotators(folder):
    names = write_images(folder)
    rows = (f"{name},{text} by Ann,{text} by Bob,12" for name, text in zip(names, FIRST, strict=True))
    write_lines(folder / "table.csv", ["image,annotator A,annotator B,seconds", *rows])
    return {n: [f"{text} by Ann", f"{text} by Bob"] for n, text in enumerate(FIRST)}


@published
def short_and_long_captions(folder):
    names = write_images(folder)
    records = (
        {"image": name, "short_caption": text, "long_caption": f"{text} in a room", "model": "a b c"}
        for name, text in zip(names, FIRST, strict=True)
    )
    write_lines(folder / "captions.jsonl", map(json.dumps, records))
    return {n: [text, f"{text} in a room"] for n, text in enumerate(FIRST)}


@published
def raw_photos_beside_jpegs(folder):
    for name in write_images(folder):
        (folder / name).with_suffix(".CR2").write_bytes(b"II*\0" + bytes(90_000))
    rows = (f"{number:03d}.CR2,{text}" for number, text in enumerate(FIRST))
    write_lines(folder / "captions.csv", ["name,caption", *rows])


@published
def equal_names_in_several_folders(folder):
    """Another column names the folder."""
    for number in range(NUMBER):
        write_images(folder / "images" / ("red", "blue")[number % 2], f"{number // 2}.png", [number])
    rows = (f"{('red', 'blue')[n % 2]},{n // 2}.png,{text}" for n, text in enumerate(FIRST))
    write_lines(folder / "captions.csv", ["folder,file,caption", *rows])


@published
def folders_with_a_row_each(folder):
    for number in range(NUMBER):
        write_images(folder / "photos" / f"{1000 + number // 2}", "view_{}.png", [number])
    write_lines(folder / "products.csv", ["id,caption", *(f"{1000 + n},{FIRST[n]}" for n in range(NUMBER // 2))])
    return {number: [FIRST[number // 2]] for number in range(NUMBER)}


@published
def texts_in_two_languages(folder):
    for name, text in zip(write_images(folder), FIRST, strict=True):
        for language in ("de", "en"):
            write_lines(folder / f"{name[:-4]}.{language}.txt", [f"{text} ({language})"])
    return {n: [f"{text} (de)", f"{text} (en)"] for n, text in enumerate(FIRST)}


@published
def masks_beside_photos(folder):
    names = write_images(folder / "images")
    write_images(folder / "masks", "{:03d}.png")
    for name, text in zip(names, FIRST, strict=True):
        write_lines(folder / "texts" / f"{name[:-4]}.txt", [text])


@published
def coco_with_numbered_records(folder):
    names = write_images(folder / "images")
    images = {str(n): {"file_name": name} for n, name in enumerate(names)}
    annotations = {str(100 + n): {"image_id": n, "caption": text} for n, text in enumerate(FIRST)}
    write_lines(folder / "captions.json", [json.dumps({"images": images, "annotations": annotations})])


@published
def records_called_info(folder):
    """As programs write them that save videos and posts."""
    for number, name in enumerate(write_images(folder, "{}.png")):
        record = {"id": str(number), "title": f"T{number}", "description": FIRST[number]}
        write_lines(folder / f"{name[:-4]}.info.json", [json.dumps(record)])


@published
def lists_in_shards(folder):
    members = {}
    for number in range(NUMBER):
        members[f"{number:04d}.png"] = drawn(number)
        members[f"{number:04d}.captions.json"] = json.dumps([FIRST[number], f"{FIRST[number]} again"]).encode()
    write_tar(folder / "0.tar", members)
    return {n: [text, f"{text} again"] for n, text in enumerate(FIRST)}


@published
def recipe1m(folder):
    """The images of a recipe have numbers of their own, in a second file."""
    write_images(folder / "images", "{:010x}.png")
    recipes = [{"id": f"r{n}", "title": text, "ingredients": [{"text": "1 egg"}]} for n, text in enumerate(FIRST)]
    images = [
        {"id": f"r{n}", "images": [{"id": f"{n:010x}.png", "url": f"https://example.org/{n}"}]} for n in range(NUMBER)
    ]
    write_lines(folder / "layer1.json", [json.dumps(recipes)])
    write_lines(folder / "layer2.json", [json.dumps(images)])


@published
def messages_of_discord(folder):
    """The author of each message has a picture as well, and a number that is the name of an image."""
    names = write_images(folder / "chat.json_Files", "photo_{}.png")
    (folder / "chat.json_Files" / "ann.png").write_bytes(drawn(0))
    author = {"id": "5", "name": "ann", "avatarUrl": "chat.json_Files/ann.png"}
    member = {"nick": "ann", "avatar": "chat.json_Files/ann.png"}
    messages = [
        {
            "id": str(10**17 + n),
            "type": "Default",
            "content": FIRST[n],
            "author": author,
            "member": member,
            "attachments": [{"id": str(n), "url": f"chat.json_Files/{name}", "fileName": name}],
        }
        for n, name in enumerate(names)
    ]
    write_lines(folder / "chat.json", [json.dumps({"guild": {"id": "1", "name": "Art"}, "messages": messages})])


@published
def unsplash(folder):
    """The tables are numbered behind their suffixes."""
    write_images(folder / "photos", "XMyPniM9L{:02d}.png")
    rows = (f"XMyPniM9L{n:02d}\thttps://unsplash.com/photos/{n}\t\tann{n}\t{text}" for n, text in enumerate(FIRST))
    header = "photo_id\tphoto_url\tphoto_description\tphotographer_username\tai_description"
    write_lines(folder / "photos.tsv000", [header, *rows])


@published
def products_with_deep_records(folder):
    """The description is in a record within the record of each image."""
    write_images(folder / "images", "159{:02d}.png")
    for n, text in enumerate(FIRST):
        described = {"description": {"descriptorType": "description", "value": f"<p>{text}</p>"}}
        record = {"meta": {"code": 200}, "data": {"id": 15900 + n, "price": 895, "productDescriptors": described}}
        write_lines(folder / "styles" / f"159{n:02d}.json", [json.dumps(record)])


@pytest.mark.parametrize("name", PUBLISHED)
def test_captions_are_read(tmp_path, name):
    expected = PUBLISHED[name](tmp_path) or ONE
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == expected


def test_a_part_of_a_table_can_be_named(tmp_path):
    unsplash(tmp_path)
    assert pictures_and_captions(load_split(str(tmp_path / "photos.tsv000"), "all")) == ONE


def test_many_rows_may_have_the_name_of_an_image(tmp_path):
    """In a column of any name. These are no numbers, which could be those of something else."""
    names = write_images(tmp_path, "dog_{}_x.png")
    rows = (f"{name[:-4]},{FIRST[n]} seen {k} times" for n, name in enumerate(names) for k in range(12))
    write_lines(tmp_path / "words.csv", ["sketch,words", *rows])
    expected = {n: [f"{text} seen {k} times" for k in range(12)] for n, text in enumerate(FIRST)}
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == expected


def test_numbers_of_something_else_name_no_images(tmp_path):
    """In Zooniverse's lists, the number of the project is in each row, and there may be an image of this name."""
    write_images(tmp_path / "images", "{}.png")
    rows = (f'{900 + n},5,"a description, of subject {n}"' for n in range(NUMBER))
    write_lines(tmp_path / "subjects.csv", ["subject_id,project_id,description", *rows])
    with pytest.raises(UserError, match="no caption column"):
        pictures_and_captions(load_split(str(tmp_path), "all"))


@pytest.mark.parametrize("name", ["{:03d}_{}.txt", "captions_{1}/{0:03d}.txt"])
def test_several_texts_of_an_image_are_all_read(tmp_path, name):
    write_images(tmp_path / "images" if "/" in name else tmp_path)
    for number, text in enumerate(FIRST):
        for ending in (1, 2):
            write_lines(tmp_path / name.format(number, ending), [f"{text} {ending}"])
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    expected = {n: sorted(f"{text} {ending}" for ending in (1, 2)) for n, text in enumerate(FIRST)}
    assert {number: sorted(texts) for number, texts in found.items()} == expected


@pytest.mark.parametrize("between", [" || ", "<sep>", " [SEP] "])
def test_captions_between_separators(tmp_path, between):
    names = write_images(tmp_path)
    rows = (f"{name},{text}{between}{text} again" for name, text in zip(names, FIRST, strict=True))
    write_lines(tmp_path / "captions.csv", ["image,caption", *rows])
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {n: [text, f"{text} again"] for n, text in enumerate(FIRST)}


def test_a_wrapped_text_is_one_caption(tmp_path):
    names = write_images(tmp_path)
    texts = [f"{text}\nthat hangs on\na wall" for text in FIRST]
    (tmp_path / "captions.json").write_text(json.dumps(dict(zip(names, texts, strict=True))))
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == {n: [text] for n, text in enumerate(texts)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos/*.png", "is made of image files: give the folder that they are in, '.*photos'"),
        ("photos/003.png", "is made of image files: give the folder"),
        ("imagefolder", "is a loader of `datasets`, not a dataset: give the folder or the files themselves"),
    ],
)
def test_what_is_no_dataset_is_told(tmp_path, monkeypatch, name, message):
    write_images(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_split(name, "all")


def test_medical_images_are_told(tmp_path):
    for number in range(NUMBER):
        (tmp_path / f"{number}.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    write_lines(tmp_path / "captions.csv", ["file,caption", *(f"{n}.dcm,{FIRST[n]}" for n in range(NUMBER))])
    with pytest.raises(UserError, match="0.dcm is not read, since it is a medical image: save it as PNG"):
        understanding_of(str(tmp_path))


@pytest.mark.parametrize("column", ["image", "folder"])
def test_a_column_of_folders_may_have_any_name(tmp_path, column):
    for number in range(NUMBER):
        write_images(tmp_path / "photos" / f"set {number // 2}", "{}.png", [number])
    rows = (f"set {n},https://example.org/{chr(97 + n)},{FIRST[n]}" for n in range(NUMBER // 2))
    write_lines(tmp_path / "sets.csv", [f"{column},{'url' if column == 'image' else 'image'},caption", *rows])
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {number: [FIRST[number // 2]] for number in range(NUMBER)}


def test_images_without_a_numbered_split_are_left_out(tmp_path):
    names = write_images(tmp_path)
    rows = (f"{name},{FIRST[n]},{'' if n == 3 else int(n > 15) + int(n > 19)}" for n, name in enumerate(names))
    write_lines(tmp_path / "captions.csv", ["image,caption,partition", *rows])
    assert understanding_of(str(tmp_path)).sizes == {"train": 15, "validation": 4, "test": 4}


def test_photos_of_masks_are_photos(tmp_path):
    """Folders called masks hold masks only where they repeat the names of other images."""
    write_images(tmp_path / "masks", "{}.png", range(12))
    write_images(tmp_path / "hats", "hat_{}.png", range(12, NUMBER))
    assert len(load_split(str(tmp_path), "all")) == NUMBER


def test_raw_photos_alone_are_told(tmp_path):
    for number, text in enumerate(FIRST):
        (tmp_path / f"DSC_{number:04d}.NEF").write_bytes(b"MM\0*" + bytes(100))
        write_lines(tmp_path / f"DSC_{number:04d}.txt", [text])
    with pytest.raises(UserError, match="a raw photo: let a program for photos, such as darktable, export it as JPEG"):
        understanding_of(str(tmp_path))


# ---------------------------------------------------------------- attributes and labels


def attributes(number: int) -> list[str]:
    return [name for name, every in (("5 o Clock Shadow", 2), ("Smiling", 3)) if number % every == 0]


def marks(number: int) -> list[str]:
    return ["1" if name in attributes(number) else "-1" for name in ("5 o Clock Shadow", "Smiling", "Male")]


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
    folder = "CheXpert-v1.0-small/train"
    names = write_images(tmp_path / folder, "patient{:05d}/study1/view1_frontal.png")
    findings = ("No Finding", "Edema", "Pneumonia", "Fracture")
    rows = [
        [f"{folder}/{name}", ("Male", "Female")[n % 2], str(50 + n), "Frontal", *finding_marks(n)]
        for n, name in enumerate(names)
    ]
    lines = map(",".join, [["Path", "Sex", "Age", "Frontal/Lateral", *findings], *rows])
    write_lines(tmp_path / "CheXpert-v1.0-small" / "train.csv", lines)
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {n: [", ".join(findings[k] for k in range(4) if found_in(n, k))] for n in range(NUMBER)}


def found_in(number: int, finding: int) -> bool:
    return (number + finding) % 3 == 0


def finding_marks(number: int) -> list[str]:
    return ["1.0" if found_in(number, finding) else ("", "0.0", "-1.0")[number % 3] for finding in range(4)]


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


def test_headers_may_contain_brackets_and_signs(tmp_path):
    """As those of NIH's chest X-rays do."""
    names = write_images(tmp_path / "images", "{:08d}_000.png")
    rows = (f"{name},{CLASSES[n % 3]},{n},5{n % 10}Y,2682,2749" for n, name in enumerate(names))
    header = "Image Index,Finding Labels,Follow-up #,Patient Age,OriginalImage[Width,Height]"
    write_lines(tmp_path / "Data_Entry_2017.csv", [header, *rows])
    assert classes_of(load_split(str(tmp_path), "all")) == {n: CLASSES[n % 3] for n in range(NUMBER)}


def test_codes_of_open_images_have_words(tmp_path):
    """The name of a class, `/m/01`, is no number of an image."""
    write_images(tmp_path / "train", "{:016x}.png")
    write_lines(tmp_path / "class-descriptions.csv", (f"/m/0{n + 1},{name}" for n, name in enumerate(CLASSES)))
    rows = (f"{n:016x},verification,/m/0{n % 3 + 1},1" for n in range(NUMBER))
    write_lines(tmp_path / "train-annotations-human-imagelabels.csv", ["ImageID,Source,LabelName,Confidence", *rows])
    assert classes_of(load_split(str(tmp_path), "all")) == {n: CLASSES[n % 3] for n in range(NUMBER)}


def grey(number: int, count: int) -> list[str]:
    return [str(10 * number)] * count


def fer2013(folder):
    rows = (
        f"{n % 3},{' '.join(grey(n, 48 * 48))},{'Training' if n < 16 else 'PublicTest' if n < 20 else 'PrivateTest'}"
        for n in range(NUMBER)
    )
    write_lines(folder / "fer2013.csv", ["emotion,pixels,Usage", *rows])


def mnist_of_kaggle(folder):
    header = ["label", *(f"pixel{place}" for place in range(28 * 28))]
    rows = ([str(n % 3), *grey(n, 28 * 28)] for n in range(NUMBER))
    write_lines(folder / "train.csv", map(",".join, [header, *rows]))


def mnist_without_header(folder):
    """Packed, as such files are large."""
    rows = (",".join([str(n % 3), *grey(n, 28 * 28)]) for n in range(NUMBER))
    (folder / "mnist_train.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))


def mnist_of_pandas(folder):
    """The header only counts the columns."""
    rows = ([str(n % 3), *grey(n, 28 * 28)] for n in range(NUMBER))
    write_lines(folder / "mnist.csv", map(",".join, [map(str, range(28 * 28 + 1)), *rows]))


def mnist_of_a_spreadsheet(folder):
    """With semicolons, numbers of the rows, and decimals."""
    header = ["", "label", *(f"pixel_{place}" for place in range(28 * 28))]
    rows = ([str(n), str(n % 3), *[f"{10 * n}.0"] * 784] for n in range(NUMBER))
    write_lines(folder / "mnist.csv", map(";".join, [header, *rows]))


def skin_lesions_in_colour(folder):
    """As HAM10000 has them in 28 x 28 pixels, with the label behind them; in an encoding of old programs."""
    header = [*(f"pixel{place:04d}" for place in range(28 * 28 * 3)), "label", "Größe"]
    rows = ([*([str(10 * n), str(255 - 10 * n), "128"] * 784), str(n % 3), "28"] for n in range(NUMBER))
    text = "\n".join(map(",".join, [header, *rows]))
    (folder / "hmnist_28_28_RGB.csv").write_text(text, encoding="latin-1")


PIXELS = (
    fer2013,
    mnist_of_kaggle,
    mnist_without_header,
    mnist_of_pandas,
    mnist_of_a_spreadsheet,
    skin_lesions_in_colour,
)


def folder_of(write, tmp_path) -> str:
    """A folder beside the cache, into which the pictures are written."""
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)
    write_lines(folder / "classnames.txt", CLASSES)
    return str(folder)


@pytest.mark.parametrize("write", PIXELS)
def test_cells_that_are_pixels_are_images(tmp_path, write):
    folder = folder_of(write, tmp_path)
    dataset = load_split(folder, "all")
    assert classes_of(dataset) == {n: CLASSES[n % 3] for n in range(NUMBER)}
    picture = decode_image(dataset[0][find_image_column(dataset)])
    assert picture.size == ((48, 48) if write is fer2013 else (28, 28))
    assert picture.getpixel((0, 0)) == ((0, 255, 128) if write is skin_lesions_in_colour else (0, 0, 0))
    if write is fer2013:
        assert understanding_of(folder).sizes == {"train": 16, "validation": 4, "test": 4}


def test_broken_rows_of_pixels_are_told(tmp_path):
    folder = folder_of(mnist_of_kaggle, tmp_path)
    file = Path(folder) / "train.csv"
    lines = file.read_text().splitlines()
    lines[6] = "1,2,3"  # cut off
    lines[7] = lines[7].replace("60", "600", 1)
    write_lines(file, lines)
    found = classes_of(load_split(folder, "all"))
    assert found == {n: CLASSES[n % 3] for n in range(NUMBER) if n not in (5, 6)}
    assert understanding_of(folder).skipped.count == 2


def test_a_cell_may_be_longer_than_the_beginning_of_a_file(tmp_path):
    csv.field_size_limit(131_072)  # as in a new process
    names = write_images(tmp_path, numbers=range(3))
    lines = [f'{name},"{text}"' for name, text in zip(names, FIRST, strict=False)]
    write_lines(tmp_path / "captions.csv", ["image,caption", f'{names[0]},"{"long " * 100_000}"', *lines[1:]])
    assert pictures_and_captions(load_split(str(tmp_path), "all")).keys() >= {1, 2}


def test_other_numbers_are_no_pixels(tmp_path):
    """Such as features of images beside the images."""
    names = write_images(tmp_path)
    header = ["file", "caption", *(f"x{place}" for place in range(256))]
    rows = ([name, f'"{text}"', *["7"] * 256] for name, text in zip(names, FIRST, strict=True))
    write_lines(tmp_path / "features.csv", map(",".join, [header, *rows]))
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize(
    ("yes", "no"), [("TRUE", "FALSE"), ("x", ""), ("Y", "N"), ("x", "-"), ("ja", "nein"), ("1.0", "0.0")]
)
def test_marks_in_columns_of_classes_are_labels(tmp_path, yes, no):
    names = write_images(tmp_path)
    rows = ([name, *(yes if n % 3 == place else no for place in range(3))] for n, name in enumerate(names))
    write_lines(tmp_path / "tags.csv", map(",".join, [["file_name", *CLASSES], *rows]))
    assert classes_of(load_split(str(tmp_path), "all")) == {n: CLASSES[n % 3] for n in range(NUMBER)}


@pytest.mark.parametrize("several", [False, True])
def test_labels_of_sagemaker_have_words(tmp_path, several):
    """They are beside the numbers, among notes on the work."""
    names = write_images(tmp_path / "images")
    notes = {"job-name": "labeling-job/pets", "human-annotated": "yes", "creation-date": "2024-01-01T00:00:00"}
    records = []
    for n, name in enumerate(names):
        words = (
            {"class-map": {"0": "ball", str(n % 3 + 1): CLASSES[n % 3]}} if several else {"class-name": CLASSES[n % 3]}
        )
        numbers = [0, n % 3 + 1] if several else n % 3
        records.append({"source-ref": f"s3://mine/images/{name}", "pet": numbers, "pet-metadata": {**words, **notes}})
    write_lines(tmp_path / "output.manifest", map(json.dumps, records))
    dataset = load_split(str(tmp_path), "all")
    if several:
        assert pictures_and_captions(dataset) == {n: [f"ball, {CLASSES[n % 3]}"] for n in range(NUMBER)}
    else:
        assert classes_of(dataset) == {n: CLASSES[n % 3] for n in range(NUMBER)}


def test_class_folders_may_have_more_zeros_than_the_names_file(tmp_path):
    """As in NABirds."""
    for n in range(NUMBER):
        write_images(tmp_path / "images" / f"{n % 3 + 10:04d}", "{}.png", [n])
    write_lines(tmp_path / "classes.txt", (f"{place + 10} {name}" for place, name in enumerate(CLASSES)))
    assert classes_of(load_split(str(tmp_path), "all")) == {n: CLASSES[n % 3] for n in range(NUMBER)}
