"""Datasets of detectors: the names of the objects in an image are its caption."""

import gzip
import json

import pytest
from drawn_datasets import NUMBER, pictures_and_captions, write_images

from miniclip.data.box_lines import object_in
from miniclip.data.reader import load_split

pytestmark = pytest.mark.usefixtures("own_cache")

CLASSES = ["cat", "dog", "traffic_light"]
OBJECTS = {number: [CLASSES[number % 3], CLASSES[(number + 1 + number % 2) % 3]] for number in range(NUMBER)}
CAPTIONS = {number: [", ".join(names).replace("_", " ")] for number, names in OBJECTS.items()}
CASES = {}


def case(write):
    CASES[write.__name__] = write
    return write


def write(file, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def yolo_lines(number: int) -> str:
    boxes = [f"{CLASSES.index(name)} 0.5 0.5 0.25 0.3" for name in OBJECTS[number]]
    return "\n".join([*boxes, boxes[0]]) + "\n"  # the first is in the image twice


def voc_xml(name: str, number: int) -> str:
    boxes = "".join(f"<object><name>{name}</name><bndbox><xmin>1</xmin></bndbox></object>" for name in OBJECTS[number])
    source = "<source><database>The VOC2007 Database</database></source>"
    return f"<annotation><folder>VOC</folder><filename>{name}</filename>{source}{boxes}</annotation>"


def coco(names: list[str], numbers) -> str:
    boxes = [(image, name) for image, number in enumerate(numbers) for name in OBJECTS[number]]
    return json.dumps(
        {
            "info": {"description": "Exported from roboflow.com", "year": "2023"},
            "categories": [{"id": 7 + place, "name": name} for place, name in enumerate(CLASSES)],
            "images": [{"id": image, "file_name": name, "width": 8} for image, name in enumerate(names)],
            "annotations": [
                {"id": place, "image_id": image, "category_id": 7 + CLASSES.index(name), "bbox": [1, 2, 3, 4]}
                for place, (image, name) in enumerate(boxes)
            ],
        }
    )


@case
def yolo_with_folders_of_images_and_labels(folder):
    write_images(folder, "images/train/{}.png")
    for number in range(NUMBER):
        write(folder / f"labels/train/{number}.txt", yolo_lines(number))
    write(folder / "data.yaml", "train: images/train\nnc: 3\nnames: [cat, dog, traffic_light]\n")


@case
def yolo_with_numbered_names(folder):
    write_images(folder, "train/images/{}.png")
    for number in range(NUMBER):
        write(folder / f"train/labels/{number}.txt", yolo_lines(number))
    write(folder / "data.yaml", "names:\n  0: cat\n  1: dog\n  2: traffic_light\n")


@case
def yolo_of_darknet(folder):
    write_images(folder, "obj_train_data/{}.png")
    for number in range(NUMBER):
        write(folder / f"obj_train_data/{number}.txt", yolo_lines(number))
    write(folder / "obj.names", "\n".join(CLASSES) + "\n")


@case
def pascal_voc(folder):
    for number, name in enumerate(write_images(folder, "JPEGImages/2007_{:06d}.png")):
        stem = name.removeprefix("JPEGImages/").removesuffix(".png")
        write(folder / f"Annotations/{stem}.xml", voc_xml(f"{stem}.png", number))
    write(folder / "ImageSets/Main/trainval.txt", "\n".join(f"2007_{number:06d}" for number in range(NUMBER)))


@case
def labelme(folder):
    for number, name in enumerate(write_images(folder, "{}.png")):
        shapes = [{"label": label, "points": [[1, 2], [3, 4]]} for label in OBJECTS[number]]
        record = {"version": "5.0.1", "shapes": shapes, "imagePath": name, "imageData": "A" * 200_000}
        write(folder / f"{number}.json", json.dumps(record))


@case
def coco_instances(folder):
    names = write_images(folder, "val2017/{:012d}.png")
    names = [name.removeprefix("val2017/") for name in names]
    write(folder / "annotations/instances_val2017.json", coco(names, range(NUMBER)))


@case
def coco_compressed(folder):
    names = write_images(folder, "{}.png")
    (folder / "instances.json.gz").write_bytes(gzip.compress(coco(names, range(NUMBER)).encode()))


@case
def createml(folder):
    images = []
    for number, name in enumerate(write_images(folder, "{}.png")):
        boxes = [{"label": label, "coordinates": {"x": 1, "y": 2, "width": 3}} for label in OBJECTS[number]]
        images.append({"image": name, "annotations": boxes})
    write(folder / "_annotations.createml.json", json.dumps(images))


@case
def kitti(folder):
    write_images(folder, "training/image_2/{:06d}.png")
    for number in range(NUMBER):
        classes = [*OBJECTS[number], "DontCare"]
        lines = [
            f"{label} 0.00 0 -1.85 387.6 181.5 423.8 203.1 1.67 1.87 3.69 -16.5 2.39 58.4 1e-2" for label in classes
        ]
        write(folder / f"training/label_2/{number:06d}.txt", "\n".join(lines))


@case
def dota(folder):
    write_images(folder, "images/{}.png")
    for number in range(NUMBER):
        write(folder / f"labelTxt/{number}.txt", "\n".join(f"1 2 3 4 5 6 7 8 {name} 0" for name in OBJECTS[number]))


@case
def a_table_with_a_row_for_each_box(folder):
    names = write_images(folder, "images/{}.png")
    rows = [f"{names[number][7:]},8,6,{name},1,1,4,4" for number in range(NUMBER) for name in OBJECTS[number]]
    write(folder / "labels.csv", "\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *rows]))


@pytest.mark.parametrize("name", CASES)
def test_objects_are_captions(tmp_path, name):
    CASES[name](tmp_path)
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert {number: [text.replace("_", " ") for text in texts] for number, texts in found.items()} == CAPTIONS


def test_images_in_which_nothing_is_marked_are_left_out(tmp_path):
    yolo_with_numbered_names(tmp_path)
    write(tmp_path / "train/labels/3.txt", "")
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {number: texts for number, texts in CAPTIONS.items() if number != 3}


def test_splits_of_roboflow(tmp_path):
    splits = {"train": range(12), "valid": range(12, 18), "test": range(18, NUMBER)}
    for split, numbers in splits.items():
        names = write_images(tmp_path / split, "image.rf.{}.png", numbers)
        write(tmp_path / split / "_annotations.coco.json", coco(names, numbers))
    for split, numbers in zip(("train", "validation", "test"), splits.values(), strict=True):
        found = pictures_and_captions(load_split(str(tmp_path), split))
        assert found == {number: CAPTIONS[number] for number in numbers}


def test_captions_are_better_than_objects(tmp_path):
    names = write_images(tmp_path, "val2017/{:012d}.png")
    names = [name.removeprefix("val2017/") for name in names]
    write(tmp_path / "annotations/instances_val2017.json", coco(names, range(NUMBER)))
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    texts = [{"image_id": number, "caption": f"a drawing of {number}"} for number in range(NUMBER)]
    write(tmp_path / "annotations/captions_val2017.json", json.dumps({"images": images, "annotations": texts}))
    found = pictures_and_captions(load_split(str(tmp_path), "all"))
    assert found == {number: [f"a drawing of {number}"] for number in range(NUMBER)}


@pytest.mark.parametrize("text", ["5 dogs", "a dog, 3 cats and 12 birds", "number 1 2 3", "1 2 3 4"])
def test_captions_with_numbers_have_no_boxes(text):
    assert object_in(text) is None
