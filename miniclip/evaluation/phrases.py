"""Short noun phrases from captions, such as "a red circle" or "a dog": what people would ask a model for.

There is no parser here. A noun phrase follows an article or a preposition, and ends before the next one or before an
auxiliary, a comma or the end. Counting over many captions tells nouns from verbs and adjectives well enough. The word
lists are English: captions in other languages, or too few captions, give no phrases.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import torch

MIN_IMAGES = 5  # a phrase must fit this many images, and must not fit as many
FEW_IMAGES = 100  # with fewer images than this, two are enough
MAX_WORDS = 4
MAX_PHRASES = 300


def _words(text: str) -> set[str]:
    return set(text.split())


_ARTICLES = _words("a an")
_DETERMINERS = _ARTICLES | _words("the two three four five several some many his her its their one another")
_PREPOSITIONS = _words(
    "of in on at with by from to into onto over under above below near behind beside between across along through "
    "around against next front left right up down off out for"
)
_OTHERS = _words(
    "and or but while as is are was were be being been has have had that which who whose it he she they there this "
    "these those not no very other each someone something"
)
_STOP_WORDS = _DETERMINERS | _PREPOSITIONS | _OTHERS
_BEFORE = _DETERMINERS | _PREPOSITIONS
_AFTER = _PREPOSITIONS | _OTHERS
_EDGE = ""  # stands for punctuation and for both ends of a caption


@dataclass
class _Uses:
    """How often a phrase occurs, and which words surround it."""

    count: int = 0
    started: int = 0
    ended: int = 0
    articles: Counter = field(default_factory=Counter)
    spellings: Counter = field(default_factory=Counter)

    def is_noun(self) -> bool:
        return self.started >= 0.2 * self.count and self.ended >= 0.4 * self.count

    def label(self) -> str:
        """The phrase, with its article if it usually has one."""
        spelling = self.spellings.most_common(1)[0][0]
        article, times = self.articles.most_common(1)[0] if self.articles else ("", 0)
        return f"{article} {spelling}" if 2 * times >= self.started > 0 else spelling


def common_phrases(captions: list[list[str]]) -> tuple[list[str], torch.Tensor]:
    """
    Noun phrases that fit several images and do not fit as many others, the most frequent first.

    Args:
        captions: captions of each image.

    Returns:
        The phrases with their articles, and `(num_images, num_phrases)`: 1 if two captions of the image, or its only
        one, have the phrase; 0 if no caption has it; and NaN if one of several has it.
    """
    uses: dict[tuple, _Uses] = defaultdict(_Uses)
    counts = [_count(of_image, uses) for of_image in captions]
    phrases = _shared(_noun_phrases(uses), counts, [min(2, len(of_image)) for of_image in captions])
    times = torch.tensor([[count[phrase] for phrase in phrases] for count in counts]).view(len(captions), -1)
    needed = torch.tensor([min(2, len(of_image)) for of_image in captions])
    fits = (times >= needed[:, None]).float().masked_fill((times > 0) & (times < needed[:, None]), float("nan"))
    return [uses[phrase].label() for phrase in phrases], fits


def _count(captions: list[str], uses: dict[tuple, _Uses]) -> Counter:
    """How many captions of an image have each phrase. Records in `uses` where the phrases occur."""
    counts = Counter()
    for caption in captions:
        words = [_EDGE, *re.findall(r"\w+(?:['’-]\w+)*|[^\w\s]", caption), _EDGE]
        words = [word if word[:1].isalnum() else _EDGE for word in words]
        found = set()
        for start in range(1, len(words) - 1):
            for end in range(start + 1, min(start + 1 + MAX_WORDS, len(words))):
                if words[end - 1] == _EDGE or words[end - 1].lower() in _STOP_WORDS:
                    break
                phrase = tuple(word.lower() for word in words[start:end])
                found.add(phrase)
                _note(uses[phrase], words[start - 1].lower(), " ".join(words[start:end]), words[end].lower())
        counts.update(found)
    return counts


def _note(use: _Uses, before: str, spelling: str, after: str) -> None:
    use.count += 1
    use.started += before == _EDGE or before in _BEFORE
    use.ended += after == _EDGE or after in _AFTER
    use.spellings[spelling] += 1
    if before in _ARTICLES:
        use.articles[before] += 1


def _noun_phrases(uses: dict[tuple, _Uses]) -> list[tuple]:
    """Drop what is no noun phrase. In "a dog runs", "dog" is a noun by itself, so "dog runs" is dropped; in "a red
    circle", "red" is not a noun by itself, so "red circle" stays."""
    nouns = {phrase for phrase, use in uses.items() if use.is_noun()}
    return [p for p in nouns if not any(p[:length] in nouns for length in range(1, len(p)))]


def _shared(phrases: list[tuple], counts: list[Counter], needed: list[int]) -> list[tuple]:
    """The most frequent phrases that fit enough images, without parts of longer ones."""
    least = MIN_IMAGES if len(counts) >= FEW_IMAGES else 2
    wanted, fitting, mentioning = set(phrases), Counter(), Counter()
    for count, enough in zip(counts, needed, strict=True):
        mentioning.update(wanted & count.keys())
        fitting.update(phrase for phrase in wanted & count.keys() if count[phrase] >= enough)
    most = len(counts) - least
    shared = {p: images for p, images in fitting.items() if images >= least and mentioning[p] <= most}
    for phrase, images in list(shared.items()):
        parts = (phrase[i:j] for i in range(len(phrase)) for j in range(i + 1, len(phrase) + 1) if j - i < len(phrase))
        for part in parts:  # drop "white shark" if it only occurs within "great white shark"
            if part in shared and shared[part] <= 1.1 * images:
                del shared[part]
    return sorted(shared, key=lambda phrase: (-shared[phrase], phrase))[:MAX_PHRASES]
