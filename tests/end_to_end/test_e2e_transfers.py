"""curl through every codec, from and to a real nginx: bulk each way, many small fetches, all compared."""

from __future__ import annotations

import os

import pytest
from live import CODECS, HOST, MIB, Bridge, Clients, Origin

pytestmark = [pytest.mark.program("nginx"), pytest.mark.program("curl")]

SIZE = int(os.environ.get("PTPROXY_E2E_MIB", "256")) * MIB
"""Bytes of a bulk transfer."""
FALLBACK_SIZE = 32 * MIB
"""Bytes of one through plain asyncio, which is slower."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    origin = Origin(tmp_path_factory.mktemp("origin"), SIZE)
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def small_origin(tmp_path_factory):
    origin = Origin(tmp_path_factory.mktemp("small"), FALLBACK_SIZE)
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def plain_clients(tmp_path_factory):
    """Clients and a bridge without uvloop and aiofastnet."""
    folder = tmp_path_factory.mktemp("plain")
    env = {"PTPROXY_TRANSPORTS": "asyncio"}
    with Bridge(folder / "bridge", env=env, loop="asyncio") as bridge:
        clients = Clients(folder, bridge.link, env=env, loop="asyncio")
        yield clients
        clients.stop()


def proxy(client):
    return "--socks5-hostname", f"{HOST}:{client.port}"


@pytest.mark.parametrize("codec", CODECS)
class TestCodec:
    def test_a_large_download_arrives_byte_for_byte(self, codec, clients, origin):
        assert origin.download(*proxy(clients[codec])) == (SIZE, origin.digest)

    def test_a_large_upload_arrives_byte_for_byte(self, codec, clients, origin):
        assert origin.upload(codec, *proxy(clients[codec])) == (SIZE, origin.digest)

    def test_five_hundred_fetches_at_once_arrive_byte_for_byte(self, codec, clients, origin, tmp_path):
        assert origin.fetch_all(tmp_path, *proxy(clients[codec])) == []


@pytest.mark.parametrize("codec", CODECS)
class TestWithoutUvloopAndFastTransports:
    def test_transfers_arrive_byte_for_byte(self, codec, plain_clients, small_origin):
        client = plain_clients[codec]
        assert small_origin.download(*proxy(client)) == (FALLBACK_SIZE, small_origin.digest)
        assert small_origin.upload(codec, *proxy(client)) == (FALLBACK_SIZE, small_origin.digest)

    def test_many_fetches_at_once_arrive_byte_for_byte(self, codec, plain_clients, small_origin, tmp_path):
        assert small_origin.fetch_all(tmp_path, *proxy(plain_clients[codec]), at_once=125) == []
