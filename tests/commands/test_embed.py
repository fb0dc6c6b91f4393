"""embed_dataset.py: every row once, whatever stops it, and however many processes share the work."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, run_python
from datasets import load_dataset
from hub_server import ADA, BOB, HubServer, card_errors
from huggingface_hub import DatasetCard
from PIL import Image

import miniclip
from miniclip.commands.embed import embed
from miniclip.utils.errors import UserError
from modeling_miniclip import MiniCLIPModel

COUNT = 23
BROKEN = 7  # the row whose image cannot be read


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 40), (10 * number, 255 - 10 * number, 90)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of captioned pictures, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    lines = ["file_name,caption"]
    for number in range(COUNT):
        (folder / f"{number:02d}.png").write_bytes(b"no picture" if number == BROKEN else picture(number))
        lines.append(f"{number:02d}.png,picture {number}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The same as three webdataset shards."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(3):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for number in range(shard, COUNT, 3):
                content = {
                    "png": b"no picture" if number == BROKEN else picture(number),
                    "txt": f"picture {number}".encode(),
                }
                for suffix, data in content.items():
                    entry = tarfile.TarInfo(f"{number:05d}.{suffix}")
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
    return folder


def rows_of(folder) -> dict[str, np.ndarray]:
    """The embedding of each caption; ids and captions are there once."""
    files = f"{folder}/data/part-*.parquet"
    table = load_dataset("parquet", data_files=files, split="train").with_format("numpy")[:]
    assert len(set(table["id"].tolist())) == len(table["id"])
    captions = [caption for captions in table["captions"] for caption in captions]
    assert len(set(captions)) == len(captions)
    return dict(zip(captions, table["embedding"].astype(np.float32), strict=True))


def expected(folder, processor) -> dict[str, np.ndarray]:
    model = MiniCLIPModel.from_pretrained(folder)
    images = {number: Image.open(io.BytesIO(picture(number))) for number in range(COUNT) if number != BROKEN}
    inputs = processor(images=list(images.values()), return_tensors="pt")
    with torch.no_grad():
        embeds = model.encode_image(**inputs).numpy()
    return {f"picture {number}": row for number, row in zip(images, embeds, strict=True)}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, row in wanted.items():
        assert row @ found[name] > 0.99, name


def test_every_picture_once(tiny_folder, tiny_processor, photos, tmp_path):
    settings = {"rows_per_file": 5, "batch_size": 3, "mixed_precision": "no"}
    result = embed(tiny_folder, str(photos), tmp_path / "out", **settings)
    assert (result.rows, result.skipped.count) == (COUNT - 1, 1)
    assert f"row {BROKEN}: unreadable image" in str(result)
    assert_same(rows_of(tmp_path / "out"), expected(tiny_folder, tiny_processor))
    table = result.dataset()
    assert table[0]["path"] == "00.png" and table[0]["id"] == 0
    assert len(list((tmp_path / "out" / "data").glob("part-*.parquet"))) == 5
    again = embed(tiny_folder, str(photos), tmp_path / "out", **settings)
    assert (again.rows, again.skipped.count, again.images_per_s) == (COUNT - 1, 1, 0)


def test_the_page_of_docs(tiny_folder, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    embed(tiny_folder, str(photos), "embeddings")
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "embed.md").read_text(), flags=re.M | re.S)
    exec(compile(snippet, "embed.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.startswith("(16,) ")


def test_float32_and_other_settings(tiny_folder, photos, tmp_path):
    embed(tiny_folder, str(photos), tmp_path / "out", dtype="float32")
    schema = pq.read_schema(next((tmp_path / "out" / "data").glob("part-*.parquet")))
    assert str(schema.field("embedding").type).startswith("fixed_size_list<") and "float" in str(schema)
    with pytest.raises(UserError, match="was begun with dtype 'float32'"):
        embed(tiny_folder, str(photos), tmp_path / "out")
    with pytest.raises(UserError, match="--dtype"):
        embed(tiny_folder, str(photos), tmp_path / "other", dtype="int8")


def test_shards_are_streamed_and_read_once(tiny_folder, tiny_processor, shards, tmp_path):
    pattern = f"{shards}/{{00000..00002}}.tar"
    settings = {"streaming": True, "rows_per_file": 3, "batch_size": 2, "mixed_precision": "no"}
    result = embed(tiny_folder, pattern, tmp_path / "out", **settings)
    assert (result.rows, result.skipped.count) == (COUNT - 1, 1)
    assert_same(rows_of(tmp_path / "out"), expected(tiny_folder, tiny_processor))
    missing = sorted((tmp_path / "out" / "data").glob("part-*.parquet"))[-1]
    missing.unlink()  # as if killed before it was written
    for marker in (tmp_path / "out" / "data").glob(".read-00002"):
        marker.unlink()
    assert embed(tiny_folder, pattern, tmp_path / "out", **settings).rows == COUNT - 1
    assert_same(rows_of(tmp_path / "out"), expected(tiny_folder, tiny_processor))


@pytest.fixture
def growing(photos, tmp_path):
    return shutil.copytree(photos, tmp_path / "growing")


def test_added_and_deleted_pictures(tiny_folder, growing, tmp_path):
    """Only the new ones are embedded, and those that are gone are removed."""
    for file in growing.glob("*.csv"):
        file.unlink()
    settings = {"rows_per_file": 5, "batch_size": 3, "mixed_precision": "no"}
    first = embed(tiny_folder, growing, tmp_path / "out", **settings).dataset()
    assert list(first["path"]) == [
        f"{n:02d}.png" for n in range(COUNT) if n != BROKEN
    ]  # relative to the dataset's folder
    (growing / "00.png").unlink()
    (growing / "0 new.png").write_bytes(picture(3))
    result = embed(tiny_folder, growing, tmp_path / "out", **settings)
    assert (result.rows, result.skipped.count) == (COUNT - 1, 1)
    second = result.dataset()
    assert set(second["path"]) == set(first["path"]) - {"00.png"} | {"0 new.png"}
    assert len(set(second["id"])) == COUNT - 1
    embeddings = dict(zip(second["path"], second["embedding"], strict=True))
    assert np.allclose(embeddings["0 new.png"], embeddings["03.png"], atol=2e-3)
    (growing / "00.png").write_bytes(picture(0))
    (growing / "0 new.png").unlink()
    third = embed(tiny_folder, growing, tmp_path / "out", **settings).dataset()
    assert set(third["path"]) == set(first["path"])


def test_a_dataset_that_grew_before_it_was_all_embedded(tiny_folder, growing, tmp_path):
    settings = {"rows_per_file": 5, "batch_size": 3, "mixed_precision": "no"}
    embed(tiny_folder, growing, tmp_path / "out", **settings)
    (tmp_path / "out" / "data" / "part-00000-00001.parquet").unlink()  # as if killed before it was written
    (growing / "23.png").write_bytes(picture(23))
    with (growing / "metadata.csv").open("a") as file:
        file.write("\n23.png,picture 23")
    embed(tiny_folder, growing, tmp_path / "out", **settings)
    assert len(rows_of(tmp_path / "out")) == COUNT


def command(model, data, output, *more) -> list[str]:
    words = ["embed_dataset.py", "--model_name_or_path", model, "--dataset_name", data, "--output_dir", output]
    words += ["--rows_per_file", 2, "--batch_size", 1, "--mixed_precision", "no", *more]
    return [str(word) for word in words]


def on_hub(hub, token=ADA) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}


def test_pushed_to_the_hub(tiny_folder, tiny_processor, photos, tmp_path):
    """A dataset that others load and search, and that does not say where the pictures lie on this machine."""
    out = tmp_path / "out"
    with HubServer() as hub:
        words = command(tiny_folder, photos, out, "--push_to_hub", "ada/vectors", "--private", "true")
        told = run_python(*words, **on_hub(hub)).stdout
        repository = hub.repository("dataset", "ada/vectors")
        assert repository.private and f"{hub.url}/datasets/ada/vectors" in told
        files = repository.files()
        run_python(*words, **on_hub(hub))
        assert len(repository.commits) == 2  # its beginning and the upload; a second one has nothing to send
    assert {f"data/{file.name}" for file in out.glob("data/*.parquet")} < set(files)
    for name, content in files.items():
        assert str(photos).encode() not in content and str(tiny_folder).encode() not in content, name
    assert 'load_dataset("ada/vectors"' in files["README.md"].decode()
    assert card_errors(DatasetCard(files["README.md"].decode()).data.to_dict(), "dataset") == []
    for name, content in files.items():  # as a download
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    assert_same(rows_of(tmp_path / "copy"), expected(tiny_folder, tiny_processor))
    vector = next(iter(expected(tiny_folder, tiny_processor).values()))
    best = miniclip.search(vector, tmp_path / "copy", count=1)[0]
    assert best.similarity > 0.99 and best.captions[0].startswith("picture")


def test_a_wrong_token_is_reported_before_the_work(tiny_folder, photos, tmp_path):
    with HubServer() as hub:
        words = command(tiny_folder, photos, tmp_path / "out", "--push_to_hub", "ada/vectors")
        process = run_python(*words, check=False, **on_hub(hub, BOB))
    assert process.returncode == 2 and "belongs to somebody else" in process.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


# Slow enough to be killed in the middle.
SLOW = """
import runpy, sys, time
import miniclip.embeddings.bulk as bulk
embed_batch = bulk._embed_batch
bulk._embed_batch = lambda *arguments: (time.sleep(0.2), embed_batch(*arguments))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_killed_and_continued(tiny_folder, tiny_processor, photos, tmp_path):
    """By SIGKILL, which nothing can catch, once some files are there."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *command(tiny_folder, photos, out)], cwd=ROOT, env=os.environ
    )
    waited = time.monotonic() + 120
    while len(list(out.glob("data/part-*.parquet"))) < 3 and process.poll() is None and time.monotonic() < waited:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = {file: file.stat().st_mtime_ns for file in out.glob("data/part-*.parquet")}
    assert 3 <= len(before) < COUNT // 2
    (out / "data" / ".part-00000-00009.parquet.tmp-1").write_bytes(b"half a file")
    run_python(*command(tiny_folder, photos, out))
    assert_same(rows_of(out), expected(tiny_folder, tiny_processor))
    assert all(file.stat().st_mtime_ns == time_of_change for file, time_of_change in before.items())
    assert not list(out.glob("data/.*.tmp-*"))


@pytest.mark.parametrize("streaming", [False, True])
def test_two_processes_share_the_work(tiny_folder, tiny_processor, photos, shards, tmp_path, streaming):
    data = f"{shards}/{{00000..00002}}.tar" if streaming else photos
    more = ["--streaming", "true"] if streaming else []
    out = tmp_path / "out"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = run_python(
        *launcher, *command(tiny_folder, data, out, *more), ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1"
    )
    assert f"{COUNT - 1} embeddings" in process.stdout and process.stdout.count("embeddings in") == 1
    assert_same(rows_of(out), expected(tiny_folder, tiny_processor))
