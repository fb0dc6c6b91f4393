"""Words for classes: folder names as a person would say them, and files with the names of classes."""

import json
import re
from collections import Counter
from collections.abc import Collection

from miniclip.data.encodings import decode_text
from miniclip.data.sources import Inventory
from miniclip.data.tables import split_lines
from miniclip.utils.errors import UserError

WORDNET_ID = re.compile(r"n\d{8}")
NAMES_FILES = (
    *("classnames.txt", "class_names.txt", "classes.txt", "names.txt", "labels.txt", "synset_words.txt", "words.txt"),
    *("loc_synset_mapping.txt", "classnames.csv", "class_names.csv", "classes.csv", "names.csv", "labels.csv"),
    *("class_names.json", "classes.json", "classnames.json", "labels.json", "imagenet_class_index.json", "names.json"),
    *("class-descriptions.csv", "class-descriptions-boxable.csv", "oidv7-class-descriptions.csv"),  # Open Images
    *("wnids_to_names.txt", "class_to_name.json", "cat_to_name.json", "label_map.txt"),
)
# Words for class numbers under other names, such as `label_num_to_disease_map.json`.
NUMBERS_FILE = re.compile(r"[^/]*(?:label|class|categor|name|species)[^/]*\.json", re.IGNORECASE)


def as_words(name: str) -> str:
    """`tench_fish`, `03_tench`, `001.Black_footed_Albatross` and `AnnualCrop` as words."""
    text = re.sub(r"^(\d+|n\d{8})[ ._\-]+(?=\S)", "", name.strip())
    text = re.sub(r"[_\s]+|(?<=\w)-(?=\w)" if " " not in text and "_" not in text else r"[_\s]+", " ", text).strip()
    if " " not in text and re.search(r"[a-z][A-Z]", text):
        text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    return text or name


def says_nothing(name: str) -> bool:
    """Whether a class name is a code that no text encoder can know."""
    return bool(WORDNET_ID.fullmatch(name) or re.fullmatch(r"\d+|class_?\d+|[a-z]?\d{2,}", name))


def names_file(inventory: Inventory, codes: Collection[str], tables: Collection[str] = ()) -> dict[str, str]:
    """
    The words for each class, from a file such as `classnames.txt` at the top of the folder. Empty without such a file.

    Lines hold a code and its words (`n01440764 tench, Tinca tinca`), or only words, which then belong to the classes in
    their order. If these are numbers, the first line belongs to 0, or to 1 if the last one belongs to the largest.

    Args:
        codes: names of the classes in folders or tables.
        tables: files that name images, which are no names files: `labels.csv` may be either.
    """
    files = [file for file in inventory.files if file not in tables]
    for file in files:
        if "/" not in file and file.lower() in NAMES_FILES:
            try:
                if words := _read(inventory, file, codes):
                    return words
            except UserError:
                continue
    maps = (_from_json(inventory, file) for file in files if NUMBERS_FILE.fullmatch(file))
    return next((words for words in maps if len(words) > 1 and all(map(str.isdecimal, words))), {})


def words_of_wordnet(codes: Collection[str]) -> dict[str, str]:
    """
    The words for ImageNet's codes, such as `n01440764`, as timm has them for 21,841 classes; empty if there are other
    names. Classes of the same name, such as both kinds of cranes, get their definitions.
    """
    if not codes or not all(map(WORDNET_ID.fullmatch, codes)):
        return {}
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    known = sorted(set(codes) & set(info.label_names()))
    words = {code: _first_word(info.label_name_to_description(code)) for code in known}
    counts = Counter(words.values())
    for code in known:
        if counts[words[code]] > 1:
            definition = info.label_name_to_description(code, detailed=True).partition(": ")[2]
            words[code] += f", {definition.partition(';')[0]}"
    return words


def _read(inventory: Inventory, file: str, classes: Collection[str]) -> dict[str, str]:
    if file.endswith(".json"):
        return _from_json(inventory, file)
    text, _ = decode_text(inventory.read(file))
    lines = [line.strip() for line in split_lines(text) if line.strip()]
    pairs = [re.match(r"([^\s,;:\t]+)\s*[\s,;:\t=]\s*(.+)", line) for line in lines]
    codes = {pair.group(1) for pair in pairs if pair}
    if classes and len(codes & set(classes)) >= 0.5 * len(classes):
        return {pair.group(1): _first_word(pair.group(2)) for pair in pairs if pair}
    if all(pair and (WORDNET_ID.fullmatch(pair.group(1)) or pair.group(1).isdecimal()) for pair in pairs) and pairs:
        return {pair.group(1): _first_word(pair.group(2)) for pair in pairs}
    if all(map(str.isdecimal, classes)):
        largest = max(map(int, classes), default=0)
        first = int(largest == len(lines) and 0 not in map(int, classes))
        return {str(first + number): line for number, line in enumerate(lines)} if largest < first + len(lines) else {}
    written = {as_words(line).lower(): line for line in lines}
    same = {name: written[words] for name in classes if (words := as_words(name).lower()) in written}
    if same:  # `dog` and `cat` in any order
        return same
    return dict(zip(sorted(classes), lines, strict=True)) if len(lines) == len(classes) else {}


def _first_word(words: str) -> str:
    """The first of several names for one thing, as in "tench, Tinca tinca"."""
    return words.strip().strip('"').split(",")[0].strip()


def _from_json(inventory: Inventory, file: str) -> dict[str, str]:
    text, _ = decode_text(inventory.read(file))
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {str(number): name for number, name in enumerate(value)}
    if not isinstance(value, dict):
        return {}
    words = {}
    for key, part in value.items():
        if isinstance(part, str):
            words[str(key)] = part
        elif isinstance(part, list) and len(part) == 2 and all(isinstance(item, str) for item in part):
            words[part[0]] = part[1].replace("_", " ")  # {"0": ["n01440764", "tench"]}, as in Keras and timm
        elif isinstance(part, int):
            words[str(part)] = str(key)
    return words
