"""ptproxy directory, as an operator uses it: make a node, sign a list, run it, stop it."""

from __future__ import annotations

import asyncio
import datetime
import signal
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click import UsageError
from click.testing import CliRunner
from free_ports import free_port

sys.path.append(str(Path(__file__).parent.parent / "peers"))

from directory_live import CHEAP, LAB, Lab, identity_of, run, until

from ptproxy.cli import directory as commands
from ptproxy.cli import directory_beacon
from ptproxy.cli.main import program
from ptproxy.config.load import load_directory
from ptproxy.dht.contact import Address
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import ConfigError, StartError
from ptproxy.peers.directory_network import (
    read_first_nodes,
    read_node,
    read_signer,
    write_first_nodes,
    write_node,
    write_signer,
)

ROOT = Path(__file__).parents[2]
SIGNER = SigningKey(bytes(range(32)))


def call(*arguments: str | Path) -> str:
    """What a command prints; raises what it fails with."""
    result = CliRunner().invoke(commands.directory, [str(word) for word in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def write_list(folder: Path, *contacts) -> Path:
    now = int(time.time())
    listed = FirstNodes(1, now, now + 1_000, now - 1_000, CHEAP, CHEAP, None, contacts)
    path = folder / "given.list"
    path.write_text(write_first_nodes(listed.sign(SIGNER)) + "\n")
    return path


def test_a_node_is_made_runs_joins_and_stops(tmp_path: Path) -> None:
    async def main():
        async with Lab() as lab:
            founder = await lab.add()
            given = write_list(tmp_path, founder.contact)
            port, key = free_port(), write_signer(SIGNER.public)
            printed = call(
                "init", tmp_path / "node", "--lab", "--address", f"127.0.0.1:{port}", "--network", given,
                "--network-key", key,
            )  # fmt: skip
            line = call("node", "-c", tmp_path / "node" / "directory.yaml").strip()
            assert line in printed
            place = read_node(line).id
            assert stat.S_IMODE((tmp_path / "node" / "directory.key").stat().st_mode) == 0o600
            for known_before in (0, 1):  # and again, with what it kept
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "ptproxy", "directory", "run", "-c",
                    tmp_path / "node" / "directory.yaml", cwd=ROOT, stdout=-1, stderr=-1,
                )  # fmt: skip
                assert process.stdout is not None
                assert await process.stdout.readline() == (
                    f"ptproxy directory listening on 127.0.0.1:{port} (UDP)\n".encode()
                )
                await until(lambda: founder.driver.node.table.get(place))
                process.send_signal(signal.SIGTERM)
                _, errors = await process.communicate()
                assert process.returncode == 0, errors
                assert (
                    f"restored                             left_out=0 nodes={known_before}".encode() in errors
                )

    run(main)


def test_a_network_is_founded_and_its_list_signed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main():
        async with Lab() as lab:
            await lab.grow(2)
            return [write_node(node.contact) for node in lab.nodes]

    lines: list[str] = []

    async def founders():
        lines.extend(await main())

    run(founders)
    printed = call("sign", tmp_path, lines[0])
    key = read_signer(printed.split()[-1])
    first = read_first_nodes((tmp_path / "network.list").read_text(), key, time.time())
    assert stat.S_IMODE((tmp_path / "network.key").stat().st_mode) == 0o600
    later = time.time() + 500 * 86_400  # long expired
    monkeypatch.setattr(time, "time", lambda: later)
    call("sign", tmp_path, *lines)
    again = read_first_nodes((tmp_path / "network.list").read_text(), key, later)
    assert len(again.contacts) == 2
    assert (again.founded, again.id_work) == (first.founded, first.id_work)
    assert again.sequence > first.sequence


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("init", "DIR", "--address", "example.org:5"), "an IP address and a port"),
        (("init", "DIR", "--address", "1.2.3.4:5", "--network-key", "A"), "go together"),
        (("init", "DIR", "--address", "1.2.3.4:5", "--node", "ptproxy-node:A"), "a node to begin with"),
        (("sign", "DIR", "nothing"), "expected a line that begins with ptproxy-node:"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_written(tmp_path: Path, arguments, text: str) -> None:
    words = [str(tmp_path / "new") if word == "DIR" else word for word in arguments]
    with pytest.raises(Exception, match=text) as caught:
        call(*words)
    assert not isinstance(caught.value, AssertionError)
    assert not (tmp_path / "new").exists()


def test_a_node_whose_work_is_too_little_for_its_network_does_not_start(tmp_path: Path) -> None:
    async def main():
        async with Lab() as lab:
            given = write_list(tmp_path, (await lab.add()).contact)
            call(
                "init", tmp_path, "--lab", "--address", "127.0.0.1:5", "--network", given,
                "--network-key", write_signer(SIGNER.public),
            )  # fmt: skip

    run(main)
    file = tmp_path / "directory.yaml"
    lines = [line for line in file.read_text().split("\n") if not line.startswith("network")]
    file.write_text("\n".join(lines))
    with pytest.raises(StartError, match=r"directory\.key: a directory node's key that its network"):
        call("node", "-c", file)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"address": "example.org:5"}, "no name"),
        ({"listen": "[0.0.0.0:1, 127.0.0.1:2]"}, "one address of each family"),
        ({"listen": "unix:/tmp/x"}, "UDP ports"),
        ({"network_key": "AAA"}, "43 characters"),
        ({"addresses": "some"}, "public or any"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_line(tmp_path: Path, change, text: str) -> None:
    settings = {"role": "directory", "listen": "0.0.0.0:1", "address": "1.2.3.4:1", "key": "k", "state": "s"}
    file = tmp_path / "directory.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in (settings | change).items()))
    with pytest.raises(ConfigError, match=text):
        load_directory(file)


def test_check_says_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "directory.yaml"
    file.write_text((ROOT / "configs" / "directory.yaml").read_text())
    result = CliRunner().invoke(program.get_command(None, "check"), [str(file)])
    assert "a directory node, reached at 203.0.113.5:4646" in result.output


def test_signers_agree_on_a_beacon_and_a_node_takes_it(tmp_path: Path) -> None:
    """Keys, the list, two of three signatures, joined; then a node's file of them."""
    keys = [call("beacon", "key", tmp_path / f"signer{number}").strip() for number in range(3)]
    with pytest.raises(StartError):
        call("beacon", "key", tmp_path / "signer0")
    good = identity_of(0).contact(Address(b"\x7f\0\0\1", 4_646), 1)
    options = [word for key in keys for word in ("--beacon-signer", key)]
    with pytest.raises(UsageError):
        call("sign", tmp_path, write_node(good), *options)
    printed = call("sign", tmp_path, write_node(good), *options, "--beacon-agree", "2")
    network = ("--network", tmp_path / "network.list", "--network-key", printed.split()[-1])
    call("sign", tmp_path, write_node(good))  # what was agreed on stays
    today = datetime.datetime.now(datetime.UTC).date()
    value = ("--value", "ab" * 32)

    def signed(number: int, day: datetime.date = today) -> str:
        return call("beacon", "sign", tmp_path / f"signer{number}", "--day", day, *value, *network).strip()

    one, two = signed(0), signed(2)
    with pytest.raises(StartError, match="1 more"):
        call("beacon", "join", one, one, *network)
    with pytest.raises(StartError, match="the same"):
        call("beacon", "join", one, signed(1, today + datetime.timedelta(days=1)), *network)
    joined = call("beacon", "join", one, two, *network).strip()
    shown = call("beacon", "show", joined, *value, *network)
    assert str(today) in shown
    assert keys[0] in shown
    assert keys[1] not in shown
    with pytest.raises(StartError, match="another value"):
        call("beacon", "show", joined, "--value", "cd" * 32, *network)
    call("beacon", "key", tmp_path / "stranger")
    with pytest.raises(StartError, match="none of the signers"):
        call("beacon", "sign", tmp_path / "stranger", "--day", today, *value, *network)
    listed = read_first_nodes((tmp_path / "network.list").read_text(), read_signer(network[-1]), time.time())

    async def main():
        async with Lab(replace(LAB, signers=listed.signers)) as lab:
            node = await lab.add()
            file = tmp_path / "beacons"
            file.write_text(f"nonsense\n{one}\n{joined}\n")
            following = asyncio.ensure_future(directory_beacon.follow(node, file))
            await until(lambda: node.beacons.value(epoch_of(time.time())) is not None)
            following.cancel()
            await asyncio.wait({following})

    run(main)
