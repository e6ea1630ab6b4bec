"""A client's ports before the program is loaded: which are opened, and that none is left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.cli.doors import MOST_BYTES, MOST_DOORS, early_doors
from ptproxy.cli.run import client
from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import StartError
from ptproxy.proxy.client import listen_all
from ptproxy.proxy.local import LocalProxy
from ptproxy.pt.doors import open_door
from ptproxy.tunnel.direct import DirectDialer


def written(folder: Path, text: str) -> Path:
    path = folder / "client.yaml"
    path.write_text(text)
    return path


def test_a_connection_waits_behind_a_door(tmp_path: Path) -> None:
    path = written(tmp_path, "role: client\nlisten: 127.0.0.1:0\n")
    with early_doors(path) as doors:
        (door,) = doors.values()
        assert list(doors) == [Endpoint("127.0.0.1", 0)]
        with socket.create_connection(door.getsockname()) as early:
            accepted, address = door.accept()
            with accepted:
                assert address == early.getsockname()
        kept = doors.pop(Endpoint("127.0.0.1", 0))
    assert kept.fileno() >= 0  # who takes one out closes it
    kept.close()


def test_the_client_is_reached_before_its_configuration_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []

    def open_and_remember(host: str, port: int) -> socket.socket:
        opened.append(open_door(host, port))
        return opened[-1]

    def load_checked(*_: object) -> None:
        with socket.create_connection(opened[0].getsockname()):
            raise StartError("as far as this test goes")

    monkeypatch.setattr("ptproxy.cli.doors.open_door", open_and_remember)
    monkeypatch.setattr("ptproxy.cli.check.load_checked", load_checked)
    path = written(tmp_path, "role: client\nlisten: 127.0.0.1:0\n")
    done = CliRunner().invoke(client, ["-c", str(path)])
    assert isinstance(done.exception, StartError)
    assert [door.fileno() for door in opened] == [-1]


def test_what_nobody_takes_is_closed(tmp_path: Path) -> None:
    path = written(tmp_path, "role: client\nlisten: ['127.0.0.1:0', 'localhost:0', '[::1]:0']\n")
    with contextlib.suppress(KeyError), early_doors(path) as doors:
        opened = list(doors.values())
        assert len(opened) >= 2  # a machine may be without IPv6
        raise KeyError
    assert [door.fileno() for door in opened] == [-1] * len(opened)


def test_a_taken_port_is_left_to_who_can_say_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with early_doors(written(tmp_path, f"role: client\nlisten: 127.0.0.1:{port}\n")) as doors:
            assert doors == {}


@pytest.mark.parametrize(
    "text",
    [
        "role: bridge\nlisten: 127.0.0.1:0\n",
        "role: client\nlisten: 0.0.0.0:0\n",  # whether others may come is for the whole configuration to say
        "role: client\nlisten: '[::]:0'\n",
        "role: client\nlisten: unix:socket\n",
        "role: client\nlisten: example.org:80\n",
        "role: client\nlisten: {a: 1}\n",
        "role: client\nlisten: [[], 5, null]\n",
        "role: client\n",
        "role: [client\n",
        "- role: client\n",
        "",
        "a: &a [*a]\n",
        "\x00",
        "#" * MOST_BYTES + "\nrole: client\nlisten: 127.0.0.1:0\n",
        "role: client\nlisten: 127.0.0.1:0".rjust(MOST_BYTES, "\n") + "8080\n",  # cut off
    ],
)
def test_anything_else_has_no_door(text: str, tmp_path: Path) -> None:
    with early_doors(written(tmp_path, text)) as doors:
        assert doors == {}


def test_no_file_no_door(tmp_path: Path) -> None:
    with early_doors(tmp_path / "none") as missing, early_doors(tmp_path) as folder:
        assert missing == folder == {}


def test_a_door_that_the_configuration_does_not_name_is_closed_when_the_client_listens() -> None:
    """The file was changed meanwhile: whoever connects there would wait for ever."""

    async def main() -> None:
        proxy = LocalProxy(asyncio.get_running_loop(), DirectDialer(asyncio.get_running_loop(), 1.0))
        wanted, unwanted = Endpoint("127.0.0.1", 0), Endpoint("127.0.0.2", 0)
        doors = {unwanted: open_door("127.0.0.2", 0), wanted: open_door("127.0.0.1", 0)}
        door, other = doors[wanted], doors[unwanted]
        config = cast("ClientConfig", SimpleNamespace(listen=(wanted, wanted)))
        listening = await listen_all(config, proxy, doors)
        assert listening[0] == f"127.0.0.1:{door.getsockname()[1]}"
        assert listening[1] != listening[0]
        assert (doors, other.fileno()) == ({}, -1)
        await proxy.stop()

    asyncio.run(main())


def test_there_are_only_so_many(tmp_path: Path) -> None:
    many = [f"127.0.0.{number}:0" for number in range(1, 3 * MOST_DOORS)]
    with early_doors(written(tmp_path, f"role: client\nlisten: {many}\n")) as doors:
        assert len(doors) <= MOST_DOORS


@given(data=st.binary(max_size=300))
def test_garbage_raises_nothing(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.yaml"
    path.write_bytes(b"role: client\nlisten: " + data)
    with early_doors(path) as doors:
        assert all(endpoint.is_local for endpoint in doors)
