"""Usual names of columns, files and splits."""

import re

IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif"),
    *("ppm", "pgm", "jp2"),
)

RAW_SUFFIXES = ("cr2", "cr3", "nef", "arw", "dng", "raf", "orf", "rw2", "pef", "srw")  # what cameras' sensors saw

# In order of preference. Names are compared in lower case, with `_` for spaces and other characters.
IMAGE_NAMES = (
    *("image", "img", "jpg", "jpeg", "png", "webp", "photo", "picture", "pic", "image_path", "img_path"),
    *("image_file", "image_filename", "image_file_name", "image_name", "img_name", "file_name", "filename", "file"),
    *("filepath", "file_path", "path", "imagepath", "imagename", "images", "bytes", "image_bytes", "img_bytes"),
    *("image_id", "img_id", "imageid", "image_data", "photo_path", "bild", "datei", "foto"),
)
CAPTION_NAMES = (
    *("caption", "captions", "text", "txt", "texts", "sentences", "sentence", "raw", "description", "descriptions"),
    *("comment", "comments", "alt_text", "alt", "alttext", "image_alt_text", "image_alt", "prompt", "prompts"),
    *("title", "titles", "caption_text"),
    *("caption_str", "reference_strs", "image_caption", "image_description", "blip_caption", "conversations"),
    *("messages", "response", "answer", "completion", "output", "suffix", "phrase", "beschreibung"),
    *("bildunterschrift", "titel", "query", "p"),
)
LABEL_NAMES = (
    *("label", "labels", "cls", "class", "class_name", "classname", "category", "category_name", "fine_label"),
    *("target", "species", "breed", "dx", "diagnosis", "emotion", "klasse", "kategorie"),
    *("label_name", "class_id", "class_idx", "label_id", "category_id", "target_class", "prediction_string"),
)
SPLIT_NAMES = ("split", "subset", "partition", "set", "fold", "phase", "data_split", "usage")
SPLIT_FLAGS = ("is_train", "is_training", "istrain", "in_train")  # columns of true and false
URL_NAMES = ("url", "image_url", "img_url", "urls", "link", "image_link", "photo_image_url", "imageurl")

LANGUAGES = (
    *("ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "it", "ja", "ko", "nl", "pl"),
    *("pt", "ro", "ru", "sv", "sw", "ta", "te", "th", "tr", "uk", "ur", "vi", "zh", "arabic", "chinese", "english"),
    *("french", "german", "hindi", "italian", "japanese", "korean", "portuguese", "russian", "spanish", "turkish"),
    *("zh_cn", "zh_tw", "en_us", "en_gb", "pt_br"),
)
# Between the name of an image and the suffix of a text about it.
DESCRIBING = ("info", "meta", "metadata", "caption", "captions", "desc", "description", "prompt", "tags", *LANGUAGES)

SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train", "restval": "train",
    "trainval": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation", "eval": "validation",
    "publictest": "validation", "privatetest": "test",  # of FER-2013
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip


def plain_name(name: object) -> str:
    """A column name in lower case with `_` between words: "Image Name" and "imageName" become "image_name". Programs
    for crowd work mark the columns: "Answer.caption" and "OUTPUT:caption" become "caption"."""
    text = re.sub(r"(?:input|output|answer)[.:](?=\w)", "", str(name).strip().strip("\ufeff"), flags=re.IGNORECASE)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)
    return re.sub(r"[^\w]+", "_", text.lower()).strip("_")


def canonical_split(name: str) -> str:
    """The usual name of a split: "val", "dev" and "valid" are "validation"; others stay as they are."""
    return SPLIT_WORDS.get(name.strip().lower(), name.strip())


def split_in_name(text: str) -> str | None:
    """The split that a file or folder is named after, as in `captions_train2017` or `Flickr_8k.devImages`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)
    found = [SPLIT_WORDS[word.lower()] for word in words if word.lower() in SPLIT_WORDS]
    return found[0] if found else None


def described_image(stem: str) -> str:
    """
    The name of the image that a text file describes, perhaps without its suffix, from the file's own name.

    Google Takeout writes `1.jpg.supplemental-metadata.json`, and cuts long names off anywhere in the second part.
    Others write `1.info.json`, or `1.en.txt` for a language.
    """
    image, _, ending = stem.rpartition(".")
    cut_off = is_image_name(image) and ending and "supplemental-metadata".startswith(ending)
    return image if cut_off or image and ending.lower() in DESCRIBING else stem


def is_image_name(name: str) -> bool:
    """Whether a file has the suffix of an image format."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES and "." in name
