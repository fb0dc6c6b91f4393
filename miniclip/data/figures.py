r"""
Reads figures with captions in documents that are written as text: LaTeX, reStructuredText, AsciiDoc, Org mode and
MediaWiki.
"""

import re

from miniclip.data.encodings import decode_text
from miniclip.data.tables import Table

# Repetitions are possessive (`*+`) or bounded, so that the time stays linear.
TEX_PART = re.compile(
    r"(\\begin\{)|\\includegraphics\s*(?:\[[^\]]{0,400}\])?\s*\{([^{}]{1,400})\}"
    r"|\\caption\*?\s*(?:\[[^\]]{0,1000}\])?\s*\{((?:[^{}]|\{[^{}]*+\})*+)\}"
)
TEX_FIGURES = re.compile(r"(?:wrap|SC)?figure\*?\}")
TEX_REMARK = re.compile(r"(?<!\\)%[^\n]*")
TEX_COMMAND = re.compile(r"\\(?:label|ref|cite\w*)\{[^{}]*\}|\\[a-zA-Z]+\*?\s?|[{}~]|\\(?=[%&_#$])")
# The directive, its options, and its first paragraph, indented.
RST_FIGURE = re.compile(
    r"^([ \t]*)\.\. (?:figure|image):: *(\S+)[ \t]*\n"
    r"((?:\1[ \t]+:[^\n]*\n)*)\s*?\n?((?:\1[ \t]+[^\s:][^\n]*(?:\n|\Z))*)",
    re.MULTILINE,
)
RST_WORDS = re.compile(r":alt: *([^\n]+)")
ADOC_IMAGE = re.compile(r"^(?:\.([^\s.][^\n]*)\n)?(?:\[[^\]\n]*\]\n)?image::?([^\s\[]+)\[\"?([^\]\",]*)", re.MULTILINE)
ORG_IMAGE = re.compile(
    r"^[ \t]*#\+caption(?:\[[^\]]*\])?: *([^\n]+)\n(?:[ \t]*#\+[^\n]*\n){0,9}[ \t]*\[\[(?:file:)?([^\]\n]+)\]\]",
    re.MULTILINE | re.IGNORECASE,
)
# `[[File:1.jpg|thumb|words]]`, and `File:1.jpg|words` in a gallery.
WIKI_IMAGE = re.compile(
    r"(?:^|\[\[)[ \t]*(?:File|Image|Datei|Bild|Fichier|Archivo|Plik|Файл):"
    r"([^|\[\]\n]{1,400})\|((?:[^\[\]\n]|\[\[[^\[\]\n]{0,400}\]\])++)",
    re.MULTILINE,
)
WIKI_LINK = re.compile(r"\[\[(?:[^|\]]*\|)?([^\]]*)\]\]")


def read_figures(content: bytes, name: str) -> Table | None:
    """A table of the images in a document and the captions of their figures; `None` if there are none."""
    text, encoding = decode_text(content)
    text = text.replace("\r\n", "\n")
    pairs = [*_of_latex(text), *_of_restructured_text(text), *_of_asciidoc(text), *_of_org(text), *_of_wiki(text)]
    pairs = [(path.strip(), " ".join(words.split())) for path, words in pairs if words.strip()]
    if not pairs:
        return None
    images, captions = zip(*pairs, strict=True)
    return Table({"image": list(images), "caption": list(captions)}, f"figures of a document, {encoding}")


def _of_latex(text: str) -> list[tuple[str, str]]:
    """A caption counts for the images of its figure since the last caption: each of several may have its own."""
    pairs, waiting = [], []
    text = TEX_REMARK.sub("", text)
    for match in TEX_PART.finditer(text):
        begin, image, caption = match.groups()
        if begin and TEX_FIGURES.match(text, match.end()):
            waiting = []
        elif image:
            waiting.append(image)
        elif caption:
            pairs += [(path, TEX_COMMAND.sub("", caption)) for path in waiting]
            waiting = []
    return pairs


def _of_restructured_text(text: str) -> list[tuple[str, str]]:
    figures = RST_FIGURE.findall(text)
    return [
        (path, words or (alt.group(1) if (alt := RST_WORDS.search(options)) else ""))
        for _, path, options, words in figures
    ]


def _of_asciidoc(text: str) -> list[tuple[str, str]]:
    return [(path, title or words) for title, path, words in ADOC_IMAGE.findall(text)]


def _of_org(text: str) -> list[tuple[str, str]]:
    return [(path, words) for words, path in ORG_IMAGE.findall(text)]


def _of_wiki(text: str) -> list[tuple[str, str]]:
    """The words are the last of the parts; those before say how large the image is shown, and where."""
    return [(path, WIKI_LINK.sub(r"\1", words).split("|")[-1]) for path, words in WIKI_IMAGE.findall(text)]
