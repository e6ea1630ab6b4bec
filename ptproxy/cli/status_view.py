"""A status as a picture on the terminal, with rich."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from ptproxy.cli.status_sheet import Fact, Mood, Sheet, Table
from ptproxy.cli.status_text import plain

STYLES: Final[dict[Mood, str]] = {"good": "bold green", "warning": "bold yellow", "bad": "bold red", "": ""}
MARKS: Final[dict[Mood, str]] = {"good": "●", "warning": "▲", "bad": "✖", "": " "}
"""Beside the colour, for who sees none."""


def view_of(sheet: Sheet) -> RenderableType:
    """Everything, one below the other; what does not fit on the terminal is cut off at its end."""
    parts: list[RenderableType] = [_facts(sheet.facts)]
    for table in sheet.tables:
        if table.rows:
            parts += [Text(f"\n{table.name}", "bold"), _table(table)]
    return Panel(Group(*parts), title=f" {sheet.title} ", subtitle=" Ctrl-C leaves ", box=box.ROUNDED)


def _facts(facts: list[Fact]) -> Grid:
    grid = Grid.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for fact in facts:
        style = STYLES[fact.mood]
        grid.add_row(Text(MARKS[fact.mood], style), fact.name, Text(plain(fact.text), style))
    return grid


def _table(table: Table) -> Grid:
    grid = Grid(box=None, padding=(0, 3, 0, 2), pad_edge=False)
    for heading in table.headings:
        grid.add_column(heading, header_style="dim", overflow="ellipsis", no_wrap=True)
    for cells, mood in table.rows:
        grid.add_row(*(Text(plain(cell), STYLES[mood]) for cell in cells))
    return grid
