"""Reads pages that show images with words: Markdown notes, posts of static sites, and HTML albums."""

import html
import re
from html.parser import HTMLParser

import yaml

from miniclip.data.encodings import decode_text
from miniclip.data.names import CAPTION_NAMES, IMAGE_NAMES, is_image_name, plain_name
from miniclip.data.tables import Table, split_lines
from miniclip.data.written_lines import names_above_texts

# `![words](path "title")`, with brackets in the path, as in `photo (1).jpg`, and Obsidian's `![[path|words]]`.
MARKDOWN_IMAGE = re.compile(r'!\[([^\]]*)\]\(\s*<?(?P<path>(?:[^()<>"]|\([^()]*\))+?)>?(?:\s+"([^"]*)")?\s*\)')
MARKDOWN_LINK = re.compile(r"\[([^\]]*)\]\(\s*<?([^()<>]+?)>?\s*\)")
# A header, a line of dashes, and rows, as GitHub shows them. A cell may contain `\|`.
PIPE_TABLE = re.compile(r"(?m)^ *\|.+\n *\|[ :|-]+\n(?: *\|.*(?:\n|\Z))+")
ROW_CELLS = re.compile(r"\|((?:[^|\\\n]|\\.)*)(?=\|)")
OBSIDIAN_ALONE = re.compile(r"!\[\[(?P<path>[^\]|]+)\]\]")
OBSIDIAN_IMAGE = re.compile(r"!\[\[([^\]|]+)\|([^\]]*)\]\]")

FRONT_MATTER = re.compile(r"---\s*\n(.*?)\n---\s*\n", re.DOTALL)
POST_IMAGES = ("image", "photo", "cover", "thumbnail", "featured_image", "img", "picture")
POST_WORDS = ("caption", "alt", "image_alt", "description", "title")


def read_album(content: bytes, name: str) -> Table | None:
    """
    A table of the images in a Markdown or HTML page. The words of an image are its alternative text or its title, and
    those of the `figcaption` in the same figure. `None` if no image has words.
    """
    text, encoding = decode_text(content)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if table := _pipe_table(text, encoding):
        return table
    pairs = [(path, words or title) for words, path, title in MARKDOWN_IMAGE.findall(text)]
    pairs += OBSIDIAN_IMAGE.findall(text)
    pairs += _in_front_matter(text)
    parser = _Images()
    parser.feed(text)
    pairs += parser.pairs
    pairs = [(path.strip(), " ".join(html.unescape(words).split())) for path, words in pairs if words.strip()]
    if not pairs:
        return _words_below(text, encoding)
    images, captions = zip(*pairs, strict=True)
    return Table({"image": list(images), "caption": list(captions)}, f"images in a page, {encoding}")


def _words_below(text: str, encoding: str) -> Table | None:
    """Images without words, each with its captions in the lines below it."""
    for image in (MARKDOWN_IMAGE, OBSIDIAN_ALONE):
        text = image.sub(lambda match: f"\n{match.group('path').strip()}\n", text)
    found = names_above_texts([line for line in split_lines(text) if line.strip()])
    return found and Table({"image": found.names, "caption": found.texts}, f"{found.how} in a page, {encoding}")


def _pipe_table(text: str, encoding: str) -> Table | None:
    """
    The first table of a Markdown page whose cells name or show images, such as `| ![](1.jpg) | a red ball |`, or else
    the first whose columns are called like images and captions, since names may lack their suffixes.
    """
    without_suffixes = None
    for part in re.findall(PIPE_TABLE, text):
        header, _, *rows = ([cell.strip() for cell in ROW_CELLS.findall(line)] for line in part.strip().splitlines())
        rows = [row for row in rows if len(row) == len(header)]
        columns = {name or f"column_{number}": [row[number] for row in rows] for number, name in enumerate(header)}
        columns = {name: [_shown(cell) for cell in cells] for name, cells in columns.items()}
        if any(map(is_image_name, (cell for cells in columns.values() for cell in cells[:1]))) and len(columns) > 1:
            return Table(columns, f"a table in a page, {encoding}")
        names = set(map(plain_name, columns))
        if without_suffixes is None and names & {*IMAGE_NAMES} and names & {*CAPTION_NAMES}:
            without_suffixes = Table(columns, f"a table in a page, {encoding}")
    return without_suffixes


def _shown(cell: str) -> str:
    """The path of the image that a cell shows or links to, or else its text."""
    match = MARKDOWN_IMAGE.fullmatch(cell) or MARKDOWN_LINK.fullmatch(cell)
    return match.group(2).strip() if match else cell.replace("\\|", "|").strip("`")


def _in_front_matter(text: str) -> list[tuple[str, str]]:
    """The image of a post and its words, from the settings before the text, as in Jekyll and Hugo."""
    match = FRONT_MATTER.match(text)
    try:
        settings = yaml.safe_load(match.group(1)) if match else None
    except yaml.YAMLError:
        return []
    if not isinstance(settings, dict):
        return []
    image = next((settings[name] for name in POST_IMAGES if isinstance(settings.get(name), str)), None)
    words = next((settings[name] for name in POST_WORDS if isinstance(settings.get(name), str)), None)
    return [(image, words)] if image and words else []


class _Images(HTMLParser):
    """
    Collects the images of an HTML page, each with its words. In a table, the words may also be the text of the image's
    cell or, if the row has a single image, the longest text of the row.
    """

    def __init__(self):
        super().__init__()
        self.pairs: list[tuple[str, str]] = []
        self._in_caption = False
        self._cells: list[str] | None = None  # texts of the row's cells; `None` outside rows
        self._in_row: list[tuple[int, int]] = []  # numbers of the row's images, and of their cells

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img" and values.get("src"):
            if self._cells:
                self._in_row.append((len(self.pairs), len(self._cells) - 1))
            self.pairs.append((values["src"], values.get("alt") or values.get("title") or ""))
        if tag == "figcaption" and self.pairs:
            self.pairs.append((self.pairs[-1][0], ""))
            self._in_caption = True
        if tag == "tr":
            self._cells, self._in_row = [], []
        if tag in ("td", "th") and self._cells is not None:
            self._cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_caption = self._in_caption and tag != "figcaption"
        if tag == "tr" and self._cells is not None:
            self._end_row(self._cells)
            self._cells = None

    def _end_row(self, cells: list[str]) -> None:
        longest = max(cells, key=lambda cell: len(cell.split()), default="") if len(self._in_row) == 1 else ""
        for number, cell in self._in_row:
            path, words = self.pairs[number]
            self.pairs[number] = (path, words or cells[cell].strip() or longest)

    def handle_data(self, data: str) -> None:
        if self._in_caption:
            path, words = self.pairs[-1]
            self.pairs[-1] = (path, words + data)
        elif self._cells:
            self._cells[-1] += data
