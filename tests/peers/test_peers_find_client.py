"""A client's sources: an invite's record, files, a list at an address; what is remembered between runs."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from find_live import DAY, NOON, encoded, publish_all, scene
from peers_live import PipeDialer, run, until

from ptproxy.config.link import Link
from ptproxy.config.model import FindConfig
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.invite import Invite
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import StartError
from ptproxy.peers.find_client import MOST_CHAT, BridgeFinder
from ptproxy.peers.find_list import BridgeList
from ptproxy.peers.find_operator import OperatorFolder
from ptproxy.peers.find_publisher import Publisher
from ptproxy.state import StateFolder

RNG = random.Random(11).randbytes
SIGNER = SigningKey(bytes(range(32)))


def link(number):
    rng = random.Random(number)
    host = f"bridge{number}.example.org"
    return Link(rng.randbytes(32), host, 443, "/", host, ("http",))


CONFIGURED = link(9)
OLD, NEW = (link(1), link(2)), (link(3), link(2))


def config(folder, **files):
    """A ``find`` section with these files written."""
    section = {}
    for name, text in files.items():
        path = folder / name
        path.write_text(text)
        section[name] = path
    if "list" in section:
        section["list_key"] = encoded(SIGNER.public)
    return FindConfig.model_validate(section, context={"folder": folder})


@contextlib.contextmanager
def found(folder, section, configured=CONFIGURED, clock=lambda: NOON):
    """A finder that has read what there is."""
    with StateFolder(folder / "state") as state:
        finder = BridgeFinder(section, configured, clock=clock, diversity=ANY_NETWORK)
        finder.open(state)
        yield finder


def test_files_in_the_order_of_the_sources(tmp_path):
    lines = f"# mine\n{link(4).serialize()}\n\n{link(5).serialize()}\n"
    listed = BridgeList.sign(SIGNER, 1, int(NOON) + 60, (link(6), link(5)))
    section = config(tmp_path, lines=lines, list=listed)
    with found(tmp_path, section) as finder:
        assert finder.lines == (link(4), link(5), link(6), link(9))
    turned = section.model_copy(update={"sources": ("list", "lines")})
    with found(tmp_path, turned) as finder:
        assert finder.lines == (link(6), link(5), link(4), link(9))
    only = section.model_copy(update={"sources": ("invite",)})
    with found(tmp_path, only) as finder:
        assert finder.lines == (link(9),)


def test_invites_that_were_passed_on_in_the_chat(tmp_path):
    """Each a source of its own, by the digits that the chat shows; what is not taken is forgotten."""
    issuer = SigningKey(RNG(32))
    good = [Invite.issue(issuer, (link(number),), int(NOON) + 60, RNG) for number in (1, 2)]
    over = Invite.issue(issuer, (link(3),), int(NOON), RNG)
    text = "# taken\n" + "\n".join(invite.serialize() for invite in (*good, over))
    section = config(tmp_path, chat=text, lines=link(4).serialize())
    with found(tmp_path, section) as finder:
        assert finder.lines == (link(4), link(1), link(2), link(9))
        origins = [known.origins for known in finder._known.merged()]
        assert origins == [("lines",), *((f"chat {invite.id.hex()[:10]}",) for invite in good)]
    (tmp_path / "chat").write_text(good[1].serialize())
    with found(tmp_path, section) as finder:
        assert finder.lines == (link(4), link(2), link(9))
    (tmp_path / "chat").unlink()
    with found(tmp_path, section) as finder:
        assert finder.lines == (link(4), link(9))
    many = [Invite.issue(issuer, (link(number),), int(NOON) + 60, RNG).serialize() for number in range(20)]
    (tmp_path / "chat").write_text("\n".join(many))
    with found(tmp_path, section) as finder:
        assert len(finder.lines) == 1 + MOST_CHAT + 1


def test_a_file_that_is_damaged_is_told_and_left_out(tmp_path):
    section = config(tmp_path, lines="nonsense", list="ptproxy-bridges:AAAA")
    with found(tmp_path, section) as finder:
        assert finder.lines == (link(9),)


def test_an_invite_that_is_damaged_keeps_the_client_from_starting(tmp_path):
    section = config(tmp_path, invite="ptproxy-invite:AAAA")
    with pytest.raises(StartError, match=r"find\.invite"), found(tmp_path, section):
        pass


@contextlib.asynccontextmanager
async def invited(folder, source="invite"):
    """A published invite, and how to start a finder that has it from this source."""
    async with scene(folder, 16) as cast:
        relay = await cast.bridge("bridge", await cast.guard("guard"))
        operator = OperatorFolder.create(folder / "operator", (link(8),), RNG)
        made = []

        def begin(operated):
            operated.listed.put("friends", OLD)
            made.append(operated.listed.issue("friends", int(NOON + 30 * DAY), RNG))

        operator.change(begin)
        directory = cast.client(relay)
        publisher = Publisher(OperatorFolder(operator.path), directory, RNG, cast.directory.clock)
        await publish_all(publisher)
        section = config(folder, **{source: made[0].serialize()})

        @contextlib.asynccontextmanager
        async def finding():
            with found(folder, section, OLD[0], cast.directory.clock) as finder:
                changes = []
                dialers = {"bridge": PipeDialer("client", relay)}
                finder.start(lambda: dialers, lambda: changes.append(finder.lines))
                finder.hurry()
                try:
                    yield finder, changes
                finally:
                    await finder.stop()

        try:
            yield operator, publisher, made[0], finding
        finally:
            await directory.close()


@pytest.mark.parametrize("source", ["invite", "chat"])
def test_an_invite_follows_its_bucket_and_remembers(tmp_path, source):
    async def main():
        async with invited(tmp_path, source) as (operator, publisher, _, finding):
            async with finding() as (finder, changes):
                assert finder.lines == OLD

                def rotate(operated):
                    operated.listed.put("friends", NEW)
                    operated.hurry.append("friends")

                operator.change(rotate)
                await publish_all(publisher)
                finder.hurry()
                await until(lambda: changes)
                assert changes == [NEW if source == "invite" else (*NEW, OLD[0])]
            async with finding() as (finder, _):
                assert finder.lines[:2] == NEW  # before anything was asked

    run(main)


def test_a_withdrawn_invite_leaves_the_configured_bridge(tmp_path):
    async def main():
        async with invited(tmp_path) as (operator, publisher, invite, finding):
            operator.change(lambda operated: operated.listed.revoke(invite.id, NOON))
            await publish_all(publisher)
            async with finding() as (_, changes):
                await until(lambda: changes)
                assert changes == [(OLD[0],)]

    run(main)


def test_without_an_answer_nothing_changes(tmp_path):
    async def main():
        async with scene(tmp_path, 8) as cast:
            relay = await cast.bridge("bridge", await cast.guard("guard"))
            operator = OperatorFolder.create(tmp_path / "operator", (link(8),), RNG)
            made = []

            def begin(operated):
                operated.listed.put("friends", OLD)
                made.append(operated.listed.issue("friends", int(NOON + 30 * DAY), RNG))

            operator.change(begin)
            section = config(tmp_path, invite=made[0].serialize())
            with found(tmp_path, section, OLD[0], cast.directory.clock) as finder:
                asked = asyncio.Event()
                dialers = {"bridge": PipeDialer("client", relay)}
                finder.start(lambda: asked.set() or dialers, lambda: pytest.fail("nothing was found"))
                finder.hurry()
                await asked.wait()
                await until(lambda: (tmp_path / "state" / "bridges.json").exists())
                assert finder.lines == OLD
                await finder.stop()

    run(main)
