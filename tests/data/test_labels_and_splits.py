"""Labels and official splits as datasets for classification publish them: folders, lists, tables and file names."""

import json

import datasets
import pytest
from datasets import Dataset
from drawn_datasets import NUMBER, captions, drawn, number_of, pictures_and_captions

from miniclip.data.reader import find_image_column, find_label_column, load_split, understanding_of

pytestmark = pytest.mark.usefixtures("own_cache")

CLASSES = ["cat", "dog", "red_fox", "tench", "grey_owl", "bee"]
CODES = {name: f"n{1440764 + number:08d}" for number, name in enumerate(CLASSES)}
TRAIN, TEST = [n for n in range(NUMBER) if n % 4 < 2], [n for n in range(NUMBER) if n % 4 > 1]
LABELLED, SPLIT = {}, {}


def labelled(**sizes):
    """Register a function that writes labelled images, with the sizes of their splits."""

    def register(write):
        LABELLED[write.__name__] = (write, sizes)
        return write

    return register


def split(**sizes):
    """Register a function that writes captioned images, with the sizes of their splits."""

    def register(write):
        SPLIT[write.__name__] = (write, sizes)
        return write

    return register


def class_of(number: int) -> str:
    return CLASSES[number // 4]


def split_of(number: int) -> str:
    return ("train", "train", "val", "test")[number % 4]


def write(file, content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_lines(file, lines) -> None:
    write(file, "\n".join(lines) + "\n")


def write_numbered(folder) -> list[str]:
    for number in range(NUMBER):
        write(folder / f"{number}.png", drawn(number))
    return [f"{number}.png" for number in range(NUMBER)]


# ---------------------------------------------------------------- labels


@labelled(train=12, validation=12)
def tiny_imagenet(folder):
    """Folders for training, and a table for validation."""
    for number in TRAIN:
        code = CODES[class_of(number)]
        write(folder / "train" / code / "images" / f"{code}_{number}.JPEG", drawn(number))
    for name, code in CODES.items():
        boxes = (f"{code}_{number}.JPEG\t0\t0\t60\t60" for number in TRAIN if class_of(number) == name)
        write_lines(folder / "train" / code / f"{code}_boxes.txt", boxes)
    for number in TEST:
        write(folder / "val" / "images" / f"val_{number}.JPEG", drawn(number))
    lines = (f"val_{number}.JPEG\t{CODES[class_of(number)]}\t0\t0\t62\t62" for number in TEST)
    write_lines(folder / "val" / "val_annotations.txt", lines)
    write_lines(folder / "wnids.txt", CODES.values())
    write_lines(folder / "words.txt", (f"{code}\t{name.replace('_', ' ')}, beast" for name, code in CODES.items()))


@labelled(train=12, validation=12)
def imagenet_of_kaggle(folder):
    images = folder / "ILSVRC" / "Data" / "CLS-LOC"
    for number in TRAIN:
        code = CODES[class_of(number)]
        write(images / "train" / code / f"{code}_{number}.JPEG", drawn(number))
    for number in TEST:
        write(images / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", drawn(number))
    lines = (f"ILSVRC2012_val_{number:08d},{CODES[class_of(number)]} 85 1 499 272" for number in TEST)
    write_lines(folder / "LOC_val_solution.csv", ["ImageId,PredictionString", *lines])
    names = (f"{code} {name.replace('_', ' ')}, beast" for name, code in CODES.items())
    write_lines(folder / "LOC_synset_mapping.txt", names)


@labelled(train=12, test=12)
def food_101(folder):
    for number in range(NUMBER):
        write(folder / "images" / class_of(number) / f"{1000 + number}.jpg", drawn(number))
    for name, numbers in (("train", TRAIN), ("test", TEST)):
        write_lines(folder / "meta" / f"{name}.txt", (f"{class_of(number)}/{1000 + number}" for number in numbers))
        lists = {kind: [f"{kind}/{1000 + n}" for n in numbers if class_of(n) == kind] for kind in CLASSES}
        write(folder / "meta" / f"{name}.json", json.dumps(lists))
    write_lines(folder / "meta" / "classes.txt", CLASSES)


@labelled(train=12, test=12)
def equal_names_without_suffixes(folder):
    """The images of each class are numbered from the start."""
    for number in range(NUMBER):
        write(folder / "images" / class_of(number) / f"{number % 4}.png", drawn(number))
    for name, numbers in (("train", TRAIN), ("test", TEST)):
        write_lines(folder / "meta" / f"{name}.txt", (f"{class_of(n)}/{n % 4}" for n in numbers))


@labelled(train=12, test=12)
def pets_of_oxford(folder):
    """The classes are in the file names, and lists have numbers for them."""
    for number in range(NUMBER):
        write(folder / "images" / f"{class_of(number)}_{number}.jpg", drawn(number))
    for name, numbers in (("trainval", TRAIN), ("test", TEST)):
        lines = (f"{class_of(number)}_{number} {number // 4 + 1} 1 1" for number in numbers)
        write_lines(folder / "annotations" / f"{name}.txt", lines)
    write_lines(folder / "annotations" / "list.txt", ["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids"])


@labelled(train=12, test=12)
def birds_of_caltech(folder):
    for number in range(NUMBER):
        write(folder / "images" / f"{number // 4 + 1:03d}.{class_of(number)}" / f"bird_{number:04d}.jpg", drawn(number))
    names = [f"{number // 4 + 1:03d}.{class_of(number)}/bird_{number:04d}.jpg" for number in range(NUMBER)]
    write_lines(folder / "images.txt", (f"{number + 1} {name}" for number, name in enumerate(names)))
    write_lines(folder / "image_class_labels.txt", (f"{number + 1} {number // 4 + 1}" for number in range(NUMBER)))
    write_lines(folder / "train_test_split.txt", (f"{number + 1} {int(number in TRAIN)}" for number in range(NUMBER)))
    write_lines(folder / "attributes.txt", (f"{n + 1} has_bill_shape::curved_{n}" for n in range(30)))
    write_lines(folder / "classes.txt", (f"{n + 1} {n + 1:03d}.{name}" for n, name in enumerate(CLASSES)))


@labelled(train=12, test=12)
def aircraft(folder):
    """Lists of names without suffixes, for several kinds of labels; those that come first are read."""
    for number in range(NUMBER):
        write(folder / "data" / "images" / f"{number:07d}.jpg", drawn(number))
    kinds = {"family": class_of, "manufacturer": lambda number: "Boeing" if number < 12 else "Airbus"}
    for kind, label in kinds.items():
        for name, numbers in (("trainval", TRAIN), ("test", TEST)):
            lines = (f"{number:07d} {label(number).replace('_', ' ')}" for number in numbers)
            write_lines(folder / "data" / f"images_{kind}_{name}.txt", lines)


@labelled()
def classes_in_file_names(folder):
    for number in range(NUMBER):
        write(folder / f"{class_of(number)}.{number}.jpg", drawn(number))


@labelled()
def numbers_beside_names(folder):
    names = write_numbered(folder / "images")
    lines = (f"{name},{number // 4},{class_of(number)}" for number, name in enumerate(names))
    write_lines(folder / "labels.csv", ["image,label,class_name", *lines])


@labelled()
def names_with_labels_in_json(folder):
    names = write_numbered(folder / "images")
    write(folder / "labels.json", json.dumps({name: class_of(number) for number, name in enumerate(names)}))


@labelled()
def fiftyone(folder):
    write_numbered(folder / "data")
    labels = {str(number): number // 4 for number in range(NUMBER)}
    write(folder / "labels.json", json.dumps({"classes": CLASSES, "labels": labels}))


@labelled(train=12, validation=6, test=6)
def vertex(folder):
    names = write_numbered(folder / "images")
    words = {"train": "TRAIN", "val": "VALIDATION", "test": "TEST"}
    lines = (f"{words[split_of(n)]},gs://bucket/images/{name},{class_of(n)}" for n, name in enumerate(names))
    write_lines(folder / "import.csv", lines)


@labelled()
def inaturalist(folder):
    """COCO's format with classes for whole images."""
    names = write_numbered(folder / "images")
    images = [{"id": number, "file_name": f"images/{name}"} for number, name in enumerate(names)]
    annotations = [{"id": n, "image_id": n, "category_id": 7 + CLASSES.index(class_of(n))} for n in range(NUMBER)]
    categories = [{"id": 7 + number, "name": name} for number, name in enumerate(CLASSES)]
    whole = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    write(folder / "train2019.json", json.dumps(whole))


@labelled()
def choices_in_label_studio(folder):
    names = write_numbered(folder / "images")
    answers = [{"type": "choices", "value": {"choices": [class_of(n)]}, "from_name": "choice"} for n in range(NUMBER)]
    tasks = [
        {"id": n, "data": {"image": f"/data/upload/1/{name}"}, "annotations": [{"id": n, "result": [answers[n]]}]}
        for n, name in enumerate(names)
    ]
    write(folder / "project.json", json.dumps(tasks))


@labelled()
def answers_in_labelbox(folder):
    names = write_numbered(folder / "images")
    answers = [[{"name": "animal", "radio_answer": {"name": class_of(n), "value": class_of(n)}}] for n in range(NUMBER)]
    records = (
        {
            "data_row": {"id": f"cl{n}", "external_id": name},
            "projects": {"p": {"labels": [{"annotations": {"objects": [], "classifications": answers[n]}}]}},
        }
        for n, name in enumerate(names)
    )
    write_lines(folder / "export.ndjson", map(json.dumps, records))


@labelled()
def choices_in_prodigy(folder):
    """The answer `accept` is the same for all images, and no caption."""
    names = write_numbered(folder / "images")
    options = [{"id": name, "text": name} for name in CLASSES]
    records = (
        {"image": name, "options": options, "accept": [class_of(n)], "answer": "accept"} for n, name in enumerate(names)
    )
    write_lines(folder / "data.jsonl", map(json.dumps, records))


@labelled()
def tags_in_cvat(folder):
    images = (
        f'<image id="{n}" name="{name}"><tag label="{class_of(n)}" source="manual"></tag></image>'
        for n, name in enumerate(write_numbered(folder / "images"))
    )
    write_lines(folder / "annotations.xml", ["<annotations>", *images, "</annotations>"])


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_read(tmp_path, name):
    write_folder, sizes = LABELLED[name]
    write_folder(tmp_path / "data")
    dataset = load_split(str(tmp_path / "data"), "all")
    image, (label, names) = find_image_column(dataset), find_label_column(dataset)
    found = {number_of(row[image]): names[row[label]].replace("_", " ") for row in dataset}
    assert found == {number: class_of(number).replace("_", " ") for number in range(NUMBER)}
    understanding = understanding_of(str(tmp_path / "data"))
    assert understanding.drawn != bool(sizes)
    assert not sizes or {split: len(part) for split, part in understanding.splits.items()} == sizes


def test_cameras_name_no_classes(tmp_path):
    for number in range(NUMBER):
        write(tmp_path / f"{('IMG', 'DSC')[number % 2]}_{number:04d}.jpg", drawn(number))
    assert understanding_of(str(tmp_path)).layout == "images without captions or labels"


def test_one_caption_for_all_images_is_a_caption(tmp_path):
    """As for DreamBooth, also beside classes; and a single word is one if the user says so."""
    lines = [f"{name},a photo of sks dog,{class_of(n)}" for n, name in enumerate(write_numbered(tmp_path))]
    write_lines(tmp_path / "metadata.csv", ["file_name,text,category", *lines])
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == dict.fromkeys(range(NUMBER), ["a photo of sks dog"])
    lines = [line.replace("a photo of sks dog", "accept") for line in lines]
    write_lines(tmp_path / "metadata.csv", ["file_name,text,category", *lines])
    assert "labels in 'category'" in understanding_of(str(tmp_path)).layout
    named = understanding_of(str(tmp_path), caption_columns="text")
    assert "captions in 'text'" in named.layout


# ---------------------------------------------------------------- splits


def captioned(number: int) -> str:
    return captions(number, 1)[0]


@split(train=12, qual_dev=6, qual_test=6)
def own_names_for_splits(folder):
    """As in DOCCI."""
    names = write_numbered(folder / "images")
    words = {"train": "train", "val": "qual_dev", "test": "qual_test"}
    records = (
        {"split": words[split_of(n)], "image_file": name, "description": captioned(n)} for n, name in enumerate(names)
    )
    write_lines(folder / "docci_descriptions.jsonlines", map(json.dumps, records))


@split(train=12, test=12)
def a_flag_for_training(folder):
    names = write_numbered(folder / "images")
    lines = (f"{name},{captioned(number)},{number in TRAIN}" for number, name in enumerate(names))
    write_lines(folder / "table.csv", ["image,caption,is_train", *lines])


@split(train=12, validation=6, test=6)
def usage_as_kaggle_calls_it(folder):
    names = write_numbered(folder / "images")
    words = {"train": "Training", "val": "Validation", "test": "Testing"}
    lines = (f"{name},{captioned(number)},{words[split_of(number)]}" for number, name in enumerate(names))
    write_lines(folder / "table.csv", ["image,caption,Usage", *lines])


@split(train=12, validation=6, test=6)
def files_with_different_fields(folder):
    """In LAVIS, only the training file numbers the images, and only the others have lists of captions."""
    names = write_numbered(folder / "images")
    for name in ("train", "val", "test"):
        numbers = [number for number in range(NUMBER) if split_of(number) == name]
        if name == "train":
            records = [{"image": names[n], "caption": captioned(n), "image_id": n} for n in numbers]
        else:
            records = [{"image": names[n], "caption": [captioned(n)]} for n in numbers]
        write(folder / f"coco_karpathy_{name}.json", json.dumps(records))


def write_captions(folder) -> list[str]:
    names = write_numbered(folder / "images")
    lines = (f"{name},{captioned(number)}" for number, name in enumerate(names))
    write_lines(folder / "captions.csv", ["image,caption", *lines])
    return names


@split(train=12, validation=6, test=6)
def lists_in_json(folder):
    names = write_captions(folder)
    lists = {name: [names[n] for n in range(NUMBER) if split_of(n) == name] for name in ("train", "val", "test")}
    write(folder / "splits.json", json.dumps(lists))


@split(train=12, validation=6, test=6)
def a_table_of_splits(folder):
    names = write_captions(folder)
    lines = (f"{name},{split_of(number)}" for number, name in enumerate(names))
    write_lines(folder / "partition.csv", ["image,split", *lines])


@split(train=12, validation=6, test=6)
def a_folder_of_texts_for_each_split(folder):
    for number in range(NUMBER):
        write(folder / split_of(number) / "images" / f"{number}.png", drawn(number))
        write(folder / split_of(number) / "labels" / f"{number}.txt", captioned(number))


@split(train=16, test=8)
def files_named_by_a_dataset_card(folder):
    images = [{"bytes": drawn(number), "path": None} for number in range(NUMBER)]
    table = Dataset.from_dict({"image": images, "caption": [captioned(number) for number in range(NUMBER)]})
    table = table.cast_column("image", datasets.Image())
    (folder / "stuff").mkdir(parents=True)
    table.select(range(16)).to_parquet(folder / "stuff" / "a-0.parquet")
    table.select(range(16, 24)).to_parquet(folder / "stuff" / "b.parquet")
    files = "[{split: train, path: stuff/a*}, {split: test, path: stuff/b.parquet}]"
    write(folder / "README.md", f"---\nconfigs:\n- config_name: default\n  data_files: {files}\n---\n# Mine\n")


@pytest.mark.parametrize("name", SPLIT)
def test_splits_are_read(tmp_path, name):
    write_folder, sizes = SPLIT[name]
    write_folder(tmp_path / "data")
    found = pictures_and_captions(load_split(str(tmp_path / "data"), "all"))
    assert found == {number: [captioned(number)] for number in range(NUMBER)}
    understanding = understanding_of(str(tmp_path / "data"))
    assert {split: len(part) for split, part in understanding.splits.items()} == sizes
