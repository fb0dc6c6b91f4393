"""What the page shows first: pictures, labels and searches that its model knows."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from tokenizers import Tokenizer

from miniclip.page.inputs import split_labels
from miniclip.page.models import is_hub_id
from miniclip.utils.examples import FOLDER, Examples, Picture
from miniclip.utils.hub import go_offline_if_unreachable

DRAWINGS = Path(__file__).resolve().parents[2] / "assets" / "examples"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Welcome:
    """
    Args:
        folder: folder of the pictures.
        labels: the first labels, separated by commas; never empty.
        searches: descriptions to search for; never empty.
        pictures: examples, each with its labels.
    """

    folder: Path
    labels: str
    searches: list[str]
    pictures: list[Picture]

    @property
    def titles(self) -> list[str]:
        """Descriptions to search for among the pictures themselves; never empty."""
        return [picture.title for picture in self.pictures[:3]] or self.searches

    def write(self, folder: Path) -> None:
        """Copy the pictures and their words into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for picture in self.pictures:
            shutil.copy(self.folder / picture.file, folder)
        Examples(self.labels, self.searches, self.pictures).write(folder)

    def rows(self) -> list[list[str]]:
        """File and labels of each example."""
        return [[str(self.folder / picture.file), picture.labels] for picture in self.pictures]


def welcome_to(model: str, photos: bool = True) -> Welcome:
    """
    The examples that training wrote beside a model, or else the project's drawings, if the model knows their words.

    Args:
        model: folder or Hub id; a missing model gets the drawings.
        photos: whether pictures that the project did not draw may be shown.
    """
    folder = _fetch(model)
    own = Examples.read(folder / FOLDER) if folder else None
    if own and own.pictures and own.labels and (own.drawn or photos):
        return Welcome(folder / FOLDER, own.labels, own.searches or split_labels(own.labels), own.pictures)
    drawings = Examples.read(DRAWINGS) or Examples("a dog, a car, a building", ["a dog running on a beach"])
    tokenizer = _tokenizer(folder)
    known = [picture for picture in drawings.pictures if knows(tokenizer, picture.labels)]
    if own and own.labels:
        return Welcome(DRAWINGS, own.labels, own.searches or split_labels(own.labels), known)
    labels = drawings.labels if knows(tokenizer, drawings.labels) or not known else known[0].labels
    searches = [search for search in drawings.searches if knows(tokenizer, search)]
    return Welcome(DRAWINGS, labels, searches or split_labels(labels), known)


def _fetch(model: str) -> Path | None:
    """Folder with a model's examples and tokenizer; `None` for a model that is missing or cannot be reached."""
    if Path(model).is_dir():
        return Path(model)
    if not is_hub_id(model):
        return None
    try:
        go_offline_if_unreachable(model)
        return Path(snapshot_download(model, allow_patterns=[f"{FOLDER}/*", TOKENIZER]))
    except (OSError, ValueError):  # no such model, no network, or an invalid name: the first call will tell
        return None


def _tokenizer(folder: Path | None) -> Tokenizer | None:
    file = folder and folder / TOKENIZER
    try:
        return Tokenizer.from_file(str(file)) if file and file.is_file() else None
    except Exception:  # raised as bare Exception for files that this version cannot read
        return None


def knows(tokenizer: Tokenizer | None, text: str) -> bool:
    """
    Whether each word of a text is one token, as common words are in the vocabulary of a large text encoder. A tokenizer
    that was trained on the captions of one dataset splits the words that it never saw.
    """
    if tokenizer is None:
        return True
    unknown = {tokenizer.token_to_id(token) for token in ("[UNK]", "<unk>")}
    ids = [tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in text.replace(",", " ").split()]
    # At most two, because some tokenizers have a separate token for the space.
    return all(1 <= len(of_word) <= 2 and of_word[-1] not in unknown for of_word in ids)
