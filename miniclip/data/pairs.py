"""Training examples: an image with one or more of its captions, chosen again in every epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import Dataset
from torch.utils.data import IterableDataset as TorchIterableDataset
from transformers import PreTrainedTokenizerBase

from miniclip.data.augmentation import CropDraw
from miniclip.data.image_cache import square_image
from miniclip.data.reader import Columns, SkipReport, captions_of
from miniclip.data.remembered_crops import crop_tensor
from miniclip.data.repetitions import caption_keys, pixel_key
from miniclip.data.teaching import Taught


@dataclass
class ImageFeatures:
    """Cached outputs of a locked image tower, `features` `(views, rows, dim)`. Each access takes a random view."""

    features: torch.Tensor


class PairDataset(Dataset):
    """
    Image-caption examples of a dataset with numbered rows: `pairs[epoch, index]`.

    Caption, augmentation and view are drawn from (seed, epoch, row), so they depend neither on the number of workers
    and processes nor on restarts.

    Args:
        rows: numbers of the rows with a readable image and at least one caption.
        images: `images[row]` is a `(3, size, size)` uint8 tensor; or [`ImageFeatures`]; or `None` if all images are on
            the model's device already, where they are found by row.
        captions: captions of every row, including rows that are not in `rows`.
        image_keys: `(rows,)` integers; equal images have equal keys. By default, they are computed from the pixels.
        one_meaning: all captions of a row mean the same, as those made from a label do.
        transform: augmentation of one image tensor. A [`~miniclip.data.augmentation.CropDraw`] only draws the crop,
            which is then returned beside the pixels as `crops`.
        captions_per_image: number of different captions in an example; 0 for all. The captions of an image are never
            each other's negatives.
        text_features: cached outputs of a locked text tower, `(all captions in order, dim)`.
        teacher: embeddings by teachers. A remembered crop replaces the random crop, and of [`ImageFeatures`] the view
            with its number is taken.
        seed: seed of all random numbers.
    """

    def __init__(
        self,
        rows: Sequence[int],
        images,
        captions: list[list[str]],
        *,
        image_keys: Sequence[int] | None = None,
        one_meaning: bool = False,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        captions_per_image: int = 1,
        text_features: torch.Tensor | None = None,
        teacher: Taught | None = None,
        seed: int = 0,
    ):
        self.rows, self.images, self.captions = list(rows), images, captions
        self.image_keys, self.one_meaning = image_keys, one_meaning
        self.transform, self.captions_per_image, self.seed = transform, captions_per_image, seed
        self.text_features, self.teacher = text_features, teacher
        self.first_caption = np.cumsum([0] + [len(texts) for texts in captions])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        epoch, index = key
        row = self.rows[index]
        random = np.random.default_rng([self.seed, epoch, row])
        chosen = choose_captions(len(self.captions[row]), self.captions_per_image, random)
        image_key = row if self.image_keys is None else int(self.image_keys[row])
        example = {
            "row": row,
            "image_key": image_key,
            "text_keys": chosen_keys(self.captions[row], chosen, self.one_meaning),
        }
        view = 0 if self.teacher is None else int(random.integers(self.teacher.views))
        try:
            example |= self._image(row, view, random)
        except ValueError as error:
            return {"row": row, "unusable": str(error)}
        positions = torch.as_tensor(self.first_caption[row] + chosen, dtype=torch.long)
        if self.text_features is not None:
            example["text_features"] = self.text_features[positions]
        else:
            example["captions"] = [self.captions[row][index] for index in chosen]
        if self.teacher is not None:
            example["teacher_image"] = self.teacher.image(view, row)
            example["teacher_text"] = self.teacher.text(positions.numpy())
        return example

    def _image(self, row: int, view: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        """What the model sees of an image, and its key where it is known only now."""
        remembered = None if self.teacher is None or self.teacher.crops is None else self.teacher.crops[view, row]
        if isinstance(self.images, ImageFeatures):
            view = random.integers(len(self.images.features)) if remembered is None else view
            return {"image_features": self.images.features[view, row]}
        image = None if self.images is None else self.images[row]
        key = {"image_key": pixel_key(image.numpy())} if self.image_keys is None else {}
        return key | augmented(image, self.transform, random, remembered)


def chosen_keys(captions: list[str], chosen: np.ndarray, one_meaning: bool) -> list[int]:
    """Keys of the chosen captions. If all captions of the row mean the same, each gets the key of the first one."""
    if one_meaning:
        return caption_keys(captions[:1]) * len(chosen)
    return caption_keys([captions[index] for index in chosen])


def choose_captions(available: int, wanted: int, random: np.random.Generator) -> np.ndarray:
    """Indices of `wanted` different captions (0: all) in random order, or of all captions if there are fewer."""
    wanted = available if wanted == 0 else min(wanted, available)
    return random.permutation(available)[:wanted]


def augment(image: torch.Tensor, transform, random: np.random.Generator) -> torch.Tensor:
    """Apply a torchvision transform with random numbers from `random`, without changing torch's own generator."""
    if transform is None:
        return image
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it seeds all devices and takes 0.1 ms per image, longer than drawing a crop.
        torch.default_generator.manual_seed(int(random.integers(2**62)))
        return transform(image)


def augmented(
    image: torch.Tensor | None, transform, random: np.random.Generator, remembered: np.ndarray | None = None
) -> dict[str, torch.Tensor]:
    """Augmented `pixel_values`, or unchanged ones with their `crops` if the transform only draws. A remembered crop
    replaces the random one."""
    change = transform if remembered is None else partial(crop_tensor, crop=remembered, transform=transform)
    if isinstance(transform, CropDraw):
        crops = {"crops": augment(image, change, random)}
        return crops if image is None else crops | {"pixel_values": image}
    return {} if image is None else {"pixel_values": augment(image, change, random)}


class StreamingPairs(TorchIterableDataset):
    """
    The same examples from a stream, which is never held in memory.

    The rows of an epoch are divided among the processes and their workers, and each row goes to exactly one of them.
    Whole files are divided if every process can get the same number. Otherwise every process reads all files and skips
    the rows of the others. The order depends only on seed and epoch.

    Args:
        stream: rows in order, not yet divided.
        columns: the columns with images and captions.
        image_size, crop_mode: as in [`~miniclip.data.image_cache.square_image`].
        shuffle_buffer_size: number of rows among which each worker draws the next one. Files are shuffled, too.
        rank, world_size: index of this process, and number of processes.
    """

    def __init__(
        self,
        stream: IterableDataset,
        columns: Columns,
        image_size: int,
        crop_mode: str = "center",
        *,
        transform=None,
        captions_per_image: int = 1,
        shuffle_buffer_size: int = 1000,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if world_size > 1:
            stream = split_dataset_by_node(stream, rank, world_size)
        self.stream = stream.shuffle(seed=seed, buffer_size=shuffle_buffer_size)
        self.rank, self.world_size = rank, world_size
        self.columns, self.transform = columns, transform
        self.image_size, self.crop_mode = image_size, crop_mode
        self.captions_per_image, self.seed = captions_per_image, seed

    @property
    def epoch(self) -> int:
        """The current epoch. Worker processes see it change but must not set it, because `datasets` shares it."""
        return self.stream.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.stream.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict]:
        worker = torch.utils.data.get_worker_info()
        workers, worker_id = (1, 0) if worker is None else (worker.num_workers, worker.id)
        # A stream has no row numbers, so these are made up. They are unique over processes and workers.
        readers, reader = self.world_size * workers, self.rank * workers + worker_id
        for count, record in enumerate(self.stream):
            yield self._example(record, count * readers + reader)

    def _example(self, record: dict, row: int) -> dict:
        captions = captions_of(record, self.columns)
        if not captions:
            return {"row": row, "unusable": "no caption"}
        random = np.random.default_rng([self.seed, self.epoch, row])
        chosen = choose_captions(len(captions), self.captions_per_image, random)
        try:
            image = torch.from_numpy(square_image(record[self.columns.image], self.image_size, self.crop_mode))
        except ValueError as error:
            return {"row": row, "unusable": str(error)}
        text_keys = chosen_keys(captions, chosen, self.columns.classes is not None)
        keys = {"image_key": pixel_key(image.numpy()), "text_keys": text_keys}
        inputs = augmented(image, self.transform, random)
        return {"row": row, **keys, **inputs, "captions": [captions[index] for index in chosen]}


@dataclass
class PairCollator:
    """
    Turns examples into model inputs. Texts are padded to the longest one of the batch.

    A batch holds `pixel_values` `(n, 3, size, size)` uint8 or `image_features`; `input_ids` and `attention_mask`
    `(m, length)` or `text_features`; `image_ids` `(n,)` and `text_ids` `(m,)`, which pair them; `image_keys` `(n,)` and
    `text_keys` `(m,)`, which are equal for equal images and captions; with a teacher `teacher_image` `(n, k)` and
    `teacher_text` `(m, k)`, and with images that have no captions `text_unpaired` `(m,)`; and `unusable`, the (row,
    reason) of examples that were left out.
    """

    tokenizer: PreTrainedTokenizerBase
    padding: dict = field(default_factory=lambda: {"padding": True, "truncation": True, "return_tensors": "pt"})

    def __call__(self, examples: list[dict]) -> dict:
        usable = [example for example in examples if "unusable" not in example]
        batch: dict = {"unusable": [(e["row"], e["unusable"]) for e in examples if "unusable" in e]}
        if not usable:
            return batch
        for name in ("pixel_values", "crops", "image_features", "teacher_image"):
            if name in usable[0]:
                batch[name] = torch.stack([example[name] for example in usable])
        for name in ("text_features", "teacher_text"):
            if name in usable[0]:
                batch[name] = torch.cat([example[name] for example in usable])
        if "text_unpaired" in usable[0]:
            flags = [flag for example in usable for flag in example["text_unpaired"]]
            batch["text_unpaired"] = torch.tensor(flags, dtype=torch.bool)
        texts_per_image = [len(e["captions"]) if "captions" in e else len(e["text_features"]) for e in usable]
        batch["image_ids"] = torch.tensor([example["row"] for example in usable])
        batch["text_ids"] = batch["image_ids"].repeat_interleave(torch.tensor(texts_per_image))
        batch["image_keys"] = torch.tensor([example["image_key"] for example in usable])
        keys = [key for example in usable for key in example["text_keys"]]
        batch["text_keys"] = torch.tensor(keys, dtype=torch.long)
        if "captions" in usable[0] and len(batch["text_ids"]):
            texts = [caption for example in usable for caption in example["captions"]]
            encoded = self.tokenizer(texts, **self.padding)
            batch["input_ids"], batch["attention_mask"] = encoded["input_ids"], encoded["attention_mask"]
        return batch


def find_usable_rows(
    captions: list[list[str]], unreadable: dict[int, str], need_captions: bool = True
) -> tuple[list[int], SkipReport]:
    """Numbers of the rows with an image and, if needed, a caption, and a report on the others."""
    report, rows = SkipReport(), []
    for row, texts in enumerate(captions):
        if row in unreadable:
            report.add(row, unreadable[row])
        elif need_captions and not texts:
            report.add(row, "no caption")
        else:
            rows.append(row)
    return rows, report
