"""`hf://` addresses and datasets on the Hub, over HTTP from a Hub on this machine."""

import io
import json

import pytest
from conftest import run_python
from datasets import Dataset, Image
from drawn_datasets import NUMBER, captions, csv_text, drawn, rows, write_tar
from hub_server import Blob, HubServer, Repository

NAMES = [f"images/{number:03d}.png" for number in range(NUMBER)]
ADDRESSES = (
    "ada/table",
    "ada/parquet",
    "ada/jsonl",
    "hf://datasets/ada/table/captions.csv",
    "hf://datasets/ada/parquet/data/train-*.parquet",
    "hf://datasets/ada/shards/{00000..00001}.tar",
)
READ = """
import sys
from drawn_datasets import ALL, pictures_and_captions
from miniclip.data.reader import load_split
for name in sys.argv[2:]:
    assert pictures_and_captions(load_split(name, "all", streaming=sys.argv[1] == "streaming")) == ALL, name
    print("read", name)
"""


def parquet() -> bytes:
    images = [{"bytes": drawn(number), "path": None} for number in range(NUMBER)]
    table = Dataset.from_dict({"image": images, "caption": [captions(number) for number in range(NUMBER)]})
    file = io.BytesIO()
    table.cast_column("image", Image()).to_parquet(file)
    return file.getvalue()


def shard(folder, numbers) -> bytes:
    members = {}
    for number in numbers:
        members[f"{number:06d}.png"] = drawn(number)
        members[f"{number:06d}.txt"] = "\n".join(captions(number)).encode()
    write_tar(folder / "shard.tar", members)
    return (folder / "shard.tar").read_bytes()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    table = {"captions.csv": csv_text(rows(NAMES)).encode()}
    records = ({"image": name, "text": captions(number)} for number, name in enumerate(NAMES))
    lines = {"data.jsonl": "\n".join(map(json.dumps, records)).encode()}
    repositories = {
        "ada/table": table | {name: drawn(number) for number, name in enumerate(NAMES)},
        "ada/jsonl": lines | {name: drawn(number) for number, name in enumerate(NAMES)},
        "ada/parquet": {"data/train-00000-of-00001.parquet": parquet()},
        "ada/shards": {f"{n:05d}.tar": shard(folder, range(12 * n, 12 * n + 12)) for n in range(2)},
    }
    with HubServer() as server:
        for name, files in repositories.items():
            server.repositories["dataset", name] = repository = Repository("dataset", name)
            repository.commit("add", {path: Blob(content) for path, content in files.items()})
        yield server


@pytest.mark.parametrize("streaming", ["stored", "streaming"])
def test_files_of_the_hub(tmp_path, hub, streaming):
    home = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "PYTHONPATH": "tests"}
    output = run_python("-c", READ, streaming, *ADDRESSES, **home).stdout
    assert output.splitlines()[-6:] == [f"read {name}" for name in ADDRESSES]
