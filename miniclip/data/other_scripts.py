"""Recognises the old encodings of languages in other than Latin letters, by how usual their characters would be."""

import re
from collections.abc import Callable

SAMPLED_CHARACTERS = 5000
LEAST_USUAL = 0.85  # share of the characters beyond ASCII
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
MIXED = re.compile(r"[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][A-Za-z]")
LEAST_RUN, MOST_MIXED = 2, 0.2  # characters in a run on average, and share of the runs that touch Latin letters
MOST_BYTES = 4  # of a character
LEAST_FREQUENT = 0.5  # share of the letters


def encoding_of_other_scripts(sample: bytes, is_cut: bool = False) -> str | None:
    """
    The encoding in which nearly all characters beyond ASCII are usual ones of one language; `None` if there is none.

    charset-normalizer knows far more encodings, but it takes a few lines of Japanese for Korean.

    Args:
        sample: the beginning of a text that is not UTF-8.
        is_cut: whether it may end within a character.
    """
    shares = {encoding: _usual(sample, is_cut, encoding, is_usual) for encoding, is_usual in USUAL.items()}
    best = max(shares, key=shares.get)  # the first one wins ties
    return best if shares[best] >= LEAST_USUAL else None


def _usual(sample: bytes, is_cut: bool, encoding: str, is_usual: Callable[[str], float]) -> float:
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError as error:
        if not is_cut or error.start < len(sample) - MOST_BYTES:
            return 0.0
        text = sample[: error.start].decode(encoding)
    runs = BEYOND_ASCII.findall(text[:SAMPLED_CHARACTERS])
    if not runs or sum(map(len, runs)) < LEAST_RUN * len(runs) or len(MIXED.findall(text)) > MOST_MIXED * len(runs):
        return 0.0  # these are words in Latin letters
    return is_usual(" ".join(runs))


def _share(text: str, is_usual: Callable[[str], bool]) -> float:
    characters = text.replace(" ", "")
    return sum(map(is_usual, characters)) / len(characters)


def _can_be_written_in(encoding: str) -> Callable[[str], bool]:
    def can(character: str) -> bool:
        try:
            return bool(character.encode(encoding))
        except UnicodeEncodeError:
            return False

    return can


def _is_kana(character: str) -> bool:
    return "\u3041" <= character <= "\u30ff"


def _japanese(text: str) -> float:
    """Text has kana between its characters, and none of half width."""
    usual = _share(text, lambda character: not "\uff61" <= character <= "\uff9f")
    return usual if _share(text, _is_kana) > 0.15 else 0.0


def _korean(text: str) -> float:
    """Nearly all characters are syllables of the national standard; Chinese text would have other characters too."""
    is_usual = _can_be_written_in("euc_kr")
    return _share(
        text, lambda character: "\uac00" <= character <= "\ud7a3" and is_usual(character) or _is_sign(character)
    )


def _is_sign(character: str) -> bool:
    """Punctuation and letters of full width."""
    return "\u2010" <= character <= "\u2026" or "\u3000" <= character <= "\u301f" or "\uff01" <= character <= "\uff5e"


def _simplified(text: str) -> float:
    is_usual = _can_be_written_in("gb2312")
    return _share(text, lambda character: is_usual(character) and not _is_kana(character))


def _traditional(text: str) -> float:
    """The frequent characters of Big5 come before the others."""
    return _share(text, lambda character: character.encode("big5", errors="replace") < b"\xc9" or _is_sign(character))


def _letters(first: str, last: str, frequent: str) -> Callable[[str], float]:
    """Words are in letters of one alphabet, of which only the first is a capital, and many are its frequent ones."""

    def usual(text: str) -> float:
        signs = (sign if sign.isalpha() or first <= sign <= last else " " for sign in text)  # Thai has vowels above
        words = "".join(signs).split()
        fitting = [word for word in words if all(first <= letter <= last for letter in word)]
        fitting = [word for word in fitting if word[1:] == word[1:].lower()]
        share = _share(text, lambda letter: letter.lower() in frequent)
        return sum(map(len, fitting)) / len(text.replace(" ", "")) + share - LEAST_FREQUENT

    return usual


CYRILLIC = _letters("\u0400", "\u052f", "оаеинтсрлкі")
# Alphabets first, since a few words of them may be pairs of bytes of usual Chinese characters.
USUAL: dict[str, Callable[[str], float]] = {
    "cp1251": CYRILLIC,
    "koi8_u": CYRILLIC,
    "cp866": CYRILLIC,
    "mac_cyrillic": CYRILLIC,
    "cp1253": _letters("\u0370", "\u03ff", "αοιετσνηράίό"),
    "cp1255": _letters("\u0590", "\u05ff", "יוהלאתמרשב"),
    "cp1256": _letters("\u0600", "\u06ff", "اليمونترةبع"),
    "cp874": _letters("\u0e00", "\u0e7f", "านรอกเงวม่้ัี"),
    "cp932": _japanese,
    "euc_jp": _japanese,
    "cp949": _korean,
    "gb18030": _simplified,
    "big5": _traditional,
}
