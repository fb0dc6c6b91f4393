"""Search pictures by words, by a picture or by a vector: what `miniclip.search` does."""

import base64
import functools
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from miniclip.commands.embed import embed
from miniclip.commands.evaluate import load_encoders
from miniclip.data.images import decode_image
from miniclip.embeddings.collection import Collection, Match, weights_of
from miniclip.embeddings.encode import embed_texts, inference
from miniclip.embeddings.parts import SETTINGS_FILE
from miniclip.utils.errors import UserError
from miniclip.utils.loading import default_device

THUMBNAIL_SIDE = 192  # pixels


@dataclass
class SearchResults:
    """
    The result of `search`, best first. It prints as a table, and in Jupyter as a grid of pictures.

    Args:
        query: what was searched for, in words.
        matches: the pictures found.
        collection: where they were found, which can be searched again.
    """

    query: str
    matches: list[Match]
    collection: Collection

    def __len__(self) -> int:
        return len(self.matches)

    def __iter__(self) -> Iterator[Match]:
        return iter(self.matches)

    def __getitem__(self, position: int) -> Match:
        return self.matches[position]

    def __str__(self) -> str:
        lines = [f"{self.query}: the nearest of {len(self.collection):,} pictures"]
        return "\n".join([*lines, *(f"  {match.similarity:5.2f}  {_name(match)}" for match in self.matches)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = [
            f'<figure style="display:inline-block;margin:4px;width:{THUMBNAIL_SIDE}px;vertical-align:top">'
            f"{_thumbnail(self.collection, match)}<figcaption>{match.similarity:.2f} {escape(_name(match))}"
            "</figcaption></figure>"
            for match in self.matches
        ]
        return f"<p>{escape(str(self).splitlines()[0])}</p><div>{''.join(cells)}</div>"


def search(
    query: str | Path | Image.Image | np.ndarray | torch.Tensor,
    data: str | Path | Collection,
    model_name_or_path: str | Path | None = None,
    *,
    count: int = 12,
) -> SearchResults:
    """
    Find the pictures that fit a description or resemble a picture.

    Args:
        query: words, a picture, the path of a picture, or a vector of `projection_dim` numbers.
        data: a folder of embeddings, or pictures, as [`open_collection`] takes them; or a collection that is open.
        model_name_or_path: folder or Hub id of a MiniCLIP model; for embeddings, by default the one that made them.
        count: how many to find.

    Raises:
        UserError: the model or the data cannot be read, or the embeddings are those of another model.
    """
    collection = data if isinstance(data, Collection) else open_collection(data, model_name_or_path)
    described, vector = _embed_query(query, collection, model_name_or_path)
    return SearchResults(described, collection.search(vector, count), collection)


def open_collection(data: str | Path, model_name_or_path: str | Path | None = None) -> Collection:
    """
    A collection of pictures, ready to be searched.

    Args:
        data: a folder that `embed` wrote; or pictures: whatever `embed` takes. They are embedded the first time, into
            `MINICLIP_CACHE` or `~/.cache/miniclip`; later only new pictures are.
        model_name_or_path: folder or Hub id of a MiniCLIP model; only pictures need it.

    Raises:
        UserError: the model or the data cannot be read.
    """
    if (Path(data).expanduser() / SETTINGS_FILE).is_file():
        return Collection(data)
    if model_name_or_path is None:
        raise UserError(
            f"{str(data)!r} is no folder of embeddings, so a model has to embed it: give model_name_or_path"
        )
    embeddings = embed(model_name_or_path, str(data), _cache_folder(str(data), str(model_name_or_path)))
    return Collection(embeddings.folder)


def _cache_folder(data: str, model_name: str) -> Path:
    """A folder for the embeddings of these pictures by these weights."""
    path, (_, _, weights) = Path(data).expanduser(), _model(model_name)
    whole = str(path.resolve()) if path.exists() else data
    name = hashlib.sha256(f"{whole}\n{weights}".encode()).hexdigest()[:12]
    return Path(os.environ.get("MINICLIP_CACHE", "~/.cache/miniclip")).expanduser() / "embeddings" / name


def _model(name: str) -> tuple:
    """A model, its processor, and what tells its weights from others. Two are kept until their files change."""
    files = sorted(Path(name).expanduser().glob("*.safetensors"))
    return _loaded(name, tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@functools.lru_cache(maxsize=2)
def _loaded(name: str, files: tuple) -> tuple:
    model, processor = load_encoders(name, default_device())
    return model, processor, weights_of(name, model)


def _embed_query(query, collection: Collection, model_name: str | Path | None) -> tuple[str, np.ndarray | torch.Tensor]:
    """The query in words, and its vector."""
    if isinstance(query, np.ndarray | torch.Tensor):
        return "vector", query
    name = str(model_name or collection.settings["model"])
    model, processor, weights = _model(name)
    if weights != collection.settings["weights"]:
        raise UserError(
            f"{str(collection.folder)!r} holds embeddings by {collection.settings['model']!r}, not by these weights of "
            f"{name!r}: search with that model, or embed the pictures with this one"
        )
    if isinstance(query, str) and not _is_picture(query):
        return query, embed_texts(model, processor, [query], progress=False)[0]
    described = "picture" if isinstance(query, Image.Image) else Path(query).name
    try:
        picture = decode_image(query if isinstance(query, Image.Image) else str(query), processor.decoding_side)
    except ValueError as error:
        raise UserError(f"the picture {described!r} cannot be read: {error}") from error
    inputs = {name: value.to(model.device) for name, value in processor(images=[picture], return_tensors="pt").items()}
    with inference(model):
        return described, model.encode_image(**inputs)[0].float().cpu()


def _is_picture(query: str) -> bool:
    return len(query) < 1000 and "\n" not in query and Path(query).suffix != "" and Path(query).expanduser().is_file()


def _name(match: Match) -> str:
    """What to call a picture: its file, and its first caption."""
    return "  ".join([match.path or f"row {match.id}", *match.captions[:1]])


def _thumbnail(collection: Collection, match: Match) -> str:
    """The picture as HTML, or a sentence if it cannot be opened."""
    try:
        picture = collection.picture(match, THUMBNAIL_SIDE)
    except ValueError as error:
        return f"<em>{escape(str(error))}</em>"
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=85)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'
