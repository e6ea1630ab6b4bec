"""``ptproxy manual DIR``: a manual page for every command, from its own help (man-pages(7), groff_man(7))."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from ptproxy import __version__
from ptproxy.state import write_file

VERBATIM: Final = "\b"
"""Heads a paragraph whose lines stay as they are, as in click's help."""
PAGE_MODE: Final = 0o644
"""Pages are for everybody."""
STATUSES: Final = (
    ("0", "It did what it was told."),
    ("1", "It failed; standard error says why."),
    ("2", "Wrong usage, or a configuration with faults, each told with its line."),
    ("130", "Ctrl-C."),
)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_context
def manual(context: click.Context, folder: Path) -> None:
    """Write a manual page for every command into the folder DIR.

    \b
    For yourself:    ptproxy manual ~/.local/share/man/man1
    For everybody:   ptproxy manual /usr/local/share/man/man1
    """
    pages = {_name(each): page(each) for each in _with_descendants(context.find_root())}
    for name, text in pages.items():
        write_file(folder / f"{name}.1", text, mode=PAGE_MODE)
    click.echo(f"{len(pages)} pages in {folder}")


def page(context: click.Context) -> str:
    """The page of one command, as troff source."""
    command, name = context.command, _name(context)
    lines = [
        f'.TH {escape(name.upper())} 1 "" "ptproxy {escape(__version__)}" "ptproxy"',
        ".SH NAME",
        f"{escape(name)} \\- {escape(_summary(command))}",
        ".SH SYNOPSIS",
        f".B {escape(context.command_path)}",
        escape(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        *_section("OPTIONS", _options(context)),
        *_section(
            "COMMANDS", [(below.info_name or "", _summary(below.command)) for below in _below(context)]
        ),
    ]
    if context.parent is None:
        lines += [*_section("EXIT STATUS", STATUSES), ".SH EXAMPLES", *_paragraphs(command.epilog or "")]
    related = [context.parent] if context.parent is not None else []
    related += _below(context)
    references = [f".BR {escape(_name(each))} (1)," for each in related]
    if references:
        lines += [".SH SEE ALSO", *references[:-1], references[-1].rstrip(",")]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """``text`` as troff prints it: hyphens can be copied, nothing is a request, all is ASCII."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _with_descendants(context: click.Context) -> Iterator[click.Context]:
    yield context
    for below in _below(context):
        yield from _with_descendants(below)


def _below(context: click.Context) -> list[click.Context]:
    """The sub-commands that help shows."""
    if not isinstance(context.command, click.Group):
        return []
    found = [
        (name, context.command.get_command(context, name)) for name in context.command.list_commands(context)
    ]
    return [
        click.Context(command, info_name=name, parent=context)
        for name, command in found
        if command is not None and not command.hidden
    ]


def _name(context: click.Context) -> str:
    """As in ``ptproxy-init-bridge``; the root may have been started under another name."""
    parent = context.parent
    return "ptproxy" if parent is None else f"{_name(parent)}-{context.info_name}"


def _summary(command: click.Command) -> str:
    """The first sentence of the help, in one line, without its end."""
    text = " ".join((command.help or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.:])\s", text, maxsplit=1)[0].rstrip(".:")


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        lines = [line for line in paragraph.splitlines() if line]
        if number:
            yield ".PP"
        if lines and lines[0].strip(" ") == VERBATIM:
            yield from (".nf", *map(escape, textwrap.dedent("\n".join(lines[1:])).splitlines()), ".fi")
        else:
            yield from (escape(line.strip()) for line in lines)


def _options(context: click.Context) -> list[tuple[str, str]]:
    options = [each for each in context.command.get_params(context) if isinstance(each, click.Option)]
    return [record for option in options if (record := option.get_help_record(context)) is not None]


def _section(title: str, entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    if entries:
        yield f".SH {title}"
    for term, text in entries:
        yield from (".TP", f".B {escape(term)}", *_paragraphs(text))
