"""Captions that photo programs write into the photos themselves: XMP, IPTC, EXIF and PNG texts."""

import html
import re

from PIL import ExifTags, Image, IptcImagePlugin

from miniclip.data.encodings import decode_text
from miniclip.data.generated_images import prompt_of

XMP_DESCRIPTION = re.compile(
    r"<dc:description(?:\s[^>]*)?(?<!/)>(.*?)</dc:description>|\bdc:description=(?:\"([^\"]+)\"|'([^']+)')", re.DOTALL
)
XMP_LANGUAGES = re.compile(r"<rdf:li(?:\s[^>]*)?(?<!/)>(.*?)</rdf:li>", re.DOTALL)
EXIF_DESCRIPTION, EXIF_COMMENT = 0x010E, 0x9286
EXIF_OF_WINDOWS = (0x9C9B, 0x9C9C, 0x9C9F)  # title, comment and subject in the Explorer, in UTF-16
EXIF_CHARSETS = {b"ASCII\0\0\0": "ascii", b"JIS\0\0\0\0\0": "iso2022_jp"}
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
    for element, *attribute in XMP_DESCRIPTION.findall(text):
        in_languages = XMP_LANGUAGES.findall(element) or ([] if "<" in element else [element])
        if found := html.unescape(next(filter(str.strip, [*in_languages, *attribute]), "")).strip():
            return found
    return ""


def _xmp(image: Image.Image) -> str:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return description_in_xmp(decode_text(packet)[0] if isinstance(packet, bytes) else str(packet))


def _iptc(image: Image.Image) -> str:
    caption = (IptcImagePlugin.getiptcinfo(image) or {}).get(IPTC_CAPTION, b"")
    return decode_text(caption)[0] if isinstance(caption, bytes) else ""


def _exif(image: Image.Image) -> str:
    exif = image.getexif()
    if text := exif.get(EXIF_DESCRIPTION) or "":
        return decode_text(text.encode("latin-1", errors="replace") if isinstance(text, str) else text)[0]
    for tag in EXIF_OF_WINDOWS:
        if text := bytes(exif.get(tag) or b"").decode("utf-16-le", errors="ignore").strip("\0 "):
            return text
    comment = bytes(exif.get_ifd(ExifTags.IFD.Exif).get(EXIF_COMMENT) or b"")
    encoding = (EXIF_CHARSETS | {b"UNICODE\0": "utf-16-be" if exif.endian == ">" else "utf-16-le"}).get(comment[:8])
    text = comment[8:].decode(encoding, errors="ignore") if encoding else decode_text(comment.lstrip(b"\0"))[0]
    return text.strip("\0 ")


def _png(image: Image.Image) -> str:
    if prompt := prompt_of(image.info):
        return prompt
    return next((str(image.info[name]) for name in PNG_TEXTS if isinstance(image.info.get(name), str)), "")
