"""Captions that photo programs write into the photos themselves: XMP, IPTC, EXIF and PNG texts."""

import html
import re

from PIL import Image, IptcImagePlugin

from miniclip.data.encodings import decode_text

XMP_DESCRIPTION = re.compile(
    r"<dc:description>.*?<rdf:li[^>]*>(.*?)</rdf:li>|\bdc:description=[\"']([^\"']+)", re.DOTALL
)
EXIF_DESCRIPTION = 0x010E
IPTC_CAPTION = (2, 120)
PNG_TEXTS = ("Description", "Caption", "Title", "parameters", "Comment")
PROMPT_END = re.compile(r"\n(?:Negative prompt|Steps):", re.DOTALL)  # AUTOMATIC1111's web page for Stable Diffusion


def description_of(path: str) -> str:
    """The caption in a photo's metadata, or an empty text."""
    try:
        with Image.open(path) as image:
            texts = (text for read in (_xmp, _iptc, _exif, _png) if (text := read(image)))
            return " ".join(PROMPT_END.split(next(texts, ""))[0].replace("\x00", " ").split())
    except Exception:  # whatever is wrong with the photo, opening it for training will tell
        return ""


def description_in_xmp(text: str) -> str:
    """The Dublin Core description in an XMP packet, as in the `.xmp` files of Lightroom, darktable and digiKam."""
    match = XMP_DESCRIPTION.search(text)
    return html.unescape(match.group(1) or match.group(2) or "").strip() if match else ""


def _xmp(image: Image.Image) -> str:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return description_in_xmp(decode_text(packet)[0] if isinstance(packet, bytes) else str(packet))


def _iptc(image: Image.Image) -> str:
    caption = (IptcImagePlugin.getiptcinfo(image) or {}).get(IPTC_CAPTION, b"")
    return decode_text(caption)[0] if isinstance(caption, bytes) else ""


def _exif(image: Image.Image) -> str:
    text = image.getexif().get(EXIF_DESCRIPTION) or ""
    return decode_text(text.encode("latin-1", errors="replace") if isinstance(text, str) else text)[0]


def _png(image: Image.Image) -> str:
    return next((str(image.info[name]) for name in PNG_TEXTS if isinstance(image.info.get(name), str)), "")
