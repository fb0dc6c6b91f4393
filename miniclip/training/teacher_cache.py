"""A teacher's embeddings of a dataset, computed once by all processes and kept on disk in half precision.

Each folder belongs to one teacher, one dataset and one set of crops; its name is a hash of all three, so that
embeddings of another teacher, other data or other crops are never used. Work is cut into shards that appear whole or
not at all: after a kill, the next run computes only those that are missing.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from miniclip.data.image_cache import DecodedImages
from miniclip.data.remembered_crops import crop_picture, draw_crops
from miniclip.data.teaching import ArrayFile
from miniclip.embeddings.dual_encoder import DualEncoderProcessor
from miniclip.training.distributed import any_process, rank, world_size
from miniclip.training.teachers import Teacher
from miniclip.utils.errors import UserError
from miniclip.utils.files import write_whole

IMAGE_SHARD, TEXT_SHARD = 512, 4096  # as many are lost at most when a run is killed
IMAGE_BATCH, TEXT_BATCH = 64, 128
SOURCE_MARGIN = 1.3  # images are decoded this much larger than the teacher's input, since crops enlarge them
PATCHES_SIDE = 256  # of a teacher whose processor cuts images into patches, in pixels


@dataclass
class ImagesToEmbed:
    """
    Images of a dataset, as they are to be seen by every teacher.

    Args:
        dataset: with undecoded images.
        column: where they are.
        crop_mode: how an image becomes square; see [`~miniclip.data.image_cache.square_image`].
        rows: those with a readable image; the others' embeddings are zero.
        crops: `(views, len(dataset), 5)` from [`~miniclip.data.remembered_crops.draw_crops`]; `None` for one view of
            the whole image.
    """

    dataset: Dataset
    column: str
    crop_mode: str
    rows: Sequence[int]
    crops: np.ndarray | None = None

    @property
    def views(self) -> int:
        """Embeddings of each image."""
        return 1 if self.crops is None else len(self.crops)

    def key(self) -> str:
        """Names the images, and what is shown of them."""
        crops = None if self.crops is None else hashlib.sha256(self.crops.tobytes()).hexdigest()
        return f"{self.dataset._fingerprint} {self.column} {self.crop_mode} {len(self.rows)} {crops}"


class TeacherCache:
    """
    Embeddings by one teacher.

    Args:
        accelerator: of the run; all of its processes call the methods and share the work.
        folder: the user's cache.
        num_workers: processes that decode images beside each of these.
    """

    def __init__(self, accelerator: Accelerator, teacher: Teacher, folder: Path, num_workers: int = 0):
        self.accelerator, self.teacher, self.num_workers = accelerator, teacher, num_workers
        self.precision = accelerator.mixed_precision
        self.folder, self._teacher_key = folder, teacher.fingerprint()

    def images(self, images: ImagesToEmbed) -> ArrayFile:
        """`(views, len(images.dataset), width)` float16 unit vectors, memory-mapped."""
        count = images.views * len(images.dataset)
        source = _Views(images, self.teacher.processor)
        file = self._computed("images", images.key(), count, IMAGE_SHARD, partial(self._embed_images, source))
        if images.crops is not None and self.accelerator.is_main_process:
            self._remember(images)
        return ArrayFile(file, (images.views, len(images.dataset), self.teacher.width))

    def texts(self, texts: Sequence[str]) -> ArrayFile:
        """`(len(texts), width)` float16 unit vectors, memory-mapped."""
        digest = hashlib.sha256()
        for text in texts:
            digest.update(text.encode(errors="surrogatepass") + b"\0")
        key = digest.hexdigest()
        return ArrayFile(self._computed("texts", key, len(texts), TEXT_SHARD, partial(self._embed_texts, texts)))

    def _remember(self, images: ImagesToEmbed) -> None:
        """Beside the embeddings, the crops that they are of."""
        file = self._folder("images", images.key()) / "crops.npy"
        if not file.is_file():
            write_whole(file, partial(_save_array, images.crops))

    def _folder(self, kind: str, key: str) -> Path:
        digest = hashlib.sha256(f"{self._teacher_key} {self.precision} {key}".encode()).hexdigest()[:16]
        return self.folder / f"teacher-{kind}-{digest}"

    def _computed(self, kind: str, key: str, count: int, size: int, embed: Callable[[range, tqdm], np.ndarray]) -> Path:
        """The array's file, after this and the other processes have computed the shards that it lacks."""
        folder = self._folder(kind, key)
        whole, shape = folder / "embeddings.npy", (count, self.teacher.width)
        if any_process(not _holds(whole, shape), self.accelerator.device):
            shards = [range(start, min(start + size, count)) for start in range(0, count, size)]
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._compute_shards(folder, shards, embed, kind)
                self.accelerator.wait_for_everyone()
                if self.accelerator.is_main_process:
                    self._merge(folder, shards, whole, shape, kind)
            except OSError as error:
                raise UserError(
                    f"the teacher's embeddings could not be written to {folder} ({error.strerror or error}); free disk "
                    "space or choose another --cache_dir, then start again: what is there is kept"
                ) from error
            self.accelerator.wait_for_everyone()
        return whole

    def _compute_shards(self, folder: Path, shards: list[range], embed, kind: str) -> None:
        """Those of this process that are missing."""
        own = [(number, items) for number, items in enumerate(shards) if number % world_size() == rank()]
        missing = [(number, items) for number, items in own if not _holds(_shard(folder, number), (len(items), None))]
        total, left = (sum(len(items) for _, items in part) for part in (own, missing))
        progress = tqdm(
            total=total, initial=total - left, desc=f"{kind} by teacher {self.teacher.name}", unit=kind.rstrip("s"),
            disable=not self.accelerator.is_main_process, leave=False,
        )  # fmt: skip
        with progress:
            for number, items in missing:
                array = embed(items, progress)
                write_whole(_shard(folder, number), partial(_save_array, array))

    def _merge(self, folder: Path, shards: list[range], whole: Path, shape: tuple[int, int], kind: str) -> None:
        if _holds(whole, shape):  # by another run
            return

        def write(part: Path) -> None:
            with part.open("wb") as file:
                header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for number in range(len(shards)):
                    file.write(np.lib.format.open_memmap(_shard(folder, number), mode="r").astype("<f2").tobytes())

        write_whole(whole, write)
        shutil.rmtree(folder / "shards", ignore_errors=True)
        about = {"teacher": self.teacher.name, "weights": self._teacher_key, "kind": kind, "precision": self.precision}
        (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _embed_images(self, source: "_Views", items: range, progress: tqdm) -> np.ndarray:
        loader = DataLoader(
            torch.utils.data.Subset(source, items),
            batch_size=IMAGE_BATCH,
            collate_fn=source.collate,
            num_workers=self.num_workers,
        )
        array, start = np.zeros((len(items), self.teacher.width), np.float16), 0
        for readable, inputs in loader:
            if readable.any():
                positions = start + np.flatnonzero(readable)
                array[positions] = self.teacher.embed_inputs(inputs, self.precision).numpy()
            start += len(readable)
            progress.update(len(readable))
        return array

    def _embed_texts(self, texts: Sequence[str], items: range, progress: tqdm) -> np.ndarray:
        order = sorted(items, key=lambda index: len(texts[index]))  # like lengths need little padding
        array = np.zeros((len(items), self.teacher.width), np.float16)
        for start in range(0, len(order), TEXT_BATCH):
            indices = order[start : start + TEXT_BATCH]
            embeds = self.teacher.encode_texts([texts[index] for index in indices], self.precision)
            array[np.array(indices) - items.start] = embeds.numpy()
            progress.update(len(indices))
        return array


class _Views(Dataset):
    """The pictures that a teacher is to see, all of the first view, then all of the second, and so on."""

    def __init__(self, images: ImagesToEmbed, processor: DualEncoderProcessor):
        self.side = processor.side or (PATCHES_SIDE, PATCHES_SIDE)
        self.processor, self.crops, self.rows = processor, images.crops, frozenset(images.rows)
        margin = 1.0 if images.crops is None else SOURCE_MARGIN
        self.images = DecodedImages(images.dataset, images.column, round(margin * max(self.side)), images.crop_mode)

    def __len__(self) -> int:
        return len(self.images) * (1 if self.crops is None else len(self.crops))

    def __getitem__(self, item: int) -> Image.Image | None:
        view, row = divmod(item, len(self.images))
        if row not in self.rows:
            return None
        try:
            image = Image.fromarray(self.images[row].permute(1, 2, 0).numpy())
        except ValueError:
            return None
        return image if self.crops is None else crop_picture(image, self.crops[view, row], self.side)

    def collate(self, pictures: list[Image.Image | None]) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        """Which are readable, and the teacher's inputs of these."""
        readable = np.array([picture is not None for picture in pictures])
        pictures = [picture for picture in pictures if picture is not None]
        return readable, self.processor.images(pictures) if pictures else {}


def remembered_crops(views: int, num_rows: int, augmentation: str) -> np.ndarray | None:
    """`(views, num_rows, 5)` crops, the same in every run; `None` for no views."""
    return draw_crops(views * num_rows, augmentation).reshape(views, num_rows, 5) if views else None


def _shard(folder: Path, number: int) -> Path:
    (folder / "shards").mkdir(exist_ok=True)
    return folder / "shards" / f"{number:06d}.npy"


def _save_array(array: np.ndarray, part: Path) -> None:
    with part.open("wb") as file:  # np.save would add a suffix to the name
        np.save(file, array)


def _holds(file: Path, shape: tuple[int, int | None]) -> bool:
    """Whether the file is a whole array of this shape."""
    try:
        array = np.lib.format.open_memmap(file, mode="r")  # unlike np.load it never unpickles
    except (OSError, ValueError):
        return False
    return array.dtype == np.float16 and all(w in (None, s) for w, s in zip(shape, array.shape, strict=True))
