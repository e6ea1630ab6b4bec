"""Shapes as files, as a bridge pushes them, and as a client takes them."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_live import LOOPS, echo, run, serving, until
from test_proxy_roles import Files, Running, through

from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.signed import MAX_SIGNED, SignedDocument, Signer
from ptproxy.codec.shape import CLASSES, Shape, ShapeError
from ptproxy.config.model import BridgeConfig
from ptproxy.errors import AuthenticationError, Reason, RemoteProtocolError, StartError
from ptproxy.proxy.bridge import run_bridge
from ptproxy.proxy.client import run_client
from ptproxy.proxy.shape_files import built_in, load_shape
from ptproxy.proxy.shape_follow import KeptShape, PushReader, read_body
from ptproxy.proxy.shape_push import KIND, ShapePush
from ptproxy.proxy.startup import Signals
from ptproxy.state import Document
from ptproxy.target import Target

RNG = random.SystemRandom()
KEY = StaticKey(bytes(range(32)))
NOW = int(time.time())


# ---- files -------------------------------------------------------------------------------------------------


def test_built_in_shapes_stand_beside_the_configurations() -> None:
    here = Path(__file__).parent.parent.parent
    for name in CLASSES:
        known = (here / "ptproxy" / "codec" / "shapes" / f"{name}.yaml").read_text("utf-8")
        assert (here / "configs" / "shapes" / f"{name}.yaml").read_text("utf-8") == known


def test_a_file_stands_on_the_built_in_shapes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "shape: mine\nsource: my own\nrecorded: 2026-11-23\nchat:\n  inherit: browse\n  streams: 3\n"
    )
    shape = load_shape(path)
    assert shape is not None
    assert (shape.name, shape.recorded, shape.chat.streams) == ("mine", "2026-11-23", 3)
    assert shape.chat.down == built_in().browse.down
    assert shape.browse == built_in().browse
    assert load_shape("none") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("browse: {streams: 9999}", "browse.streams: 9999 is not between 1 and 64"),
        ("browse: {streams: 1\n", "not valid YAML"),
        ("browse: {streams: 1}\nbrowse: {streams: 2}", "stands twice"),
        ("browse: {down: {body: {lognormal_median: 1.5e9}}}", "expected a number"),
        ("", "is empty"),
    ],
)
def test_a_broken_file_is_told_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(StartError, match=r"shape: .*mine\.yaml") as raised:
        load_shape(path)
    assert says in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        load_shape(tmp_path / "missing.yaml")
    (tmp_path / "large.yaml").write_bytes(bytes(70_000))
    with pytest.raises(StartError, match="too large"):
        load_shape(tmp_path / "large.yaml")
    with pytest.raises(StartError, match="no built-in shape"):
        built_in("morse")


# ---- a bridge's push ---------------------------------------------------------------------------------------


class Incoming:
    """A client that follows."""

    target = Target.service("shape")
    first_data = b""
    peer = "anna"
    cancelled = False

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = self.aborted = False
        self.refused: Reason | None = None

    def on_cancel(self, callback: Any) -> None:
        pass

    def accept(self, protocol: asyncio.Protocol) -> Any:
        self.protocol = protocol
        protocol.connection_made(self)  # type: ignore[arg-type]
        return self

    def accept_association(self, receiver: Any) -> Any:
        raise AssertionError

    def refuse(self, reason: Reason) -> None:
        self.refused = reason

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pushes(self) -> list[bytes]:
        return PushReader().receive_data(bytes(self.written))


def pushing(folder: Path, shape: Shape | None = None) -> ShapePush:
    return ShapePush(KEY, Document(folder / "bridge", "shape"), shape)


def test_a_replaced_bridge_signs_no_more(tmp_path: Path) -> None:
    push = pushing(tmp_path, built_in())
    push.close()
    before = (tmp_path / "bridge" / "shape.json").stat().st_mtime_ns, push._signed
    push.change(built_in("chat"))  # SIGHUP, while it serves visitors out
    assert ((tmp_path / "bridge" / "shape.json").stat().st_mtime_ns, push._signed) == before


def test_who_follows_gets_what_there_is_and_what_comes(tmp_path: Path) -> None:
    push = pushing(tmp_path, built_in())
    client, kept = Incoming(), KeptShape(Document(tmp_path, "shape"), KEY.public)
    push(client)
    push.change(built_in("chat"))
    push.change(built_in("chat"))  # no change, no push
    push.change(None)
    taken = [kept.take(one, push.signing_key, NOW) for one in client.pushes()]
    assert taken == [built_in(), built_in("chat"), None]
    assert all(len(one) < MAX_SIGNED // 2 for one in client.pushes())


def test_numbers_rise_over_restarts_and_over_the_loss_of_the_state(tmp_path: Path) -> None:
    numbers = []
    for turn in range(4):
        client = Incoming()
        pushing(tmp_path / ("other" if turn == 3 else "one"), built_in())(client)
        (signed,) = client.pushes()
        numbers.append(SignedDocument.parse(signed[:-64]).sequence)
    assert numbers[0] < numbers[1] < numbers[2]
    assert numbers[3] >= NOW


def test_followers_are_ended_when_the_bridge_stops(tmp_path: Path) -> None:
    push = pushing(tmp_path)
    client, late = Incoming(), Incoming()
    push(client)
    push.close()
    assert client.closed
    push(late)
    assert late.refused is Reason.SHUTDOWN


def test_a_follower_that_talks_or_does_not_read_costs_nothing(tmp_path: Path) -> None:
    push = pushing(tmp_path)
    talks, sleeps = Incoming(), Incoming()
    push(talks)
    push(sleeps)
    talks.protocol.data_received(b"hello")
    assert talks.aborted
    sleeps.protocol.pause_writing()
    before = len(sleeps.written)
    push.change(built_in())
    assert len(sleeps.written) == before
    talks.protocol.connection_lost(None)
    push.change(None)
    assert len(talks.pushes()) == 2


# ---- what a client takes -----------------------------------------------------------------------------------


def signed(
    body: Any, sequence: int = 5, kind: str = KIND, key: StaticKey = KEY, expires: int = NOW + 99
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Signer(key).sign(SignedDocument(kind, sequence, NOW, expires, data))


GOOD = {"shape": built_in("chat").to_mapping()}
TOLD = Signer(KEY).public


def test_a_push_is_kept_for_the_next_start(tmp_path: Path) -> None:
    kept = KeptShape(Document(tmp_path, "shape"), KEY.public)
    assert kept.load(NOW) == built_in()
    assert kept.take(signed(GOOD), TOLD, NOW) == built_in("chat")
    again = KeptShape(Document(tmp_path, "shape"), KEY.public)
    assert again.load(NOW) == built_in("chat")
    assert again.sequence == 5
    assert KeptShape(Document(tmp_path, "shape"), StaticKey.generate(RNG).public).load(NOW) == built_in()


def test_no_shape_is_kept_as_well(tmp_path: Path) -> None:
    kept = KeptShape(Document(tmp_path, "shape"), KEY.public)
    assert kept.take(signed({"shape": None}), TOLD, NOW) is None
    assert KeptShape(Document(tmp_path, "shape"), KEY.public).load(NOW) is None


def test_an_expired_push_is_not_used_and_still_not_rolled_back(tmp_path: Path) -> None:
    kept = KeptShape(Document(tmp_path, "shape"), KEY.public)
    kept.take(signed(GOOD), TOLD, NOW)
    again = KeptShape(Document(tmp_path, "shape"), KEY.public)
    assert again.load(NOW + 1000) == built_in()
    with pytest.raises(AuthenticationError, match="older"):
        again.take(signed(GOOD, 4), TOLD, NOW)


def test_numbers_do_not_fall(tmp_path: Path) -> None:
    kept = KeptShape(Document(tmp_path, "shape"), KEY.public)
    kept.take(signed(GOOD), TOLD, NOW)
    assert kept.take(signed(GOOD), TOLD, NOW) == built_in("chat"), "the same once more is no harm"
    for other in (signed({"shape": None}, 5), signed(GOOD, 4)):
        with pytest.raises(AuthenticationError, match="older"):
            kept.take(other, TOLD, NOW)
    assert kept.take(signed({"shape": None}, 6), TOLD, NOW) is None


@pytest.mark.parametrize(
    ("push", "error"),
    [
        (signed(GOOD, key=StaticKey(bytes(range(1, 33)))), AuthenticationError),
        (signed(GOOD, kind="notice"), AuthenticationError),
        (signed(GOOD, expires=NOW), AuthenticationError),
        (signed(b"no json"), RemoteProtocolError),
        (signed(b"[" * 9000), RemoteProtocolError),
        (signed([]), RemoteProtocolError),
        (signed({"form": {}}), RemoteProtocolError),
        (signed({"shape": 7}), ShapeError),
        (signed({"shape": {**GOOD["shape"], "browse": {"warm_carriers": 99}}}), ShapeError),
        (signed({"shape": {**GOOD["shape"], "browse": {"up": {"post_body": [1 << 30]}}}}), ShapeError),
        (b"", AuthenticationError),
    ],
)
def test_what_is_wrong_with_a_push_changes_nothing(
    tmp_path: Path, push: bytes, error: type[Exception]
) -> None:
    kept = KeptShape(Document(tmp_path, "shape"), KEY.public)
    with pytest.raises(error):
        kept.take(push, TOLD, NOW)
    assert kept.sequence == 0
    assert KeptShape(Document(tmp_path, "shape"), KEY.public).load(NOW) == built_in()


@pytest.mark.parametrize("damage", ["{}", "[", '{"ptproxy": "shape", "version": 1, "data": {"bridge": 5}}'])
def test_a_damaged_state_is_the_default(tmp_path: Path, damage: str) -> None:
    kept = KeptShape(Document(tmp_path, "shape"), KEY.public)
    kept.take(signed(GOOD), TOLD, NOW)
    (tmp_path / "shape.json").write_text(damage)
    assert KeptShape(Document(tmp_path, "shape"), KEY.public).load(NOW) == built_in()


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5), st.lists(st.integers(0, 900), max_size=6))
def test_pushes_do_not_depend_on_how_they_are_split(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(len(one).to_bytes(4, "big") + one for one in bodies)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = PushReader()
    found = []
    for start, end in pairwise(places):
        found += reader.receive_data(data[start:end])
    assert found == bodies


@given(st.binary(max_size=100))
def test_garbage_for_pushes(data: bytes) -> None:
    try:
        PushReader().receive_data(data)
    except RemoteProtocolError:
        pass
    try:
        read_body(SignedDocument(KIND, 1, NOW, NOW, data))
    except RemoteProtocolError:
        pass


# ---- both roles --------------------------------------------------------------------------------------------


def kept_shape(folder: Path) -> str | None:
    data = Document(folder / "client-state", "shape").read()
    if not data:
        return None
    shape = read_body(SignedDocument.parse(base64.b64decode(data["signed"])[:-64]))
    return shape.name if shape is not None else "none"


def with_shape(files: Files, shape: str) -> BridgeConfig:
    """A bridge that lets open streams end for as long as they like."""
    return files.bridge(shape=shape, limits={"drain": "1000s"})


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_client_follows_its_bridge(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text("shape: first\nbrowse: {warm_carriers: 0}\n")
    asked: list[Signals] = []
    reloads: list[Any] = []
    begun = Signals.__init__

    def remember(self: Signals, loop: Any, reload: Any = None) -> None:
        begun(self, loop, reload)
        asked.append(self)
        if reload is not None:
            reloads.append(reload)

    async def main() -> None:
        monkeypatch.setattr(Signals, "__init__", remember)
        bridge = Running(run_bridge, with_shape(files, "mine.yaml"))
        await bridge.ready()
        # One connection a carrier: http's further ones would find nobody once the bridge stops listening.
        client = Running(run_client, files.client(files.link(codecs=("websocket",))))
        proxy = await client.ready()
        await until(lambda: kept_shape(tmp_path) == "first")
        async with serving(echo) as target:
            data = bytes(range(256)) * 2000
            assert await through(proxy, target, data) == data
            path.write_text("shape: second\n")
            reloads[0]()
            await until(lambda: kept_shape(tmp_path) == "second")
            path.write_text("shape: broken\nbrowse: {streams: 0}\n")
            reloads[0]()
            assert await through(proxy, target, data) == data
        assert kept_shape(tmp_path) == "second"
        asked[0].ask()  # the bridge: it waits for no follower
        async with asyncio.timeout(60):
            await bridge.task
        asked[1].ask()
        await client.task

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:1])
def test_a_client_that_chose_for_itself_follows_nobody(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)

    async def main() -> None:
        bridge = Running(run_bridge, with_shape(files, "none"))
        await bridge.ready()
        for choice in ("none", "browse"):
            client = Running(run_client, files.client(shape=choice))
            await client.ready()
            await asyncio.sleep(0.2)
            client.task.cancel()
            await asyncio.gather(client.task, return_exceptions=True)
            assert kept_shape(tmp_path) is None
        client = Running(run_client, files.client(shape="auto"))
        await client.ready()
        await until(lambda: kept_shape(tmp_path) == "none")
        for role in (client, bridge):
            role.task.cancel()
            await asyncio.gather(role.task, return_exceptions=True)

    run(kind, monkeypatch, main)
