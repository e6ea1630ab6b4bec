"""A capture as a whole: what programs call it, what is told of it, and recording one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from pathlib import Path

import pytest
from capture_bytes import flow, pcap, record, tls13
from inspect_servers import identity, python_server

from ptproxy.errors import StartError
from ptproxy.inspect import programs
from ptproxy.inspect.flows import DOWN, UP
from ptproxy.inspect.look import look_at, read_capture, read_flows
from ptproxy.inspect.recorder import Recorder


def saved(folder: Path, *flows, name: str = "some.pcap") -> Path:
    path = folder / name
    path.write_bytes(pcap(packet for one in flows for packet in one))
    return path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without nDPI and tshark."""
    monkeypatch.setattr(programs, "_SEARCH", "")


def page(number: int) -> list:
    rng = random.Random(number)
    steps = [(UP, 87), (UP, 479), (DOWN, 266), (DOWN, rng.randrange(3000, 16000))]
    steps += [(UP, rng.randrange(50, 120)), (DOWN, rng.randrange(300, 9000))]
    return flow(tls13(steps, rng.randrange(250, 350)), 1000.0 + number, 20_000 + number)


@pytest.mark.usefixtures("bare")
def test_cover_beside_cover_tells_nothing(tmp_path: Path) -> None:
    cover = read_capture(saved(tmp_path, *map(page, range(60)), name="cover.pcap"), 443)
    capture = read_capture(saved(tmp_path, *map(page, range(100, 130))), 443)
    finding = look_at(capture, cover)
    assert finding.telling == ()
    assert [one.flows for one in finding.nested] == [30, 30]
    assert capture.missing == ("ndpiReader", "tshark")
    assert finding.as_dict()["capture"]["missing_programs"] == ["ndpiReader", "tshark"]


@pytest.mark.usefixtures("bare")
def test_what_tells_is_told(tmp_path: Path) -> None:
    cover = read_capture(saved(tmp_path, *map(page, range(60)), name="cover.pcap"), 443)
    noise = random.Random(8)
    random_bytes = bytes(noise.choice((0x93, 0x8F, 0xE4, 0x1D)) for _ in range(400))
    strange = flow([(UP, random_bytes), (DOWN, random_bytes)], port=1)
    capture = read_capture(saved(tmp_path, strange, page(3)), 443)
    finding = look_at(capture, cover)
    assert finding.telling == (
        "1 flows fall under the rule for fully encrypted traffic",
        "1 flows are not TLS",
    )
    told = finding.as_dict()["capture"]["flows"]
    assert [one["exempt_by"] for one in told] == [[], ["Ex1", "Ex5"]]
    assert told[1]["server_name"] == "camo.test"
    alone = look_at(capture, None)
    assert alone.unsaid == "no cover was given"
    assert any("recorded browser" in line for line in alone.telling)


@pytest.mark.usefixtures("bare")
def test_files_that_hold_nothing_are_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no TCP connection to port 443"):
        read_capture(saved(tmp_path), 443)
    (tmp_path / "x").write_bytes(b"GIF89a")
    with pytest.raises(StartError, match="neither a pcap nor a pcapng"):
        read_flows(tmp_path / "x", None)
    with pytest.raises(StartError, match="cannot read"):
        read_flows(tmp_path / "y", None)


async def conversation(port: int, count: int) -> None:
    """HTTPS requests by Python, one connection each."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(count):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="camo.test"
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: camo.test\r\n\r\n")
        assert await reader.readuntil(b"hello")
        writer.transport.abort()


def recorded(folder: Path, count: int = 3) -> tuple[Path, int]:
    """A capture of a real conversation, taken by the relay; its server's port."""
    identity(folder)

    async def main() -> tuple[bytes, int]:
        async with python_server(folder) as port:
            clock = iter(range(10_000))
            recorder = Recorder(("127.0.0.1", 0), ("127.0.0.1", port), lambda: next(clock) / 100)
            async with recorder:
                await conversation(recorder.address[1], count)
            assert recorder.connections == count
            return recorder.capture(), port

    data, port = asyncio.run(main())
    path = folder / "recorded.pcap"
    path.write_bytes(data)
    return path, port


def test_a_relay_records_what_passes(tmp_path: Path) -> None:
    path, port = recorded(tmp_path)
    flows = read_flows(path, port)
    assert len(flows) == 3
    for one in flows:
        assert one.tls
        assert not one.lost
        assert one.hello is not None
        assert one.hello.server_name == "camo.test"
        assert one.records[-1].direction == DOWN
        assert one.records[-1].size == 43 + 17  # the answer, its content type and tag
        assert [part.time for part in one.records] == sorted(part.time for part in one.records)


@pytest.mark.program("ndpiReader")
def test_ndpi_calls_it_tls(tmp_path: Path) -> None:
    path, port = recorded(tmp_path)
    labels = programs.ndpi(path, port)
    assert labels is not None
    assert labels.labels == {"TLS": 3}
    assert labels.risks["Known Protocol on Non Standard Port"] == 3
    assert sum(programs.ndpi(path, 1).labels.values()) == 0


@pytest.mark.program("tshark")
def test_tshark_calls_it_tls(tmp_path: Path) -> None:
    path, port = recorded(tmp_path)
    labels = programs.tshark(path, port)
    assert labels is not None
    assert labels.labels == {"tls": 3}
    assert programs.tshark(path, 1).labels == {}


def test_a_relay_to_nowhere_ends_its_connections(tmp_path: Path) -> None:
    async def main() -> None:
        async with Recorder(("127.0.0.1", 0), ("127.0.0.1", 1)) as recorder:
            reader, writer = await asyncio.open_connection(*recorder.address)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.transport.abort()
            assert len(recorder.capture()) == 24

    asyncio.run(main())


def test_records_on_both_sides_make_a_tls_flow(tmp_path: Path) -> None:
    (one,) = read_flows(saved(tmp_path, flow([(UP, record(22, 30)), (DOWN, record(21, 2))])), 443)
    assert one.tls
    assert one.hello is None
