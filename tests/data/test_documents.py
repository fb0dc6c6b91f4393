"""Figures in documents, and captions in scripts."""

import json

import pytest
from drawn_datasets import NUMBER, ONE, captions, pictures_and_captions, write_images

from miniclip.data.reader import load_split, understanding_of

pytestmark = pytest.mark.usefixtures("own_cache")

FIRST = [captions(number)[0] for number in range(NUMBER)]
TEX = r"""\begin{figure*}[t]
  \centering
  \includegraphics[width=\linewidth]{%s}
  \caption[short]{\textbf{%s} \label{fig:%d}} %% a remark
\end{figure*}"""
TEX_OF_TWO = r"""\begin{figure}
  \begin{subfigure}{.5\textwidth} \includegraphics{%s} \caption{%s} \end{subfigure}
  \begin{subfigure}{.5\textwidth} \includegraphics{%s} \caption{%s} \end{subfigure}
\end{figure}"""
DOCUMENTS = {
    "paper.tex": lambda path, text, n: TEX % (path, text, n),
    "page.rst": lambda path, text, n: (
        f".. figure:: {path}\n   :width: 300\n\n   {text[:9]}\n   {text[9:]}\n\n   A legend.\n"
    ),
    "alt.rst": lambda path, text, n: f".. image:: {path}\n   :width: 300\n   :alt: {text}\n\nA paragraph.\n",
    "page.adoc": lambda path, text, n: f".{text}\n[#img-{n}]\nimage::{path}[a picture,300,200]\n",
    "alt.adoc": lambda path, text, n: f"Text.\n\nimage::{path}[{text},300]\n",
    "notes.org": lambda path, text, n: f"* Photo {n}\n#+CAPTION: {text}\n#+ATTR_HTML: :width 300\n[[file:{path}]]\n",
    "page.wiki": lambda path, text, n: f"[[File:{path}|thumb|left|300px|{text}]]\nSome words.\n",
    "link.wiki": lambda path, text, n: f"[[Datei:{path}|mini|{text[:2]}[[a page|{text[2:]}]]]]\n",
    "gallery.txt": lambda path, text, n: f"{'<gallery>' if n == 0 else ''}\nFile:{path}|{text}\n",
    "below.md": lambda path, text, n: f"# Photo {n}\n\n![](<{path}>)\n{text}\n" if n else f"![]({path})\n\n{text}\n",
    "obsidian.md": lambda path, text, n: f"![[{path}]]\n{text}\n",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_figures_of_documents(tmp_path, name):
    names = write_images(tmp_path / "images")
    parts = [DOCUMENTS[name](f"images/{image}", FIRST[n], n) for n, image in enumerate(names)]
    if name == "below.md":
        parts = [part.removeprefix(f"# Photo {n}\n\n") for n, part in enumerate(parts)]
    (tmp_path / name).write_text("\n".join(parts), encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


def test_each_part_of_a_figure_has_its_own_caption(tmp_path):
    names = write_images(tmp_path)
    pairs = list(zip(names, FIRST, strict=True))
    text = "\n".join(TEX_OF_TWO % (*pairs[number], *pairs[number + 1]) for number in range(0, NUMBER, 2))
    (tmp_path / "paper.tex").write_text(text, encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


ROWS = {
    "gallery.js": 'import x from "y";\nconst slides = [\n%s]; // don\'t change\nshow(slides);',
    "data.mjs": "export default [%s];",
    "jquery.js": "$('#list').gallery([%s], {speed: 3});",
    "data.json5": "// of 2024\n[%s]",
    "data.json": "/* of 2024 */ [%s]",
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("quote", ["'", '"', "`"])
def test_objects_of_javascript(tmp_path, name, quote):
    rows = []
    for n, image in enumerate(write_images(tmp_path / "images")):
        text = FIRST[n].replace("of", 'of "a" or it\'s //').replace(quote, f"\\{quote}")
        rows.append(
            f"  {{ src: {quote}images/{image}{quote}, w: {n}, alt: {quote}{text}{quote}, more: undefined, }},\n"
        )
    (tmp_path / name).write_text(ROWS[name] % "".join(rows), encoding="utf-8")
    expected = {n: [FIRST[n].replace("of", 'of "a" or it\'s //')] for n in range(NUMBER)}
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == expected


@pytest.mark.parametrize("form", [list, dict, tuple, lambda pairs: [{"file": a, "text": b} for a, b in pairs]])
def test_literals_of_python(tmp_path, form):
    value = form(list(zip(write_images(tmp_path / "images"), FIRST, strict=True)))
    code = f"import os\n\nSIZE: int = 3\nCAPTIONS = {value!r}\nos.remove({str(tmp_path / 'images/000.png')!r})\n"
    (tmp_path / "data.py").write_text(code, encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == ONE


@pytest.mark.parametrize("name", ["train.py", "train.js", "train.rst"])
@pytest.mark.parametrize("beside", ["table", "classes"])
def test_examples_in_a_script_or_document_are_not_the_dataset(tmp_path, name, beside):
    if beside == "classes":
        for number in range(NUMBER):
            write_images(tmp_path / ("cat" if number % 2 else "dog"), "{:03d}.png", [number])
        expected = {n: ["a photo of a cat." if n % 2 else "a photo of a dog."] for n in range(NUMBER)}
    else:
        rows = [f'{image},"{FIRST[n]}"' for n, image in enumerate(write_images(tmp_path / "images"))]
        (tmp_path / "table.csv").write_text("\n".join(["image,caption", *rows]), encoding="utf-8")
        expected = ONE
    examples = '[["000.png", "a wrong caption of one"], ["001.png", "a wrong caption of another"]]'
    figures = "".join(f".. figure:: {n:03d}.png\n\n   a wrong caption\n\n" for n in range(2))
    (tmp_path / name).write_text(figures if name.endswith("rst") else f"EXAMPLES = {examples}\n", encoding="utf-8")
    assert pictures_and_captions(load_split(str(tmp_path), "all")) == expected


def test_scripts_without_captions_are_passed_over(tmp_path):
    write_images(tmp_path)
    (tmp_path / "a.js").write_text("const logo = {src: '000.png'}; if (a) { b: [c, '001.png'] }", encoding="utf-8")
    (tmp_path / "b.js").write_text("var broken = [{src: '000.png', ", encoding="utf-8")
    (tmp_path / "c.py").write_text("def broken(:\n    '000.png'", encoding="utf-8")
    understanding = understanding_of(str(tmp_path))
    assert understanding.layout == "images without captions or labels" and len(understanding.whole) == NUMBER
    assert json.dumps(understanding.notes).count("broken") == 0
