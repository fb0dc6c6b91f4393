"""Example pictures, labels and searches beside a model. The page, the model card and the Spaces show them."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

FOLDER = "examples"  # of the model's folder
FILE = "examples.json"


@dataclass(frozen=True)
class Picture:
    """
    One example.

    Args:
        file: name of the picture's file.
        title: what it shows.
        labels: to choose from, separated by commas.
    """

    file: str
    title: str
    labels: str


@dataclass(frozen=True)
class Examples:
    """
    Examples that introduce a model.

    Args:
        labels: the first labels on the page, separated by commas.
        searches: descriptions to search for.
        pictures: examples, best first.
        drawn: whether the project drew the pictures, so that they may be published.
        from_captions: whether labels and searches are whole captions of single pictures, and not words that several
            captions share.
    """

    labels: str
    searches: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    drawn: bool = False
    from_captions: bool = False

    def write(self, folder: Path) -> None:
        """Write the words into the folder with the pictures."""
        (folder / FILE).write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The text that [`read`] reads."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, folder: Path) -> "Examples | None":
        """The examples in a folder. `None` if there are none or the file is damaged; missing pictures are left out."""
        try:
            stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
            pictures = [Picture(**picture) for picture in stored.pop("pictures", [])]
            examples = cls(**stored)
            # Only the bare name, because a model must not refer to files outside its folder.
            here = [picture for picture in pictures if Path(picture.file).name == picture.file]
            return replace(examples, pictures=[picture for picture in here if (folder / picture.file).is_file()])
        except (OSError, ValueError, TypeError, AttributeError):
            return None
