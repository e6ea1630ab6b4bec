"""A status as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from ptproxy.cli.status_sheet import Sheet, Table


def text_of(sheet: Sheet) -> str:
    """Lines for a terminal without colours, a file or a mail."""
    width = max(len(fact.name) for fact in sheet.facts)
    lines = [sheet.title, "", *(f"{fact.name:<{width}}  {plain(fact.text)}" for fact in sheet.facts)]
    for table in sheet.tables:
        if table.rows:
            lines += ["", table.name, *_rows(table)]
    return "\n".join(lines) + "\n"


def _rows(table: Table) -> Iterator[str]:
    cells = [table.headings, *(row for row, _ in table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.headings))]
    for row in cells:
        shown = (f"{plain(cell):<{width}}" for cell, width in zip(row, widths, strict=True))
        yield ("  " + "  ".join(shown)).rstrip()


def plain(text: str) -> str:
    """One line without control characters: names and reasons may come from elsewhere."""
    return "".join(character if character.isprintable() else "?" for character in text)
