"""What somebody learns who sees every record of the network, with leaked invites and without.

The directory is real storage; the operator publishes for three days, with a rotation. The
adversary keeps every byte that was ever written anywhere.
"""

from collections import Counter
from itertools import combinations, pairwise
from random import Random

import pytest
from dht_records import BRIDGES, CHEAP, DAY, EPOCH, ISSUER, NOW, bridge, draw, sealed

from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.epoch import begins
from ptproxy.dht.issuing import InviteList
from ptproxy.dht.record import HEADER, RecordError, RecordHeader
from ptproxy.dht.record_secret import RecordSecret, RecordType
from ptproxy.dht.storage import RecordStorage, Write

BUCKETS, INVITES_EACH = 6, 4
FAR = NOW + 90 * DAY


class World:
    """An operator, a directory of one node that keeps everything, and whoever reads all of it."""

    def __init__(self):
        self.operator = InviteList(ISSUER)
        self.directory = RecordStorage(draw("directory"), CHEAP, 100_000)
        self.seen = []
        """Every write: (time, location, record)."""
        self.bridges = {}
        for number in range(BUCKETS):
            self.rotate(number, generation=0)
        self.invites = {
            number: [
                self.operator.issue(str(number), FAR, draw((number, place))) for place in range(INVITES_EACH)
            ]
            for number in range(BUCKETS)
        }

    def rotate(self, number, generation):
        bridges = tuple(bridge(1_000 * generation + 10 * number + place) for place in range(3))
        self.bridges[number, generation] = bridges
        self.operator.put(str(number), bridges)

    def publish(self, now):
        for publication in self.operator.published(now):
            for turn in publication.due(now):
                assert publication.work(turn.epoch, CHEAP, 1_000)
                record = publication.seal(turn, ISSUER, draw((now, len(self.seen))))
                for location in record.header.locations():
                    token = self.directory.token(location, 5, now)
                    self.directory.write(Write(location, token, record.serialize()), 5, now)
                    self.seen.append((now, location, record.serialize()))
                publication.published(turn)

    def learned(self, invites):
        """Bridges that the adversary gets out of everything it has seen, with these invites."""
        learned = {link for invite in invites for link in invite.bridges}
        for invite in invites:
            for epoch in range(EPOCH - 1, EPOCH + 6):
                for kind in RecordType:
                    keys = invite.secret.keys(kind, epoch)
                    for data in {data for _, _, data in self.seen}:
                        try:
                            content = keys.open(data, invite.issuer).content
                        except RecordError:
                            continue
                        learned |= set(BridgeBucket.parse(content).bridges)
        return learned


@pytest.fixture(scope="module")
def world():
    """Two days; on the evening of the first, bucket 0 and 1 leak: revoked one invite each, and rotated."""
    world = World()
    for hour in range(0, 12, 3):
        world.publish(NOW + hour * 3_600)
    world.leaked = [world.invites[0][0], world.invites[1][0]]
    world.before = len(world.seen)
    world.leaked_at = NOW + 11.5 * 3_600
    for number, invite in enumerate(world.leaked):
        world.operator.revoke(invite.id, world.leaked_at)
        world.rotate(number, generation=1)
    for hour in (11.6, *range(12, 42, 3)):
        world.publish(NOW + hour * 3_600)
    return world


def test_there_is_something_to_see(world):
    assert len(world.seen) > 3 * BUCKETS * INVITES_EACH * 5
    assert len({data for _, _, data in world.seen}) * 3 == len(world.seen)


def test_a_crawl_learns_no_bridge(world):
    """No part of any bridge line is in any record that was ever written."""
    everything = b"".join({data for _, _, data in world.seen})
    for bridges in world.bridges.values():
        for link in bridges:
            for part in (link.key, link.token, link.host.encode(), link.path.encode()):
                assert part not in everything
            assert link.serialize().encode()[-20:] not in everything
    assert ISSUER.public not in everything
    assert world.learned([]) == set()


def test_leaked_invites_expose_three_bridges_each_at_most(world):
    rng = Random(5)
    everyone = [invite for invites in world.invites.values() for invite in invites]
    for count in (1, 2, 5):
        leaked = rng.sample([invite for invite in everyone if invite not in world.leaked], count)
        exposed = world.learned(leaked)
        numbers = {number for number in world.invites for invite in leaked if invite in world.invites[number]}
        generations = {number: sorted(g for n, g in world.bridges if n == number) for number in numbers}
        ever = {link for number in numbers for g in generations[number] for link in world.bridges[number, g]}
        today = {link for number in numbers for link in world.bridges[number, generations[number][-1]]}
        assert exposed == ever
        assert len(exposed & today) <= 3 * count


def test_nothing_after_revocation_and_rotation(world):
    exposed = world.learned(world.leaked)
    assert exposed == {link for number in (0, 1) for link in world.bridges[number, 0]}
    for number in (0, 1):
        assert not exposed & set(world.bridges[number, 1])


def test_the_others_of_the_bucket_find_its_new_bridges(world):
    for number in (0, 1):
        for invite in world.invites[number][1:]:
            assert set(world.bridges[number, 1]) <= world.learned([invite])


def test_what_the_revoked_find_where_they_look(world):
    """On the day itself "no bridge", from the next one on nothing at all."""
    for invite in world.leaked:
        answers = {}
        for epoch, now in [(EPOCH, world.leaked_at + 1_800), (EPOCH + 2, NOW + 41 * 3_600)]:
            keys = invite.secret.keys(RecordType.BRIDGE_BUCKET, epoch)
            held = [data for when, _, data in world.seen if when <= now]
            answers[epoch] = keys.newest(held, invite.issuer)
        assert BridgeBucket.parse(answers[EPOCH].content).bridges == ()
        assert answers[EPOCH + 2] is None


def test_after_the_epoch_the_directory_has_nothing_left(world):
    keys = world.leaked[0].secret.keys(RecordType.BRIDGE_BUCKET, EPOCH)
    assert world.directory.read(keys.locations()[0], begins(EPOCH + 1)) is None


# ---- unlinkability ----------------------------------------------------------------------------


def windows(data, width=5):
    return {data[at : at + width] for at in range(len(data) - width)}


def test_records_share_nothing_but_what_all_records_share(world):
    """Two invites of a bucket, two epochs of an invite, two turns of one record: no five bytes in common."""
    content = BridgeBucket(BRIDGES).serialize()
    one, other = RecordSecret(draw("one")(32)), RecordSecret(draw("other")(32))
    strange = RecordSecret(draw("strange")(32))
    made = [
        sealed(content, secret=secret, epoch=epoch, sequence=sequence, rng=draw((name, epoch, sequence)))
        for name, secret in (("one", one), ("other", other), ("strange", strange))
        for epoch in (EPOCH, EPOCH + 1)
        for sequence in (0, 1)
    ]
    for first, second in combinations(made, 2):
        same_key = first.header.key == second.header.key
        bodies = [record.sealed + record.signature for record in (first, second)]
        assert not windows(bodies[0]) & windows(bodies[1])
        if not same_key:
            assert not windows(first.header.key) & windows(second.header.key)
            assert not set(first.header.locations()) & set(second.header.locations())


def test_one_position_says_as_little_as_another():
    """Over 300 records of one bucket every byte after the open header is spread like chance has it."""
    content = BridgeBucket(BRIDGES).serialize()
    made = [
        sealed(content, secret=RecordSecret(draw(number)(32)), rng=draw(("n", number))).serialize()
        for number in range(300)
    ]
    fixed = HEADER - 32
    for position in range(fixed, 2_048 - 1):  # the last byte of S of an Ed25519 signature is always below 16
        most = Counter(data[position] for data in made).most_common(1)[0][1]
        assert most < 12, position  # the mean is 1.2; 12 of 300 has a chance of 1e-8 a byte value


def test_the_open_header_is_the_same_for_everybody(world):
    """Of what is open, copies, epoch and sequence take few values, which depend on the time alone."""
    by_time = {}
    for now, _, data in world.seen:
        header = RecordHeader.parse(data)
        by_time.setdefault((now, header.epoch), set()).add((header.copies, header.sequence >> 16))
    assert all(len(values) == 1 for values in by_time.values())


def test_two_types_of_record_look_alike():
    """The same open header whatever is inside, and one length."""
    made = [sealed(bytes(length), kind=kind) for length, kind in [(1, 1), (1_800, 2), (300, 3)]]
    assert {len(record.serialize()) for record in made} == {2_048}
    assert len({(r.header.copies, r.header.epoch, r.header.sequence) for r in made}) == 1


def test_moments_of_a_bucket_are_as_far_apart_as_strangers(world):
    """Invites of one bucket go out at moments of their own: none within a second of another's."""
    moments = sorted(
        moment
        for publication in world.operator.published(NOW + 42 * 3_600)
        for moment in publication.moments(EPOCH + 2)
    )
    assert len(moments) == (BUCKETS * INVITES_EACH - len(world.leaked)) * 5
    gaps = [after - before for before, after in pairwise(moments)]
    assert sum(gap < 1 for gap in gaps) <= 2
