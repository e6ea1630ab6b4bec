"""Names that contacts give themselves, told apart."""

from __future__ import annotations

import pytest
from chat_fake import FakeMessenger, fingerprint_of
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import Standing
from ptproxy.peers.chat.commands import CommandError
from ptproxy.peers.chat.names import Named, labels, skeleton
from ptproxy.peers.chat.roster import Roster


def named(*names: str) -> list[Named]:
    return [Named(name, fingerprint_of(f"{place} {name}")) for place, name in enumerate(names)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("anna", "Anna"),
        ("anna", "аnnа"),  # Cyrillic
        ("anna", "an na"),
        ("anna", "an\u200bna"),
        ("anna", "ánna"),
        ("anna", "ａｎｎａ"),
        ("paypal", "paypa1"),
        ("Illia", "lIIia"),
        ("ben", "bеn"),
        ("νικ", "vlk"),
        ("mum", "rnurn"),
        ("Bob.", "(Bob)"),
    ],
)
def test_names_that_look_alike(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)
    first, second = labels(named(one, other))
    assert first == one
    assert second != first
    assert fingerprint_of(f"1 {other}").words().split()[0] in second


def test_who_has_no_name_yet_is_told_apart_by_words() -> None:
    nameless = named("", "", "\u200b")
    found = labels(nameless)
    assert found == [f"no name ({' '.join(each.fingerprint.words().split()[:2])})" for each in nameless]
    assert labels([Named("", fingerprint_of("x"))] * 2)[1].count(" ") > found[0].count(" ")


def test_names_that_do_not_look_alike_stay() -> None:
    assert labels(named("anna", "ben", "ننا", "漢字", "анна")) == ["anna", "ben", "ننا", "漢字", "анна"]


def test_a_name_made_to_meet_another_label_does_not() -> None:
    words = fingerprint_of("1 anna").words().split()[0]
    found = labels([Named(f"anna ({words})", fingerprint_of("x")), *named("anna", "anna")])
    assert len({skeleton(label) for label in found}) == 3


@given(st.lists(st.text(st.sampled_from("aа1lI ()🎈\u200b\x1b́"), max_size=6), max_size=8))
def test_labels_are_never_alike(names: list[str]) -> None:
    found = labels(named(*names))
    assert len({skeleton(label) for label in found}) == len(names)
    assert all(skeleton(label) for label in found)
    assert not any(":" in label or "\x1b" in label for label in found)


def test_the_same_contact_twice_ends() -> None:
    assert len(set(labels(named("anna")[:1] * 30))) == 30


def test_a_label_stays_while_its_name_does() -> None:
    messenger = FakeMessenger("anna")
    roster = Roster(messenger)
    first = messenger.contacts()[0]
    later = messenger.meets("Аnna")
    later.standing = Standing.VERIFIED
    roster.refresh()
    assert roster.label(first.id) == "anna"
    assert roster.label(later.id).startswith("Аnna (")
    assert roster.find("ANNA").id == first.id
    assert roster.find(roster.label(later.id)).id == later.id
    assert (
        Roster(messenger).label(later.id) == "Аnna"
    )  # whoever is verified comes first, from the next start on
    assert roster.resembling("а n n а") == "anna"
    assert roster.resembling("ben") is None


def test_strangers_take_nobodys_name() -> None:
    messenger = FakeMessenger()
    stranger = messenger.meets("anna", stranger=True)
    known = messenger.meets("Anna")
    ours = messenger.meets("aNNa")
    ours.given_name = "anna"
    roster = Roster(messenger)
    assert roster.label(ours.id) == "anna"
    assert [each.id for each in roster] == [ours.id, known.id, stranger.id]


def test_contacts_are_found_by_fingerprint_too() -> None:
    messenger = FakeMessenger("anna")
    roster = Roster(messenger)
    anna = messenger.contacts()[0]
    for text in (anna.fingerprint.qr_text(), anna.fingerprint.digits(), anna.fingerprint.words()):
        assert roster.find(text).id == anna.id
    for text in ("", "ann", "annaa", anna.id.hex()):
        with pytest.raises(CommandError):
            roster.find(text)
    assert roster.label(b"nobody") == "(gone)"
    assert len(roster) == 1
