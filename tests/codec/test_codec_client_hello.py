"""ClientHello: any split gives the same, garbage raises only what is documented, nothing wrong is let by."""

from __future__ import annotations

import struct

import pytest
from hello_bytes import (
    BODIES,
    GREASE,
    NAME,
    NUMBERS,
    alpn,
    body,
    key_share,
    listed,
    message,
    python_hello,
    records,
    server_name,
    vector,
    versions,
)
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec import client_hello
from ptproxy.codec.client_hello import ClientHello, ClientHelloReader, is_grease
from ptproxy.errors import CodecError

SIZES = st.lists(st.integers(1, 600), min_size=1, max_size=30)


def read(data: bytes) -> ClientHello | None:
    return ClientHelloReader().receive_data(data)


def properties(hello: ClientHello) -> list[object]:
    return [
        hello.server_name,
        hello.alpn,
        hello.supported_versions,
        hello.groups,
        hello.signature_algorithms,
        hello.key_shares,
        hello.key_share_groups,
        hello.has_pre_shared_key,
        hello.has_early_data,
    ]


@given(BODIES, SIZES, SIZES, st.binary(max_size=40))
def test_any_split_and_any_records_give_the_same_hello(content, record_sizes, splits, behind):
    expected = ClientHello.parse(content)
    data = records(message(content), record_sizes)
    reader, at = ClientHelloReader(), 0
    sent = data + behind
    found = None
    while at < len(sent):
        piece = sent[at : at + splits[0]]
        splits = splits[1:] + splits[:1]
        if at < len(data):
            assert found is None
        found = reader.receive_data(bytearray(piece))
        at += len(piece)
    assert found == expected
    assert reader.consumed == len(data)
    assert properties(found) == properties(expected)


@given(BODIES)
def test_nothing_is_said_before_the_last_byte(content):
    reader = ClientHelloReader()
    data = records(message(content))
    assert reader.receive_data(data[:-1]) is None
    assert reader.consumed == len(data) - 1
    assert reader.receive_data(data[-1:]) is not None


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda data: b"\x16\3\1" + data)))
def test_garbage_raises_only_codec_errors(data):
    try:
        read(data)
    except CodecError:
        pass


@given(BODIES, st.data())
def test_a_damaged_hello_raises_only_codec_errors_and_its_properties_never(content, data):
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        hello = read(records(message(bytes(damaged))))
    except CodecError:
        return
    assert hello is not None
    properties(hello)


@given(st.binary(max_size=120), SIZES)
def test_a_refusal_does_not_hang_on_the_split(data, splits):
    data = b"\x16\3\1\0\x30\1" + data

    def outcome(pieces):
        reader = ClientHelloReader()
        try:
            for piece in pieces:
                reader.receive_data(piece)
        except CodecError as error:
            return str(error)
        return reader.receive_data(b"")

    pieces, at = [], 0
    while at < len(data):
        pieces.append(data[at : at + splits[0]])
        at += splits[0]
        splits = splits[1:] + splits[:1]
    assert outcome(pieces) == outcome([data])


@given(NAME, st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=4), NUMBERS, NUMBERS, NUMBERS)
def test_the_properties_say_what_was_sent(name, protocols, spoken, groups, schemes):
    hello = ClientHello.parse(
        body(
            server_name(name),
            alpn(*protocols),
            versions(*spoken),
            listed(10, *groups),
            listed(13, *schemes),
            key_share(*((group, 32) for group in groups)),
            (42, b""),
            (41, b"ticket"),
        )
    )
    assert hello.server_name == name.decode()
    assert hello.alpn == tuple(protocols)
    assert hello.supported_versions == tuple(spoken)
    assert hello.groups == hello.key_share_groups == tuple(groups)
    assert hello.key_shares == tuple((group, 32) for group in groups)
    assert hello.signature_algorithms == tuple(schemes)
    assert hello.has_early_data
    assert hello.has_pre_shared_key


@given(BODIES)
def test_what_is_serialised_is_what_was_read(content):
    hello = ClientHello.parse(content)
    assert ClientHello.parse(hello.serialize()) == hello
    if hello.extensions:
        assert hello.serialize() == content


def test_without_extensions_there_is_nothing_to_say():
    hello = ClientHello.parse(body(version=0x0301, session_id=b"s" * 32))
    assert hello.legacy_version == 0x0301
    assert hello.session_id == b"s" * 32
    assert hello.random == bytes(range(32))
    assert properties(hello) == [None, (), (), (), (), (), (), False, False]


def test_pythons_own_hello():
    hello = read(python_hello("camo.test", "h2", "http/1.1"))
    assert hello is not None
    assert hello.server_name == "camo.test"
    assert hello.alpn == (b"h2", b"http/1.1")
    assert client_hello.TLS13 in hello.supported_versions
    assert hello.groups
    assert hello.signature_algorithms
    assert set(hello.key_share_groups) <= set(hello.groups)


def test_grease_is_sixteen_numbers():
    assert tuple(value for value in range(0x10000) if is_grease(value)) == GREASE


WHOLE = message(body())


@pytest.mark.parametrize(
    ("data", "refused_at"),
    [
        (b"G", 1),
        (b"\x80", 1),
        (b"\x15", 1),
        (b"\x16\2", 2),
        (b"\x16\3\1\0\0", 5),
        (b"\x16\3\1\x40\1", 5),
        (b"\x16\3\1\0\x30\2", 6),
        (b"\x16\3\1\0\4\1\1\0\0", 9),
        (b"\x16\3\1" + vector(2, WHOLE + b"\0"), 9),
        (b"\x16\3\1\0\4" + WHOLE[:4] + b"\x14\3\3\0\1\1", 10),
    ],
)
def test_what_breaks_a_rule_is_refused_at_once(data, refused_at):
    reader = ClientHelloReader()
    assert reader.receive_data(data[: refused_at - 1]) is None
    with pytest.raises(CodecError):
        reader.receive_data(data[refused_at - 1 : refused_at])


def test_a_hello_may_be_as_long_as_the_limit_and_no_longer():
    def padded(size: int) -> bytes:
        return message(body((21, bytes(size - 4 - len(body((21, b"")))))))

    longest = padded(client_hello.MAX_HELLO)
    assert len(longest) == client_hello.MAX_HELLO
    assert read(records(longest, [client_hello.MAX_RECORD])) is not None
    with pytest.raises(CodecError):
        read(records(padded(client_hello.MAX_HELLO + 1), [client_hello.MAX_RECORD]))


@pytest.mark.parametrize(
    "content",
    [
        body()[:-1],
        body() + b"\0",
        body((0, b"")) + b"\0",
        body(ciphers=()),
        body(compression=b""),
        body(session_id=bytes(33)),
        struct.pack(">H", 0x0303) + bytes(32) + b"\0" + vector(2, b"\x13\1\0") + vector(1, b"\0"),
        body((5, b""), (5, b"")),
        body((41, b""), (5, b"")),
        body((0, b"")),
        body((0, vector(2, b""))),
        body(server_name(b"")),
        body(server_name(b"a" * 256)),
        body(server_name(b"camo\0test")),
        body(server_name("café.test".encode())),
        body((0, vector(2, b"\1" + vector(2, b"camo.test")))),
        body((0, server_name(b"camo.test")[1] + b"\0")),
        body((0, vector(2, 2 * (b"\0" + vector(2, b"camo.test"))))),
        body((16, b"")),
        body(alpn()),
        body(alpn(b"")),
        body(alpn(b"h2", b"")),
        body((16, alpn(b"h2")[1] + b"\0")),
        body(versions()),
        body((43, vector(1, b"\3\4\3"))),
        body((43, versions(0x0304)[1] + b"\0")),
        body(listed(10)),
        body((10, vector(2, b"\0"))),
        body(listed(13)),
        body((13, listed(13, 0x0403)[1] + b"\0")),
        body((51, b"")),
        body((51, key_share((29, 32))[1] + b"\0")),
        body((51, vector(2, b"\0\x1d"))),
        body((51, vector(2, struct.pack(">HH", 29, 0)))),
    ],
)
def test_what_a_server_would_not_read_is_refused(content):
    with pytest.raises(CodecError):
        ClientHello.parse(content)


def test_its_errors_name_nothing_that_a_client_sent():
    with pytest.raises(CodecError) as caught:
        ClientHello.parse(body(server_name(b"secret.test\0")))
    assert "secret" not in str(caught.value)
