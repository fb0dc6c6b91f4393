"""How tables refer to images: by names that were changed on the way, and by paths and addresses of other places."""

import html
import json
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import quote

import pandas as pd
import pytest
from drawn_datasets import NUMBER, ONE, captions, drawn, pictures_and_captions, write_images

from miniclip.data.image_paths import OUTSIDE, ImageFinder
from miniclip.data.reader import load_split
from miniclip.data.sources import take_inventory

pytestmark = pytest.mark.usefixtures("own_cache")

FIRST = [captions(number)[0] for number in range(NUMBER)]
NAMES = {
    "words": "a red ball {}.png",
    "underscores": "a_red_ball_{}.png",
    "accents": unicodedata.normalize("NFD", "Café Größe {}.png"),
    "signs": "Tom & Jerry's #{} (50% off).png",
    "commas": "red, {}.png",
    "hyphens": "ball - no {}.png",
    "dots": "photo.{}.final.png",
    "brackets": "img[{}].png",
    "two suffixes": "scan{}.tiff.png",
}
REFERENCES = {
    "upper case": lambda path: path.name.upper(),
    "composed accents": lambda path: unicodedata.normalize("NFC", path.name),
    "encoded": lambda path: quote(path.name),
    "an address": lambda path: f"https://cdn.example.com/i/{quote(path.name)}?w=640&h=480",
    "HTML": lambda path: html.escape(path.name),
    "two suffixes": lambda path: f"{path.name}.jpg",
    "spaces around": lambda path: f" {path.name} ",
    "a bucket": lambda path: f"s3://bucket/data/{path}",
    "a file's address": lambda path: f"file:///home/anna/{quote(str(path))}",
    "a number of the caption": lambda path: f"{path.name}#0",
    "Kaggle": lambda path: f"../input/my-dataset/{path}",
    "Colab": lambda path: f"/content/drive/MyDrive/{path}",
    "no suffix": lambda path: str(path.with_suffix("")),
    "quotes": lambda path: f"'{path.name}'",
    "underscores": lambda path: path.name.replace(" ", "_"),
    "spaces": lambda path: path.name.replace("_", " "),
    "encoded twice": lambda path: quote(quote(path.name)),
    "signs of a word processor": lambda path: path.name.replace("'", "’").replace("-", "–"),
    "hyphens": lambda path: path.name.replace(" ", "-"),
    "Markdown": lambda path: f"![]({quote(str(path))})",
    "a tag": lambda path: f'<img src="{html.escape(str(path), quote=True)}">',
}


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("name", NAMES)
def test_images_are_found(tmp_path, name, reference):
    form = ("csv", "tsv", "json")[(list(NAMES).index(name) + list(REFERENCES).index(reference)) % 3]
    paths = [PurePosixPath(image) for image in write_images(tmp_path, f"my photos/{NAMES[name]}")]
    rows = pd.DataFrame({"image": map(REFERENCES[reference], paths), "caption": FIRST})
    if form == "json":
        text = json.dumps(dict(zip(rows.image, rows.caption, strict=True)))
    else:
        text = rows.to_csv(index=False, sep="\t" if form == "tsv" else ",")
    (tmp_path / f"captions.{form}").write_text(text, encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize("written", ["{}.png", "{}", "{}.0", "images/{}.png"])
@pytest.mark.parametrize("column", ["image", "photo number"])
def test_numbers_without_their_zeros(tmp_path, written, column):
    """Spreadsheets take zeros away."""
    write_images(tmp_path, "images/{:06d}.png")
    rows = [f'{written.format(number)},"{text}"' for number, text in enumerate(FIRST) if '"' not in text]
    (tmp_path / "captions.csv").write_text("\n".join([f"{column},caption", *rows]), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


def test_a_file_outside_the_folder_is_refused(tmp_path):
    """Although an image of this name is in the folder as well."""
    folder = tmp_path / "photos"
    write_images(folder, "images/{}.png")
    (tmp_path / "3.png").write_bytes(drawn(3))
    finder = ImageFinder(take_inventory(folder))
    assert finder.find("../3.png") == (None, OUTSIDE)
    assert finder.find("../secret.png") == (None, OUTSIDE)
    assert finder.find("../4.png") == (str(folder / "images" / "4.png"), "name")
    assert finder.find("images/../../3.png") == (None, OUTSIDE)
