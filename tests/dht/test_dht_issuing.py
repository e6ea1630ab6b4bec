"""An operator's list: issue, rotate, revoke, restart."""

import json

import pytest
from dht_records import BRIDGES, CHEAP, DAY, EPOCH, ISSUER, NOW, bridge, draw
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import issuing
from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.epoch import begins, ends
from ptproxy.dht.issuing import InviteList
from ptproxy.dht.record_secret import RecordType
from ptproxy.errors import LocalProtocolError, StateError

FAR = NOW + 90 * DAY
NEW_BRIDGES = (bridge(7), bridge(8))


def new(*names):
    listed = InviteList(ISSUER)
    for number, name in enumerate(names):
        listed.put(name, tuple(bridge(10 * number + place) for place in range(3)))
    return listed


def publish(listed, now):
    """Everything that is due: the records by their keys."""
    out = {}
    for publication in listed.published(now):
        for turn in publication.due(now):
            assert publication.work(turn.epoch, CHEAP, 1_000)
            record = publication.seal(turn, ISSUER, draw((now, turn.epoch)))
            out[record.header.key] = record.serialize()
            publication.published(turn)
    return out


def found(invite, records, epoch):
    """What the holder of an invite finds among records; None: nothing."""
    keys = invite.secret.keys(RecordType.BRIDGE_BUCKET, epoch)
    content = keys.newest(filter(None, [records.get(keys.public)]), invite.issuer)
    return None if content is None else BridgeBucket.parse(content.content).bridges


def test_an_invite_is_found_at_once():
    listed = new("a")
    invite = listed.issue("a", FAR, draw("invite"))
    assert found(invite, publish(listed, NOW), EPOCH) == invite.bridges == listed.buckets["a"].bridges


def test_rotation_reaches_the_invites_of_the_bucket_and_no_others():
    listed = new("a", "b")
    one, other = (listed.issue(name, FAR, draw(name)) for name in "ab")
    publish(listed, NOW)
    listed.put("a", NEW_BRIDGES)
    assert publish(listed, NOW) == {}
    tomorrow = publish(listed, NOW + DAY)
    assert found(one, tomorrow, EPOCH + 1) == NEW_BRIDGES
    assert found(other, tomorrow, EPOCH + 1) == other.bridges


def test_a_rotation_in_a_hurry():
    listed = new("a")
    invite = listed.issue("a", FAR, draw("invite"))
    publish(listed, NOW)
    listed.put("a", NEW_BRIDGES)
    listed.hurry("a")
    assert found(invite, publish(listed, NOW), EPOCH) == NEW_BRIDGES


def test_revoked_at_once_and_gone_tomorrow():
    listed = new("a")
    leaked, kept = (listed.issue("a", FAR, draw(name)) for name in ("leaked", "kept"))
    evening = begins(EPOCH + 1) - 600
    publish(listed, evening)
    listed.revoke(leaked.id, evening)
    listed.put("a", NEW_BRIDGES)
    records = publish(listed, evening)
    assert found(leaked, records, EPOCH) == found(leaked, records, EPOCH + 1) == ()
    for day in range(1, 5):
        records = publish(listed, ends(EPOCH + day) - 600)
        assert found(leaked, records, EPOCH + day) == (() if day == 1 else None)
        assert found(kept, records, EPOCH + day) == NEW_BRIDGES
    assert [invite.id for invite in listed.invites()] == [kept.id]


def test_revoked_twice_or_unknown():
    listed = new("a")
    invite = listed.issue("a", FAR, draw("invite"))
    publish(listed, NOW)
    listed.revoke(invite.id, NOW)
    publish(listed, NOW)
    listed.revoke(invite.id, NOW)
    listed.hurry("a")
    assert publish(listed, NOW) == {}
    with pytest.raises(KeyError):
        listed.revoke(bytes(16), NOW)
    with pytest.raises(KeyError):
        listed.issue("b", FAR, draw("x"))
    with pytest.raises(KeyError):
        listed.hurry("b")


def test_published_until_the_day_it_expires():
    listed = new("a")
    invite = listed.issue("a", begins(EPOCH + 2), draw("invite"))
    for day in range(4):
        records = publish(listed, NOW + day * DAY)
        assert (found(invite, records, EPOCH + day) is not None) == (day < 2)
    assert not list(listed.invites())


def test_a_restart_at_any_time():
    listed = new("a", "b")
    for number in range(4):
        listed.issue("ab"[number % 2], FAR, draw(number))
    publish(listed, NOW)
    listed.revoke(next(listed.invites()).id, NOW)
    stored = json.loads(json.dumps(listed.to_dict()))
    again = InviteList.from_dict(ISSUER, stored)
    assert again.to_dict() == listed.to_dict()
    assert publish(again, NOW) == publish(listed, NOW) != {}
    assert publish(again, NOW + DAY) == publish(listed, NOW + DAY)


def mutate(data, value, path):
    """``data`` with ``value`` somewhere inside, where ``path`` leads."""
    if isinstance(data, dict) and data and path:
        name = sorted(data)[path[0] % len(data)]
        return data | {name: mutate(data[name], value, path[1:])}
    if isinstance(data, list) and data and path:
        place = path[0] % len(data)
        return [*data[:place], mutate(data[place], value, path[1:]), *data[place + 1 :]]
    return value


@given(
    st.lists(st.integers(0, 7), max_size=6),
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.text(max_size=5)
    | st.just([])
    | st.just({})
    | st.floats(),
)
def test_a_damaged_file(path, value):
    listed = new("a")
    listed.issue("a", FAR, draw("invite"))
    publish(listed, NOW)
    try:
        read = InviteList.from_dict(ISSUER, mutate(json.loads(json.dumps(listed.to_dict())), value, path))
    except StateError:
        return
    publish(read, NOW)


def test_limits(monkeypatch):
    monkeypatch.setattr(issuing, "MAX_INVITES", 2)
    listed = new("a")
    for number in range(2):
        listed.issue("a", FAR, draw(number))
    with pytest.raises(LocalProtocolError, match="2 invites"):
        listed.issue("a", FAR, draw(3))
    for name in ("", "x" * 65, "a\nb", "\x1b[2J"):
        with pytest.raises(LocalProtocolError, match="name"):
            listed.put(name, BRIDGES)
    listed.put("empty", ())
    with pytest.raises(LocalProtocolError):
        listed.issue("empty", FAR, draw(3))
    assert "example" not in repr(listed) + repr(list(listed.invites()))
