"""``tests/vectors/dht-records.json``: made by the naive implementation, met by ours in both directions."""

import json

import generate_record_vectors
import pytest

from ptproxy.config.link import Link
from ptproxy.dht import admission
from ptproxy.dht.beacon import Beacons, BeaconSigners, value_of
from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.invite import Invite
from ptproxy.dht.person_record import MailboxPointer, PrekeyBundleRecord
from ptproxy.dht.publication import Publication
from ptproxy.dht.record import Record
from ptproxy.dht.record_secret import RecordSecret, RecordType
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.work import WorkTarget
from ptproxy.dht.write_token import WriteTokens

VECTORS = json.loads(generate_record_vectors.FILE.read_text("utf-8"))
CONTENTS = {1: BridgeBucket, 2: PrekeyBundleRecord, 3: MailboxPointer}


def value(vector, field):
    return bytes.fromhex(vector[field])


def places(vector, field):
    return tuple(int(place, 16) for place in vector[field])


def test_the_file_is_what_the_naive_implementation_says():
    assert generate_record_vectors.generate() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["nodes"])
def test_nodes(vector):
    target = WorkTarget(vector["bits"], vector["memory"])
    minted = admission.mint(value(vector, "key"), target, 0, 10_000)
    assert (minted.nonce, minted.id) == (value(vector, "nonce"), int(vector["id"], 16))


@pytest.mark.parametrize("vector", VECTORS["records"])
def test_records(vector):
    keys = RecordSecret(value(vector, "secret")).keys(RecordType(vector["kind"]), vector["epoch"])
    issuer = SigningKey(value(vector, "issuer_seed"))
    target = WorkTarget(vector["bits"], vector["memory"])
    nonce = keys.find_work(target, 0, 10_000)
    sealed = keys.seal(
        value(vector, "content"), vector["sequence"], issuer, nonce, lambda _: value(vector, "gcm_nonce")
    )
    data = value(vector, "record")
    assert sealed.serialize() == data
    record = Record.parse(data)
    record.verify()
    record.header.check_work(target)
    opened = keys.open(data, value(vector, "issuer"))
    assert opened.content == value(vector, "content")
    assert opened.order == (vector["epoch"], vector["sequence"])
    kind = CONTENTS[vector["kind"]]
    assert kind.parse(opened.content).serialize() == opened.content
    assert record.header.locations() == keys.locations() == places(vector, "locations")
    assert keys.locations(value(vector, "beacon")) == places(vector, "locations_with_beacon")


@pytest.mark.parametrize("vector", VECTORS["records"])
def test_moments(vector):
    publication = Publication(RecordSecret(value(vector, "secret")), RecordType(vector["kind"]), b"")
    assert publication.moments(vector["epoch"]) == vector["moments"]


@pytest.mark.parametrize("vector", VECTORS["invites"])
def test_invites(vector):
    issuer = SigningKey(value(vector, "issuer_seed"))
    bridges = tuple(map(Link.parse, vector["lines"]))
    invite = Invite.issue(issuer, bridges, vector["expires"], lambda _: value(vector, "secret"))
    assert invite.serialize() == vector["text"]
    assert Invite.parse(vector["text"]) == invite
    assert invite.id == value(vector, "id")


def test_the_write_token():
    vector = VECTORS["write_token"]
    tokens = WriteTokens(lambda _: value(vector, "secret"))
    location, requester = int(vector["location"], 16), int(vector["requester"], 16)
    assert tokens.give(location, requester, vector["now"] + 0.5) == value(vector, "token")


def test_the_beacon():
    vector = VECTORS["beacon"]
    assert value_of(vector["epoch"], value(vector, "public_value")) == value(vector, "value")
    beacons = Beacons(BeaconSigners(tuple(bytes.fromhex(key) for key in vector["keys"]), 3))
    beacons.learn(value(vector, "statement"), vector["epoch"] * 86_400 + 5)
    assert beacons.value(vector["epoch"]) == value(vector, "value")
    assert beacons.statement(vector["epoch"]) == value(vector, "statement")
