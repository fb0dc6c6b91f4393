"""Evaluation results as a table in per cent. The JSON file beside it holds fractions."""

SHOWN_CLASSES = 5

_RETRIEVAL_ROWS = [
    (f"{first} to {second} R@{k}", f"{first}_to_{second}_recall@{k}")
    for first, second in (("image", "text"), ("text", "image"))
    for k in (1, 5, 10)
]
_MEDIAN_ROWS = [
    (f"{first} to {second} median rank", f"{first}_to_{second}_median_rank")
    for first, second in (("image", "text"), ("text", "image"))
]

_NONE_ROWS = {
    "first_with_right_label": '"none of these", with right label',
    "first_without_right_label": '"none of these", without it',
}
_NONE_AUROC = '"none of these", AUROC'


def retrieval_table(title: str, results: dict) -> str:
    """Table of the results of [`~miniclip.evaluation.retrieval.evaluate_retrieval`]."""
    intervals = results.get("intervals", {})
    lines = [f"{title}: {results['num_images']} images, {results['num_captions']} captions", _HEADER]
    for label, name in _RETRIEVAL_ROWS:
        lines.append(_percent_row(label, results[name], intervals.get(name), results["chance"][name]))
    for label, name in _MEDIAN_ROWS:
        interval = "{:.1f} to {:.1f}".format(*intervals[name]) if name in intervals else ""
        lines.append(f"  {label:32}{results[name]:8.1f}   {interval}".rstrip())
    return "\n".join(lines + _skipped(results))


def zero_shot_table(title: str, results: dict) -> str:
    """Table of the results of [`~miniclip.evaluation.zero_shot.evaluate_zero_shot`]."""
    plain, chance, prompts = results["plain"], results["chance"], len(results["templates"])
    lines = [f"{title}: {results['num_images']} images, {results['num_classes']} classes", _HEADER]
    rows = [(f"accuracy, {prompts} prompts a class", results), ("accuracy, first prompt alone", plain)]
    if prompts == 1:
        rows = [("accuracy", results)]
    for label, part in rows:
        lines.append(_percent_row(label, part["accuracy"], part.get("intervals", {}).get("accuracy"), chance))
    lines.append(_percent_row("mean per-class accuracy", results["mean_per_class_accuracy"], None, chance))
    top_5_chance = min(1.0, 5 / results["num_classes"])
    lines.append(_percent_row("top-5 accuracy", results["top_5_accuracy"], None, top_5_chance))
    for name, label in _NONE_ROWS.items() if "none_of_these" in results else ():
        lines.append(f"  {label:32}{100 * results['none_of_these'][name]:8.1f}")
    if "none_of_these" in results:
        lines.append(f"  {_NONE_AUROC:32}{results['none_of_these']['auroc']:8.3f}   {'':16}{0.5:8.1f}")
    return "\n".join(lines + _worst_classes(results) + _skipped(results))


def _worst_classes(results: dict) -> list[str]:
    """The classes with the lowest accuracy and the most frequent confusions, a few of each."""
    tried = [row for row in results["per_class"] if row["images"]]
    if len(tried) < 2:
        return []
    worst = sorted(tried, key=lambda row: row["accuracy"])[:SHOWN_CLASSES]
    lines = ["  lowest accuracy"]
    lines += [f"    {_short(row['class'], 28):30}{100 * row['accuracy']:8.1f}   of {row['images']}" for row in worst]
    if results["confusions"]:
        lines.append("  most frequent confusions")
    for row in results["confusions"][:SHOWN_CLASSES]:
        taken = f"{_short(row['class'], 24)} as {_short(row['predicted'], 24)}"
        lines.append(f"    {taken:30}{100 * row['share']:8.1f}   {row['images']} images")
    return lines


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def comparison_table(evaluated: dict[str, dict]) -> str:
    """
    One row for each model: its size, recall at 1 in both directions, and accuracy on each labelled dataset.

    Args:
        evaluated: results of each model, by its name; each with `parameters` and `image_size`.
    """
    first = next(iter(evaluated.values()))
    columns = {"parameters": lambda results: f"{results['parameters'] / 1e6:.1f} M"}
    columns["pixels"] = lambda results: str(results["image_size"] or "any")
    if "retrieval" in first:
        for way, title in (("image_to_text", "image to text R@1"), ("text_to_image", "text to image R@1")):
            columns[title] = lambda results, way=way: f"{100 * results['retrieval'][f'{way}_recall@1']:.1f}"
    for name in first.get("zero_shot_sets", {}):
        columns[_short(name, 24)] = lambda results, name=name: (
            f"{100 * results['zero_shot_sets'][name]['accuracy']:.1f}"
        )
    rows = [["model", *columns]]
    rows += [[name, *(cell(results) for cell in columns.values())] for name, results in evaluated.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(line) for line in lines)


_HEADER = f"  {'':32}{'%':>8}   {'95 % interval':16}{'chance':>8}"


def _percent_row(label: str, value: float, interval: list[float] | None, chance: float) -> str:
    between = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
    return f"  {label:32}{100 * value:8.1f}   {between:16}{100 * chance:8.1f}"


def _skipped(results: dict) -> list[str]:
    skipped = results["skipped"]
    return [f"  skipped {skipped['count']} rows: {'; '.join(skipped['first'])}"] if skipped["count"] else []
