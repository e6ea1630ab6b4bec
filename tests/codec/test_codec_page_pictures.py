"""Which pictures become urgent, and which answers are no pictures and given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_rig import Rig

from ptproxy.codec.page.pictures import HEAD, VIEWPORT_HEIGHT, PictureHead, is_picture

PICTURES = [
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1",
    b"GIF89a\1\0\1\0\x80\0",
    b"RIFF\x24\0\0\0WEBPVP8 ",
    b"\0\0\0\x20ftypavif",
    b"\0\0\1\0\1\0\x10\x10\0\0\1\0",
]


@pytest.mark.parametrize("head", PICTURES)
def test_pictures_are_known_by_their_beginning(head):
    assert is_picture(head[:HEAD])
    assert not is_picture(b"x" + head[: HEAD - 1])


@given(st.sampled_from([*PICTURES, b"<!doctype html>", bytes(20)]), st.lists(st.integers(1, 9), max_size=9))
def test_a_beginning_may_come_in_pieces(body, cuts):
    head, at = PictureHead("image/png"), 0
    for size in [*cuts, len(body)]:
        head.feed(body[at : at + size])
        at += size
    assert head.broken is (body not in PICTURES)


def test_a_drawing_is_a_document_and_a_short_answer_decides_nothing():
    drawing, short = PictureHead("image/svg+xml"), PictureHead("image/png")
    drawing.feed(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    short.feed(b"gone")
    assert (drawing.broken, short.broken) == (False, False)


def page(*sizes):
    pictures = b"".join(b"<img src=/%d.png %b>" % (number, size) for number, size in enumerate(sizes))
    return b"<!doctype html><link rel=stylesheet href=/a.css><body>" + pictures


def site(*sizes, body=PICTURES[0] + bytes(60_000)):
    pictures = {
        f"/{number}.png": (200, [("content-type", "image/png")], body) for number in range(len(sizes))
    }
    return {"/": (200, [], page(*sizes)), "/a.css": (200, [], b"p {}"), **pictures}


def test_pictures_without_a_height_are_in_sight_together():
    """Chromium 156 (recorded 2026-11): 21 PRIORITY frames for thirteen, two a picture but for neighbours."""
    rig = Rig(site(*[b""] * 13), rtt=0.2)
    rig.latency = {"/a.css": 0.01}
    rig.run()
    later = range(15, 31, 2)  # the first five pictures, 5 to 13, were more urgent from the start
    named = {number for number, weight in rig.moved if weight == 220}
    assert len(named & set(later)) >= 5, "all, but for those that have their place already"
    assert 12 <= len(rig.moved) <= 25


def test_pictures_below_the_fold_do_not_become_urgent():
    tall = b"width=900 height=%d" % VIEWPORT_HEIGHT
    rig = Rig(site(*[tall] * 7), rtt=0.2)
    rig.latency = {"/a.css": 0.01}
    rig.run()
    assert rig.moved == [], "the first is as urgent as it gets without a frame; the others lie below"


def test_what_is_no_picture_is_given_up_unless_it_has_come():
    rig = Rig(site(b"", body=bytes(60_000)))
    rig.trickle = 0.01
    rig.run()
    assert rig.resets == ["/0.png"]
    whole = Rig(site(b"", body=bytes(600))).run()
    assert whole.resets == []
    good = Rig(site(b""))
    good.trickle = 0.01
    assert good.run().resets == []


def test_what_is_encoded_is_not_judged_by_its_first_bytes():
    """Servers that compress everything are common, and a browser decodes before it looks."""
    pages = site(b"", body=bytes(60_000))
    pages["/0.png"][1].append(("content-encoding", "gzip"))
    rig = Rig(pages)
    rig.trickle = 0.01
    assert rig.run().resets == []
