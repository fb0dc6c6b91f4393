"""Counts what cannot be used and names the first few, so that nothing is left out silently."""


class SkipReport:
    """Counts rows that cannot be used, and remembers the first few for a report."""

    def __init__(self, keep: int = 5):
        self.count = 0
        self.first: list[str] = []
        self._keep = keep

    def add(self, row: int | str, reason: str) -> None:
        """Count one row. `row` is a row number or another description of the place."""
        self.add_text(f"row {row}: {reason}")

    def add_text(self, text: str, count: int = 1) -> None:
        """Count something that is not a row, or `count` things with the same reason."""
        self.count += count
        if len(self.first) < self._keep:
            self.first.append(text)

    def extend(self, other: "SkipReport", prefix: str = "") -> None:
        """Add the content of another report."""
        self.count += other.count
        self.first += [prefix + text for text in other.first[: self._keep - len(self.first)]]

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return f"skipped {self.count} unusable rows ({'; '.join(self.first)}{more})"
