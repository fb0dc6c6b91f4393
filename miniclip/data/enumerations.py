"""Lists whose lines begin with numbers or signs, such as `1. a dog` or `- a dog`."""

import re

NUMBERED = re.compile(r"\(?(\d{1,9})\s*[.):–-]\s+(\S.*)")
MARKED = re.compile(r"[-*•·]\s+(\S.*)")


def numbered_lines(lines: list[str]) -> list[tuple[int, str]]:
    """The number and the text of each line; empty if not all lines begin with a number."""
    matches = [NUMBERED.fullmatch(line.strip()) for line in lines]
    return [(int(match.group(1)), match.group(2)) for match in matches if match] if all(matches) else []


def without_enumeration(lines: list[str]) -> list[str]:
    """The texts of a list that counts from 0 or 1 or marks each line; other lines as they are."""
    numbered = numbered_lines(lines)
    if len(numbered) > 1 and [number - numbered[0][0] for number, _ in numbered] == list(range(len(numbered))):
        return [text for _, text in numbered] if numbered[0][0] in (0, 1) else lines
    marked = [MARKED.fullmatch(line.strip()) for line in lines]
    return [match.group(1) for match in marked if match] if all(marked) else lines
