"""A stream that is divided among processes and workers gives each row once per epoch, in a repeatable order."""

import io
from collections import Counter
from types import SimpleNamespace

import datasets.config
import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data._utils import worker as torch_worker

from miniclip.data import drawn_splits
from miniclip.data.pairs import PairCollator, StreamingPairs
from miniclip.data.reader import Columns, load_split
from miniclip.data.splits import DRAWN, draw_splits

COLUMNS = Columns("image", ("caption",))
ROWS = 40


@pytest.fixture(scope="module", autouse=True)
def no_pause():
    """`datasets` pauses for a second at the end of parquet files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)  # not in datasets 4
        yield


def drawn(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Parquet files of very different sizes. The caption of a row is its number."""
    folder = tmp_path_factory.mktemp("stream")
    bounds = [0, 1, 4, 20, 22, 31, ROWS]
    for number, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
        rows = [{"image": {"bytes": drawn(row), "path": None}, "caption": str(row)} for row in range(start, end)]
        Dataset.from_list(rows).to_parquet(folder / f"train-{number}.parquet")
    return sorted(map(str, folder.glob("*.parquet")))


def stream(files, num_files: int):
    return load_dataset("parquet", data_files=files[:num_files], split="train", streaming=True)


def read(pairs: StreamingPairs, workers: int) -> list[dict]:
    """The rows that the workers of a DataLoader would read, one worker after another, without starting them."""
    examples = []
    for worker in range(max(workers, 1)):
        info = SimpleNamespace(id=worker, num_workers=workers, seed=0, dataset=pairs) if workers else None
        torch_worker._worker_info = info
        try:
            examples += pairs
        finally:
            torch_worker._worker_info = None
    return examples


@settings(max_examples=15, deadline=None)
@given(
    num_files=st.integers(1, 6),
    world_size=st.integers(1, 4),
    workers=st.integers(0, 3),
    buffer=st.integers(1, 50),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 2),
)
def test_each_row_exactly_once(files, num_files, world_size, workers, buffer, seed, epoch):
    expected = Counter(row["caption"] for row in stream(files, num_files))
    seen, numbers = Counter(), []
    for rank in range(world_size):
        pairs = StreamingPairs(
            stream(files, num_files), COLUMNS, 8,
            shuffle_buffer_size=buffer, seed=seed, rank=rank, world_size=world_size,
        )  # fmt: skip
        pairs.epoch = epoch
        examples = read(pairs, workers)
        seen += Counter(caption for example in examples for caption in example["captions"])
        numbers += [example["row"] for example in examples]
        again = read(pairs, workers)
        assert [example["captions"] for example in again] == [example["captions"] for example in examples]
    assert seen == expected
    assert len(set(numbers)) == len(numbers)


def test_a_stream_that_is_not_read_twice_trains_on_no_image_of_the_exact_test_split(tmp_path, monkeypatch):
    keys = [number.to_bytes(2, "big") for number in range(500)]
    rows = [{"image": {"bytes": key, "path": None}, "caption": str(number)} for number, key in enumerate(keys)]
    Dataset.from_list(rows).to_parquet(tmp_path / "all.parquet")
    monkeypatch.setattr(drawn_splits, "EXACT_HASHES", 0)
    streams = {split: load_split(str(tmp_path / "all.parquet"), split, streaming=True) for split in DRAWN}
    streamed = {split: {row["image"]["bytes"] for row in part} for split, part in streams.items()}
    exact = {split: {keys[row] for row in numbers} for split, numbers in draw_splits(keys).items()}
    assert streamed["train"] and not streamed["train"] & (exact["validation"] | exact["test"])
    assert not streamed["train"] & (streamed["validation"] | streamed["test"])
    assert streamed["test"] and not streamed["validation"] & streamed["test"]


def test_order_depends_on_seed_and_epoch(files):
    def order(seed: int, epoch: int) -> list[str]:
        pairs = StreamingPairs(stream(files, 6), COLUMNS, 8, shuffle_buffer_size=20, seed=seed)
        pairs.epoch = epoch
        return [example["captions"][0] for example in pairs]

    orders = [order(0, 0), order(0, 1), order(1, 0), [str(row) for row in range(ROWS)]]
    assert len(set(map(tuple, orders))) == 4
    assert order(0, 1) == orders[1]


def test_real_workers_and_a_resumed_epoch(files, tiny_tokenizer):
    """Batches of real worker processes, as in training. On resuming, the first ones are read again and dropped."""

    def batches() -> list[list[int]]:
        pairs = StreamingPairs(stream(files, 6), COLUMNS, 8, shuffle_buffer_size=10, seed=3, rank=1, world_size=2)
        pairs.epoch = 1
        loader = DataLoader(pairs, batch_size=4, drop_last=True, num_workers=2, collate_fn=PairCollator(tiny_tokenizer))
        # A row's picture is as bright as its number.
        return [batch["pixel_values"][:, 0, 0, 0].tolist() for batch in loader]

    first, again = batches(), batches()
    assert first[1:] == again[1:] and len(first) > 2
    rows = [row for batch in first for row in batch]
    assert len(set(rows)) == len(rows)


def test_workers_that_stay_go_on_to_the_next_epoch(files, tiny_tokenizer):
    pairs = StreamingPairs(stream(files, 6), COLUMNS, 8, shuffle_buffer_size=10)
    settings = {"batch_size": 4, "num_workers": 2, "persistent_workers": True}
    loader = DataLoader(pairs, collate_fn=PairCollator(tiny_tokenizer), **settings)
    orders = []
    for epoch in (0, 1, 0):
        pairs.epoch = epoch
        orders.append([batch["pixel_values"][:, 0, 0, 0].tolist() for batch in loader])
    assert orders[0] == orders[2] != orders[1]


def test_workers_leave_the_epoch_alone(files, tiny_tokenizer, monkeypatch):
    """If two workers set the number that `datasets` shares among them, it would be wrong, or even negative."""

    def set_epoch(self, epoch, original=datasets.IterableDataset.set_epoch):
        assert torch.utils.data.get_worker_info() is None
        original(self, epoch)

    monkeypatch.setattr(datasets.IterableDataset, "set_epoch", set_epoch)
    pairs = StreamingPairs(stream(files, 6), COLUMNS, 8, shuffle_buffer_size=10)
    pairs.epoch = 3
    loader = DataLoader(pairs, batch_size=4, num_workers=2, collate_fn=PairCollator(tiny_tokenizer))
    assert sum(len(batch["image_ids"]) for batch in loader) == len(list(pairs))
    assert pairs.epoch == 3


def test_numbers_pair_images_with_their_own_texts_only(files, tiny_tokenizer):
    """No number occurs in two processes, or else an image would have the captions of another as positives."""
    numbers = []
    for rank in (0, 1):
        pairs = StreamingPairs(stream(files, 6), COLUMNS, 8, captions_per_image=0, rank=rank, world_size=2)
        numbers.append(PairCollator(tiny_tokenizer)(list(pairs))["image_ids"])
    assert not torch.isin(*numbers).any()
