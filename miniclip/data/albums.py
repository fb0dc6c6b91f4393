"""Reads pages that show images with words: Markdown notes, posts of static sites, and HTML albums."""

import html
import re
from html.parser import HTMLParser

import yaml

from miniclip.data.encodings import decode_text
from miniclip.data.tables import Table

# `![words](path "title")`, with brackets in the path, as in `photo (1).jpg`, and Obsidian's `![[path|words]]`.
MARKDOWN_IMAGE = re.compile(r'!\[([^\]]*)\]\(\s*<?((?:[^()<>"]|\([^()]*\))+?)>?(?:\s+"([^"]*)")?\s*\)')
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
    pairs = [(path, words or title) for words, path, title in MARKDOWN_IMAGE.findall(text)]
    pairs += OBSIDIAN_IMAGE.findall(text)
    pairs += _in_front_matter(text)
    parser = _Images()
    parser.feed(text)
    pairs += parser.pairs
    pairs = [(path.strip(), " ".join(html.unescape(words).split())) for path, words in pairs if words.strip()]
    if not pairs:
        return None
    images, captions = zip(*pairs, strict=True)
    return Table({"image": list(images), "caption": list(captions)}, f"images in a page, {encoding}")


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
    """Collects the images of an HTML page, each with its words."""

    def __init__(self):
        super().__init__()
        self.pairs: list[tuple[str, str]] = []
        self._in_caption = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img" and values.get("src"):
            self.pairs.append((values["src"], values.get("alt") or values.get("title") or ""))
        if tag == "figcaption" and self.pairs:
            self.pairs.append((self.pairs[-1][0], ""))
            self._in_caption = True

    def handle_endtag(self, tag: str) -> None:
        self._in_caption = self._in_caption and tag != "figcaption"

    def handle_data(self, data: str) -> None:
        if self._in_caption:
            path, words = self.pairs[-1]
            self.pairs[-1] = (path, words + data)
