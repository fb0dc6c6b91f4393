"""Joins two tables that share a key, as databases and some datasets keep images and their captions apart."""

from miniclip.data.columns import TableColumns, caption_names, sample_of
from miniclip.data.names import plain_name
from miniclip.data.tables import Table

LEAST_SHARED = 0.8  # share of the keys of captions that images must have
LEAST_DISTINCT = 0.3  # share of the rows that have a key of their own; several images may have one key


def join_tables(images: Table, columns: TableColumns, captions: Table) -> Table | None:
    """
    One row for each image and each row about it. `None` if the second table has no captions, or no column whose values
    are keys of the first one.

    Args:
        images: the table that names the images.
        columns: its columns.
        captions: the table with captions.
    """
    pairs = {}
    known = {name: _distinct(values) for name, values in images.columns.items() if name != columns.image}
    known = {name: keys for name, keys in known.items() if len(keys) >= LEAST_DISTINCT * len(images)}
    for theirs, keys in captions.columns.items():
        wanted = _distinct(keys)
        for ours, values in known.items():
            shared = len(wanted & values)
            if 1 < shared >= LEAST_SHARED * len(wanted):
                pairs[ours, theirs] = (plain_name(ours) == plain_name(theirs), shared)
    samples = {name: sample_of(cells) for name, cells in captions.columns.items()} if pairs else {}
    with_captions = {
        theirs: bool(caption_names({name: sample for name, sample in samples.items() if name != theirs}))
        for theirs in {theirs for _, theirs in pairs}
    }
    pairs = {pair: score for pair, score in pairs.items() if with_captions[pair[1]]}
    if not pairs:
        return None
    ours, theirs = max(pairs, key=pairs.get)
    return _rows(images, columns.image, ours, captions, theirs)


def _distinct(values: list) -> set[str]:
    return {str(value) for value in values if value not in (None, "")}


def _rows(images: Table, image: str, ours: str, captions: Table, theirs: str) -> Table:
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(captions.columns[theirs]):
        rows_of.setdefault(str(key), []).append(row)
    table = Table({image: [], **{name: [] for name in captions.columns if name not in (theirs, image)}})
    table.how = f"joined by {theirs!r}"
    for name, key in zip(images.columns[image], images.columns[ours], strict=True):
        for row in rows_of.get(str(key), []):
            table.columns[image].append(name)
            for other in table.columns.keys() - {image}:
                table.columns[other].append(captions.columns[other][row])
    return table
