"""docs/data.md begins with a table of layouts. Each of them is drawn and loaded as the table says."""

import re

import datasets
import pytest
from conftest import ROOT
from test_boxes import CASES as BOXES
from test_exports import EXPORTS
from test_layouts import LAYOUTS, SPLIT_LAYOUTS, load_split, pictures_and_captions
from test_published_datasets import PUBLISHED

# The first column of the table, and the layout that draws it. The layout returns the second column.
ROWS = {
    "Flickr8k from Kaggle: `captions.txt` and `Images/`": "kaggle",
    "Flickr8k or COCO with Karpathy's splits: `dataset_….json` and the images": "karpathy",
    "Flickr30k as its authors publish it: `results_20130124.token` and the images": "flickr30k_token",
    "Flickr30k from Kaggle: `results.csv`": "flickr30k_kaggle",
    "COCO: `annotations/captions_….json` and `val2014/`": "coco_2014_beside_other_annotations",
    "a spreadsheet saved as CSV, in any encoding, and a folder of photos": "spreadsheet_as_csv",
    "a spreadsheet of Excel or LibreOffice, of one or more sheets, and a folder of photos": "workbook",
    "an ImageFolder with `metadata.jsonl` or `metadata.csv`": "diffusers_metadata_jsonl",
    "lines written by hand: `photo 1.jpg: a caption`, or with ` - ` or ` -> ` between": "lines_with_a_colon",
    "a list in Markdown: `- **photo.jpg**: a caption`": "a_list_in_markdown_in_list.md",
    "names of images with their captions below them": "names_above_their_captions",
    "`{name: [captions]}` as JSON": "a_name_twice_in_json",
    "JSON that a language model wrote, between fences": "json_in_an_answer",
    "JSON lines with lists of captions": "jsonl_with_lists",
    "LLaVA's list of conversations": "llava",
    "a tab-separated list of `filepath` and `title`, as for open_clip": "open_clip_filepath_and_title",
    "a text file beside each photo: `001.jpg`, `001.txt`": "text_files",
    "`image_1.jpg` and `caption_1.txt`, `images/train/1.jpg` and `texts/train/1.txt`": "texts_with_folders",
    "several text files for a photo: `001_1.txt`, `001_2.txt` or `001.en.txt`, `001.de.txt`": "texts_in_two_languages",
    "a `.caption` file beside each photo": "caption_files",
    "a text for each folder of images, as in MIMIC-CXR": "reports_beside_the_folders_of_their_images",
    "a table with a row for each folder of images": "folders_with_a_row_each",
    "a table with columns for the folder and the name of a photo": "equal_names_in_several_folders",
    "photos with descriptions from Google Takeout": "google_takeout",
    "`{name: captions}` as YAML": "yaml_mapping",
    "a table that is compressed": "compressed_table",
    "an export of Label Studio and its `upload/`": "export_of_label_studio",
    "Markdown notes with photos: `![caption](photo.jpg)`": "markdown_notes",
    "a table with photos in a Markdown file, as GitHub shows it": "a_table_in_markdown",
    "an HTML page with photos": "html_album",
    "a table of photos in an HTML page": "a_table_in_html",
    "IAPR TC-12: `annotations/` and `images/`": "iapr_tc12",
    "Chinese-CLIP's `train_imgs.tsv` and `train_texts.jsonl`": "chinese_clip",
    "a table with the images in base64, as for OFA": "ofa",
    "`train.csv`, `val.csv` and `test.csv` beside `images/`": "by_csv_files",
    "parquet files that hold the images": "by_parquet_names",
    "what `save_to_disk` of `datasets` wrote": "saved_to_disk",
    "WebDataset shards, as img2dataset writes them": "img2dataset_shards",
    "the same, named by a pattern": "shards_with_json_alone",
    "a zip or tar of any of these folders": "zip_of_a_folder",
    "zips of images and captions side by side, as Flickr8k and COCO are downloaded": "images_and_captions_in_two_zips",
    "a table beside a zip or tars of its images": "a_table_beside_several_tars_of_images",
    "an export of Instagram": "instagram",
    "an export of Facebook": "facebook",
    "an export of Telegram": "telegram",
    "an archive of X (Twitter)": "x_formerly_twitter",
    "an export of Flickr": "flickr",
    "what Instaloader or gallery-dl saved": "instaloader",
    "an export of CVAT for images": "cvat",
    "an export of Labelbox": "labelbox",
    "an export of Supervisely": "supervisely",
    "an export of doccano": "doccano",
    "answers from Mechanical Turk or Toloka": "answers_on_mechanical_turk",
    "an export of Discord as JSON": "messages_of_discord",
    "ROCO, or the captions of ImageCLEF": "roco",
    "Recipe1M: `layer1.json`, `layer2.json` and the images": "recipe1m",
    "a project of VIA (VGG Image Annotator)": "via_project",
    "a dataset of FiftyOne": "fiftyone",
    "photos captioned in Lightroom, darktable or digiKam (XMP, IPTC, EXIF)": "xmp_in_the_photos",
    "an SQLite database that names the photos, such as digiKam's": "database_of_digikam",
    "images from ComfyUI, InvokeAI or Stable Diffusion's web page, which contain their prompts": "comfyui",
    "captions that OpenAI, Anthropic or Gemini wrote in a batch": "a_batch_of_openai",
    "file names that are captions: `a_dog_on_a_beach_01.jpg`": "captions_as_file_names",
    "messages for fine-tuning, as for LLaMA-Factory": "llama_factory",
    "a table of images and a table of captions with a common key": "keys_with_different_names",
    "images named by numbers, and a file with a caption in each line": "lines_in_the_order_of_numbered_images",
    "a list of images, and captions in the same lines of other files, as in Multi30k": "texts_line_by_line",
    "boxes for a detector, from YOLO, Pascal VOC, LabelMe, COCO or Roboflow": "yolo_with_folders_of_images_and_labels",
}
WITHOUT_CAPTIONS = [
    ("a table of names and labels, such as `id,breed`", "`--dataset_name photos`"),
    ("a list of paths and class numbers, with `classes.txt`", "`--dataset_name photos`"),
    (
        "a table with a column for each class: 0 and 1, TRUE and FALSE, crosses, or 1 and -1 as in CelebA",
        "`--dataset_name photos`",
    ),
    ("classes in file names: `cat.12.jpg`", "`--dataset_name photos`"),
    ("a CSV file of pixels, as Kaggle has MNIST and FER-2013, with `classnames.txt`", "`--zero_shot_dataset photos`"),
    ("choices made in Label Studio, Labelbox, Prodigy, CVAT or SageMaker Ground Truth", "`--zero_shot_dataset photos`"),
    ("iNaturalist's JSON: classes in COCO's format", "`--zero_shot_dataset photos`"),
    ("ImageNet as on Kaggle, or Tiny ImageNet", "`--zero_shot_dataset photos`"),
    ("a folder of photos for each class", "`--zero_shot_dataset photos`"),
    ("CLIP_benchmark's export: `classnames.txt`, templates and `test/0.tar`", "`--zero_shot_dataset photos`"),
    ("a dataset on the Hub", "`--dataset_name owner/name`"),
    ("no data yet", "`--dataset_name shapes`"),
]


def draw(name: str, folder) -> str:
    """Draw a layout, and return what to type."""
    folder.mkdir()
    if name in LAYOUTS:
        return LAYOUTS[name](folder)[0]
    if write := EXPORTS.get(name) or PUBLISHED.get(name) or BOXES.get(name):
        write(folder)
        return str(folder)
    (write,) = [write for write in SPLIT_LAYOUTS if write.__name__ == name]
    write(folder)
    return str(folder)


def table(folder) -> str:
    """The table as docs/data.md must have it."""
    lines = ["| you have this | type that |", "|---|---|"]
    for number, (have, name) in enumerate(ROWS.items()):
        typed = draw(name, folder / str(number)).replace(str(folder / str(number)), "photos")
        lines.append(f"| {have} | `--dataset_name {typed}` |")
    return "\n".join(lines + [f"| {have} | {typed} |" for have, typed in WITHOUT_CAPTIONS])


def test_the_table_is_up_to_date(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^\| you have this .*?(?=\n\n)", page, re.DOTALL | re.MULTILINE)
    assert found == table(tmp_path)
    assert page.index("| you have this") < page.index("\n## ")


@pytest.mark.parametrize("name", ROWS.values())
def test_what_it_says_is_read(tmp_path, monkeypatch, name):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert len(pictures_and_captions(load_split(draw(name, tmp_path / "photos"), "all"))) == 24
