"""QR codes that a reader reads, on the screen and as pictures."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
import zxingcpp

from ptproxy.peers.chat.qr import PICTURE_SCALE, qr_png, qr_rows, too_small

INVITE = "PTPROXY:CONTACT:" + "".join(random.Random(5).choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=620))
"""As long as a usual one."""


def read(pixels: list[list[int]]) -> str:
    """What a reader makes of pixels, 1 for dark."""
    data = bytes(0 if pixel else 255 for row in pixels for pixel in row)
    view = zxingcpp.ImageView(data, len(pixels[0]), len(pixels), zxingcpp.ImageFormat.Lum)
    [found] = zxingcpp.read_barcodes(view)
    return found.text


def drawn(rows: list[str], scale: int = 4) -> list[list[int]]:
    """The pixels of half blocks, as a terminal draws them."""
    pixels = []
    for row in rows:
        for half in ("▀█", "▄█"):
            pixels += [[int(sign in half) for sign in row for _ in range(scale)]] * scale
    return pixels


def pixels_of(png: bytes) -> list[list[int]]:
    """A picture of one bit a pixel, rows as they are or as differences to those above (PNG 7.2, 9.2)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    place, data, head = 8, b"", b""
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        body = png[place + 8 : place + 8 + length]
        head, data = (body, data) if kind == b"IHDR" else (head, data + body * (kind == b"IDAT"))
        place += 12 + length
    width, height, depth, colour = struct.unpack_from(">IIBB", head)
    assert (depth, colour) == (1, 0)
    raw, length = zlib.decompress(data), (width + 7) // 8
    above, pixels = bytes(length), []
    for start in range(0, height * (length + 1), length + 1):
        row = raw[start + 1 : start + 1 + length]
        assert raw[start] in (0, 2)
        above = row if raw[start] == 0 else bytes((a + b) & 255 for a, b in zip(row, above, strict=True))
        pixels.append([1 - (above[x // 8] >> (7 - x % 8) & 1) for x in range(width)])
    return pixels


@pytest.mark.parametrize("text", [INVITE, "PTPROXY:FP:ABCDEFGH", "x"])
def test_what_is_drawn_is_read(text: str) -> None:
    rows = qr_rows(text)
    assert len({len(row) for row in rows}) == 1
    assert read(drawn(rows)) == text


def test_a_picture_is_read_too() -> None:
    pixels = pixels_of(qr_png(INVITE))
    assert read(pixels) == INVITE
    assert len(pixels) == len(pixels[0]) == (len(qr_rows(INVITE)[0]) - 4 + 8) * PICTURE_SCALE


def test_a_code_that_is_cut_is_not_read() -> None:
    """Why a window that is too small is told so."""
    pixels = drawn(qr_rows(INVITE))[: 32 * 8]
    data = bytes(0 if pixel else 255 for row in pixels for pixel in row)
    view = zxingcpp.ImageView(data, len(pixels[0]), len(pixels), zxingcpp.ImageFormat.Lum)
    assert zxingcpp.read_barcodes(view) == []


def test_a_window_that_is_too_small_is_told_its_size() -> None:
    rows = qr_rows(INVITE)
    assert too_small(rows, len(rows[0]), len(rows)) == ""
    for columns, lines in ((len(rows[0]) - 1, len(rows)), (len(rows[0]), len(rows) - 1), (100, 32)):
        said = too_small(rows, columns, lines)
        assert f"needs {len(rows[0])} columns and {len(rows)} rows" in said
        assert f"this window has {columns} and {lines}" in said
