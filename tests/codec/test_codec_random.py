"""The random codec against a second reading of its specification, and against strangers' bytes."""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.interface import CarrierEnded, CodecSettings, NotMine, PayloadReceived
from ptproxy.codec.random import MAX_OPENING, MIN_OPENING, OPENING_PADDING, RANDOM
from ptproxy.codec.random_records import (
    BEND,
    BULK_SHIFT,
    END,
    MAX_PADDING,
    MAX_PAYLOAD,
    REACH,
    RecordReader,
    RecordWriter,
    keystream,
    looks_like_method,
)
from ptproxy.errors import CodecError, LocalProtocolError

SETTINGS = CodecSettings("example.org", "/secret")
OPENING = bytes(range(200))


class Stream:
    """One direction, written from PROTOCOL.md alone."""

    def __init__(self, path: bytes, direction: bytes, nonce: bytes) -> None:
        self.seed = hashlib.sha256(
            b"ptproxy random 1 " + direction + hashlib.sha256(path).digest() + nonce
        ).digest()
        self.nonce, self.used = nonce, 8

    def key(self, start: int, end: int) -> bytes:
        blocks = b"".join(
            hashlib.shake_128(self.seed + i.to_bytes(8, "big")).digest(4096) for i in range(end // 4096 + 1)
        )
        return blocks[start:end]

    def start(self) -> bytes:
        return self.nonce + self.key(0, 8)

    def mask(self, header: bytes) -> bytes:
        self.used += 4
        return bytes(a ^ b for a, b in zip(header, self.key(self.used - 4, self.used), strict=True))

    def record(self, payload: bytes, padding: bytes, length: int | None = None) -> bytes:
        length = len(payload) if length is None else length
        return self.mask((length << 15 | len(padding)).to_bytes(4, "big")) + padding + payload

    def read(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """(length field, padding length, payload) of each record after nonce and tag."""
        records = []
        while data:
            word = int.from_bytes(self.mask(data[:4]), "big")
            length, padding = word >> 15, word & 0x7FFF
            taken = length if length <= 65536 else 0
            records.append((length, padding, data[4 + padding : 4 + padding + taken]))
            data = data[4 + padding + taken :]
        return records


def drain(link) -> bytes:
    return b"".join(link.data_to_send())


def payload_of(events) -> bytes:
    return b"".join(bytes(event.data) for event in events if type(event) is PayloadReceived)


def client(seed: int = 1):
    return RANDOM.client(SETTINGS, OPENING, random.Random(seed))


def bridge(seed: int = 2):
    return RANDOM.reception(SETTINGS, random.Random(seed)).open_link()


def opened():
    ours, theirs = client(), bridge()
    (offer,) = theirs.receive_data(drain(ours), 0.0)
    assert offer.accept(bytes(32), 0.0) is theirs
    assert theirs.receive_data(b"", 0.0) == []
    return ours, theirs


# ---- the format -----------------------------------------------------------------------------------


def test_our_bytes_by_the_specification():
    ours = client()
    ours.send_data([b"abc", b"def"], 0.0)
    ours.send_data([bytes(100_000)], 0.0)
    ours.close(0.0)
    data = drain(ours)
    stream = Stream(b"/secret", b"up", data[:16])
    assert data[:24] == stream.start()
    records = stream.read(data[24:])
    assert [payload for _, _, payload in records] == [OPENING, b"abcdef", bytes(65536), bytes(34464), b""]
    assert records[-1][0] == 65537
    assert all(padding <= 65536 >> BULK_SHIFT for _, padding, _ in records[2:4])


padded = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=6)
cut_lists = st.lists(st.integers(0, 4096), max_size=12)


@given(padded, st.binary(max_size=2048), cut_lists, st.booleans())
def test_we_read_the_specifications_bytes_under_any_split(records, padding, cuts, end):
    stream = Stream(b"/secret", b"up", b"0123456789abcdef")
    data = stream.start() + stream.record(OPENING, padding)
    data += b"".join(stream.record(payload, pad) for payload, pad in records)
    if end:
        data += stream.record(b"", b"pad", END)
    link = bridge()
    events = []
    for start, stop in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        for event in link.receive_data(memoryview(data)[start:stop], 0.0):
            if hasattr(event, "accept"):
                assert event.opening == OPENING
                event.accept(bytes(32), 0.0)
                events += link.receive_data(b"", 0.0)
            else:
                events.append(event)
    events = [(bytes(event.data) if type(event) is PayloadReceived else event) for event in events]
    ends = [event for event in events if type(event) is not bytes]
    assert b"".join(event for event in events if type(event) is bytes) == b"".join(
        payload for payload, _ in records
    )
    assert ends == ([CarrierEnded(link, "")] if end else [])
    assert link.closing == end


def test_keystream_crosses_its_blocks():
    stream = Stream(b"/p", b"down", bytes(16))
    tag, words = keystream(b"down", "/p", bytes(16))
    assert tag == stream.key(0, 8)
    assert [next(words) for _ in range(3000)] == [
        int.from_bytes(stream.key(8, 12008)[at : at + 4], "big") for at in range(0, 12000, 4)
    ]


def test_directions_and_paths_have_keystreams_of_their_own():
    tags = {keystream(d, p, bytes(16))[0] for d in (b"up", b"down") for p in ("/", "/a")}
    assert len(tags) == 4


def test_a_nonce_is_drawn_again_while_it_looks_like_a_method():
    class Rigged(random.Random):
        draws = iter([b"GETxxxxxxxxxxxxx", b"POSTxxxxxxxxxxxx", b"GEtxxxxxxxxxxxxx"])

        def randbytes(self, n):
            return next(self.draws, bytes(n))

    assert RecordWriter(b"up", "/", Rigged(1)).start(20)[:3] == b"GEt"
    assert looks_like_method(b"PRI * HTTP/2.0")
    assert not looks_like_method(b"GE")


def test_bulk_is_passed_on_without_copying():
    ours, theirs = opened()
    big = bytes(60_000)
    ours.send_data([big], 0.0)
    out = ours.data_to_send()
    assert len(out) == 2
    assert out[1] is big
    data = b"".join(out)
    (event,) = theirs.receive_data(data, 0.0)
    assert event.data.obj is data


# ---- padding ----------------------------------------------------------------------------------------


def test_padding_differs_between_carriers_and_stays_inside_its_limits():
    means = []
    for seed in range(200):
        writer = RecordWriter(b"up", "/", random.Random(seed))
        writer.start(100)
        lengths = [len(writer.start(100)) - 4 for _ in range(200)]
        assert max(lengths) <= REACH[1] <= min(MAX_PADDING, OPENING_PADDING)
        assert lengths.count(0) < 60
        means.append(sum(lengths) / len(lengths))
    assert min(means) < REACH[0]
    assert max(means) > REACH[1] / (BEND[1] + 2)


@pytest.mark.parametrize("length", [4097, 16384, MAX_PAYLOAD])
def test_bulk_is_hardly_padded(length):
    writer = RecordWriter(b"up", "/", random.Random(3))
    writer.start(1)
    assert all(len(writer.start(length)) - 4 <= length / 64 for _ in range(500))


# ---- strangers ------------------------------------------------------------------------------------------


@given(st.binary(max_size=80), cut_lists)
def test_garbage_is_not_ours_once_24_bytes_or_three_capitals_are_there(data, cuts):
    decided = len(data) >= 24 or looks_like_method(data)
    link, events = bridge(), []
    for start, stop in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        events += link.receive_data(data[start:stop], 0.0)
    assert events == ([NotMine()] if decided else [])
    assert link.receive_eof(0.0) == ([] if decided else [NotMine()])
    assert link.data_to_send() == []


@pytest.mark.parametrize(
    ("payload", "padding", "length"),
    [
        (bytes(MIN_OPENING - 1), b"", None),
        (bytes(MAX_OPENING + 1), b"", None),
        (OPENING, bytes(OPENING_PADDING + 1), None),
        (b"", b"", None),
        (b"", b"xyz", END),
        (b"", b"", END + 1),
    ],
)
def test_a_first_record_that_is_no_opening(payload, padding, length):
    stream = Stream(b"/secret", b"up", b"0123456789abcdef")
    assert bridge().receive_data(stream.start() + stream.record(payload, padding, length), 0.0) == [NotMine()]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(24), bytes(range(40))])
def test_a_client_gives_up_what_is_not_a_bridges_answer(answer):
    ours = client()
    drain(ours)
    with pytest.raises(CodecError):
        ours.receive_data(answer, 0.0)
    assert (ours.closing, ours.links_wanted) == (True, 0)


def test_a_header_that_makes_no_sense():
    ours, theirs = opened()
    theirs.send_data([b"x"], 0.0)
    ours.receive_data(drain(theirs), 0.0)
    stream = Stream(b"/secret", b"down", b"0123456789abcdef")
    other = client()
    with pytest.raises(CodecError):
        other.receive_data(stream.start() + stream.record(b"", b"", END + 1), 0.0)
    assert other.receive_data(b"x", 0.0) == []


@given(st.binary(max_size=400))
def test_garbage_after_the_opening_raises_only_codec_errors(data):
    ours, theirs = opened()
    theirs.send_data([b"x"], 0.0)
    ours.receive_data(drain(theirs), 0.0)
    for end in (ours, theirs):
        try:
            end.receive_data(data, 0.0)
        except CodecError:
            pass
        end.receive_eof(0.0)
        assert end.closing


@given(st.binary(max_size=100), st.lists(st.integers(1, 9), max_size=30))
def test_the_reader_alone_gives_one_result_for_any_split(data, sizes):
    def read(pieces):
        reader = RecordReader(keystream(b"up", "/", bytes(16))[1])
        try:
            return b"".join(
                bytes(view) for piece in pieces for view in reader.receive_data(piece)
            ), reader.ended
        except CodecError:
            return CodecError

    edges = [0, *(at for at in (sum(sizes[:n]) for n in range(1, len(sizes))) if at < len(data)), len(data)]
    assert read([data[a:b] for a, b in pairwise(edges)]) == read([data])


# ---- the end ----------------------------------------------------------------------------------------------


def test_a_clean_close():
    for ours, theirs in (opened(), opened()[::-1]):
        ours.send_data([b"last"], 0.0)
        ours.close(0.0)
        ours.send_data([b"after"], 0.0)
        assert (ours.closing, ours.room(), ours.deadline()) == (True, 0, None)
        events = theirs.receive_data(drain(ours), 0.0)
        assert payload_of(events) == b"last"
        assert events[-1] == CarrierEnded(theirs, "")
        assert theirs.closing
        assert theirs.receive_eof(0.0) == []


def test_a_broken_connection():
    ours, theirs = opened()
    for end in (ours, theirs):
        (ended,) = end.receive_eof(0.0)
        assert "without an end record" in ended.reason


@pytest.mark.parametrize("size", [MIN_OPENING - 1, MAX_OPENING + 1])
def test_an_opening_of_an_impossible_size_is_our_own_bug(size):
    with pytest.raises(LocalProtocolError):
        RANDOM.client(SETTINGS, bytes(size), random.Random(1))


def test_an_opening_is_accepted_once_and_a_carrier_has_one_connection():
    ours, theirs = client(), bridge()
    (offer,) = theirs.receive_data(drain(ours), 0.0)
    offer.accept(bytes(32), 0.0)
    with pytest.raises(LocalProtocolError):
        offer.accept(bytes(32), 0.0)
    ours.open_link()
    with pytest.raises(LocalProtocolError):
        ours.open_link()
