"""``ptproxy page``: what it takes from a person, and what it writes; nothing is started here."""

from __future__ import annotations

import asyncio
import io
import random
import stat

import pytest
import segno
import yaml
from click.testing import CliRunner

from ptproxy.cli import given, page_client
from ptproxy.cli.check import load_checked
from ptproxy.cli.main import program
from ptproxy.cli.page_client import PageClient
from ptproxy.config.link import Link
from ptproxy.errors import StartError
from ptproxy.proxy.page.steering import Phase


def link(number: int) -> str:
    host = f"bridge{number}.example.org"
    key = random.Random(number).randbytes(32)
    return Link(key, host, 443, "/", host, ("http", "websocket")).serialize()


class Unstarted(PageClient):
    """Counts the starts of its client."""

    starts = 0

    async def _start(self) -> None:
        self.starts += 1


@pytest.fixture
def client(tmp_path) -> Unstarted:
    return Unstarted(tmp_path / "c", "127.0.0.1:0")


def take(client: PageClient, given: bytes | str) -> str:
    return asyncio.run(client.take(given.encode() if isinstance(given, str) else given))


def picture(text: str) -> bytes:
    out = io.BytesIO()
    segno.make(text, error="l", micro=False).save(out, kind="png", scale=4)
    return out.getvalue()


def test_before_a_link_there_is_nothing(client) -> None:
    assert asyncio.run(client.look()).phase is Phase.EMPTY
    assert asyncio.run(client.again()) == "said_again"
    assert asyncio.run(client.choose("bridge1.example.org:443")) == "said_not_chosen"
    assert not client.starts
    assert not client.config.exists()


def test_the_first_link_configures_a_client_as_init_does(client) -> None:
    assert take(client, f"Here it is:\n  {link(1)}\nGood luck") == "said_taken"
    config = load_checked(client.config, "client")
    assert config.bridge == Link.parse(link(1))
    assert client.starts == 1
    assert asyncio.run(client.look()).phase is Phase.ENDED
    for path in client.config.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_further_links_come_first_and_keep_the_others(client) -> None:
    for number in (1, 2, 3, 2):
        assert take(client, link(number)) == "said_taken"
    config = load_checked(client.config, "client")
    assert config.bridge == Link.parse(link(2))
    assert config.find.lines.read_text().split() == [link(2), link(3), link(1)]
    assert stat.S_IMODE(config.find.lines.stat().st_mode) == 0o600
    client._put_first("bridge1.example.org:443")
    assert config.find.lines.read_text().split() == [link(1), link(2), link(3)]
    client._put_first("elsewhere.example:443")
    assert config.find.lines.read_text().split() == [link(1), link(2), link(3)]


def test_a_newer_link_of_one_bridge_replaces_the_older(client) -> None:
    old = Link.parse(link(1))
    newer = Link(old.key, old.host, 443, "/x", old.host, ("http",), token=bytes(16)).serialize()
    take(client, link(1))
    take(client, link(2))
    assert take(client, newer) == "said_taken"
    assert (client.config.parent / "bridges.txt").read_text().split() == [newer, link(2)]


def test_a_folder_of_init_client_is_gone_on_with(client) -> None:
    folder = client.config.parent
    done = CliRunner().invoke(program, ["init", "client", str(folder), "-", "--codec", "http"], link(1))
    assert isinstance(done.exception, SystemExit | None)
    key = (folder / "client.key").read_text()
    assert take(client, link(2)) == "said_taken"
    assert load_checked(client.config, "client").find.lines.read_text().split() == [link(2), link(1)]
    assert (folder / "client.key").read_text() == key


def test_a_configuration_of_another_form_is_left_alone(client) -> None:
    take(client, link(1))
    client.config.write_text(yaml.safe_dump(yaml.safe_load(client.config.read_text())))
    before = client.config.read_text()
    assert take(client, link(2)) == "said_by_hand"
    assert client.config.read_text() == before
    assert client.starts == 1


def test_what_a_kill_left_is_gone_on_with(client) -> None:
    """The key is written before the configuration."""
    take(client, link(1))
    key = (client.config.parent / "client.key").read_text()
    client.config.unlink()
    assert take(client, link(1)) == "said_taken"
    assert (client.config.parent / "client.key").read_text() == key


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hello", "said_no_link"),
        ("https://example.org/", "said_no_link"),
        (b"\xff\xfe\x00", "said_no_link"),
        (link(1)[:60], "said_damaged"),
        ("ptproxy-invite:AAAA", "said_over"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "said_no_picture"),
        (b"\xff\xd8\xff" + bytes(50), "said_no_picture"),
        (picture("hello"), "said_no_link"),
    ],
)
def test_what_is_no_link_is_said_so_and_nothing_is_written(client, given, said) -> None:
    assert take(client, given) == said
    assert not client.config.exists()


def test_a_picture_of_a_qr_code_is_read(client) -> None:
    assert take(client, picture(link(1))) == "said_taken"
    assert load_checked(client.config, "client").bridge == Link.parse(link(1))


def test_a_picture_without_a_code(client) -> None:
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (64, 64), 255).save(out, "PNG")
    assert take(client, out.getvalue()) == "said_no_code"


def test_without_the_extra_a_picture_gets_a_clear_word(client, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zxingcpp", None)
    assert take(client, picture(link(1))) == "picture_missing"
    monkeypatch.setattr(given.importlib.util, "find_spec", lambda _: None)
    assert not PageClient(client.config.parent, "127.0.0.1:0").reads_pictures


def test_a_full_disk_is_said(client, monkeypatch) -> None:
    def full(*_, **__):
        raise StartError("cannot write: no space")

    monkeypatch.setattr(page_client, "write_client", full)
    assert take(client, link(1)) == "said_not_written"
    assert not client.starts


def test_a_client_that_ends_says_why(client, monkeypatch) -> None:
    """Its process is a real one: a configuration that is not there."""

    async def main() -> None:
        monkeypatch.setattr("sys.orig_argv", ["python", "-m", "ptproxy", "page", "x"])
        monkeypatch.setattr("sys.argv", ["ptproxy", "page", "x"])
        await PageClient._start(client)
        assert client._watching is not None
        await client._watching
        assert "client.yaml" in client._why
        await client.stop()

    asyncio.run(main())
