"""A bridge beside a web server: what each of the two peers observes is what the other one did."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from doorway_live import NAME, PATIENCE, Peer, beside, stranger_context
from tunnel_live import ECHO, Collect

from ptproxy.tunnel.beside import doorway as doorway_module
from ptproxy.tunnel.beside import openssl

try:
    openssl.load()
except Exception as error:  # another Python
    pytest.skip(f"no OpenSSL to be called: {error}", allow_module_level=True)

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def both(stranger: Any, server: Any) -> tuple[Any, Any]:
    """What the two ends had to say."""
    one, other = await asyncio.gather(stranger, asyncio.wrap_future(server))
    return one, other


def hello(name: str = NAME, alpn: tuple[str, ...] = ("http/1.1",), **options: Any) -> bytes:
    """A ClientHello's record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = stranger_context(alpn, **options)
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


NOT_OURS = {
    "http": GET,
    "one byte": b"\x16",
    "half a hello": hello()[:100],
    "random": bytes(range(64, 256)),
    "another name": hello("example.org"),
    "another protocol": hello(alpn=("foo/1",)),
    "no protocol": hello(alpn=()),
    "TLS 1.2": hello(most=ssl.TLSVersion.TLSv1_2),
    "a broken hello": hello()[:40] + bytes(len(hello()) - 40),
    "nothing": b"",
}


# ---- spliced -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", NOT_OURS)
def test_what_no_client_says_is_the_web_servers_byte_for_byte(run: Any, tmp_path: Path, what: str) -> None:
    said = NOT_OURS[what]

    def stranger(peer: Peer) -> tuple[bytes, str]:
        peer.send(said)
        peer.finish()
        return peer.read_all(), peer.said

    def server(peer: Peer) -> tuple[bytes, str]:
        data = peer.read_all()
        peer.send(b"an answer after the end")
        return data, peer.said

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            seen = await both(bridge.stranger(stranger), bridge.far.serve(server))
            assert seen == ((b"an answer after the end", "FIN"), (said, "FIN"))

    run(main())


@pytest.mark.parametrize("size", [1, 3, 200])
def test_a_hello_in_parts_is_taken_apart_as_one(run: Any, tmp_path: Path, size: int) -> None:
    """Ours and another's: the same however they are cut."""

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            for name in (NAME, "example.org"):
                data, asked = hello(name), threading.Event()

                def stranger(peer: Peer, data: bytes = data, asked: threading.Event = asked) -> bytes:
                    for at in range(0, len(data), size):
                        peer.send(data[at : at + size])
                    answer = peer.read(1)
                    asked.wait(PATIENCE)  # whoever leaves before takes the web server's connection along
                    return answer

                def server(
                    peer: Peer, name: str = name, data: bytes = data, asked: threading.Event = asked
                ) -> bytes:
                    ours = name == NAME  # then it is asked for TLS by the bridge itself
                    got = peer.read(1 if ours else len(data))
                    if not ours:
                        peer.send(b"!")
                    asked.set()
                    peer.read_all()
                    return got

                seen = await both(bridge.stranger(stranger), bridge.far.serve(server))
                assert seen == ((b"\x16", b"\x16") if name == NAME else (b"!", data))

    run(main())


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", GET])
def test_a_web_server_that_ends_or_breaks_a_silent_connection_does_so_here(
    run: Any, tmp_path: Path, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorway_module, "HELLO_TIMEOUT", 0.05)

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            for end in ("FIN", "RST"):

                def server(peer: Peer, end: str = end) -> None:
                    peer.read(len(first))
                    peer.send(b"408")
                    if end == "RST":
                        peer.reset()

                def stranger(peer: Peer) -> tuple[bytes, str]:
                    if first:  # nothing at all could come after the break, and be told of it
                        peer.send(first)
                    return peer.read_all(), peer.said

                (answer, said), _ = await both(bridge.stranger(stranger), bridge.far.serve(server))
                assert said == end
                assert end == "RST" or answer == b"408"  # a reset may take it along

    run(main())


def test_a_stranger_that_breaks_off_is_broken_off_there(run: Any, tmp_path: Path) -> None:
    def stranger(peer: Peer) -> None:
        peer.send(GET)
        assert peer.read(1) == b"!"
        peer.reset()

    def server(peer: Peer) -> tuple[bytes, str]:
        assert peer.read(len(GET)) == GET
        peer.send(b"!")
        return peer.read_all(), peer.said

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            _, seen = await both(bridge.stranger(stranger), bridge.far.serve(server))
            assert seen == (b"", "RST")

    run(main())


@pytest.mark.parametrize("tls", [False, True])
def test_megabytes_pass_both_ways_at_the_pace_of_the_slower(run: Any, tmp_path: Path, tls: bool) -> None:
    block = bytes(range(251)) * (4 << 20 >> 8)

    def stranger(peer: Peer) -> bytes:
        peer.send(b"P" + block)
        peer.notify() if tls else peer.finish()
        return peer.read_all()

    def server(peer: Peer) -> bytes:
        got = b""
        while not peer.said:  # all of it: unread bytes would make the close a reset
            got += peer.piece(65536)
        peer.send(block)
        return got

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            options = {"name": NAME} if tls else {}
            seen = await both(bridge.stranger(stranger, **options), bridge.far.serve(server, tls=tls))
            assert seen == (block, b"P" + block)

    run(main())


# ---- TLS that ends here, and is no client's ------------------------------------------------------------

ENDS = {
    "close_notify FIN": lambda peer: peer.notify(),
    "FIN": lambda peer: None,
    "RST": lambda peer: peer.reset(),
    "close_notify RST": lambda peer: (peer.notify(), peer.reset()),
}


@pytest.mark.parametrize("end", ENDS)
def test_how_the_web_server_ends_tls_is_how_it_ends_here(run: Any, tmp_path: Path, end: str) -> None:
    def stranger(peer: Peer) -> tuple[bytes, str]:
        peer.send(GET)
        return peer.read_all(), peer.said

    def server(peer: Peer) -> bytes:
        got = peer.read(len(GET))
        peer.send(b"x" * 20000)
        ENDS[end](peer)
        return got

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            (answer, said), got = await both(
                bridge.stranger(stranger, name=NAME), bridge.far.serve(server, tls=True)
            )
            assert got == GET
            if "RST" in end:  # which may overtake what was sent before
                assert said.endswith("RST")
            else:
                assert (answer, said) == (b"x" * 20000, end)

    run(main())


@pytest.mark.parametrize("when", ["at once", "after a request", "after half a request"])
@pytest.mark.parametrize("end", ["close_notify", "FIN", "close_notify FIN", "RST"])
def test_how_a_stranger_ends_tls_is_how_it_ends_there(run: Any, tmp_path: Path, end: str, when: str) -> None:
    said = {"at once": b"", "after a request": GET, "after half a request": GET[:9]}[when]

    def stranger(peer: Peer) -> bytes:
        if said:
            peer.send(said)
        if "close_notify" in end:
            peer.notify()
        if end == "RST":
            assert peer.read(1) == b"1"
            peer.reset()
            return b"1"
        if "FIN" in end:
            peer.finish()
        return peer.read_all()

    def server(peer: Peer) -> tuple[bytes, str]:
        if end == "RST":
            peer.send(b"1")
            return peer.read_all(), peer.said
        got = b""
        while peer.said != end:
            got += peer.piece(100)
        peer.send(b"1")
        return got, peer.said

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            answer, seen = await both(
                bridge.stranger(stranger, name=NAME), bridge.far.serve(server, tls=True)
            )
            assert answer == b"1"
            assert seen == (said, end)

    run(main())


def test_a_stranger_that_ends_and_breaks_is_not_written_to_for_ever(run: Any, tmp_path: Path) -> None:
    """A FIN without close_notify, then a reset: what OpenSSL said of the write was taken for "no room"."""
    reset = threading.Event()

    def stranger(peer: Peer) -> None:
        peer.send(GET)
        peer.finish()
        peer.read(2)
        peer.reset()
        reset.set()

    def server(peer: Peer) -> None:
        peer.read(len(GET))
        peer.piece(1)
        peer.send(b"ok")
        assert reset.wait(PATIENCE)
        with contextlib.suppress(ConnectionError):  # the bridge may have noticed first, and ended this side
            for _ in range(3):
                peer.send(b"late")
            peer.read_all()

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            await both(bridge.stranger(stranger, alpn=("http/1.1",)), bridge.far.serve(server, tls=True))
            async with asyncio.timeout(PATIENCE):
                while bridge.doorway.strangers:
                    await asyncio.sleep(0.01)

    run(main())


# ---- clients, tickets, limits --------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["websocket", "http", "random"])
@pytest.mark.parametrize("reached", [True, False])
def test_clients_come_through_whether_the_web_server_is_there_or_not(
    run: Any, tmp_path: Path, codec: str, reached: bool
) -> None:
    data = bytes(range(256)) * 4000

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            if not reached:
                bridge.far.sock.close()
            dialer = await bridge.client(codec)
            collect = Collect()
            stream = await dialer.dial(ECHO, collect)
            stream.write(data)
            assert await collect.until(len(data)) == data
            assert not bridge.doorway.strangers

    run(main())


def test_a_stranger_is_cut_off_when_the_web_server_is_down(run: Any, tmp_path: Path) -> None:
    def stranger(peer: Peer) -> str:
        peer.send(GET)
        peer.read_all()
        return peer.said

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            bridge.far.sock.close()
            assert await bridge.stranger(stranger) == "RST"
            assert await bridge.stranger(stranger, name=NAME) == "RST"

    run(main())


def test_a_ticket_goes_to_whom_it_is_from(run: Any, tmp_path: Path) -> None:
    """One of ours is taken under any name; one of the web server's is left to it under ours."""
    sessions: list[ssl.SSLSession] = []
    context = stranger_context()

    def stranger(name: str) -> Any:
        def visit(peer: Peer) -> bool:
            session = sessions[-1] if sessions else None
            peer.start_tls(context, server_hostname=name, session=session)
            peer.send(GET)
            assert peer.read(2) == b"ok"
            sessions.append(peer.tls.session)
            return peer.tls.session_reused

        return visit

    def server(peer: Peer) -> bool:
        peer.read(len(GET))
        peer.send(b"ok")
        peer.piece(1)
        return peer.tls.session_reused

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            serve = bridge.far.serve
            assert await both(bridge.stranger(stranger(NAME)), serve(server, tls=True)) == (False, False)
            assert (await both(bridge.stranger(stranger("other")), serve(server, tls=True)))[0] is True
            sessions.clear()
            assert (await both(bridge.stranger(stranger("other")), serve(server, tls=True)))[0] is False
            # Spliced: what the web server takes, the stranger sees taken.
            assert await both(bridge.stranger(stranger(NAME)), serve(server, tls=True)) == (True, True)
            # Ours also by a hello that would be the web server's without it: nobody else can resume it.
            sessions.clear()
            assert await both(bridge.stranger(stranger(NAME)), serve(server, tls=True)) == (False, False)
            context.set_ecdh_curve("prime256v1")
            assert (await both(bridge.stranger(stranger(NAME)), serve(server, tls=True)))[0] is True

    run(main())


def test_those_who_wait_longest_make_room(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with beside(tmp_path, most_waiting=3, most_strangers=2) as bridge:
            idle = []
            for _ in range(5):
                idle.append(await asyncio.open_connection("127.0.0.1", bridge.port))
                await asyncio.sleep(0.02)
            assert len(bridge.doorway.waiting) == 3
            for reader, _ in idle[:2]:
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            for _, writer in idle[2:]:
                writer.write(GET)
            while len(bridge.doorway.strangers) != 2 or bridge.doorway.waiting:
                await asyncio.sleep(0.01)
            bridge.doorway.make_room()
            assert len(bridge.doorway.strangers) == 1
            for _, writer in idle:
                writer.close()

    run(main())


def test_nothing_is_left_of_visitors_who_leave_at_any_moment(run: Any, tmp_path: Path) -> None:
    """Cut after any number of the bytes of a whole visit, by FIN and by reset."""
    said: list[bytes] = []

    def record(peer: Peer) -> None:
        sendall = peer.sock.sendall
        peer.sock = type("Recorder", (), {"sendall": lambda _, data: (said.append(data), sendall(data)),
                                          "recv": peer.sock.recv})()  # fmt: skip
        peer.start_tls(stranger_context(), server_hostname=NAME)
        peer.send(GET)
        peer.read(1)

    def server(peer: Peer) -> None:
        peer.send(b"1")
        peer.read_all()

    def leaves(at: int, how: str) -> Any:
        def visit(peer: Peer) -> None:
            peer.send(b"".join(said)[:at])
            getattr(peer, how)()

        return visit

    async def main() -> None:
        async with beside(tmp_path) as bridge:
            await both(bridge.stranger(record), bridge.far.serve(server, tls=True))
            bridge.far.sock.close()
            whole = len(b"".join(said))
            for at in range(0, whole + 1, 23):
                await bridge.stranger(leaves(at, "finish" if at % 2 else "reset"))
            while bridge.doorway.waiting or bridge.doorway.strangers:
                await asyncio.sleep(0.01)

    run(main())
