"""Format rows of cells as lines of text with aligned columns."""

from collections.abc import Sequence


def align_columns(rows: Sequence[Sequence[str]], names: int | None = None) -> list[str]:
    """One line a row, each column as wide as its widest cell; what follows the first `names` columns is flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names = len(widths) if names is None else names
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        texts = (cell.ljust(width) if i < names else cell.rjust(width) for i, (cell, width) in enumerate(cells))
        lines.append("  ".join(texts).rstrip())
    return lines
