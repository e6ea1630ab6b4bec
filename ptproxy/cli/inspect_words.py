"""What the commands of ``ptproxy inspect`` share: their exit status and how they fail."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final

import click

from ptproxy.errors import PtproxyError, why

SAME: Final = 0
"""Exit status: nothing was found."""
DIFFERENT: Final = 1
"""Exit status: something was."""

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Everything, for a script.")


@contextlib.contextmanager
def could_not_run() -> Iterator[None]:
    """What fails is no finding: it leaves with status 2."""
    try:
        yield
    except PtproxyError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(why(error)) from None


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=True))


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of text in columns; numbers are set to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if cell[:1].isdigit() or cell == "-" else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def cut(text: str, width: int) -> str:
    """One line of at most ``width`` characters."""
    line = " ⏎ ".join(text.replace("\r\n", "\n").splitlines())
    shown = "".join(letter if letter.isprintable() else "·" for letter in line)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"
