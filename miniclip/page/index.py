"""What Search looks through: a unit vector for each picture of the gallery, kept on disk."""

import hashlib
import os
import threading
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from miniclip.embeddings.collection import Collection, weights_of
from miniclip.embeddings.parts import SETTINGS_FILE
from miniclip.page.files import picture_file
from miniclip.page.gallery import open_gallery
from miniclip.page.models import MODELS, run
from miniclip.utils.errors import UserError

MAX_RESULTS = 48
THUMBNAIL_SIDE = 512  # pixels


class Index:
    """
    Exact search by one matrix product. The index is made at the first search and read from disk after that.

    Args:
        model: folder or Hub id.
        gallery: what [`~miniclip.page.gallery.open_gallery`] takes.
        cache: folder where the index is kept.
    """

    def __init__(self, model: str, gallery: str, cache: Path):
        self.model, self.gallery, self.cache = model, gallery, cache
        self._lock = threading.Lock()
        self._pictures = self._embeds = self._positions = None

    def __len__(self) -> int:
        return 0 if self._embeds is None else len(self._embeds)

    def get(self, progress=None) -> "Index":
        """
        The index, ready for use.

        Args:
            progress: called with a fraction and `desc` if the index has to be made, as `gradio.Progress` is.

        Raises:
            UserError: the model or the gallery cannot be used.
        """
        classifier = MODELS.get(self.model, progress)
        with self._lock:
            if self._embeds is None:
                pictures = open_gallery(self.gallery)
                file = self.cache / f"{fingerprint(classifier, pictures)}.safetensors"
                tensors = _read_tensors(file) or self._embed(pictures, progress)
                if not file.exists():
                    _write_tensors(tensors, file)
                self._pictures, self._embeds, self._positions = pictures, tensors["embeds"], tensors["positions"]
        return self

    def best(self, query: torch.Tensor, count: int) -> list[tuple[str, str]]:
        """
        Files and similarities of the pictures nearest to a query, best first.

        Args:
            query: `(1, projection_dim)` unit vector.
            count: how many, at most `MAX_RESULTS`.
        """
        count = min(max(int(count), 1), MAX_RESULTS, len(self))
        similarity, order = (self._embeds @ query[0]).topk(count)
        photos = [_thumbnail(self._pictures, position) for position in self._positions[order].tolist()]
        return [(picture_file(photo), f"{value:.2f}") for photo, value in zip(photos, similarity.tolist(), strict=True)]

    def _embed(self, pictures, progress, batch_size: int = 64) -> dict[str, torch.Tensor]:
        embeds, positions, total = [], [], len(pictures)
        for start in range(0, total, batch_size):
            if progress is not None:
                done = f"{start:,} of {total:,}"
                progress(start / total, desc=f"Reading the gallery (only the first time): {done}")
            batch = {}
            for position in range(start, min(start + batch_size, total)):
                try:
                    batch[position] = _thumbnail(pictures, position)
                except ValueError:
                    continue  # a damaged file is left out
            if batch:
                embeds.append(run(self.model, "embed_images", list(batch.values())))
                positions.extend(batch)
        if not embeds:
            raise UserError(f"The gallery {self.gallery} holds no picture that can be read.")
        return {"embeds": torch.cat(embeds), "positions": torch.tensor(positions)}


class CollectionIndex:
    """
    Search in the embeddings that embed_dataset.py wrote, of a million pictures or more.

    Args:
        model: folder or Hub id; the model that made the embeddings.
        folder: folder of embeddings.
    """

    def __init__(self, model: str, folder: str):
        self.model, self.folder = model, folder
        self._lock = threading.Lock()
        self._collection: Collection | None = None

    def __len__(self) -> int:
        return 0 if self._collection is None else len(self._collection)

    def get(self, progress=None) -> "CollectionIndex":
        """
        The index, ready for use.

        Raises:
            UserError: the model or the embeddings cannot be used, or do not belong together.
        """
        classifier = MODELS.get(self.model, progress)
        with self._lock:
            if self._collection is None:
                if progress is not None:
                    progress(0.5, desc="Opening the gallery (only the first time)")
                collection = Collection(self.folder)
                if weights_of(self.model, classifier.model) != collection.settings["weights"]:
                    raise UserError(
                        "The gallery's embeddings are those of another model: run embed_dataset.py with this one."
                    )
                self._collection = collection
        return self

    def best(self, query: torch.Tensor, count: int) -> list[tuple[str, str]]:
        """As [`Index.best`]. Pictures whose files are gone are left out."""
        found = []
        for match in self._collection.search(query[0], min(max(int(count), 1), MAX_RESULTS)):
            try:
                picture = self._collection.picture(match, THUMBNAIL_SIDE)
            except ValueError:
                continue
            found.append((picture_file(_reduced(picture)), f"{match.similarity:.2f}"))
        if not found:
            raise UserError("The pictures of the gallery are not where they were when they were embedded.")
        return found


def open_index(model: str, gallery: str, cache: Path) -> Index | CollectionIndex:
    """The index of a gallery: a folder of embeddings, or what [`Index`] takes. Nothing is read yet."""
    if (Path(gallery).expanduser() / SETTINGS_FILE).is_file():
        return CollectionIndex(model, gallery)
    return Index(model, gallery, cache)


def _thumbnail(pictures, position: int) -> Image.Image:
    return _reduced(pictures.open(position, THUMBNAIL_SIDE))


def _reduced(image: Image.Image) -> Image.Image:
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return image


def fingerprint(classifier, pictures) -> str:
    """A hash of the pictures and of everything that decides their embeddings, so an index is never used with another
    model."""
    model, settings = classifier.model, classifier.processor.image_processor.to_dict()
    digest = hashlib.sha256(repr((model.config.vision_config.to_dict(), settings, pictures.fingerprint)).encode())
    for part in (model.vision_model, model.visual_projection):
        for tensor in part.state_dict().values():
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def _read_tensors(file: Path) -> dict[str, torch.Tensor] | None:
    try:
        return load_file(file)
    except (OSError, SafetensorError):  # missing, or damaged and made again
        file.unlink(missing_ok=True)
        return None


def _write_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Write under another name first, so that no process reads an incomplete index. If the disk is full, the next start
    makes the index again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}")
        save_file(tensors, unfinished)
        unfinished.replace(file)
    except (OSError, SafetensorError) as error:
        print(f"the gallery's index could not be saved: {error}")
