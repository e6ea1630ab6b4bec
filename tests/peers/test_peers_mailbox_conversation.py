"""Who says what when: turns, proofs, and everything out of turn, on both ends."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers_live import MAILBOX, key_of

from ptproxy.errors import LocalProtocolError
from ptproxy.peers.mailbox_answers import Bundle, Displaced, Done, Hello, Mail, Refusal, Refused, State
from ptproxy.peers.mailbox_conversation import MAX_UNANSWERED, BridgeConversation, ClientConversation, prove
from ptproxy.peers.mailbox_frames import PREFACE, MailboxFrameError
from ptproxy.peers.mailbox_requests import Close, Deposit, Fetch, Listen, Open, Status, Taken

CHALLENGE = bytes(range(100, 132))
FETCH = Fetch(bytes(32))
DEPOSIT = Deposit(bytes(32), bytes(2048))
STATE = State(*range(8))
MAIL = Mail(bytes(16), bytes(32), bytes(2048))


def bridge(challenge=CHALLENGE):
    conversation = BridgeConversation(MAILBOX, challenge)
    conversation.receive_data(PREFACE)
    return conversation


def say(conversation, *frames):
    return conversation.receive_data(b"".join(frame.serialize() for frame in frames))


def opened():
    conversation = bridge()
    proof = prove(key_of("alice"), MAILBOX, CHALLENGE)
    assert say(conversation, proof) == [proof]
    return conversation


def test_an_owner_opens_and_goes_on():
    conversation = opened()
    assert say(conversation, Status(), Listen(3)) == [Status(), Listen(3)]
    assert conversation.answer(Done()) == Done().serialize()
    assert conversation.unanswered == 2


@pytest.mark.parametrize(
    ("mailbox", "challenge"),
    [(bytes(32), CHALLENGE), (MAILBOX, bytes(32)), (CHALLENGE, MAILBOX)],
    ids=["another mailbox's", "another stream's", "swapped"],
)
def test_a_proof_for_something_else_is_refused(mailbox, challenge):
    """A mailbox that relays our challenge to its visitor, and a recorded proof."""
    with pytest.raises(MailboxFrameError):
        say(bridge(), prove(key_of("alice"), mailbox, challenge))


def test_a_proof_of_one_key_opens_no_other_box():
    proof = prove(key_of("mallory"), MAILBOX, CHALLENGE)
    victim = key_of("alice").public_key().public_bytes_raw()
    with pytest.raises(MailboxFrameError):
        say(bridge(), Open(victim, proof.signature))


def test_every_changed_byte_of_a_proof_is_refused():
    proof = prove(key_of("alice"), MAILBOX, CHALLENGE).serialize()
    for place in range(4, len(proof)):
        changed = bytearray(proof)
        changed[place] ^= 1
        with pytest.raises(MailboxFrameError):
            bridge().receive_data(bytes(changed))


LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 0 and 1, not canonical
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("key", LOW_ORDER)
@pytest.mark.parametrize("sign", [0, 0x80])
def test_a_box_of_a_low_order_key_is_nobodys(key, sign):
    """OpenSSL takes a signature of zeros for one of a fourth of all messages under the first of them."""
    key = bytearray.fromhex(key)
    key[31] |= sign
    for signature in (bytes(64), b"\1" + bytes(63)):
        with pytest.raises(MailboxFrameError, match="nobody's"):
            say(bridge(), Open(bytes(key), signature))


def test_a_box_key_that_is_no_point():
    with pytest.raises(MailboxFrameError):
        say(bridge(), Open(b"\2" + bytes(31), bytes(64)))


def test_a_proof_is_good_for_one_open():
    conversation = opened()
    with pytest.raises(MailboxFrameError):
        say(conversation, prove(key_of("alice"), MAILBOX, CHALLENGE))


@pytest.mark.parametrize("request_", [Status(), Listen(1), Taken((bytes(16),)), Close()], ids=type)
def test_who_has_not_opened_owns_nothing(request_):
    with pytest.raises(MailboxFrameError):
        say(bridge(), request_)
    conversation = bridge()
    say(conversation, FETCH)
    with pytest.raises(MailboxFrameError):
        say(conversation, request_)


def test_a_depositor_does_not_become_an_owner():
    conversation = bridge()
    say(conversation, DEPOSIT)
    with pytest.raises(MailboxFrameError):
        say(conversation, prove(key_of("alice"), MAILBOX, CHALLENGE))


@pytest.mark.parametrize("request_", [DEPOSIT, FETCH], ids=type)
def test_an_owner_deposits_elsewhere(request_):
    with pytest.raises(MailboxFrameError):
        say(opened(), request_)


def test_one_listen():
    conversation = opened()
    say(conversation, Listen(1))
    with pytest.raises(MailboxFrameError):
        say(conversation, Listen(2))


def test_nothing_after_close():
    conversation = opened()
    say(conversation, Close())
    with pytest.raises(MailboxFrameError):
        say(conversation, Status())


def test_so_many_requests_at_once_and_no_more():
    conversation = bridge()
    assert len(say(conversation, *[FETCH] * MAX_UNANSWERED)) == MAX_UNANSWERED
    with pytest.raises(MailboxFrameError):
        say(conversation, FETCH)
    conversation = bridge()
    say(conversation, *[FETCH] * MAX_UNANSWERED)
    conversation.answer(Done())
    assert say(conversation, FETCH) == [FETCH]


def test_an_answer_that_nobody_asked_for_is_our_bug():
    with pytest.raises(LocalProtocolError):
        bridge().answer(Done())


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\r\nHost: mailbox.ptproxy.internal\r\n\r\n", b"\x16\x03\x01\2\0"]
)
def test_a_web_page_that_gets_through_gets_nothing(start):
    with pytest.raises(MailboxFrameError):
        BridgeConversation(MAILBOX, CHALLENGE).receive_data(start)


@given(data=st.binary(max_size=300), begun=st.booleans())
def test_garbage_raises_only_what_is_documented(data, begun):
    for conversation in (BridgeConversation(MAILBOX, CHALLENGE), ClientConversation()):
        try:
            conversation.receive_data(PREFACE * begun + data)
        except MailboxFrameError:
            pass


# ---- the client's end ---------------------------------------------------------------------------


def client(*asked):
    conversation = ClientConversation()
    conversation.receive_data(Hello(CHALLENGE).serialize())
    for request in asked:
        conversation.ask(request)
    return conversation


def test_the_challenge_comes_first():
    outcomes = ClientConversation().receive_data(Hello(CHALLENGE).serialize())
    assert outcomes.challenge == CHALLENGE
    for said in (Done(), MAIL, Displaced()):
        with pytest.raises(MailboxFrameError):
            say(ClientConversation(), said)
    with pytest.raises(MailboxFrameError):
        say(client(), Hello(CHALLENGE))


def test_answers_in_order():
    conversation = client(Status(), FETCH, Listen(1))
    outcomes = say(conversation, STATE, Bundle(b"b"), Done())
    assert outcomes.answers == [STATE, Bundle(b"b"), Done()]
    assert not conversation.unanswered


def test_any_request_can_be_refused():
    refused = Refused(Refusal.LATER, 9)
    assert say(client(Status(), FETCH), refused, refused).answers == [refused, refused]


@pytest.mark.parametrize(
    ("asked", "said"), [(Status(), Done()), (FETCH, STATE), (DEPOSIT, Bundle(b"b"))], ids=str
)
def test_the_answer_to_another_kind_of_request(asked, said):
    with pytest.raises(MailboxFrameError):
        say(client(asked), said)


def test_an_answer_to_nothing():
    with pytest.raises(MailboxFrameError):
        say(client(), Done())


def test_no_mail_before_listen_and_none_beyond_the_window():
    with pytest.raises(MailboxFrameError):
        say(client(), MAIL)
    conversation = client(Listen(2))
    assert say(conversation, Done(), MAIL, MAIL).mail == [MAIL, MAIL]
    with pytest.raises(MailboxFrameError):
        say(conversation, MAIL)
    conversation = client(Listen(2))
    say(conversation, Done(), MAIL, MAIL)
    conversation.ask(Taken((bytes(16),)))
    assert say(conversation, Done(), MAIL).mail == [MAIL]


def test_too_many_requests_are_our_bug():
    with pytest.raises(LocalProtocolError):
        client(*[FETCH] * (MAX_UNANSWERED + 1))


def test_the_two_ends_understand_each_other_however_cut():
    rng = random.Random(3)
    for _ in range(50):
        near, far = ClientConversation(), BridgeConversation(MAILBOX, CHALLENGE)
        near.receive_data(far.greeting())
        asked = [
            prove(key_of("alice"), MAILBOX, CHALLENGE),
            Status(),
            Listen(5),
            Taken((bytes(16),)),
            Close(),
        ]
        data = near.preface() + b"".join(near.ask(request) for request in asked)
        heard = []
        while data:
            size = rng.randrange(1, 60)
            heard += far.receive_data(data[:size])
            data = data[size:]
        assert heard == asked
        answers = [STATE, STATE, Done(), Done(), Done()]
        data = b"".join(far.answer(answer) for answer in answers)
        got = []
        while data:
            size = rng.randrange(1, 60)
            got += near.receive_data(data[:size]).answers
            data = data[size:]
        assert got == answers
