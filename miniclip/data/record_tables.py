"""Makes a table of records, with one row for each image that a record contains."""

import re

from miniclip.data.cell_texts import ANSWERERS, is_conversation, speaker
from miniclip.data.keyed_lists import as_list
from miniclip.data.names import IMAGE_NAMES, is_image_name, plain_name
from miniclip.data.records import MOST_LEVELS, image_in, names_an_image
from miniclip.data.tables import MAX_CELL, MAX_COLUMNS, Table
from miniclip.utils.errors import UserError

IMAGE_IDS = re.compile(r"(image|img|item)_?ids", re.IGNORECASE)
PEOPLE = ("author", "user", "owner", "sender", "actor", "creator", "account", "profile")  # who have a picture, too
PORTRAIT = re.compile(r"avatar|profile|portrait|icon|logo", re.IGNORECASE)


def table_of_records(records: list[dict], how: str) -> Table:
    """
    A table whose columns are the fields of the records. Nested records with an image become rows of their own.

    Args:
        how: how the file was read, for messages.

    Raises:
        UserError: there are too many different fields.
    """
    names: dict[str, None] = {}
    records = [_with_class_names(record) for record in records]
    records = [part for record in records for lifted in _lifted(record) for part in _one_an_image(lifted)]
    for record in records:
        names.update(dict.fromkeys(map(_field, record)))
        if len(names) > MAX_COLUMNS:
            raise UserError(f"its records have more than {MAX_COLUMNS:,} different fields; this is no table of images")
    table = Table({name: [] for name in names}, how)
    for number, record in enumerate(records):
        record = _with_folder({_field(key): cell for key, cell in record.items()})
        if any(isinstance(cell, str) and (len(cell) > MAX_CELL or "\x00" in cell) for cell in record.values()):
            table.skipped.add(number, "a text that is too long or holds NUL bytes")
            continue
        for name, column in table.columns.items():
            column.append(record.get(name))
    return table


def _with_class_names(record: dict) -> dict:
    """The record with the words for its labels, which SageMaker Ground Truth keeps beside the numbers:
    `{"pet": 0, "pet-metadata": {"class-name": "dog"}}`, or with several labels `{"class-map": {"0": "dog"}}`."""
    told = {name: cell for name, cell in record.items() if str(name).endswith("-metadata") and isinstance(cell, dict)}
    if not any("job-name" in cell or "class-name" in cell for cell in told.values()):
        return record
    found = {name: cell for name, cell in record.items() if name not in told}
    for name, cell in told.items():
        answer = name.removesuffix("-metadata")
        if "class-name" in cell:
            found["label"] = cell["class-name"]
            found.pop(answer, None)
        elif isinstance(cell.get("class-map"), dict):
            found["caption"] = ", ".join(map(str, cell["class-map"].values())) or None
            found.pop(answer, None)
    return found


def _lifted(record: dict, levels: int = MOST_LEVELS) -> list[dict]:
    """
    One record for each image deeper in a record, with the fields around it: `{"data": {"image": "1.jpg"}}` of Label
    Studio, posts with `media` in exports of Instagram, and messages that contain an image.
    """
    if levels == 0 or names_an_image(record):
        return [record]
    unnamed = image_in(record) is None
    for name, cell in sorted(record.items(), key=lambda field: _is_someone(*field)):
        parts = [part for part in as_list(cell) if isinstance(part, dict) and image_in(part)]
        if unnamed and isinstance(cell, dict) and _is_image_without_suffix(name, cell):
            parts = [cell]
        if parts and is_conversation(as_list(cell)) and any(speaker(part) in ANSWERERS for part in cell):
            return [{**record, "image": image_in(parts)}]
        if parts:
            outer = {key: value for key, value in record.items() if key != name}
            if any("id" in part for part in parts) and "id" in outer:  # other tables may name the record by it
                outer["outer_id"] = outer.pop("id")
            inner = [{key: value for key, value in part.items() if value or key not in outer} for part in parts]
            return [lifted for part in inner for lifted in _lifted({**outer, **part}, levels - 1)]
    return [record]


def _is_image_without_suffix(name: object, cell: dict) -> bool:
    """Whether a field is a record of an image: `{"image": {"file": "photo 1", "width": 640}}`."""
    return plain_name(name) in IMAGE_NAMES and not {*IMAGE_NAMES, "id", "name"}.isdisjoint(map(plain_name, cell))


def _is_someone(name: object, cell: object) -> bool:
    """Whether a field is about a person, whose picture is not that of the record."""
    fields = cell.items() if isinstance(cell, dict) else ()
    pictures = [key for key, part in fields if isinstance(part, str) and is_image_name(part)]
    return plain_name(name) in PEOPLE or bool(pictures) and all(PORTRAIT.search(str(key)) for key in pictures)


def _one_an_image(record: dict) -> list[dict]:
    """One record for each image of a text: Chinese-CLIP's texts have `image_ids`, and MUGE's `item_ids`."""
    for name, cell in record.items():
        if IMAGE_IDS.fullmatch(str(name)) and isinstance(cell, list) and cell:
            return [{**record, name: image} for image in cell]
    return [record]


def _field(name: object) -> str:
    """A valid column name."""
    return str(name).replace("\x00", "").encode("utf-8", errors="replace").decode().strip() or "column"


def _with_folder(record: dict) -> dict:
    """Add the folder to the image name: Karpathy's COCO keeps it in another field, `filepath`."""
    folder, name = record.get("filepath"), record.get("filename")
    if isinstance(folder, str) and isinstance(name, str) and folder and not is_image_name(folder):
        return {**record, "filename": f"{folder}/{name}"}
    return record
