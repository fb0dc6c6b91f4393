"""Decodes text files, whatever program wrote them."""

import codecs
import re
from collections import Counter

from charset_normalizer import from_bytes

from miniclip.data.other_scripts import encoding_of_other_scripts
from miniclip.utils.errors import UserError

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLED_BYTES = 200_000
# Bytes of UTF-8 that were taken for characters, as JSON escapes them in the exports of Facebook and Instagram.
ESCAPED_BYTES = re.compile(r"(?:\\u00[89a-fA-F][0-9a-fA-F])+")
ESCAPED_BEYOND = re.compile(r"\\u(?!00)[0-9a-fA-F]{4}")
# ASCII that is read as UTF-16 in the wrong byte order; no language has so many of these characters in a row.
SHIFTED = re.compile(f"[{''.join(chr(code << 8) for code in (10, 13, *range(32, 127)))}]{{8}}")

# Letters beyond ASCII of the languages that people write in each encoding (Unicode CLDR, main exemplar characters).
WESTERN = (
    "äöüß",
    "àâæçèéêëîïôœùûüÿ",
    "áéíñóúü¿¡",
    "áâãàçéêíóôõú",
    "àèéìíîòóùú",
    "åäöéæøü",
    "áðéíóúýþæö",
    "áéíóúàèëïöü",
    "àçèéíïòóúü·",
)
CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž")
TURKISH = ("çğıİöşüâîû",)
BALTIC = ("ąčęėįšųūž", "āčēģīķļņšūž", "äöõüšž")
ALPHABETS = {
    "cp1252": WESTERN,
    "cp1250": CENTRAL,
    "iso8859_2": CENTRAL,
    "cp1254": TURKISH,
    "cp1257": BALTIC,
    "mac_roman": WESTERN,
}
LETTER = re.compile(r"(?<=[A-Za-z])[^\x00-\x7f]|[^\x00-\x7f](?=[A-Za-z])")
PUNCTUATION = set("“”„‘’‚‹›«»–—…•´`¨\u00a0°©®™€£×½²")

# One byte beyond ASCII, or two beside an ASCII letter.
HIGH = r"[\x80-\xff]"
FEW = re.compile(rf"(?<!{HIGH})(?:{HIGH}|(?<=[A-Za-z]){HIGH}{{2}}|{HIGH}{{2}}(?=[A-Za-z]))(?!{HIGH})".encode())


def decode_text(content: bytes) -> tuple[str, str]:
    """
    The text, and the name of its encoding.

    It recognises UTF-8, UTF-16 and UTF-32 with or without a byte order mark, the encodings of European languages in
    Latin letters, and whatever charset-normalizer recognises. Invalid bytes become U+FFFD.
    """
    encoding = detect_encoding(content)
    return content.decode(encoding, errors="replace").removeprefix("\ufeff"), encoding


def decode_table(content: bytes, name: str) -> tuple[str, str]:
    """
    Like [`decode_text`], but for a file that must be readable from beginning to end.

    Raises:
        UserError: bytes are missing in UTF-16 text, so that the rest of it is unreadable.
    """
    text, encoding = decode_text(content)
    if encoding.startswith("utf-16") and SHIFTED.search(text):
        raise UserError(f"{name} is broken: bytes are missing in the middle of its UTF-16 text; save it again as UTF-8")
    once = _encoded_once(text)
    return (text, encoding) if once is None else (once, f"{encoding}, encoded twice")


def _encoded_once(text: str) -> str | None:
    """
    The text before UTF-8 was taken for Latin-1 or Windows-1252 and encoded again, which turns "ü" into "Ã¼"; `None` if
    that did not happen. Programs that open a table in the wrong encoding and save it do so, as do exports of Facebook.
    """
    try:
        if text.isascii():
            if not ESCAPED_BYTES.search(text) or ESCAPED_BEYOND.search(text):
                return None
            return ESCAPED_BYTES.sub(lambda run: bytes.fromhex(run.group().replace("\\u00", "")).decode(), text)
        return text.encode("cp1252", errors="latin-1 otherwise").decode()
    except UnicodeError:
        return None


def _latin_1_otherwise(error: UnicodeError) -> tuple[bytes, int]:
    """An error handler for the five bytes that Windows-1252 leaves undefined."""
    return error.object[error.start : error.end].encode("latin-1"), error.end


codecs.register_error("latin-1 otherwise", _latin_1_otherwise)


def detect_encoding(content: bytes) -> str:
    """Name of the encoding, for `bytes.decode`."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return encoding
    sample = content[:SAMPLED_BYTES]
    if wide := _utf_16_without_mark(sample):
        return wide
    if _is_utf_8(content):
        return "utf-8"
    if other := encoding_of_other_scripts(sample, is_cut=len(sample) < len(content)):
        return other
    if latin := _latin_encoding(content[: 10 * SAMPLED_BYTES]):
        return latin
    best = from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"


def _latin_encoding(content: bytes) -> str | None:
    """The encoding in which one language, or else several, explain the letters beyond ASCII; the first wins ties."""
    if not _looks_latin(content):
        return None

    def explained(encoding: str) -> float:
        # Signs such as "§" stand alone; a letter touches others.
        letters = Counter(LETTER.findall(content.decode(encoding, errors="replace")))
        for sign in PUNCTUATION:
            letters.pop(sign, None)
        # Capitals of Mac OS Roman are where Shift JIS has kana.
        known = [
            alphabet if encoding == "mac_roman" else alphabet + alphabet.upper() for alphabet in ALPHABETS[encoding]
        ]
        one = max(sum(letters[letter] for letter in set(alphabet)) for alphabet in known)
        several = sum(letters[letter] for letter in set("".join(known)))
        return max(one, 0.8 * several) / letters.total() if letters else 1.0

    best = max(ALPHABETS, key=explained)
    return best if explained(best) > 0.6 else None


def _looks_latin(content: bytes) -> bool:
    """
    Whether non-ASCII letters are where languages in Latin letters have them.

    They stand alone or in pairs beside ASCII letters, or belong to words that are mostly ASCII letters. In Cyrillic or
    East Asian encodings, they follow one another.
    """
    runs = re.findall(rb"[\x80-\xff]+", content)
    few = FEW.findall(content)
    words = b"".join(word for word in re.findall(rb"[A-Za-z\x80-\xff]+", content) if not word.isascii())
    return len(few) >= 0.6 * len(runs) or sum(byte < 0x80 for byte in words) >= 0.5 * len(words)


def _utf_16_without_mark(sample: bytes) -> str | None:
    """UTF-16 without a byte order mark: every second byte of text in Latin letters is NUL."""
    if len(sample) < 4:
        return None
    even, odd = sample[0::2].count(0) / len(sample[0::2]), sample[1::2].count(0) / len(sample[1::2])
    if odd > 0.4 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.1 else None


def _is_utf_8(content: bytes) -> bool:
    """Whether bytes are valid UTF-8, apart from a few broken places as in a truncated or damaged file."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        text = content[: 10 * SAMPLED_BYTES].decode("utf-8", errors="replace")
        broken = text.count("\ufffd")
        valid = sum(character > "\x7f" for character in text) - broken
        # In other encodings, bytes that happen to be valid UTF-8 are rare.
        return valid > broken or (broken == 1 and text.endswith("\ufffd"))
    return True
