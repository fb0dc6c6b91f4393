"""Reads tables from files of JSON, YAML and TOML, also from those that other programs would refuse."""

import ast
import itertools
import json
import re
import tomllib

import yaml

from miniclip.data.encodings import decode_table
from miniclip.data.keyed_lists import as_list
from miniclip.data.names import IMAGE_SUFFIXES, is_image_name
from miniclip.data.record_tables import table_of_records
from miniclip.data.records import image_in, records_of
from miniclip.data.skipped import SkipReport
from miniclip.data.tables import Table, split_lines
from miniclip.utils.errors import UserError

SHORT_LINK = re.compile(r" ?https://t\.co/\w+(?=\s|\")")
NAMES_IMAGES = re.compile(rf"\.(?:{'|'.join(IMAGE_SUFFIXES)})\b", re.IGNORECASE)
FENCED = re.compile(r"^```(?:json\w*)?[ \t]*\r?\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Possessive repetitions (`*+`) keep the time linear where a text has no end.
STRING = r"(\"(?:\\.|[^\"\\])*+\")"
OTHER_STRINGS = r"'(?:\\.|[^'\\])*+'|`(?:\\.|[^`\\])*+`"
NAME = r"(?<![\w$])[A-Za-z_$][\w$]*+(?=\s*+:)"
JSON5_TOKEN = re.compile(rf"{STRING}|{OTHER_STRINGS}|//[^\n]*|/\*.*?\*/|{NAME}|\bundefined\b", re.DOTALL)
ASSIGNED = re.compile(r"(?:=|\bexport\s+default|\breturn|\()\s*(?=[\[{])")
LAST_COMMA = re.compile(rf"{STRING}|,(?=\s*[}}\]])")
BETWEEN_VALUES = re.compile(r"[\s,]*")
MOST_ASSIGNED = 1000  # values of a script to look at
MOST_LITERAL = 50_000_000  # characters of a Python literal, which takes far more memory to parse than JSON


def read_yaml_table(content: bytes, name: str) -> Table | None:
    """A table from the bytes of a YAML file, such as lines of `001.jpg: a caption`; `None` if it holds no records."""
    text, encoding = decode_table(content, name)
    try:
        records = records_of(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if not NAMES_IMAGES.search(text):  # the configuration of another program
            return None
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}, column {place.column + 1}" if place else ""
        raise UserError(f"{name} is no valid YAML{where}: correct it there") from error
    return None if records is None else table_of_records(records, f"yaml, {encoding}")


def read_toml_table(content: bytes, name: str) -> Table | None:
    """A table from the bytes of a TOML file, which is read as YAML is; `None` if it holds no records."""
    text, encoding = decode_table(content, name)
    if not NAMES_IMAGES.search(text):  # the configuration of another program
        return None
    try:
        records = records_of(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{name} is no valid TOML ({error}): correct it there") from error
    return None if records is None else table_of_records(records, f"toml, {encoding}")


def read_script_table(content: bytes, name: str) -> Table | None:
    """A table from the first value in a script of JavaScript that names images, as in archives of X (Twitter), without
    the short links that end its posts, and in galleries of web pages. `None` if there is none."""
    text, encoding = decode_table(content, name)
    if not NAMES_IMAGES.search(text):
        return None
    text = _plain_json(SHORT_LINK.sub("", text))
    decoder = json.JSONDecoder(object_pairs_hook=_without_losing_repeated_names)
    for match in itertools.islice(ASSIGNED.finditer(text), MOST_ASSIGNED):
        try:
            value, _ = decoder.raw_decode(text, match.end())
        except (json.JSONDecodeError, RecursionError):
            continue
        if _names_images(value) and (records := records_of(value)):
            return table_of_records(records, f"a script, {encoding}")
    return None


def read_python_table(content: bytes, name: str) -> Table | None:
    """A table from the first literal in a module of Python that names images; `None` if there is none. No code is
    run."""
    text, encoding = decode_table(content, name)
    try:
        body = ast.parse(text).body if NAMES_IMAGES.search(text) and len(text) <= MOST_LITERAL else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    for node in body:
        value = _evaluated(node.value) if isinstance(node, ast.Assign | ast.AnnAssign) and node.value else None
        if _names_images(value) and (records := records_of(value)):
            return table_of_records(records, f"a Python literal, {encoding}")
    return None


def _names_images(value) -> bool:
    return image_in(value) is not None or (isinstance(value, dict) and any(map(is_image_name, value)))


def read_json_table(content: bytes, name: str) -> Table | None:
    """
    A table from the bytes of a JSON or JSON lines file; `None` if it holds no records.

    Nested captions become lists of texts, and records about the same image are joined.

    Raises:
        UserError: the file is broken; the message says where.
    """
    text, encoding = decode_table(content, name)
    kind = "json"
    try:
        value = json.loads(text, object_pairs_hook=_without_losing_repeated_names)
    except json.JSONDecodeError as error:
        kind, value = "a Python literal", _literal(text)
        if value is None and not _begins_with_a_record(text):
            kind, value = "json", _values(text)
        if value is None:
            return _read_lines(text, name, encoding, error)
    except RecursionError as error:
        raise UserError(f"{name} is nested too deeply to be read as a table") from error
    records = records_of(value)
    return None if records is None else table_of_records(records, f"{kind}, {encoding}")


def fenced(text: str) -> str:
    """The JSON between the fences of Markdown, as language models write it, or else the text."""
    match = FENCED.search(text)
    return match.group(1) if match else text


def _begins_with_a_record(text: str) -> bool:
    """Whether the first line is a record, as in JSON lines, which need not be parsed as anything else."""
    try:
        return isinstance(_parsed_line(next(split_lines(text), "")), dict)
    except (ValueError, RecursionError):
        return False


def _values(text: str) -> list | dict | None:
    """JSON that people have written or programs put together: between fences, with comments, as JSON5, or several
    values one after the other. `None` if it is something else."""
    text = _plain_json(fenced(text)).strip()
    decoder = json.JSONDecoder(object_pairs_hook=_without_losing_repeated_names)
    values, place = [], 0
    try:
        while place < len(text):
            value, place = decoder.raw_decode(text, place)
            values.append(value)
            place = BETWEEN_VALUES.match(text, place).end()
    except (json.JSONDecodeError, RecursionError):
        return None
    if not all(isinstance(value, dict | list) for value in values):
        return None
    return values[0] if len(values) == 1 else values


def _plain_json(text: str) -> str:
    """JSON instead of JSON5 (https://spec.json5.org), as JavaScript writes objects: without comments and commas after
    the last entry, and with double quotes around texts and names."""
    return LAST_COMMA.sub(r"\1", JSON5_TOKEN.sub(_plain_token, text))


def _plain_token(match: re.Match) -> str:
    found = match.group()
    if found.startswith('"'):
        return found
    if found[0] in "'`":
        text = re.sub(r"\\(['`])", r"\1", found[1:-1]).replace("\n", "\\n")
        return '"' + re.sub(r'(?<!\\)"', r"\"", text) + '"'
    if found.startswith(("//", "/*")):
        return ""
    return "null" if found == "undefined" else f'"{found}"'


def _literal(text: str) -> dict | list | None:
    """A dict or list as Python prints it, which may also end with a comma; `None` if the text is none."""
    is_literal = text.lstrip()[:1] in ("{", "[") and len(text) <= MOST_LITERAL
    return _evaluated(text.strip()) if is_literal else None


def _evaluated(literal: str | ast.expr) -> dict | list | None:
    """The value of a literal, with lists instead of tuples, as in JSON; `None` if it is no dict or list."""
    try:
        value = ast.literal_eval(literal)
        value = list(value) if isinstance(value, tuple) else value
        return json.loads(json.dumps(value)) if isinstance(value, dict | list) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _without_losing_repeated_names(pairs: list[tuple]) -> dict:
    """A dict in which the lists under a repeated name are joined."""
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    result = {}
    for name, value in pairs:
        if name in result:
            value = as_list(result[name]) + as_list(value)
        result[name] = value
    return result


def _read_lines(text: str, name: str, encoding: str, error: json.JSONDecodeError) -> Table | None:
    """One record per line. Other lines are counted."""
    records, skipped = [], SkipReport()
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        try:
            record = _parsed_line(line)
            if not isinstance(record, dict):
                raise ValueError("no record")
            records.append(record)
        except (ValueError, RecursionError):
            skipped.add(number, "not a JSON record")
    if len(records) < 2 and (not records or skipped.count):
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{name} is cut off or broken at {where} ({error.msg}): write or download it again")
    table = table_of_records(records, f"one JSON record per line, {encoding}")
    table.skipped.extend(skipped)
    return table


def _parsed_line(line: str):
    try:
        return json.loads(line, object_pairs_hook=_without_losing_repeated_names)
    except json.JSONDecodeError:
        return _literal(line)
