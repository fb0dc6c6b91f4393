"""Embed every image of a dataset: what embed_dataset.py and `miniclip.embed` do."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import datasets
from accelerate import PartialState
from datasets import Dataset
from tqdm.auto import tqdm

from miniclip.commands.evaluate import load_encoders
from miniclip.commands.shown import table_html
from miniclip.data.reader import (
    Columns,
    SkipReport,
    dataset_templates,
    find_columns,
    find_image_column,
    load_split,
)
from miniclip.embeddings.bulk import Share, embed_dataset
from miniclip.embeddings.collection import weights_of
from miniclip.embeddings.dual_encoder import DualEncoder
from miniclip.embeddings.listing import fingerprint, paths_of, root_of
from miniclip.embeddings.parts import DATA, DTYPES, SETTINGS_FILE, EmbeddingFolder
from miniclip.publishing.upload import Repository
from miniclip.training.launch import cores_per_process, on_cpu, use_all_cores
from miniclip.utils.arguments_parser import HelpGroup, setting
from miniclip.utils.errors import UserError
from miniclip.utils.loading import usable_precision
from miniclip.utils.provenance import without_machine_paths

CARD = """---
tags:
- miniclip
- image-embeddings
configs:
- config_name: default
  data_files: {data}/part-*.parquet
---
# Image embeddings

These are the embeddings of the images in `{dataset}`, split `{split}`, by the model `{model}`: unit vectors of
{dim} numbers ({dtype}).

- `id`: number of the row in the dataset. In a stream of several files, the rows of file *n* begin at *n* · 10⁹.
- `embedding`: the dot product of two vectors is the cosine similarity of the images.
- `captions`, `path`: as in the dataset, if it has them.

```python
from datasets import load_dataset

embeddings = load_dataset("{name}", split="train").with_format("numpy")
```
"""


@dataclass
class EmbedArguments:
    """The model, the images, and where their embeddings go."""

    _argument_group_name = "embed"
    _example = "--model_name_or_path runs/mine --dataset_name photos --output_dir embeddings"
    _groups = (
        HelpGroup(
            "data",
            "Where the images and their captions are found.",
            "--dataset_name 'shards/{00000..00331}.tar' --streaming true",
            ("split", "dataset_config_name", "image_column", "caption_columns", "streaming"),
        ),
        HelpGroup(
            "output",
            "How the embeddings are stored.",
            "--dtype float32 --rows_per_file 20000",
            ("dtype", "rows_per_file"),
        ),
        HelpGroup("speed", "How fast it is.", "--batch_size 256", ("batch_size", "mixed_precision")),
        HelpGroup(
            "publishing",
            "The embeddings as a dataset on the Hub.",
            "--push_to_hub OWNER/embeddings --private true",
            ("push_to_hub", "private"),
        ),
    )

    model_name_or_path: str = setting(
        None,
        "folder or Hub id of a MiniCLIP model, or of any other model of transformers with an image and a text encoder, "
        "such as openai/clip-vit-base-patch32",
    )
    dataset_name: str = setting(None, "images: a Hub id, a local folder or file, shards as shards/{00000..00331}.tar")
    output_dir: str = setting("embeddings", "folder for the parquet files; an incomplete one is continued")
    split: str = setting("all", "split to embed")
    dataset_config_name: str | None = setting(None, "configuration of a Hub dataset that has several")
    image_column: str | None = setting(None, "column with the images; found automatically by default")
    caption_columns: str | None = setting(
        None, "columns with captions to keep, separated by commas; found automatically by default"
    )
    streaming: bool = setting(False, "read the dataset row by row instead of first converting it to arrow on disk")
    dtype: str = setting("float16", "number format of the embeddings", metavar="|".join(DTYPES))
    rows_per_file: int = setting(5000, "rows in a parquet file; an interruption loses those of at most one file")
    batch_size: int = setting(64, "images in a batch")
    mixed_precision: str = setting(
        "auto", "precision; auto chooses the fastest one of the device", metavar="auto|no|bf16|fp16"
    )
    push_to_hub: str | None = setting(None, "OWNER/NAME of a dataset on the Hub to put the embeddings into")
    private: bool = setting(False, "create that dataset as private")


@dataclass
class Embeddings:
    """
    The result of `embed`. It prints as a line, and as a table in Jupyter.

    Args:
        folder: folder with the parquet files; `load_dataset` reads it.
        rows: number of images with an embedding, including those of earlier calls.
        skipped: number of images that could not be read.
        images_per_s: speed of this call, over all processes; 0 if there was nothing left to do.
        url: address of the dataset on the Hub.
    """

    folder: Path
    rows: int
    skipped: SkipReport
    images_per_s: float
    url: str | None = None

    def dataset(self) -> Dataset:
        """`id`, `embedding`, `captions` and `path` of every image."""
        # By files: `datasets` would not notice that a folder with a card has changed.
        return datasets.load_dataset("parquet", data_files=str(self.folder / "data" / "part-*.parquet"), split="train")

    def __str__(self) -> str:
        speed = f", {self.images_per_s:.1f} images/s" if self.images_per_s else ""
        skipped = f"\n{self.skipped}" if self.skipped.count else ""
        return f"{self.rows:,} embeddings in {self.folder}{speed}{skipped}" + (f"\n{self.url}" if self.url else "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        figures = {"embeddings": self.rows, "skipped": self.skipped.count, "images/s": round(self.images_per_s, 1)}
        return table_html({"folder": str(self.folder)} | figures | ({"published": self.url} if self.url else {}))


def embed(
    model_name_or_path: str, dataset_name: str, output_dir: str | Path = EmbedArguments.output_dir, **settings
) -> Embeddings:
    """
    Embed every image of a dataset into a folder of parquet files.

    The same call continues after an interruption, even by `kill -9`. Several processes that `accelerate launch` starts
    share the work.

    Args:
        settings: other fields of [`EmbedArguments`].

    Raises:
        UserError: the model or the dataset cannot be read, a setting is wrong, or the folder holds other embeddings.
    """
    arguments = EmbedArguments(str(model_name_or_path), str(dataset_name), str(output_dir), **settings)
    _check(arguments)
    use_all_cores()
    process = PartialState(cpu=on_cpu())
    repository = Repository(arguments.push_to_hub, "dataset", arguments.private) if arguments.push_to_hub else None
    if repository and process.is_main_process:
        repository.create()  # first, so that a wrong token is reported before hours of work
    model, processor = load_encoders(arguments.model_name_or_path, process.device)
    dataset, image_column, columns = _load(arguments)
    paths = _paths(dataset, image_column, arguments)
    settings = _settings(arguments, model, dataset, columns) | {"listing": fingerprint(paths) if paths else None}
    output = EmbeddingFolder(arguments.output_dir, settings, arguments.dtype)
    if process.is_main_process:
        output.begin(may_change=("rows", "listing") if paths else ("listing",))
    process.wait_for_everyone()
    dataset, source = _new_rows(dataset, paths, output, process)
    start = time.perf_counter()
    done = _embed_share(arguments, process, model, processor, dataset, image_column, columns, output, source)
    process.wait_for_everyone()
    rows, skipped = output.summary()
    speed = done * process.num_processes / (time.perf_counter() - start) if done else 0.0
    result = Embeddings(output.folder, rows, skipped, speed)
    if process.is_main_process:
        _write_card(arguments, output)
        result.url = _push(repository, output) if repository else None
    return result


def _check(arguments: EmbedArguments) -> None:
    if arguments.dtype not in DTYPES:
        raise UserError(f"--dtype is {arguments.dtype!r}, but must be one of: {', '.join(DTYPES)}")
    for name in ("rows_per_file", "batch_size"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}, but must be at least 1")


def _load(arguments: EmbedArguments):
    """The dataset, its image column, and its caption columns, or `None` if it has no captions."""
    dataset = load_split(
        arguments.dataset_name,
        arguments.split,
        dataset_config_name=arguments.dataset_config_name,
        streaming=arguments.streaming,
        image_column=arguments.image_column,
        caption_columns=arguments.caption_columns,
    )
    image_column = find_image_column(dataset, arguments.image_column)
    try:
        templates = dataset_templates(arguments.dataset_name)
        columns = find_columns(dataset, image_column, arguments.caption_columns, templates)
    except UserError:
        if arguments.caption_columns:
            raise
        columns = None
    return dataset, image_column, columns


def _paths(dataset, image_column: str, arguments: EmbedArguments) -> list[str] | None:
    """Paths that tell the pictures apart, if the dataset has them."""
    if not isinstance(dataset, Dataset):
        return None
    return paths_of(dataset, image_column, root_of(arguments.dataset_name))


def _new_rows(dataset, paths: list[str] | None, output: EmbeddingFolder, process: PartialState) -> tuple[Dataset, int]:
    """
    The dataset that remains to be embedded, and the number of its source.

    If pictures were added to a dataset or deleted from it since its folder of embeddings was begun, only the new ones
    remain, and the embeddings of the deleted ones are removed.
    """
    if paths is None or output.stored_settings().get("listing") == output.settings["listing"]:
        return dataset, 0
    known, source = output.paths(), output.next_source()
    deleted = [known[path] for path in known.keys() - set(paths) if known[path] is not None]
    new = [row for row, path in enumerate(paths) if path not in known]
    process.wait_for_everyone()  # all have looked before anything changes
    if process.is_main_process:
        output.store(listing="changed")
        output.remove(deleted)
    process.wait_for_everyone()
    process.print(f"{output.folder} has {len(known):,} pictures: {len(new):,} to add, {len(deleted):,} removed")
    return dataset.select(new), source


def _settings(arguments: EmbedArguments, model, dataset, columns: Columns | None) -> dict:
    """What the embeddings and their division into files depend on."""
    return {
        "model": _whole_path(arguments.model_name_or_path),
        "weights": weights_of(arguments.model_name_or_path, model),
        "dataset": _whole_path(arguments.dataset_name),
        "split": arguments.split,
        "captions": list(columns.captions) if columns else [],
        "rows": len(dataset) if isinstance(dataset, Dataset) else None,
        "sources": None if isinstance(dataset, Dataset) else dataset.num_shards,
        "rows_per_file": arguments.rows_per_file,
        "projection_dim": model.width if isinstance(model, DualEncoder) else model.config.projection_dim,
    }


def _whole_path(name: str) -> str:
    """A Hub id, or a path that means the same in every working directory."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _embed_share(arguments, process, model, processor, dataset, image_column, columns, output, source) -> int:
    """Embed the share of this process. The first process shows the progress, as if all processes were as fast."""
    precision = usable_precision(arguments.mixed_precision, process.device)
    total = len(dataset) if isinstance(dataset, Dataset) else None
    finished, skipped = output.summary()
    bar = tqdm(
        total=total,
        initial=0 if source else min(finished + skipped.count, total or finished + skipped.count),
        unit="image",
        desc="images",
        disable=not process.is_main_process,
    )
    with bar:
        return embed_dataset(
            model,
            processor,
            dataset,
            image_column,
            columns,
            output,
            rows_per_file=arguments.rows_per_file,
            batch_size=arguments.batch_size,
            mixed_precision=precision.name,
            num_threads=cores_per_process(),
            share=Share(process.process_index, process.num_processes),
            source=source,
            root=root_of(arguments.dataset_name),
            advance=lambda count: bar.update(count * process.num_processes),
        )


def _write_card(arguments: EmbedArguments, output: EmbeddingFolder) -> None:
    """Write a card, unless there is a README.md, which may be the user's."""
    file = output.folder / "README.md"
    if not file.exists():
        card = CARD.format(
            data=DATA,
            dim=output.settings["projection_dim"],
            dtype=output.dtype,
            dataset=_name(arguments.dataset_name),
            split=arguments.split,
            model=_name(arguments.model_name_or_path),
            name=arguments.push_to_hub or _name(arguments.output_dir),
        )
        file.write_text(card, encoding="utf-8")


def _name(name_or_path: str) -> str:
    """A Hub id, or the last part of a path, because others need not know the whole path."""
    return Path(name_or_path).name if Path(name_or_path).expanduser().exists() else name_or_path


def _push(repository: Repository, output: EmbeddingFolder) -> str:
    """Upload the parquet files, and what [`~miniclip.embeddings.collection.Collection`] needs of a download."""
    folder = output.folder
    files = {file.relative_to(folder).as_posix(): file for file in output.parts()}
    settings = json.dumps(without_machine_paths(output.stored_settings()), indent=1) + "\n"
    repository.upload(
        files | {"README.md": folder / "README.md", SETTINGS_FILE: settings.encode()}, "Upload embeddings"
    )
    return repository.url
