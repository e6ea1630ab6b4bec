"""When records go out: once a slot, at their own moments, and above whatever nodes hold."""

import pytest
from dht_records import CHEAP, DAY, EPOCH, ISSUER, NOW, SECRET, draw
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.epoch import SLOT, begins, ends, epoch_of, open_epochs, opens
from ptproxy.dht.publication import MARGIN, MAX_RAISES, Progress, Publication, Turn
from ptproxy.dht.record_secret import MAX_SEQUENCE, RecordSecret, RecordType
from ptproxy.errors import LocalProtocolError

BUCKET = RecordType.BRIDGE_BUCKET


def new(content=b"one", secret=SECRET, **more):
    return Publication(secret, BUCKET, content, **more)


def seal(publication, turn, name="seal"):
    assert publication.work(turn.epoch, CHEAP, 1_000)
    return publication.seal(turn, ISSUER, draw(name))


def said(publication, turn):
    return publication.keys(turn.epoch).open(seal(publication, turn).serialize(), ISSUER.public).content


def publish(publication, now):
    """Everything that is due, on nodes that take it."""
    turns = publication.due(now)
    for turn in turns:
        seal(publication, turn)
        publication.published(turn)
    return turns


def run(publication, start, end):
    """Whatever goes out between two times, woken by the deadlines alone: (time, turn)."""
    out, now = [], start
    while now < end:
        out += [(now, turn) for turn in publish(publication, now)]
        deadline = publication.deadline(now)
        if deadline is None:
            break
        assert deadline > now
        now = deadline
    return out


@given(st.binary(min_size=32, max_size=32), st.integers(0, 30))
def test_moments(secret, epoch):
    moments = new(secret=RecordSecret(secret)).moments(EPOCH + epoch)
    assert len(moments) == 5
    for slot, moment in enumerate(moments):
        start = opens(EPOCH + epoch) + slot * SLOT
        assert start + MARGIN <= moment <= start + SLOT - MARGIN


def test_moments_of_two_invites_and_two_days_have_nothing_in_common():
    other = RecordSecret(draw("other")(32))
    offsets = [
        {round(moment - opens(epoch)) for moment in new(secret=secret).moments(epoch)}
        for secret in (SECRET, other)
        for epoch in (EPOCH, EPOCH + 1)
    ]
    assert len(set.union(*offsets)) == 20


def test_a_week():
    out = run(new(), NOW, NOW + 7 * DAY)
    for day in range(1, 7):
        turns = [turn for _, turn in out if turn.epoch == EPOCH + day]
        assert [turn.sequence for turn in turns] == [slot << 16 for slot in range(5)]
    moments = new().moments(EPOCH + 3)
    assert [now for now, turn in out if turn.epoch == EPOCH + 3] == moments
    assert all(turn.epoch in open_epochs(now) for now, turn in out)


def test_what_is_over_is_forgotten():
    publication = new()
    run(publication, NOW, NOW + 9 * DAY)
    assert len(publication._days) <= 2
    assert len(publication.progress) <= 2


def test_readers_always_find_one():
    """From the first moment on there is never a time without a record of the current epoch."""
    out = run(new(), NOW, NOW + 5 * DAY)
    for quarter in range(4 * 24 * 5):
        now = NOW + quarter * 900
        assert any(then <= now and turn.epoch == epoch_of(now) for then, turn in out)


def test_a_new_invite_in_the_middle_of_a_day_does_not_wait():
    assert new().due(NOW) == [Turn(EPOCH, 2, 2 << 16)] or new().due(NOW) == [Turn(EPOCH, 3, 3 << 16)]
    evening = begins(EPOCH + 1) - 1
    assert {turn.epoch for turn in new().due(evening)} == {EPOCH, EPOCH + 1}
    early = opens(EPOCH + 1) + 1
    assert {turn.epoch for turn in new().due(early)} == {EPOCH}


def test_what_it_says_changes_unseen():
    publication = new()
    publish(publication, NOW)
    publication.content = b"two"
    assert publication.due(NOW) == []
    moment = publication.deadline(NOW)
    (turn,) = publication.due(moment)
    assert turn.sequence & 0xFFFF == 0
    assert said(publication, turn) == b"two"


def test_what_cannot_wait():
    publication = new()
    (before,) = publish(publication, NOW)
    publication.announce(b"now")
    (turn,) = publication.due(NOW)
    assert (turn.epoch, turn.sequence) == (EPOCH, before.sequence + 1)
    assert said(publication, turn) == b"now"
    publication.published(turn)
    assert publication.due(NOW) == []


def test_announced_while_the_last_one_is_on_its_way():
    publication = new()
    (turn,) = publication.due(NOW)
    seal(publication, turn)
    publication.announce(b"now")
    publication.published(turn)
    (again,) = publication.due(NOW)
    assert again.sequence == turn.sequence + 1
    assert said(publication, again) == b"now"


def test_a_turn_that_did_not_get_out_is_the_same_again():
    """The same bytes, that is: nodes that had taken them see nothing new."""
    publication = new()
    (turn,) = publication.due(NOW)
    record = seal(publication, turn, "first")
    assert publication.due(NOW + 60) == [turn]
    assert seal(publication, turn, "second") == record
    publication.content = b"two"
    (other,) = publication.due(NOW + 60)
    assert other.sequence == turn.sequence + 1


def test_nothing_is_sealed_without_work():
    publication = new()
    (turn,) = publication.due(NOW)
    with pytest.raises(LocalProtocolError, match="work"):
        publication.seal(turn, ISSUER, draw("seal"))
    tries = 0
    while not publication.work(EPOCH, CHEAP, 1):
        tries += 1
    assert publication.seal(turn, ISSUER, draw("seal")).header.nonce == tries.to_bytes(16, "big")


def test_withdrawn_at_once_and_never_again():
    publication = new()
    evening = begins(EPOCH + 1) - MARGIN
    publish(publication, evening)
    publication.withdraw(b"gone", evening)
    turns = publication.due(evening)
    assert {turn.epoch for turn in turns} == {EPOCH, EPOCH + 1}
    assert {said(publication, turn) for turn in turns} == {b"gone"}
    assert all(turn.epoch <= EPOCH + 1 for _, turn in run(publication, evening, evening + 5 * DAY))
    assert publication.is_over(begins(EPOCH + 2))
    assert publication.deadline(begins(EPOCH + 2)) is None


def test_withdrawn_before_anything_was_said():
    publication = new()
    publication.withdraw(b"gone", NOW)
    assert publication.due(NOW) == []
    assert publication.is_over(NOW)


def test_withdrawn_while_the_first_one_is_on_its_way():
    publication = new()
    (turn,) = publication.due(NOW)
    seal(publication, turn)
    publication.withdraw(b"gone", NOW)
    publication.published(turn)
    (again,) = publication.due(NOW)
    assert said(publication, again) == b"gone"


def test_the_last_epoch():
    out = run(new(last_epoch=EPOCH + 1), NOW, NOW + 9 * DAY)
    assert {turn.epoch for _, turn in out} == {EPOCH, EPOCH + 1}


def test_a_restart_with_its_progress_goes_on():
    whole = run(new(), NOW, NOW + 3 * DAY)
    first, cut = new(), NOW + DAY + 12_345
    out = run(first, NOW, cut)
    second = new()
    second.resume(first.progress)
    assert out + run(second, cut, NOW + 3 * DAY) == whole


def test_a_restart_between_sealing_and_writing_says_it_again():
    publication = new()
    (turn,) = publication.due(NOW)
    seal(publication, turn)
    assert publication.progress == {EPOCH: Progress(turn.sequence, -1)}
    after = new()
    after.resume(publication.progress)
    (again,) = after.due(NOW + 5)
    assert again.sequence == turn.sequence + 1
    after.withdraw(b"gone", NOW + 5)
    assert said(after, after.due(NOW + 5)[0]) == b"gone"


def test_a_restart_without_its_progress_goes_above_what_nodes_hold():
    publication = new()
    (turn,) = publication.due(NOW)
    publication.refused(turn, turn.sequence)
    (again,) = publication.due(NOW)
    assert again.sequence == turn.sequence + 1
    seal(publication, again)
    publication.published(again)
    assert publication.due(NOW) == []


def test_a_vandal_with_the_secret_keeps_us_busy_a_few_times_a_slot_only():
    publication, raised = new(), 0
    now = NOW
    while now < ends(EPOCH) - SLOT // 2:
        for turn in publication.due(now):
            if turn.epoch == EPOCH:
                raised += 1
                publication.refused(turn, turn.sequence + 10)
            else:
                publication.published(turn)
        now = max(publication.deadline(now), now + 60)
    assert MAX_RAISES <= raised <= 3 * MAX_RAISES


def test_above_the_highest_sequence_there_is_nothing_until_the_epoch_ends():
    publication = new()
    (turn,) = publication.due(NOW)
    publication.refused(turn, MAX_SEQUENCE)
    out = run(publication, NOW, NOW + 2 * DAY)
    assert {turn.epoch for _, turn in out} == {EPOCH + 1, EPOCH + 2}


@given(
    st.lists(
        st.sampled_from(["publish", "fail", "refuse", "announce", "change", "restart", "wait"]), max_size=40
    )
)
def test_sequences_rise_and_the_last_word_gets_out(steps):
    """No two records of one sequence differ, and in the end nodes hold what is to be said."""
    publication, now, held, words, sealed = new(), NOW + 0.0, {}, 0, {}

    def attempt(outcome):
        for turn in publication.due(now):
            data = seal(publication, turn, words).serialize()
            sequence, bytes_held = held.get(turn.epoch, (-1, b""))
            assert sealed.setdefault((turn.epoch, turn.sequence), data) == data
            if outcome == "fail":
                continue
            if outcome == "refuse" or (sequence >= turn.sequence and bytes_held != data):
                publication.refused(turn, max(sequence, turn.sequence))
            else:
                held[turn.epoch] = turn.sequence, data
                publication.published(turn)

    for step in steps:
        if step in ("publish", "fail", "refuse"):
            attempt(step)
        elif step in ("announce", "change"):
            words += 1
            content = words.to_bytes(2, "big")
            if step == "announce":
                publication.announce(content)
            else:
                publication.content = content
        elif step == "restart":
            before, publication = publication, new(publication.content)
            publication.resume(before.progress)
        else:
            now = publication.deadline(now + 1)
    now = publication.moments(EPOCH + 9)[4]
    attempt("publish")
    _, data = held[EPOCH + 9]
    content = publication.keys(EPOCH + 9).open(data, ISSUER.public).content
    assert content == publication.content
