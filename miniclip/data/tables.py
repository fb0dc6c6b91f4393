"""Reads text tables: finds the delimiter and the header, and copes with broken rows."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from miniclip.data.attribute_lists import attribute_columns
from miniclip.data.encodings import decode_table
from miniclip.data.names import CAPTION_NAMES, IMAGE_NAMES, IMAGE_SUFFIXES, plain_name
from miniclip.data.skipped import SkipReport
from miniclip.data.written_lines import fits_names_and_texts, has_named_fields, names_above_texts, names_and_texts
from miniclip.utils.errors import UserError

DELIMITERS = {"\t": "tabs", "|": "pipes", ";": "semicolons", ",": "commas"}
MAX_COLUMNS = 1000
MAX_CELL = 100_000  # characters; captions have hundreds
SNIFFED_LINES = 60
WORDS_OF_TAGS = 2.5  # in a tag, on average; captions have more
# Such a cell may have several lines.
QUOTED_BETWEEN_TABS = re.compile(r'\t"[^\t"]*(?:""[^\t"]*)*"(?:\t|\r|\n|$)|^"[^\t\r\n]*"\t', re.MULTILINE)
IMAGE_CELL = re.compile(rf"\s*[^,;|\t\r\n\"]{{1,400}}\.(?:{'|'.join(IMAGE_SUFFIXES)})(?:#\w+)*\s*", re.IGNORECASE)
# Quotes around a whole cell, as word processors set them.
CURLY_CELL = re.compile(r"(^|[,;|\t] ?)[“„«”]([^“”„«»\r\n]*)[”“»](?= ?(?:[,;|\t\r\n]|\Z))", re.MULTILINE)
ESCAPED_QUOTE = re.compile(r'[\w ]\\"\w|[\w.!?]\\""')  # `"a \"red\" ball"`, unlike the end of `"C:\photos\"`
DOUBLED_QUOTE = re.compile(r'[^\\,;|\t\r\n]""')  # unlike an empty cell
PREFACE_LINE = re.compile(r"(?:sep=.|#[^\r\n]*)(?:\r\n|\r|\n)")  # Excel's `sep=;`, or a comment


@dataclass
class Table:
    """
    Args:
        columns: values of each column; all columns have the same length.
        how: the format of the file in words, such as "separated by commas, utf-8".
        skipped: rows that were left out.
    """

    columns: dict[str, list]
    how: str = ""
    skipped: SkipReport = field(default_factory=SkipReport)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


def read_text_table(content: bytes, name: str) -> Table | None:
    """
    A table from the bytes of a text file; `None` if the file is plain text.

    Args:
        content: content of the file.
        name: name of the file, for messages.

    Raises:
        UserError: the file is too broken to read.
    """
    text, encoding = decode_table(content, name)
    preface, text = text[: _preface(text)], _with_usual_quotes(text[_preface(text) :])
    lines = list(_first_lines(text))
    if attribute_columns(lines) and (columns := attribute_columns(list(split_lines(text)))):
        return Table(columns, f"a list of attributes, {encoding}")
    if table := _names_above_texts(text, lines, encoding):
        return table
    delimiter = _sniff_delimiter(lines) or _sniff_delimiter(_without_breaks_in_quotes(lines))
    written = has_named_fields(lines) or (
        delimiter is not None and not _are_cells(lines, delimiter) and fits_names_and_texts(lines)
    )
    if delimiter is None or written:
        heading = next(reversed(list(split_lines(preface))), "")
        numbers = "partition" if "partition" in name.lower() else "label"
        return _written_lines(text, lines, encoding, numbers, heading)
    options = {"delimiter": delimiter, "skipinitialspace": bool(re.search(re.escape(delimiter) + ' +"', text))}
    quoted = rf"'[^']*'(?:{re.escape(delimiter)}\s*'[^']*')+{re.escape(delimiter)}?\s*"
    if lines and re.fullmatch(quoted, lines[0]):
        options["quotechar"] = "'"
    rows, mended = _parse(text, options)
    header, second = (next((row for row in rows if any(cell.strip() for cell in row)), None) for _ in range(2))
    if header is None:
        return None
    _check_width(header, name)
    glue = delimiter + " " * options["skipinitialspace"]
    first_rows = [header, *([] if second is None else [second])]
    if _has_delimiters_in_texts(lines, delimiter):
        first_rows, rows = ([[row[0], glue.join(row[1:])] for row in part if row] for part in (first_rows, rows))
    table = _table(first_rows, iter(rows), glue)
    table.how = f"separated by {DELIMITERS[delimiter]}, {encoding}"
    if mended.count:
        table.how += f", quotes left open in {mended.count} lines"
    return table


def _has_delimiters_in_texts(lines: list[str], delimiter: str) -> bool:
    """Whether lines without quotes are a name and a caption with commas or semicolons in it, `1.jpg,a dog, running`.
    Some of them have no more than two cells, or the cells are so short that they are tags."""
    if delimiter not in (",", ";") or any('"' + delimiter in line or delimiter + '"' in line for line in lines):
        return False
    rows = [line.split(delimiter) for line in lines]
    lengths = set(map(len, rows))
    if min(lengths, default=0) < 2 or len(lengths) == 1 or not all(IMAGE_CELL.fullmatch(row[0]) for row in rows):
        return False
    words = [len(cell.split()) for row in rows for cell in row[1:]]
    return min(lengths) == 2 or sum(words) < WORDS_OF_TAGS * len(words)


def table_of_rows(rows: list[list[str]], how: str, name: str) -> Table:
    """
    A table from rows of cells, the first of which may be a header.

    Args:
        how: the format of the file in words.
        name: name of the file, for messages.

    Raises:
        UserError: there are too many columns.
    """
    _check_width(rows[0], name)
    table = _table(rows[:2], iter(rows[2:]), "\t")
    table.how = how
    return table


def _table(first_rows: list[list[str]], rest: Iterator[list[str]], glue: str) -> Table:
    if _names_images_in_columns(first_rows):
        rows = _chain(first_rows, rest)
        first_rows, rest = [], iter([list(column) for column in itertools.zip_longest(*rows, fillvalue="")])
        first_rows = list(itertools.islice(rest, 2))
    names, first_rows = _header(first_rows)
    return _collect(names, _chain(first_rows, rest), glue)


def _names_images_in_columns(first_rows: list[list[str]]) -> bool:
    """Whether a table has a column for each image, with its captions below its name."""
    if len(first_rows) < 2:
        return False
    header, below = (row[1:] for row in first_rows)  # the first column may have names of its own
    images = [bool(IMAGE_CELL.fullmatch(cell)) for cell in header]
    texts = [" " in cell.strip() and not IMAGE_CELL.fullmatch(cell) for cell in below]
    return len(images) > 1 and all(images) and bool(texts) and all(texts)


def _check_width(row: list[str], name: str) -> None:
    if len(row) > MAX_COLUMNS:
        raise UserError(f"{name} has {len(row):,} columns, too many for a table of images: look at its first line")


def _preface(text: str) -> int:
    """Number of characters before the table. A header or a row may begin with `#` as well."""
    end = 0
    while match := PREFACE_LINE.match(text, end):
        cells = re.split(r"[\t|;,]", match.group())
        known = {plain_name(cell) for cell in cells} & {*IMAGE_NAMES, *CAPTION_NAMES}
        if len(known) > 1 or any(IMAGE_CELL.fullmatch(cell) for cell in cells):
            break
        end = match.end()
    return end


def split_lines(text: str) -> Iterator[str]:
    """Lines that end with any of the three usual line ends; `str.splitlines` also ends them at rarer characters."""
    return (match.group() for match in re.finditer(r"[^\r\n]+", text))


def _with_usual_quotes(text: str) -> str:
    """The text with the quotes that a CSV file has: two for one within a cell, where databases write a backslash, and
    straight ones around cells, if at least half of the lines have curly ones."""
    if ESCAPED_QUOTE.search(text, 0, 20 * MAX_CELL) and not DOUBLED_QUOTE.search(text, 0, 20 * MAX_CELL):
        return text.replace('\\"', '""')
    lines = list(_first_lines(text))
    if 2 * sum(CURLY_CELL.search(line) is not None for line in lines) < max(1, len(lines)):
        return text
    return CURLY_CELL.sub(lambda cell: cell.group(1) + '"' + cell.group(2).replace('"', '""') + '"', text)


def _first_lines(text: str) -> Iterator[str]:
    for number, line in enumerate(split_lines(text)):
        if number == SNIFFED_LINES:
            return
        yield line[:MAX_CELL]


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=delimiter != "\t"), [])
    except csv.Error:
        return line.split(delimiter)


def _without_breaks_in_quotes(lines: list[str]) -> list[str]:
    """The lines of which each is a row: a cell in quotes may have several. As they are if a quote stays open."""
    rows: list[str] = []
    opened = False
    for line in lines:
        rows[len(rows) - opened :] = [f"{rows[-1]}\n{line}" if opened else line]
        opened ^= line.count('"') % 2 == 1
    return lines if opened and len(lines) < SNIFFED_LINES else rows


def _sniff_delimiter(lines: list[str]) -> str | None:
    """The delimiter with which cells are image names, headers are known names, and rows have the same length."""
    scores = {}
    for delimiter in DELIMITERS:
        rows = [_cells(line, delimiter) for line in lines]
        rows = [row for row in rows if any(cell.strip() for cell in row)]
        several = [row for row in rows if len(row) > 1]
        if len(several) < max(1, 0.5 * len(rows)):
            continue
        names = {plain_name(cell) for cell in rows[0]}
        known = 2 * bool(names & set(IMAGE_NAMES)) + 2 * bool(names & set(CAPTION_NAMES)) * (len(rows[0]) > 1)
        images = sum(any(IMAGE_CELL.fullmatch(cell) for cell in row) for row in several) / len(rows)
        (_, same_length), *_ = Counter(map(len, several)).most_common(1)
        scores[delimiter] = known + 2 * images + same_length / len(rows)
    return max(scores, key=scores.get) if scores else None


def _parse(text: str, options: dict) -> tuple[Iterator[list[str]], SkipReport]:
    """Parse rows by the rules for quotes. If the file breaks these rules, parse it line by line and take the quotes in
    broken lines literally. The report counts these lines."""
    csv.field_size_limit(2**31 - 1)
    mended = SkipReport()
    if options["delimiter"] == "\t" and not QUOTED_BETWEEN_TABS.search(text[: 20 * MAX_CELL]):
        return csv.reader(io.StringIO(text, newline=""), quoting=csv.QUOTE_NONE, **options), mended
    if _quotes_are_sound(text, options):
        return csv.reader(io.StringIO(text, newline=""), strict=True, **options), mended
    return _line_by_line(text, options, mended), mended


def _quotes_are_sound(text: str, options: dict) -> bool:
    if '"' not in text:
        return True
    try:
        for row in csv.reader(io.StringIO(text, newline=""), strict=True, **options):
            for cell in row:
                # An open quote swallows the rows that follow, including their image names.
                if "\n" in cell and any(_starts_a_row(line, options["delimiter"]) for line in cell.splitlines()[1:]):
                    return False
    except csv.Error:
        return False
    return True


def _starts_a_row(line: str, delimiter: str) -> bool:
    return any(IMAGE_CELL.fullmatch(cell) for cell in line.split(delimiter))


def _line_by_line(text: str, options: dict, mended: SkipReport) -> Iterator[list[str]]:
    for number, line in enumerate(split_lines(text), start=1):
        try:
            yield next(csv.reader([line], strict=True, **options), [])
        except csv.Error:
            mended.add(number, "a quote is left open")
            yield [cell.strip().strip('"') for cell in line.split(options["delimiter"])]


def _header(first_rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Column names, and the rows that are data. Columns are called `column_0` and so on if there is no header."""
    header = [cell.replace("\x00", "").strip().strip('"') for cell in first_rows[0]]
    has_image = any(IMAGE_CELL.fullmatch(cell) for cell in header)
    known = {plain_name(cell) for cell in header} & {*IMAGE_NAMES, *CAPTION_NAMES}
    words = all(len(cell) < 60 and not cell.startswith(("http:", "https:")) for cell in header)
    is_header = words and not has_image and (bool(known) or _names_like_a_header(header, first_rows[1:]))
    if not is_header:
        return [f"column_{number}" for number in range(len(header))], first_rows
    seen: Counter = Counter()
    names = []
    for number, name in enumerate(header):
        name = name or f"column_{number}"
        names.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names, first_rows[1:]


def _names_like_a_header(header: list[str], following: list[list[str]]) -> bool:
    """Whether a row looks like a header: short cells without spaces above an image name or above longer texts."""
    if not following or not all(re.fullmatch(r"[\w .:/()\[\]#%&?\-]{0,40}", cell) for cell in header):
        return False
    longer = [len(below) > 2 * len(cell) and " " in below for cell, below in zip(header, following[0], strict=False)]
    images = [bool(IMAGE_CELL.fullmatch(cell)) for cell in following[0]]
    numbers = [_is_number(below) and not _is_number(cell) for cell, below in zip(header, following[0], strict=False)]
    return all(len(cell.split()) <= 3 for cell in header) and (any(images) or any(longer) or any(numbers))


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*-?\d+([.,]\d+)?\s*", cell))


def _chain(first: list[list[str]], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield from first
    yield from rest


def _collect(names: list[str], rows: Iterator[list[str]], glue: str) -> Table:
    """Turn rows into columns. A delimiter in an unquoted caption makes a row too long; `glue` joins its cells again."""
    width, skipped = len(names), SkipReport()
    columns: list[list[str]] = [[] for _ in names]
    image_first, image_last = plain_name(names[0]) in IMAGE_NAMES, None
    strings: dict[str, str] = {}  # keeps the name of an image with several rows only once
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > width:
                if image_last is None:
                    image_last = bool(columns[0]) and bool(IMAGE_CELL.fullmatch(columns[-1][-1]))
                row = _joined(_whole_name(row, width, glue) if image_first else row, width, glue, image_last)
            elif _lacks_last_cells(row, width, glue):
                row = [*row, *[""] * (width - len(row))]
            else:
                skipped.add(number, f"{len(row)} cells instead of {width}")
                continue
        if problem := _problem(row):
            skipped.add(number, problem)
            continue
        for column, cell in zip(columns, row, strict=True):
            column.append(strings.setdefault(cell, cell) if len(strings) < 2_000_000 else cell)
    return Table(dict(zip(names, columns, strict=True)), skipped=skipped)


def _lacks_last_cells(row: list[str], width: int, glue: str) -> bool:
    """Whether a row is short because its last cells are empty, or because its image has fewer captions than others.
    Where commas separate the cells, the row is rather broken."""
    return glue == "\t" and (len(row) == width - 1 or (len(row) > 1 and bool(IMAGE_CELL.fullmatch(row[0]))))


def _whole_name(row: list[str], width: int, glue: str) -> list[str]:
    """A row in which an image name with delimiters, such as `red, 1.jpg`, is one cell again."""
    last = next((number for number in range(1 + len(row) - width) if IMAGE_CELL.fullmatch(row[number])), 0)
    return [glue.join(row[: last + 1]), *row[last + 1 :]]


def _joined(row: list[str], width: int, glue: str, image_last: bool) -> list[str]:
    excess = len(row) - width + 1
    if excess == 1:
        return row
    if image_last:
        return [glue.join(row[:excess]), *row[excess:]]
    return [*row[: width - 1], glue.join(row[width - 1 :])]


def _problem(row: list[str]) -> str | None:
    for cell in row:
        if "\x00" in cell:
            return "holds NUL bytes"
        if len(cell) > MAX_CELL:
            return f"a cell of {len(cell):,} characters"
    return None


def _written_lines(text: str, lines: list[str], encoding: str, numbers: str, heading: str) -> Table | None:
    """A table of lines such as `name.jpg some words`, or `name.jpg 3` with the number of a class or a split.

    Args:
        numbers: name of the second column if it has numbers.
        heading: the line above the first one.
    """
    if names_and_texts(lines) is None or (found := names_and_texts(list(split_lines(text)), heading)) is None:
        return None
    column = numbers if all(text.isdecimal() for text in found.texts) else "column_1"  # captions or labels
    columns = {"image": found.names, column: found.texts} | ({"heading": found.headings} if found.headings else {})
    return Table(columns, f"{found.how}, {encoding}", found.skipped)


def _names_above_texts(text: str, lines: list[str], encoding: str) -> Table | None:
    if names_above_texts([line for line in lines if line.strip()]) is None:
        return None
    found = names_above_texts([line for line in split_lines(text) if line.strip()])
    return found and Table({"image": found.names, "caption": found.texts}, f"{found.how}, {encoding}")


def _are_cells(lines: list[str], delimiter: str) -> bool:
    """Whether a cell is the name of an image, or all lines have equally many tabs, which nobody writes by hand."""
    if delimiter == "\t" and len({line.count(delimiter) for line in lines}) == 1:
        return True
    return any(IMAGE_CELL.fullmatch(cell) for line in lines for cell in _cells(line, delimiter))
