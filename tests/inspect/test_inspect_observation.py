"""Comparing: what is equal, what is near enough, and what two runs say together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.inspect.answer import answer_text, http2_text, masked
from ptproxy.inspect.observation import Difference, Observation, differences, same_sizes, same_time
from ptproxy.inspect.probe import Probe
from ptproxy.inspect.server_flight import alert_text, describe, server_hello_text, split_records
from ptproxy.inspect.side_by_side import _judged, _undecided

PROBE = Probe("one", "one", ())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.0, 0.9, True),
        (None, None, True),
        (None, 0.0, False),
        (0.5, 1.4, True),
        (0.1, 5.0, False),
        (60.0, 62.9, True),
        (60.0, 75.0, False),
        (75.0, 75.4, True),
    ],
)
def test_times_are_compared_in_classes(one: float | None, other: float | None, same: bool) -> None:
    assert same_time(one, other) is same_time(other, one) is same


def test_sizes_may_differ_as_signatures_do() -> None:
    assert same_sizes((122, 437, 95), (122, 437, 97))
    assert not same_sizes((122, 437, 95), (122, 437, 100))
    assert not same_sizes((282, 282), (282,))


def test_every_observable_counts() -> None:
    bare = Observation()
    changed = Observation(
        "refused", "none", "x", ("a",), ("b",), "none", "HTTP", (1,), (100,), "FIN", 5.0, 6.0
    )
    assert differences(bare, bare) == differences(changed, changed) == []
    found = {one.observable for one in differences(Observation(certificate="x"), changed)}
    assert found == {
        "reached", "handshake", "clear", "alerts", "tickets", "answer", "flight_sizes", "sizes", "end",
        "first_byte", "ended",
    }  # fmt: skip
    assert "flight_sizes" not in {one.observable for one in differences(bare, changed)}


def test_a_difference_is_told_by_its_first_line() -> None:
    one = Observation(answer="HTTP/1.1 200 OK\r\nServer: a\r\nX: y")
    other = Observation(answer="HTTP/1.1 200 OK\r\nServer: b\r\nX: y")
    assert differences(one, other) == [Difference("answer", "Server: a", "Server: b")]
    shorter = Observation(answer="HTTP/1.1 200 OK\r\nServer: a")
    assert differences(one, shorter) == [Difference("answer", "X: y", "nothing more")]
    assert differences(Observation(ended=0.5), Observation(ended=60.04)) == [
        Difference("ended", "at once", "after 60.0 s")
    ]
    assert differences(Observation(), Observation(sizes=(1, 22))) == [Difference("sizes", "none", "1; 22")]


def judged(*runs: tuple[Observation, Observation]):
    assert all(_undecided(runs[:count], True) for count in range(1, len(runs)))
    told = _judged(PROBE, runs, True)
    return [one.observable for one in told.differences], list(told.unsteady)


def test_what_hangs_on_the_moment_counts_twice_or_not() -> None:
    fin, rst = Observation(end="FIN"), Observation(end="RST")
    assert judged((fin, rst), (fin, rst)) == (["end"], [])
    assert judged((fin, rst), (fin, fin)) == ([], [])
    assert judged((fin, rst), (rst, fin)) == (["end"], [])


def test_a_reference_that_differs_from_itself_is_not_compared() -> None:
    a, b, c = (Observation(answer=text) for text in "abc")
    assert judged((a, b), (a, b)) == (["answer"], [])
    assert judged((a, b), (c, b)) == ([], ["answer"])
    assert judged((a, b), (c, c)) == ([], ["answer"])


def test_an_answer_that_differs_once_is_asked_for_a_third_time() -> None:
    a, b = (Observation(answer=text) for text in "ab")
    assert judged((a, b), (a, a), (a, a)) == ([], [])
    assert judged((a, b), (a, a), (a, b)) == (["answer"], [])
    assert not _undecided([(a, b), (a, b)], True)
    assert not _undecided([(a, a)], True)
    assert _judged(PROBE, [(a, a)], True).differences == ()


def test_lengths_of_handshake_records_count_where_the_certificate_is_the_same() -> None:
    pair = (Observation(flight_sizes=(100,)), Observation(flight_sizes=(200,)))
    assert [one.observable for one in _judged(PROBE, [pair, pair], True).differences] == ["flight_sizes"]
    assert _judged(PROBE, [pair, pair], False).differences == ()
    assert not _undecided([pair], False)


HEAD = b"HTTP/1.1 200 OK\r\nDate: Mon\r\nSet-Cookie: sid=abc; Path=/\r\nServer: x\r\n\r\n"


def test_what_varies_by_nature_is_masked_and_nothing_else() -> None:
    assert masked(HEAD) == HEAD.replace(b"Mon", b"*").replace(b"abc", b"*")
    assert answer_text(HEAD + b"one") == answer_text(HEAD.replace(b"Mon", b"Tue") + b"one")
    for change in (HEAD.replace(b"Date", b"date"), HEAD.replace(b"Server: x", b"Server:  x"), HEAD + b"!"):
        assert answer_text(change + b"one") != answer_text(HEAD + b"one")


def test_each_of_several_answers_is_told() -> None:
    text = answer_text(HEAD + b"one" + HEAD + b"two")
    assert text.count("HTTP/1.1 200 OK") == 2
    assert text.count("SHA-256") == 2
    assert text != answer_text(HEAD + b"one" + HEAD + b"one")


def test_http2_is_told_by_frames_and_fields() -> None:
    settings = b"\0\0\0\4\0\0\0\0\0"
    block = b"\x88\x61\x03Mon\x76\x01x"  # :status 200, date, server
    frames = settings + len(block).to_bytes(3, "big") + b"\1\4\0\0\0\1" + block + b"\0\0\3\0\1\0\0\0\1one"
    lines = http2_text(frames).split("\r\n")
    assert lines[0] == "SETTINGS flags 00 stream 0: "
    assert lines[1] == "HEADERS flags 04 stream 1: :status: 200; date: *; server: x"
    assert lines[2].startswith("DATA flags 01 stream 1: [3 bytes")
    assert http2_text(HEAD) == answer_text(HEAD)


@given(st.binary(max_size=400))
def test_no_bytes_break_the_telling(data: bytes) -> None:
    assert answer_text(data) == answer_text(data)
    http2_text(data)
    http2_text(b"\0\0\5\1\4\0\0\0\1" + data)
    records, rest = split_records(data)
    assert sum(5 + len(record.content) for record in records) + len(rest) == len(data)
    describe(records)
    describe(split_records(b"\x16\3\3\0\x40" + data[:64].ljust(64, b"\0"))[0])
    server_hello_text(data)
    alert_text(data)


def test_records_are_described() -> None:
    hello = (
        b"\3\3" + bytes(32) + b"\x20" + bytes(32) + b"\x13\1\0\0\x0c"
        b"\0\x2b\0\2\3\4\0\x33\0\2\0\x1d"
    )  # fmt: skip
    flight = b"\x16\3\3" + (len(hello) + 4).to_bytes(2, "big") + b"\2\0\0" + bytes([len(hello)]) + hello
    flight += b"\x14\3\3\0\1\1" + b"\x17\3\3\0\2ab" * 2 + b"\x15\3\1\0\2\2\x28" + b"\x16\3"
    records, rest = split_records(flight)
    assert rest == b"\x16\3"
    assert describe(records) == (
        "handshake server_hello (version 0303, cipher 1301, session id, extensions 43=0304 51=001d)",
        "change_cipher_spec",
        "application_data",
        "alert fatal handshake_failure (version 0301)",
    )
