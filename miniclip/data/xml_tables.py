"""Reads XML as JSON is read: an element is a record of its attributes, its children and its text."""

import re
from xml.etree import ElementTree

from miniclip.data.json_tables import NAMES_IMAGES
from miniclip.data.record_tables import table_of_records
from miniclip.data.records import records_of
from miniclip.data.tables import Table
from miniclip.utils.errors import UserError

MOST_NESTED = 50  # elements within each other
DEFINES_ENTITIES = re.compile(rb"<!ENTITY", re.IGNORECASE)  # a few of them can stand for gigabytes


def read_xml_table(content: bytes, name: str) -> Table | None:
    """
    A table from the bytes of an XML file, such as an export of CVAT; `None` if it names no images.

    Raises:
        UserError: the file is broken; the message says where.
    """
    if not NAMES_IMAGES.search(content.decode("latin-1")):
        return None
    try:
        records = records_of(record_in_xml(content))
    except ValueError as error:
        raise UserError(f"{name} is no valid XML ({error}): write or download it again") from error
    return None if records is None else table_of_records(records, "xml")


def record_in_xml(content: bytes) -> dict | str:
    """
    The root element as a record.

    Raises:
        ValueError: no XML, XML that defines entities, or XML that is nested too deeply.
    """
    if DEFINES_ENTITIES.search(content):
        raise ValueError("it defines entities")
    try:
        return _value(ElementTree.fromstring(content), 0)  # noqa: S314  # it defines no entities
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error


def _value(element: ElementTree.Element, level: int) -> dict | str:
    if level > MOST_NESTED:
        raise ValueError("it is nested too deeply")
    children: dict[str, list] = {}
    for child in element:
        children.setdefault(child.tag.rpartition("}")[2], []).append(_value(child, level + 1))
    record = dict(element.attrib) | {tag: parts[0] if len(parts) == 1 else parts for tag, parts in children.items()}
    text = (element.text or "").strip()
    if not record:
        return text
    return record | ({"text": text} if text else {})
