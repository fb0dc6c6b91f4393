"""Datasets in every usual form, and what happens to unusable rows."""

import csv
import io
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image

from miniclip.data.image_cache import DecodedImages, cache_images, square_image
from miniclip.data.images import decode_image
from miniclip.data.pairs import PairCollator, PairDataset, StreamingPairs, find_usable_rows
from miniclip.data.reader import Columns, captions_of, find_columns, find_label_column, load_split
from miniclip.data.sampling import ShardedBatchSampler
from miniclip.utils.errors import UserError
from processing_miniclip import CROP_MODES, image_processor_for

COLOURS = ["red", "green", "blue", "white", "black", "yellow", "purple", "orange"]


def picture(colour: str, size=(40, 30)) -> Image.Image:
    return Image.new("RGB", size, colour)


def encoded(colour: str) -> bytes:
    file = io.BytesIO()
    picture(colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def table() -> Dataset:
    """Eight pictures with two captions each."""
    rows = {
        "image": [{"bytes": encoded(colour), "path": None} for colour in COLOURS],
        "caption_0": [f"a {colour} picture" for colour in COLOURS],
        "caption_1": [f"all {colour}" for colour in COLOURS],
    }
    return Dataset.from_dict(rows).cast_column("image", datasets.Image())


def write(form: str, table: Dataset, folder) -> str:
    """Write the table as users would have it, and return what they would pass as --dataset_name."""
    folder.mkdir()
    if form == "parquet folder":
        table.to_parquet(folder / "train.parquet")
    elif form == "parquet file":
        table.to_parquet(folder / "data.parquet")
        return str(folder / "data.parquet")
    elif form.startswith("pandas"):
        frame = table.cast_column("image", datasets.Image(decode=False)).to_pandas()
        if form == "pandas, bytes":
            frame["image"] = frame["image"].map(lambda image: image["bytes"])
        frame.to_parquet(folder / "train.parquet")
    elif form == "arrow":
        table.save_to_disk(folder)
    elif form == "arrow with splits":
        DatasetDict(train=table).save_to_disk(folder)
    else:
        (folder / "train").mkdir()
        for row, colour in zip(table, COLOURS, strict=True):
            row["image"].save(folder / "train" / f"{colour}.png")
        captions = [[f"{colour}.png", f"a {colour} picture"] for colour in COLOURS]
        if form == "csv file":
            captions = [[f"train/{name}", caption] for name, caption in captions]
        target = folder / "captions.csv" if form == "csv file" else folder / "train" / "metadata.csv"
        with target.open("w", newline="") as file:
            csv.writer(file).writerows([["file_name", "caption"], *captions])
        return str(target) if form == "csv file" else str(folder)
    return str(folder)


FORMS = ["parquet folder", "parquet file", "arrow", "arrow with splits", "image folder", "csv file"]
FORMS += ["pandas, bytes and path", "pandas, bytes"]


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pairs(tmp_path, table, form, streaming):
    name = write(form, table, tmp_path / "data")
    dataset = load_split(name, "all", streaming=streaming)
    columns = find_columns(dataset)
    seen = {}
    for row in dataset:
        colour = np.asarray(decode_image(row[columns.image]).convert("RGB"))[0, 0]
        seen[captions_of(row, columns)[0]] = tuple(colour.tolist())
    assert seen == {f"a {colour} picture": picture(colour).getpixel((0, 0)) for colour in COLOURS}


@pytest.mark.parametrize(
    ("rows", "captions"),
    [
        ({"caption_10": ["k"], "caption_2": ["c"], "caption_0": ["a"]}, ("caption_0", "caption_2", "caption_10")),
        ({"captions": [["a", "b"]], "text": ["t"]}, ("captions",)),
        ({"caption": ["a"], "title": ["t"]}, ("caption",)),
        ({"id": [3], "text": ["a"]}, ("text",)),
        ({"sentences": [["a"]]}, ("sentences",)),
    ],
)
def test_caption_columns_are_found(rows, captions):
    dataset = Dataset.from_dict({"image": [{"bytes": encoded("red"), "path": None}], **rows})
    assert find_columns(dataset.cast_column("image", datasets.Image())) == Columns("image", captions)


def test_named_columns_win_and_wrong_names_are_told(table):
    assert find_columns(table, caption_columns="caption_1").captions == ("caption_1",)
    with pytest.raises(UserError, match=r"no column 'headline' \(--caption_columns\).*caption_0"):
        find_columns(table, caption_columns="headline")
    with pytest.raises(UserError, match="no caption column among image; name it with --caption_columns"):
        find_columns(table.select_columns(["image"]))
    with pytest.raises(UserError, match="no image column"):
        find_columns(table.select_columns(["caption_0"]))


def test_labels_need_names(table):
    labelled = table.add_column("label", [0, 1] * 4)
    with pytest.raises(UserError, match="no class names"):
        find_label_column(labelled)
    labelled = labelled.cast_column("label", datasets.ClassLabel(names=["dark", "light"]))
    assert find_label_column(labelled) == ("label", ["dark", "light"])


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("./nowhere", "train", "no such file or folder"),
        ("someone/no-such-dataset", "train", "cannot be loaded from the Hub"),
        ("DATA", "unseen", r"unknown split \"unseen\".*train"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(tmp_path, table, name, split, message):
    folder = write("parquet folder", table, tmp_path / "data")
    with pytest.raises(UserError, match=message) as error:
        load_split(folder if name == "DATA" else name, split)
    assert "\n" not in str(error.value)


def test_an_empty_file_and_an_unknown_type_are_told(tmp_path, table):
    table.select([]).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="no rows"):
        load_split(str(tmp_path / "empty.parquet"), "train")
    (tmp_path / "data.docx").write_text("x")
    with pytest.raises(UserError, match="'.docx' are not read"):
        load_split(str(tmp_path / "data.docx"), "train")


@pytest.fixture
def damaged() -> Dataset:
    """Row 1 is not an image, row 2 is truncated, and row 4 has no caption."""
    images = [{"bytes": encoded(colour), "path": None} for colour in COLOURS]
    images[1], images[2] = {"bytes": b"not an image", "path": None}, {"bytes": encoded("red")[:60], "path": None}
    captions = [[f"a {colour} picture", "  "] for colour in COLOURS]
    captions[4] = ["", "   "]
    dataset = Dataset.from_dict({"image": images, "captions": captions})
    return dataset.cast_column("image", datasets.Image(decode=False))


def test_unusable_rows_are_skipped_counted_and_named(tmp_path, damaged):
    columns = find_columns(damaged)
    captions = [captions_of(row, columns) for row in damaged]
    images = cache_images(damaged, columns.image, 32, tmp_path)
    rows, report = find_usable_rows(captions, images.unreadable)
    assert rows == [0, 3, 5, 6, 7]
    assert report.count == 3
    assert all(f"row {row}:" in str(report) for row in (1, 2, 4)) and "no caption" in str(report)


def test_the_image_cache_is_the_decoded_images_and_is_reused(tmp_path, table):
    undecoded = table.cast_column("image", datasets.Image(decode=False))
    cached, decoded = cache_images(undecoded, "image", 32, tmp_path), DecodedImages(undecoded, "image", 32)
    assert all(torch.equal(cached[row], decoded[row]) for row in range(len(COLOURS)))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    cache_images(undecoded, "image", 32, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_training_shows_pictures_as_the_processor_does(crop_mode):
    """Apart from the border that the encoder's crop cuts off. The image is blurred so that resizing methods agree."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((320, 160), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "PNG")
    processor = image_processor_for("test_resnet", 32, crop_mode)
    if crop_mode == "center":
        processor.size = {"shortest_edge": 32}
    shown = processor(images=picture, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    (other_mode,) = set(CROP_MODES) - {crop_mode}
    square, other = (
        square_image({"bytes": file.getvalue(), "path": None}, 32, mode).astype(int) for mode in (crop_mode, other_mode)
    )
    assert np.abs(square - shown).mean() < 2 < 10 < np.abs(other - shown).mean()


def test_the_image_cache_keeps_crop_modes_apart(tmp_path, damaged):
    center, squash = (cache_images(damaged, "image", 32, tmp_path, crop_mode) for crop_mode in CROP_MODES)
    assert center.file != squash.file


def test_an_image_broken_after_the_start_is_left_out_of_its_batch(damaged, tiny_tokenizer):
    """Without the cache, images are not read before they are needed."""
    captions = [["a picture"]] * len(COLOURS)
    pairs = PairDataset(range(8), DecodedImages(damaged, "image", 32), captions)
    batch = PairCollator(tiny_tokenizer)([pairs[0, row] for row in range(4)])
    assert batch["image_ids"].tolist() == batch["text_ids"].tolist() == [0, 3]
    assert [row for row, _ in batch["unusable"]] == [1, 2]
    assert len(batch["pixel_values"]) == len(batch["input_ids"]) == 2


@pytest.fixture
def pairs(table):
    captions = [[row["caption_0"], row["caption_1"]] for row in table]
    images = DecodedImages(table.cast_column("image", datasets.Image(decode=False)), "image", 32)
    return lambda **options: PairDataset(range(8), images, captions, **options)


def test_one_random_caption_an_image_and_epoch(pairs):
    dataset = pairs(seed=1)
    chosen = []
    for epoch in range(12):
        chosen.append([dataset[epoch, row]["captions"] for row in range(8)])
        assert all(len(captions) == 1 for captions in chosen[-1])
    assert len({tuple(map(tuple, epoch)) for epoch in chosen}) > 6
    assert [dataset[0, row]["captions"] for row in range(8)] == chosen[0]


def test_all_captions_share_their_images_id(pairs, tiny_tokenizer):
    batch = PairCollator(tiny_tokenizer)([pairs(captions_per_image=0)[0, row] for row in (3, 5)])
    assert batch["image_ids"].tolist() == [3, 5]
    assert batch["text_ids"].tolist() == [3, 3, 5, 5]
    assert len(batch["input_ids"]) == 4


def test_texts_are_padded_to_the_longest_of_their_batch(pairs, tiny_tokenizer):
    examples = [pairs()[0, row] for row in range(2)]
    lengths = [len(tiny_tokenizer(example["captions"][0])["input_ids"]) for example in examples]
    batch = PairCollator(tiny_tokenizer)(examples)
    assert batch["input_ids"].shape[1] == max(lengths) < 32
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_same_joint_batches(world_size):
    def joint_batches(world: int) -> list[list[int]]:
        samplers = [ShardedBatchSampler(50, 12, rank, world, seed=5) for rank in range(world)]
        for sampler in samplers:
            sampler.start_at(2)
        return [sum(parts, []) for parts in islice(zip(*samplers, strict=True), 6)]

    assert joint_batches(world_size) == joint_batches(1)
    assert [{epoch for epoch, _ in joint} for joint in joint_batches(world_size)] == [{2}] * 4 + [{3}] * 2


def test_an_epoch_can_be_entered_anywhere_and_differs_from_the_next():
    def samples(sampler, batches: int) -> list[int]:
        return [sample for batch in islice(sampler, batches) for _, sample in batch]

    sampler = ShardedBatchSampler(50, 8, seed=1)
    two_epochs = list(islice(sampler, 12))
    sampler.start_at(0, batch=4)
    assert list(islice(sampler, 8)) == two_epochs[4:]
    sampler.start_at(1)
    assert list(islice(sampler, 6)) == two_epochs[6:]
    first, second = (samples(batches, 6) for batches in (two_epochs[:6], two_epochs[6:]))
    assert first != second and len(set(first)) == len(first) == 48  # the last, smaller batch is dropped
    assert sorted(samples(ShardedBatchSampler(50, 8, drop_last=False), 7)) == list(range(50))


def test_a_dataset_smaller_than_a_batch_is_still_one_batch():
    assert [len(batch) for batch in islice(ShardedBatchSampler(5, 64), 2)] == [5, 5]


def test_a_stream_gives_every_pair_once_an_epoch_in_new_order(tmp_path, table):
    name = write("parquet folder", table, tmp_path / "data")
    stream = load_split(name, "all", streaming=True)
    pairs = StreamingPairs(stream, find_columns(stream), 32, shuffle_buffer_size=4, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        pairs.epoch = epoch
        examples = list(pairs)
        orders.append([example["pixel_values"][:, 0, 0].tolist() for example in examples])
        assert len({tuple(pixel) for pixel in orders[-1]}) == 8
    assert orders[0] == orders[2] != orders[1]


def test_a_dataset_with_configurations(table, tmp_path):
    table.to_parquet(tmp_path / "all.parquet")
    table.select(range(3)).to_parquet(tmp_path / "few.parquet")
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - {{split: train, path: {name}.parquet}}\n" for name in ("all", "few")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert len(load_split(str(tmp_path), "all", dataset_config_name="few")) == 3
    with pytest.raises(UserError, match="few.*--dataset_config_name"):
        load_split(str(tmp_path), "train")


def test_a_changed_folder_with_a_card_is_read_again(table, tmp_path):
    """And so is another folder of the same name with the same card."""
    for number, folder in enumerate(("first/photos", "second/photos", "first/photos")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        table.select(range(3 + number)).to_parquet(tmp_path / folder / "data.parquet")
        (tmp_path / folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: a\n  data_files: data.parquet\n---\n"
        )
        assert len(load_split(str(tmp_path / folder), "all")) == 3 + number
