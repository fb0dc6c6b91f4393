"""What to tell people whose dataset is not understood."""

import re
from collections import Counter
from pathlib import PurePosixPath

from miniclip.data.names import RAW_SUFFIXES
from miniclip.data.sources import Inventory

CONTAINERS = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), "HDF5"),
    **dict.fromkeys((".tfrecord", ".tfrecords"), "TFRecord"),
    **dict.fromkeys((".mdb", ".lmdb"), "LMDB"),
    **dict.fromkeys((".npy", ".npz"), "NumPy's"),
    **dict.fromkeys((".pkl", ".pickle"), "a pickle, which can run code when it is opened"),
    **dict.fromkeys((".pt", ".pth"), "PyTorch's"),
    ".sql": "commands for a database",
    ".accdb": "a database of Access",
    **dict.fromkeys((".numbers", ".xlsb"), "a spreadsheet of another kind"),
    **dict.fromkeys((".rds", ".rdata", ".sav", ".dta", ".sas7bdat"), "of a program for statistics"),
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".pages", ".pptx", ".ppt", ".odp"), "a document"),
    **dict.fromkeys((".rec", ".beton", ".mat", ".avro", ".orc", ".lance", ".msgpack"), "of another program"),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"), "a video"),
    **dict.fromkeys((".svg", ".eps", ".pdf"), "no photo"),
    **dict.fromkeys((f".{suffix}" for suffix in RAW_SUFFIXES), "a raw photo"),
    **dict.fromkeys((".dcm", ".dicom", ".nii"), "a medical image"),
}
TORCHVISIONS = re.compile(r"idx\d-ubyte(\.gz)?$|cifar-100?-(batches-)?(py|python|bin|binary)/")
OF_TORCHVISION = "of MNIST or CIFAR"
CONVERT = {
    OF_TORCHVISION: "open it with torchvision.datasets.MNIST, CIFAR10 and so on, and save its images and the words for "
    "its classes with datasets.Dataset.from_dict({'image': images, 'label': words}).save_to_disk(FOLDER)",
    "a video": "save some of its frames as images, such as with ffmpeg -i VIDEO -vf fps=1 frame_%04d.jpg",
    "a raw photo": "let a program for photos, such as darktable, export it as JPEG",
    "a medical image": "save it as PNG, such as with pydicom and Pillow",
    "a document": "save it as a web page (HTML), with its images in a folder beside the page",
    "a spreadsheet of another kind": "save it as .xlsx or CSV",
    "a database of Access": "export the table with the captions as CSV",
    "of a program for statistics": "save the table as CSV",
    "commands for a database": "load it into the database, and export the table with the captions as CSV",
    "no photo": "save its pictures as PNG or JPEG",
}
SAVE = (
    "open it in Python and save its images (PIL) and captions with "
    "datasets.Dataset.from_dict({'image': images, 'caption': captions}).save_to_disk(FOLDER)"
)


def not_understood(inventory: Inventory, name: str, seen: list[str]) -> str:
    """What the files are, what was seen in them, and what people can do."""
    kinds = Counter(PurePosixPath(file).suffix.lower() or "without suffix" for file in inventory.files)
    if packed := [file for file in inventory.files if file.lower().endswith((".zip", ".7z", ".rar"))]:
        seen = [f"{packed[0]} is packed: unpack it into its folder if it holds the images", *seen]
    seen = [*seen, *containers(inventory)]
    shown = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common(6))
    why = "".join(f"; {message}" for message in seen[:3])
    return (
        f"dataset {name!r} is not understood. It has {shown}{why}{refused(inventory)}. MiniCLIP looks for a table or "
        "JSON file with names of image files and captions, a text file beside each image, class folders, or parquet "
        "and tar files with images. Write a file captions.csv beside the images, with the first line "
        "file_name,caption, or name the columns with --image_column and --caption_columns"
    )


def containers(inventory: Inventory) -> list[str]:
    """What to do with the first file of a format that other programs keep whole datasets in."""
    kinds = ((file, _container(file.lower())) for file in inventory.files)
    return [f"{file} is not read, since it is {kind}: {CONVERT.get(kind, SAVE)}" for file, kind in kinds if kind][:1]


def _container(file: str) -> str | None:
    return OF_TORCHVISION if TORCHVISIONS.search(file) else CONTAINERS.get(PurePosixPath(file).suffix)


def refused(inventory: Inventory) -> str:
    """A remark on links that were not followed, to be added to a message; empty if there are none."""
    if not inventory.refused.count:
        return ""
    return (
        f"; {inventory.refused.count} links that lead out of the folder were not followed "
        f"({inventory.refused.first[0]}): if the folder is your own, set MINICLIP_TRUST_LINKS=1"
    )
