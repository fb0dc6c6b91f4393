"""Two thousand broken files. Each gives the right data or one clear error, and every lost row is counted."""

import io
import json
import os
import re
import tarfile
from html import escape

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from miniclip.data import reader
from miniclip.data.reader import captions_of, find_columns, load_split, understanding_of
from miniclip.utils.errors import UserError

NUMBER = 6
EXAMPLES = {"csv": 800, "jsonl": 500, "json": 500, "xml": 200, "tar": 200}
COUNTED = dict.fromkeys(EXAMPLES, 0)


def drawn(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def texts(number: int) -> list[str]:
    """Captions that name their picture, so that a wrong pair is noticed."""
    return [f"picture <{number}>, the first", f'the "second" of <{number}>', f"<{number}> grün"]


def csv_file() -> bytes:
    lines = ["file_name,caption"]
    for number in range(NUMBER):
        lines += [f'{number}.png,"{text.replace(chr(34), chr(34) * 2)}"' for text in texts(number)]
    return "\n".join(lines).encode() + b"\n"


def jsonl_file() -> bytes:
    records = [{"file_name": f"{number}.png", "captions": texts(number)} for number in range(NUMBER)]
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode() + b"\n"


def json_file() -> bytes:
    return json.dumps({f"{n}.png": texts(n) for n in range(NUMBER)}, indent=0, ensure_ascii=False).encode()


def xml_file() -> bytes:
    lines = ["<annotations>"]
    for number in range(NUMBER):
        captions = [f"<caption>{escape(text)}</caption>" for text in texts(number)]
        lines += [f'<image name="{number}.png">', *captions, "</image>"]
    return "\n".join([*lines, "</annotations>"]).encode()


def tar_file() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(NUMBER):
            for suffix, content in (("png", drawn(number)), ("txt", "\n".join(texts(number)).encode())):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


WRITERS = {"csv": csv_file, "jsonl": jsonl_file, "json": json_file, "xml": xml_file, "tar": tar_file}


@st.composite
def mutations(draw, content: bytes):
    """Apply one to three kinds of damage, and return whether all of them kept names and captions in their places."""
    whole = True
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(sorted(DAMAGE)))
        content = DAMAGE[kind](content, position, draw(st.integers(0, 255)))
        whole = whole and kind in LEAVE_PAIRS
    return content, whole


def at_a_line(content: bytes, position: int, piece: bytes) -> bytes:
    start = content.rfind(b"\n", 0, position) + 1
    return content[:start] + piece + content[start:]


DAMAGE = {
    "cut off": lambda content, at, _: content[:at],
    "head lost": lambda content, at, _: content[min(at, 40) :],
    "a quote": lambda content, at, _: content[:at] + b'"' + content[at:],
    "a bracket": lambda content, at, _: content[:at] + b"}" + content[at:],
    "NULs": lambda content, at, value: content[:at] + b"\0" * (1 + value % 9) + content[at:],
    "a byte": lambda content, at, value: content[:at] + bytes([value]) + content[at + 1 :],
    "a line end": lambda content, at, value: content[:at] + (b"\r\n", b"\r", b"\n\n")[value % 3] + content[at:],
    "mixed line ends": lambda content, at, _: content[:at].replace(b"\n", b"\r\n") + content[at:].replace(b"\n", b"\r"),
    "repeated": lambda content, at, value: content[:at] + content[at : at + value] + content[at:],
    "header twice": lambda content, at, _: content[: content.find(b"\n") + 1] + content,
    "header names twice": lambda content, at, _: content.replace(b"file_name,caption", b"file_name,caption,caption", 1),
    "more delimiters": lambda content, at, value: content[:at] + b"," * value + content[at:],
    "a long line": lambda content, at, value: at_a_line(content, at, b"x" * 1000 * value + b"\n"),
    "a way out": lambda content, at, _: at_a_line(content, at, b"../secret.png,a secret\n"),
    "names lead out": lambda content, at, _: content.replace(b"1.png", b"../secret.png"),
    "absolute": lambda content, at, _: content.replace(b"2.png", b"/etc/passwd"),
    "other encoding": lambda content, at, _: content.decode("utf-8", errors="replace").encode("utf-16"),
    "BOM": lambda content, at, _: b"\xef\xbb\xbf" + content,
    "numbers": lambda content, at, _: content.replace(b'"', b"1", 2),
    "zeroed tail": lambda content, at, _: content[:at] + b"\0" * (len(content) - at),
    "deep": lambda content, at, value: content[:at] + b"[" * 20 * value + content[at:],
}


LEAVE_PAIRS = {
    *("cut off", "head lost", "a quote", "a bracket", "NULs", "a line end", "mixed line ends", "header twice"),
    *("header names twice", "more delimiters", "a long line", "other encoding", "BOM", "zeroed tail", "deep"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
        (root / "secret.png").write_bytes(drawn(25))
        (root / "data").mkdir()
        for number in range(NUMBER):
            (root / "data" / f"{number}.png").write_bytes(drawn(number))
        yield root / "data"


def check(folder, kind: str, content: bytes, whole: bool) -> None:
    """Load the folder, and check everything that was loaded."""
    COUNTED[kind] += 1
    target = folder / ("shard.tar" if kind == "tar" else f"captions.{kind}")
    target.write_bytes(damaged := content)
    name = str(target if kind == "tar" or COUNTED[kind] % 2 else folder)
    reader._understood.clear()
    try:
        dataset = load_split(name, "all", streaming=kind == "tar")
        columns = find_columns(dataset)
        rows = list(dataset)
        understanding = understanding_of(name, streaming=kind == "tar")
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return
    finally:
        target.unlink()
    seen = set()
    for row in rows:
        image = row[columns.image]
        content = image["bytes"] or open(image["path"], "rb").read()  # noqa: SIM115
        assert "secret" not in str(image["path"]) and os.path.basename(str(image["path"])) != "passwd"
        assert content not in seen or kind == "tar", "one row an image"
        seen.add(content)
        number = next((n for n in range(NUMBER) if drawn(n) == content), None)
        for caption in captions_of(row, columns):
            assert len(caption) <= 100_000
            if number is not None and whole:
                assert set(re.findall(r"<(\d)>", caption)) <= {str(number)}, "a caption of another picture"
    # The format of a file is always told; it says nothing about rows.
    told = [note for note in understanding.notes if not re.fullmatch(r"\S+: [\w ]+, [\w-]+", note)]
    if not (understanding.skipped.count or told):
        loaded = {caption for row in rows for caption in captions_of(row, columns)}
        assert intact_captions(kind, damaged) <= loaded, "dropped uncounted"


def intact_captions(kind: str, content: bytes) -> set[str]:
    """Captions whose line in the file is as it was written."""
    if kind == "csv":
        present = set(content.splitlines())
        rows = zip(csv_file().splitlines()[1:], (text for n in range(NUMBER) for text in texts(n)), strict=True)
        return {text for line, text in rows if line in present}
    if kind == "jsonl":
        present = set(content.splitlines())
        return {text for n, line in enumerate(jsonl_file().splitlines()) if line in present for text in texts(n)}
    return set()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_mutated_files(folder, kind, record_property):
    whole = WRITERS[kind]()

    @settings(
        max_examples=EXAMPLES[kind],
        deadline=None,
        database=None,
        derandomize="MINICLIP_FUZZ" not in os.environ,  # set it to look for new failures
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged=mutations(whole))
    def examine(damaged):
        check(folder, kind, *damaged)

    examine()
    record_property("mutations", COUNTED[kind])
    print(f"{COUNTED[kind]} mutated {kind} files")
    assert COUNTED[kind] >= EXAMPLES[kind]


def load(folder, name: str, content: bytes):
    (folder / name).write_bytes(content)
    try:
        return understanding_of(str(folder)), load_split(str(folder), "all")
    finally:
        (folder / name).unlink()


def test_nothing_is_broken_by_the_checks_themselves(folder):
    for kind in ("csv", "jsonl", "json", "xml"):
        understanding, dataset = load(folder, f"captions.{kind}", WRITERS[kind]())
        assert len(dataset) == NUMBER and understanding.skipped.count == 0
        assert sum(count * images for count, images in understanding.captions.items()) == 3 * NUMBER


def test_an_open_quote_swallows_nothing(folder):
    lines = ["file_name,caption"] + [f"{n}.png,picture <{n}>" for n in range(NUMBER)]
    lines[2] = '1.png,"picture <1> is open'
    understanding, dataset = load(folder, "captions.csv", "\n".join(lines).encode())
    assert len(dataset) == NUMBER
    assert any("quotes left open in 1 lines" in note for note in understanding.notes)


def test_rows_too_short_or_with_nuls_are_counted(folder):
    lines = ["file_name,extra,caption"] + [f"{n}.png,x,picture <{n}>" for n in range(NUMBER)]
    lines[3], lines[5] = "2.png", "4.png,x,pic\0ture"
    understanding, dataset = load(folder, "captions.csv", "\n".join(lines).encode())
    assert len(dataset) == NUMBER - 2 and understanding.skipped.count == 2
    assert "1 cells instead of 3" in str(understanding) and "holds NUL bytes" in str(understanding)


def test_a_million_columns_and_a_line_of_50_megabytes(folder):
    header = b"file_name,caption," + b",".join(b"c%d" % number for number in range(1_000_000))
    with pytest.raises(UserError, match="1,000,002 columns"):
        load(folder, "captions.csv", header + b"\n" + csv_file())
    understanding, dataset = load(folder, "captions.csv", csv_file() + b"1.png," + b"x" * 50_000_000 + b"\n")
    assert len(dataset) == NUMBER and understanding.skipped.count == 1
    assert "a cell of 50,000,000 characters" in str(understanding)


def test_a_broken_json_is_told_with_its_place(folder):
    with pytest.raises(UserError, match=r"captions.json is cut off or broken at line \d+, column \d+"):
        load(folder, "captions.json", json_file()[:-20])


def test_a_broken_archive_gives_what_it_has_and_says_so(folder):
    target = folder / "shard.tar"
    target.write_bytes(tar_file()[:7000])
    try:
        rows = list(load_split(str(target), "all"))
        assert 0 < len(rows) < NUMBER
        assert "shard.tar is cut off or broken after" in str(understanding_of(str(target)))
    finally:
        target.unlink()
