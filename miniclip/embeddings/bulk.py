"""Embeds all images of a dataset with any number of processes, and never embeds an image twice.

Rows are divided into parts by their position alone: part `n` of a source begins with its row `n * rows_per_file`. A
source is one of the files of a stream, or a whole dataset that is not streamed. A row therefore always belongs to the
same part, whatever the number of processes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset, IterableDataset

from engine_miniclip import fast_pixel_values
from miniclip.data.images import decode_image
from miniclip.data.reader import Columns, captions_of
from miniclip.embeddings.encode import inference, on_device
from miniclip.embeddings.listing import kept_path
from miniclip.embeddings.parts import ROWS_OF_A_SOURCE, EmbeddingFolder, Part
from miniclip.utils.memory import keep_freed_memory
from processing_miniclip import MiniCLIPProcessor

BATCHES_AHEAD = 4


@dataclass
class Share:
    """The index of this process, and the number of processes."""

    rank: int = 0
    world_size: int = 1

    def takes(self, number: int) -> bool:
        return number % self.world_size == self.rank


@dataclass
class _Row:
    source: int
    number: int
    record: dict


@dataclass
class _Batch:
    """Rows of one part, which may end with them. A batch without rows marks the end of a source."""

    source: int
    part: int = 0
    rows: list[_Row] = field(default_factory=list)
    last: bool = False


def embed_dataset(
    model,
    processor,
    dataset: Dataset | IterableDataset,
    image_column: str,
    columns: Columns | None,
    output: EmbeddingFolder,
    *,
    rows_per_file: int = 5000,
    batch_size: int = 64,
    mixed_precision: str = "auto",
    num_threads: int = 2,
    share: Share | None = None,
    source: int = 0,
    root: Path | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """
    Embed the rows that are not in `output` yet. Threads decode images while the model computes.

    Args:
        dataset: rows with undecoded images, as from [`~miniclip.data.reader.load_split`]; it may be a stream.
        columns: the caption columns; `None` for a dataset without captions.
        num_threads: number of threads that decode images.
        share: this process's share of the work, if several processes do it together.
        source: number of a dataset that is no stream.
        root: folder of the dataset; the paths of its images are kept relative to it.
        advance: called with the number of rows that have just been done.

    Returns:
        The number of rows that this process has read, including skipped ones.
    """
    if model.device.type == "cpu":
        keep_freed_memory()
    batches = _batches_of_sources(dataset, output, rows_per_file, batch_size, share or Share(), source)
    done, part = 0, Part()
    with inference(model, mixed_precision), ThreadPoolExecutor(num_threads) as pool:
        for batch, futures in _ahead(pool, batches, processor, image_column):
            if not batch.rows:
                output.mark_read(batch.source)
                continue
            _embed_batch(model, batch, futures, columns, image_column, root, part)
            done += len(batch.rows)
            advance(len(batch.rows))
            if batch.last:
                output.write(batch.source, batch.part, part)
                part = Part()
    return done


def _batches_of_sources(
    dataset, output: EmbeddingFolder, rows_per_file: int, batch_size: int, share: Share, number: int
) -> Iterator[_Batch]:
    """The batches that this process still has to embed. A dataset that is no stream is source `number`."""
    if isinstance(dataset, Dataset):
        rows = _rows_of_dataset(dataset, number, output, rows_per_file, share)
        yield from _batches(rows, rows_per_file, batch_size)
        return
    count = dataset.num_shards
    by_source = count >= share.world_size  # or else all processes read every source, and divide its parts
    for source in range(count):
        if output.is_read(source) or (by_source and not share.takes(source)):
            continue
        stream = dataset.shard(num_shards=count, index=source) if count > 1 else dataset
        rows = _rows_of_stream(stream, source, output, rows_per_file, Share() if by_source else share)
        yield from _batches(rows, rows_per_file, batch_size)
        if by_source:
            yield _Batch(source)


def _rows_of_dataset(
    dataset: Dataset, source: int, output: EmbeddingFolder, rows_per_file: int, share: Share
) -> Iterator[_Row]:
    for part, start in enumerate(range(0, len(dataset), rows_per_file)):
        if share.takes(part) and not output.part_file(source, part).is_file():
            for number in range(start, min(start + rows_per_file, len(dataset))):
                yield _Row(source, number, dataset[number])


def _rows_of_stream(
    stream: IterableDataset, source: int, output: EmbeddingFolder, rows_per_file: int, share: Share
) -> Iterator[_Row]:
    """Rows of a stream. Rows that are embedded already are skipped without decoding them."""
    for number, record in enumerate(stream):
        part, position = divmod(number, rows_per_file)
        if position == 0:
            wanted = share.takes(part) and not output.part_file(source, part).is_file()
        if wanted:
            yield _Row(source, number, record)


def _batches(rows: Iterator[_Row], rows_per_file: int, batch_size: int) -> Iterator[_Batch]:
    """Batches of rows. No batch spans two parts."""
    batch: list[_Row] = []
    for row in rows:
        if batch and (len(batch) == batch_size or _part(row, rows_per_file) != _part(batch[0], rows_per_file)):
            last = _part(row, rows_per_file) != _part(batch[0], rows_per_file)
            yield _Batch(*_part(batch[0], rows_per_file), batch, last)
            batch = []
        batch.append(row)
    if batch:
        yield _Batch(*_part(batch[0], rows_per_file), batch, last=True)


def _part(row: _Row, rows_per_file: int) -> tuple[int, int]:
    return row.source, row.number // rows_per_file


def _ahead(
    pool: ThreadPoolExecutor, batches: Iterator[_Batch], processor, image_column: str
) -> Iterator[tuple[_Batch, list[Future]]]:
    """The batches in order. Some are decoded while earlier ones are embedded."""
    waiting: deque[tuple[_Batch, list[Future]]] = deque()
    for batch in batches:
        futures = [pool.submit(image_inputs, processor, row.record[image_column]) for row in batch.rows]
        waiting.append((batch, futures))
        if len(waiting) > BATCHES_AHEAD:
            yield waiting.popleft()
    yield from waiting


def image_inputs(processor, value) -> dict[str, torch.Tensor]:
    """
    The model's inputs for one image, each with a batch dimension of 1.

    Raises:
        ValueError: the image cannot be read.
    """
    image = decode_image(value, processor.decoding_side)
    if isinstance(processor, MiniCLIPProcessor):
        pixel_values = fast_pixel_values(processor.image_processor, [image])
        if pixel_values is not None:
            return {"pixel_values": pixel_values}
    return dict(processor(images=[image], return_tensors="pt"))


def _embed_batch(model, batch: _Batch, futures, columns: Columns | None, image_column: str, root, part: Part) -> None:
    usable, inputs = [], []
    for row, future in zip(batch.rows, futures, strict=True):
        row_id = row.source * ROWS_OF_A_SOURCE + row.number
        image = row.record[image_column]
        path = kept_path(image.get("path"), root) if isinstance(image, dict) else None
        try:
            inputs.append(future.result())
        except ValueError as error:
            part.skipped.add(row_id, str(error))
            part.skipped_paths += [path] if path else []
        else:
            usable.append((row_id, path, row.record))
    if not usable:
        return
    batched = {name: on_device(torch.cat([each[name] for each in inputs]), model.device) for name in inputs[0]}
    part.embeddings += list(model.encode_image(**batched).cpu().numpy())
    for row_id, path, record in usable:
        part.ids.append(row_id)
        part.captions.append(captions_of(record, columns) if columns else [])
        part.paths.append(path)
