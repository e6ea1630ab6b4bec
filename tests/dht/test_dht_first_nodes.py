"""The signed list of first nodes: one form only, good for a time, nothing in it that cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dht_nodes import signed_contact
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import first_nodes as module
from ptproxy.dht.beacon import BeaconSigners
from ptproxy.dht.first_nodes import MAX_AHEAD, MAX_LIFE, MAX_LIST, MAX_NODES, FirstNodes
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, LocalProtocolError

KEY = SigningKey(bytes(31) + b"\1")
NOW = 1_800_000_000
CONTACTS = tuple(signed_contact(number) for number in range(3))
LIST = FirstNodes(7, NOW, NOW + 86_400, NOW - 10**7, WorkTarget(13), WorkTarget(8), None, CONTACTS)
WITH_BEACON = replace(LIST, signers=BeaconSigners((bytes(32), bytes(31) + b"\1"), 2))


@pytest.mark.parametrize("listed", [LIST, WITH_BEACON])
def test_a_list_comes_back_from_its_bytes(listed: FirstNodes) -> None:
    data = listed.sign(KEY)
    assert FirstNodes.parse(data, KEY.public, NOW) == listed
    for size in range(0, len(data), 7):
        with pytest.raises(DhtError):
            FirstNodes.parse(data[:size], KEY.public, NOW)


def test_only_its_key_signs_a_list() -> None:
    data = LIST.sign(KEY)
    with pytest.raises(DhtError):
        FirstNodes.parse(LIST.sign(SigningKey(bytes(32))), KEY.public, NOW)
    for position in range(0, len(data), 11):
        changed = data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :]
        with pytest.raises(DhtError):
            FirstNodes.parse(changed, KEY.public, NOW)


@given(st.binary(max_size=300), st.integers(0, 80))
def test_signed_garbage_is_refused_or_in_its_one_form(garbage: bytes, kept: int) -> None:
    """Even who holds the key cannot make us fail otherwise than as documented."""
    said = LIST.sign(KEY)[:kept] + garbage
    data = said + KEY.sign(b"ptproxy 1 dht first nodes ", said)
    try:
        listed = FirstNodes.parse(data, KEY.public, NOW)
    except DhtError:
        return
    assert listed.sign(KEY) == data


def test_a_list_is_good_for_its_time() -> None:
    data = LIST.sign(KEY)
    FirstNodes.parse(data, KEY.public, LIST.expires - 1)
    FirstNodes.parse(data, KEY.public, NOW - MAX_AHEAD)
    for now in (LIST.expires, NOW - MAX_AHEAD - 1):
        with pytest.raises(DhtError):
            FirstNodes.parse(data, KEY.public, now)


@pytest.mark.parametrize(
    "change",
    [
        {"contacts": ()},
        {"contacts": CONTACTS[:1] * (MAX_NODES + 1)},
        {"founded": NOW + 1},
        {"expires": NOW},
        {"expires": NOW + MAX_LIFE + 1},
        {"sequence": 2**64},
        {"id_work": WorkTarget(1, 1 << 20)},
    ],
)
def test_lists_that_cannot_be_are_neither_signed_nor_accepted(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(LIST, **change)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError):
        wrong.sign(KEY)
    if "sequence" in change:
        return
    with monkeypatch.context() as patched:
        patched.setattr(FirstNodes, "check", lambda self: None)
        data = wrong.sign(KEY)
    with pytest.raises(DhtError):
        FirstNodes.parse(data, KEY.public, NOW)


def test_the_longest_list_fits() -> None:
    contact = signed_contact(1, host=b"\x20\1" + bytes(14))
    signers = BeaconSigners(tuple(bytes((number,)) * 32 for number in range(32)), 3)
    data = replace(LIST, contacts=(contact,) * MAX_NODES, signers=signers).sign(KEY)
    assert len(data) == MAX_LIST == 14_126
    assert len(FirstNodes.parse(data, KEY.public, NOW).contacts) == MAX_NODES
    assert module.MAX_LIST == MAX_LIST
