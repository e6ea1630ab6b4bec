"""The http codec with a shape: sizes of bodies up and down, and what waits for how long."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from http_rig import Buffering, Direct, H11Front, Rig, noise

from ptproxy.codec import http_downloads as downloads
from ptproxy.codec import http_posts as posts
from ptproxy.codec.http_downloads import MOST_IDLE
from ptproxy.codec.http_posts import GATHERED
from ptproxy.codec.http_records import POLL, TOKEN_TEXT, UPLOAD_HEAD
from ptproxy.codec.shape import BodySizes, ClassShape, Down, Up

SIZES = (320, 480, 700, 1000)
SHAPE = ClassShape(
    "browse",
    ("http",),
    up=Up(post_body=SIZES, in_flight=3, gather=0.002),
    down=Down(gets_in_flight=2, body=BodySizes((5000,)), idle=0.008),
)


def bodies(rig, way):
    """Content-Length of each POST (``up``) or answer (``down``) so far."""
    lengths = []
    for pipe in rig.pipes:
        data = bytes(pipe.sent_up if way == "up" else pipe.sent_down)
        for line in data.split(b"\r\n"):
            if line.lower().startswith(b"content-length: "):
                lengths.append(int(line[16:]))
    return lengths


def gets(rig):
    return [pipe for pipe in rig.busy("GET") if pipe.client.exchange.kind == POLL]


def test_gets_in_flight_are_those_of_the_shape():
    for count in (1, 2, 4):
        rig = Rig(shape=replace(SHAPE, down=replace(SHAPE.down, gets_in_flight=count))).open()
        assert len(gets(rig)) == 1, "nobody has said anything yet"
        rig.bridge.send_data([noise(60_000, 1)], rig.now)
        rig.wait(0.1)
        assert rig.down == noise(60_000, 1)
        assert len(gets(rig)) == count


def test_a_full_body_goes_out_at_once_and_the_rest_when_it_is_quiet():
    rig = Rig(shape=SHAPE).open()
    rig.send_down(noise(12_000, 1))
    assert rig.down == noise(12_000, 1)[:10_000], "two bodies of the drawn size"
    assert len(gets(rig)) == 2
    rig.wait(0.007)
    assert len(rig.down) == 10_000
    rig.wait(0.002)
    assert rig.down == noise(12_000, 1)


def test_answers_have_a_content_length_and_the_drawn_size():
    rig = Rig(shape=SHAPE).open()
    rig.send_down(noise(20_000, 1))
    rig.wait(0.05)
    answers = [one for one in bodies(rig, "down") if one > 1000]
    assert len(answers) == 4
    assert all(5000 + 8 <= one <= 5000 + 8 + 255 for one in answers), "payload, two heads, padding of END"
    assert not any(b"chunked" in pipe.sent_down for pipe in rig.pipes)


def test_a_trickle_does_not_wait_for_ever():
    rig = Rig(shape=SHAPE).open()
    began = rig.now
    while not rig.down:
        rig.send_down(b"x" * 20)
        rig.wait(0.006)
    assert 0.02 < rig.now - began <= 0.008 * MOST_IDLE + 0.006


def test_what_can_only_be_an_acknowledgement_waits_for_company():
    for more in (b"", b"y" * 8):
        rig = Rig(shape=SHAPE).open()
        rig.send_down(b"x" * downloads.LITTLE)
        rig.wait(0.008 * 2)
        assert rig.down == b""
        rig.send_down(more)
        rig.wait(0.009)
        assert len(rig.down) == (downloads.LITTLE + 8 if more else 0), "with more, as any answer"
        rig.wait(0.008 * MOST_IDLE - 0.025)
        assert rig.down == b"x" * downloads.LITTLE + more


def test_bodies_grow_while_they_come_full_and_no_further_than_said():
    down = Down(gets_in_flight=2, body=BodySizes((1000,)), idle=0.004, grow=2.0, grow_to=6000)
    rig = Rig(shape=replace(SHAPE, down=down)).open()
    rig.send_down(noise(40_000, 1))
    rig.wait(0.05)
    assert rig.down == noise(40_000, 1)
    full = bodies(rig, "down")
    assert max(full) <= 6000 + 8 + 255
    assert sorted(full)[-3] >= 6000
    rig.down.clear()
    rig.send_down(noise(900, 2))
    rig.wait(0.05)
    rig.send_down(noise(1500, 3))
    assert len(rig.down) == 900 + 1000, "small again after one that was not full"


@pytest.mark.parametrize("size", [1, 300, 317, 699, 996, 997, 5000])
def test_posts_are_padded_to_the_next_size(size):
    rig = Rig(shape=SHAPE).open()
    before = len(bodies(rig, "up"))
    rig.send_up(noise(size, 1))
    assert rig.up == b"", "it waits for more"
    rig.wait(0.003 if size > posts.LITTLE else 0.009)
    assert rig.up == noise(size, 1)
    (length,) = bodies(rig, "up")[before:]
    needed = size + UPLOAD_HEAD
    assert length == min((step for step in SIZES if step >= needed), default=needed)


def test_payload_is_gathered_into_one_post():
    rig = Rig(shape=SHAPE).open()
    before = len(bodies(rig, "up"))
    for turn in range(5):
        rig.send_up(noise(50, turn))
        rig.wait(0.0003)
    rig.wait(0.003)
    assert len(bodies(rig, "up")) == before + 1
    assert rig.up == b"".join(noise(50, turn) for turn in range(5))


def test_a_little_payload_waits_longer_until_it_is_no_longer_little():
    rig = Rig(shape=SHAPE).open()
    before = len(bodies(rig, "up"))
    rig.send_up(noise(posts.LITTLE, 1))
    rig.wait(0.002 * posts.LITTLE_WAITS - 0.001)
    assert rig.up == b""
    rig.send_up(b"x")
    assert len(rig.up) == posts.LITTLE + 1, "its time is over, now that there is more"
    rig.send_up(noise(posts.LITTLE, 2))
    rig.wait(0.001)
    rig.send_up(b"x")
    assert len(bodies(rig, "up")) == before + 1
    rig.wait(0.0011)
    assert len(bodies(rig, "up")) == before + 2


def test_much_payload_is_not_gathered():
    rig = Rig(shape=SHAPE).open()
    rig.send_up(noise(GATHERED, 1))
    assert rig.up == noise(GATHERED, 1)


def test_posts_in_flight_are_those_of_the_shape():
    rig = Rig(shape=SHAPE).open()
    for pipe in rig.pipes:
        pipe.down_open = False
    for turn in range(8):
        rig.send_up(noise(GATHERED, turn))
        for pipe in rig.pipes:
            pipe.down_open = False
    assert len(rig.busy("POST")) <= 3


@pytest.mark.parametrize("front", [Direct, H11Front, Buffering])
@pytest.mark.parametrize("seed", range(4))
def test_everything_arrives_in_order_through_any_front(front, seed):
    rng = random.Random(seed)
    print("seed", seed)
    shape = replace(SHAPE, down=replace(SHAPE.down, body=BodySizes((900, 160_000), 13_400, 1.1), grow=2.0))
    rig = Rig(front=front, shape=shape, seed=seed).open()
    up, down = b"", b""
    for turn in range(60):
        size = rng.choice((1, 40, 600, 3000, 70_000))
        if rng.random() < 0.5:
            up += noise(size, turn)
            rig.send_up(noise(size, turn))
        else:
            down += noise(size, turn)
            rig.send_down(noise(size, turn))
        if rng.random() < 0.5:
            rig.wait(rng.choice((0.0005, 0.004, 0.02)))
    rig.wait(0.5)
    assert rig.up == up
    assert rig.down == down
    assert rig.ended == {}


@pytest.mark.parametrize("side", ["client", "bridge"])
def test_a_clean_close_waits_for_nothing_of_the_shape(side):
    rig = Rig(shape=SHAPE).open()
    getattr(rig, side).send_data([noise(700, 1)], rig.now)
    getattr(rig, side).close(rig.now)
    rig.wait(0.01)
    assert (rig.up if side == "client" else rig.down) == noise(700, 1)
    assert set(rig.ended.values()) == {""}


def test_idle_gets_are_answered_and_asked_again():
    rig = Rig(shape=SHAPE).open()
    rig.wait(60)
    assert rig.ended == {}
    assert len(gets(rig)) == 1
    rig.send_down(b"late" * 10)
    rig.wait(0.01)
    assert rig.down == b"late" * 10


def test_what_a_front_did_is_not_learnt_from_a_shaped_carrier():
    rig = Rig(shape=SHAPE).open()
    rig.send_down(noise(9000, 1))
    rig.wait(1)
    assert rig.client.download == "auto"
    assert Rig({"download": "stream"}, shape=SHAPE).open().client.download == "auto"


def cookies(rig):
    """Those of all requests but the opening."""
    lines = b"".join(bytes(pipe.sent_up) for pipe in rig.pipes).split(b"\r\n")
    return [line[8:] for line in lines if line.startswith(b"Cookie: ")][1:]


def test_tokens_are_bare():
    rig, plain = Rig(shape=SHAPE).open(), Rig().open()
    for _ in range(8):
        rig.send_up(noise(50, 1))
        rig.wait(0.01)
        plain.send_up(noise(50, 1))
    assert len(cookies(rig)) > 8
    assert {len(token_of(cookie)) for cookie in cookies(rig)} == {TOKEN_TEXT}
    assert len({len(token_of(cookie)) for cookie in cookies(plain)}) > 1


def token_of(cookie):
    return cookie.partition(b"; ")[0].partition(b"=")[2]
