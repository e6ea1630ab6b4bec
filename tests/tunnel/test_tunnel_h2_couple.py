"""HTTP/2 beside a web server: strangers have the server's connection, clients some streams of it besides."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from doorway_live import NAME, Beside, Peer, beside
from tunnel_live import RNG

from ptproxy.auth.binding import Binding
from ptproxy.auth.opening import ClientOpening, Hello
from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.http_records import POST, STREAM, RecordReader, token_text
from ptproxy.codec.interface import CodecSettings
from ptproxy.errors import StartError
from ptproxy.tunnel.beside import openssl

try:
    openssl.load()
except StartError as error:
    pytest.skip(str(error), allow_module_level=True)

ALPN = ("h2", "http/1.1")
PAGE = bytes(range(256)) * 1000


class Talk:
    """One side of an HTTP/2 connection over a blocking peer."""

    def __init__(self, peer: Peer, *, client: bool) -> None:
        self.peer = peer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client, header_encoding="latin-1")
        )
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: set[int] = set()
        self.over = False
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.peer.send(data)

    def turn(self) -> None:
        """Take in what has come; waits for it."""
        data = self.peer.piece(65536)
        if not data:
            self.over = True
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.resets.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.over = True
        self.flush()

    def ask(self, path: str, cookie: str = "a=b", body: bytes | None = None, **more: str) -> int:
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "GET" if body is None else "POST"), (":scheme", "https"),
                  (":authority", NAME), (":path", path), ("cookie", cookie)]  # fmt: skip
        fields += [] if body is None else [("content-length", str(len(body)))]
        self.h2.send_headers(stream, [*fields, *more.items()], end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    def ask_slowly(self, path: str, cookie: str, body: bytes) -> int:
        """A POST as fast as windows allow."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "https"), (":authority", NAME), (":path", path)]
        self.h2.send_headers(stream, [*fields, ("cookie", cookie), ("content-length", str(len(body)))])
        while body and stream not in self.ended:
            size = min(len(body), self.h2.local_flow_control_window(stream), 16384)
            if not size:
                self.turn()
                continue
            self.h2.send_data(stream, body[:size], end_stream=size == len(body))
            body = body[size:]
            self.flush()
        return stream

    def wait(self, stream: int) -> bytes:
        while stream not in self.ended:
            assert not self.over, (self.heads, self.peer.said)
            self.turn()
        return self.bodies.get(stream, b"")


def serve(peer: Peer) -> list[str]:
    """A web server: the paths it was asked for, once the connection is over."""
    talk, answered = Talk(peer, client=False), []
    left: dict[int, bytes] = {}
    while not talk.over:
        talk.turn()
        for stream in talk.ended - set(answered):
            answered.append(stream)
            talk.h2.send_headers(stream, [(":status", "200"), ("server", "the site")])
            left[stream] = PAGE
        for stream, body in list(left.items()):
            size = min(len(body), talk.h2.local_flow_control_window(stream), 16384)
            while size:
                talk.h2.send_data(stream, left[stream][:size], end_stream=size == len(left[stream]))
                left[stream] = left[stream][size:]
                size = min(len(left[stream]), talk.h2.local_flow_control_window(stream), 16384)
            if not left[stream]:
                del left[stream]
        talk.flush()
    return [head[":path"] for head in talk.heads.values()]


def opening(bridge: Beside) -> ClientOpening:
    return ClientOpening(
        bridge.key.public, bridge.client_key, "http", False, Binding.certificate(bridge.digest),
        Hello(b"", 1, (), int(time.time()), b""), RNG,
    )  # fmt: skip


def cookie(value: bytes) -> str:
    name = session_cookie_name(CodecSettings("localhost", "/live"))
    return f"{name}={base64.urlsafe_b64encode(value).rstrip(b'=').decode()}"


def token(keys: Any, kind: int, number: int) -> str:
    name = session_cookie_name(CodecSettings("localhost", "/live"))
    return f"{name}={token_text(keys.token_key, kind, number).decode()}"


def upload(payload: bytes) -> bytes:
    """A POST's body."""
    return len(payload).to_bytes(4, "big") + payload


def payload(body: bytes) -> bytes:
    """What a download's records carry."""
    out: list[memoryview] = []
    RecordReader().receive_data(memoryview(body), out)
    return b"".join(out)


def open_carrier(talk: Talk, hello: ClientOpening) -> None:
    """Open one, answer and confirmation included."""
    stream = talk.ask("/live", cookie(hello.message1))
    answer = hello.receive_data(payload(talk.wait(stream)))
    assert answer is not None
    assert "server" not in talk.heads[stream]
    assert talk.wait(talk.ask("/live", token(hello.keys, POST, 0), upload(hello.confirm()))) == b""


def test_pages_and_a_carrier_share_a_connection(run: Any, tmp_path: Path) -> None:
    """A page, an opening that verifies, an upload, another page; half a megabyte up, windows permitting."""
    large = upload(bytes(500_000))

    async def main() -> None:
        async with beside(tmp_path, http2=True) as bridge:
            hello = opening(bridge)

            def client(peer: Peer) -> int:
                talk = Talk(peer, client=True)
                assert talk.wait(talk.ask("/")) == PAGE
                open_carrier(talk, hello)
                get = talk.ask("/live", token(hello.keys, STREAM, 1))
                assert talk.wait(talk.ask("/picture")) == PAGE
                while not talk.bodies.get(get):
                    talk.turn()
                assert get not in talk.ended
                sessions = len(bridge.bridge.sessions)
                # No frames of a session: the carrier ends for them, and says so in the open answer.
                post = talk.ask_slowly("/live", token(hello.keys, POST, 1), large)
                talk.wait(post)
                talk.wait(get)
                peer.finish()
                return sessions

            asked = bridge.far.serve(serve, tls=True)
            assert await bridge.stranger(client, name=NAME, alpn=ALPN) == 1
            assert await asyncio.wrap_future(asked) == ["/", "/picture"]

    run(main())


@pytest.mark.parametrize("which", ["replayed", "stale", "noise", "another path", "no cookie"])
def test_what_does_not_verify_is_the_web_servers(run: Any, tmp_path: Path, which: str) -> None:
    async def main() -> None:
        async with beside(tmp_path, http2=True) as bridge:
            hello = opening(bridge)
            said = {
                "replayed": cookie(hello.message1),
                "stale": cookie(hello.message1[:-1] + bytes((hello.message1[-1] ^ 1,))),
                "noise": cookie(bytes(range(190))),
                "another path": cookie(opening(bridge).message1),
                "no cookie": "a=b",
            }[which]

            def client(peer: Peer) -> None:
                talk = Talk(peer, client=True)
                if which == "replayed":
                    open_carrier(talk, hello)
                stream = talk.ask("/other" if which == "another path" else "/live", said)
                assert talk.wait(stream) == PAGE
                assert talk.heads[stream]["server"] == "the site"
                peer.finish()

            asked = bridge.far.serve(serve, tls=True)
            await bridge.stranger(client, name=NAME, alpn=ALPN)
            assert await asyncio.wrap_future(asked) == ["/other" if which == "another path" else "/live"]

    run(main())


def test_a_carrier_outlives_the_web_servers_end(run: Any, tmp_path: Path) -> None:
    """Which closes what is idle to it; requests that would be its are refused then, to be made elsewhere."""

    def leaves(peer: Peer) -> None:
        talk = Talk(peer, client=False)
        while not talk.heads:
            talk.turn()
        talk.h2.close_connection()
        talk.flush()
        peer.notify()
        peer.finish()

    async def main() -> None:
        async with beside(tmp_path, http2=True) as bridge:
            hello = opening(bridge)

            def client(peer: Peer) -> None:
                talk = Talk(peer, client=True)
                open_carrier(talk, hello)
                get = talk.ask("/live", token(hello.keys, STREAM, 1))
                while not talk.bodies.get(get):
                    talk.turn()
                page = talk.ask("/page")  # at which the web server leaves
                while not bridge.gone():
                    pass
                refused = talk.ask("/another")
                while refused not in talk.resets:
                    talk.turn()
                assert not talk.over
                assert page not in talk.ended
                assert talk.wait(talk.ask("/live", token(hello.keys, POST, 1), upload(b""))) == b""
                peer.reset()

            bridge.gone = lambda: any(visit._couple._h2.site_gone for visit in bridge.doorway.clients)
            asked = bridge.far.serve(leaves, tls=True)
            await bridge.stranger(client, name=NAME, alpn=ALPN)
            await asyncio.wrap_future(asked)
            while bridge.doorway.clients:
                await asyncio.sleep(0.01)

    run(main())


@pytest.mark.parametrize("end", ["close_notify FIN", "FIN"])
def test_a_stranger_sees_the_web_servers_end(run: Any, tmp_path: Path, end: str) -> None:
    def server(peer: Peer) -> None:
        talk = Talk(peer, client=False)
        while not talk.heads:
            talk.turn()
        if "notify" in end:
            peer.notify()
        peer.finish()
        peer.read_all()  # or what it has not read makes the end a reset

    def client(peer: Peer) -> str:
        talk = Talk(peer, client=True)
        talk.ask("/")
        while not talk.over:
            talk.turn()
        peer.read_all()
        return peer.said

    async def main() -> None:
        async with beside(tmp_path, http2=True) as bridge:
            served = bridge.far.serve(server, tls=True)
            assert await bridge.stranger(client, name=NAME, alpn=ALPN) == end
            await asyncio.wrap_future(served)

    run(main())
