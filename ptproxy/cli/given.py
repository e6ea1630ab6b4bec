"""What an argument gives or points to: itself, ``-`` for standard input, ``@FILE``; a picture's QR code.

Links and invites are secrets, and whatever stands on a command line other users of the machine can see: so
wherever a command takes one, it can be pasted, piped in, read from a file, or from a picture of its QR code.
What surrounds it there, as in all that ``ptproxy invite new`` prints, is passed over.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from ptproxy.config.link import SCHEME, Link
from ptproxy.errors import StartError, why

MAX_GIVEN: Final = 16 << 20
"""Bytes that are read: a photograph's; texts are far shorter."""
MAX_TEXT: Final = 1 << 20
"""Bytes of a text: four of the longest, a signed list of bridges."""
MAX_PIXELS: Final = 50_000_000
"""Pixels of a picture: what a telephone's camera takes. A small file can claim more than a memory holds."""
LINK: Final = (f"{SCHEME}://",)
"""How a bridge link begins."""


class PictureError(StartError):
    """A picture that cannot be read."""


class NoCodeError(StartError):
    """A picture without a QR code."""


_PICTURES: Final = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG"}


def read_given(text: str, begins: Sequence[str], what: str = "link") -> str:
    """The first text there that begins as one of ``begins``; where none does, all that is there.

    Raises :class:`~ptproxy.errors.StartError` for a file that cannot be read, and for a picture without a
    QR code or where nothing is installed that reads one.
    """
    return find_given(read_all(text, what), begins)


def find_given(found: str, begins: Sequence[str]) -> str:
    """The first word of a text that begins as one of ``begins``; where none does, all of it."""
    words = (word for word in found.split() if word.startswith(tuple(begins)))
    return next(words, found.strip())


def reads_pictures() -> bool:
    """Whether what reads QR codes is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("zxingcpp", "PIL"))


def text_of_given(data: bytes) -> str:
    """What a text says, or the QR codes of a picture; raises as :func:`read_given` does."""
    return _text(data, "the picture")


def read_all(text: str, what: str = "link") -> str:
    """All that an argument gives or points to; raises as :func:`read_given` does."""
    if text == "-":
        if sys.stdin.isatty():
            click.echo(f"Paste the {what} and press Enter:", err=True)
            return sys.stdin.readline(MAX_TEXT)
        return _text(sys.stdin.buffer.read(MAX_GIVEN), "standard input")
    if text.startswith("@"):
        try:
            with Path(text[1:]).expanduser().open("rb") as file:
                return _text(file.read(MAX_GIVEN), text[1:])
        except (OSError, RuntimeError) as error:
            reason = why(error) if isinstance(error, OSError) else str(error)
            raise StartError(f"cannot read {text[1:]}: {reason}") from None
        except ValueError:  # a NUL in its name
            raise StartError("cannot read a file of such a name") from None
    return text


def read_link(text: str) -> Link:
    """The link that an argument gives or points to; usage error when it is none."""
    return parse_link(read_given(text, LINK))


def read_links(texts: Sequence[str], most: int) -> tuple[Link, ...]:
    """The links that arguments give or point to, at most ``most``; usage error for anything else."""
    words: list[str] = []
    for text in texts:
        found = read_all(text).split()
        words += [word for word in found if word.startswith(LINK)] or found
    links = tuple(parse_link(word) for word in words)
    if not 0 < len(links) <= most or len(set(links)) != len(links):
        raise click.UsageError(f"LINK: expected one to {most} different bridges")
    return links


def parse_link(text: str) -> Link:
    """A link that was read already; usage error when it is none."""
    try:
        return Link.parse(text)
    except ValueError as error:  # it never repeats a secret of the link
        raise click.UsageError(f"LINK: {error}") from None


def _text(data: bytes, where: str) -> str:
    kind = next((kind for start, kind in _PICTURES.items() if data.startswith(start)), None)
    if kind is not None:
        return _scanned(data, kind, where)
    return data[:MAX_TEXT].decode("utf-8", "replace")


def _scanned(data: bytes, kind: str, where: str) -> str:
    """What the QR codes of a picture say, each on a line."""
    try:
        import zxingcpp
        from PIL import Image
    except ModuleNotFoundError:
        raise StartError(
            "to read a QR code from a picture: pip install 'ptproxy[qr]'; "
            "or scan it with something else, and paste what it says"
        ) from None
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(f"{where}: a picture of too many pixels")
            grey = picture.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"{where}: a picture that is damaged") from None
    qr = zxingcpp.BarcodeFormat.QRCode
    found = [each for each in zxingcpp.read_barcodes(grey) if each.format == qr]
    if not found:
        raise NoCodeError(f"{where}: no QR code is seen in this picture; a sharper one may help")
    return "\n".join(each.text for each in found)
