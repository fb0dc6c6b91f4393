"""Blank cells below a name that counts for several rows, as people leave them in spreadsheets."""

FEWEST_NAMES = 2
LEAST_CONTINUED = 0.5  # share of the names with blank cells below; where there are fewer, these rows lack their image


def filled_down(values: list) -> list:
    """The values with each repeated in the blank cells below it, if most of them have blank cells below. What records
    of JSON lack is `None`, and no blank cell."""
    blank = [value == "" for value in values]
    names = blank.count(False)
    continued = sum(below and not above for above, below in zip(blank, blank[1:], strict=False))
    if names < FEWEST_NAMES or continued <= LEAST_CONTINUED * names:
        return values
    filled, last = [], values[0]
    for value, is_blank in zip(values, blank, strict=True):
        last = last if is_blank else value
        filled.append(last)
    return filled
