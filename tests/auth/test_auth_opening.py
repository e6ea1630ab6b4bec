"""The opening of a carrier: what verifies, and everything that must not."""

from dataclasses import replace
from random import Random, SystemRandom

import pytest
from auth_pair import ANSWER, CERTIFICATE, HELLO, NOW, OLD_CERTIFICATE, Pair, flip, pieces
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.auth import Answer, Binding, Hello, Opener, ReplayFilter, Sealer, StaticKey, Verdict, kem, noise
from ptproxy.auth.mask import mask_of
from ptproxy.auth.opening import (
    LONGEST_MESSAGE1,
    MAX_MESSAGE1,
    SHORTEST_MESSAGE1,
    SPREAD_MESSAGE1,
    ClientOpening,
)
from ptproxy.auth.payload import MAX_ALIVE, prologue
from ptproxy.errors import AuthenticationError, LocalProtocolError, StartError

both = pytest.mark.parametrize("seal", [False, True], ids=["plain", "sealed"])
cuts = st.lists(st.integers(0, 2000), max_size=8)


def masked(pair, message, nonce=bytes(16)):
    """A message 1 with a right mask and MAC around any Noise message: what a holder of the line can make."""
    mask = mask_of(pair.bridge_key.public)
    hidden = mask.up(nonce).update(message)
    return nonce + mask.mac(nonce + hidden) + hidden


@both
def test_both_ends_agree(seal):
    pair = Pair(seal=seal)
    client, bridge = pair.client(), pair.bridge()
    peer = bridge.examine(client.message1, NOW)
    assert peer.hello == HELLO
    assert peer.client_public == pair.client_key.public
    assert peer.binding == CERTIFICATE
    answer, rest = client.receive_data(bridge.answer(ANSWER, pair.rng) + b"frames")
    assert answer == ANSWER
    assert rest == b"frames"
    assert client.keys.token_key == bridge.keys.token_key
    confirm = client.confirm()
    assert len(confirm) == (1104 if seal else 16)
    assert bridge.receive_confirm(confirm + b"more") == b"more"
    ours, theirs = client.keys, bridge.keys
    assert ours.handshake_hash == theirs.handshake_hash
    assert (ours.seal_send, ours.seal_receive) == (theirs.seal_receive, theirs.seal_send)
    secrets = [ours.token_key, ours.handshake_hash, *([ours.seal_send, ours.seal_receive] if seal else [])]
    assert len(set(secrets)) == len(secrets)
    assert {len(secret) for secret in secrets} == {32}
    if not seal:
        assert ours.seal_send == ours.seal_receive == b""


@both
@given(down=cuts, up=cuts, behind=st.binary(max_size=30))
@settings(max_examples=40)
def test_any_split_gives_the_same(seal, down, up, behind):
    pair = Pair(seal=seal)
    client, bridge = pair.client(), pair.bridge()
    bridge.examine(client.message1, NOW)
    parts = pieces(bridge.answer(ANSWER, pair.rng) + behind, down)
    done = None
    while done is None:
        done = client.receive_data(bytearray(parts.pop(0)))
    assert done[0] == ANSWER
    assert bytes(done[1]) + b"".join(parts) == behind
    parts = pieces(client.confirm() + behind, up)
    rest = None
    while rest is None:
        rest = bridge.receive_confirm(memoryview(parts.pop(0)))
    assert bytes(rest) + b"".join(parts) == behind
    assert client.keys.seal_send == bridge.keys.seal_receive


@given(
    session=st.sampled_from([b"", b"s" * 16]),
    token=st.sampled_from([b"", b"t" * 16]),
    alive=st.lists(st.integers(0, 9), max_size=MAX_ALIVE),
    seed=st.integers(0, 2**32),
)
def test_the_hello_arrives_and_the_length_is_a_cookies(session, token, alive, seed):
    hello = Hello(session, 10, tuple(alive), NOW, token)
    pair = Pair(rng=Random(seed), hello=hello)
    message1 = pair.client().message1
    assert pair.bridge().examine(message1, NOW).hello == hello
    assert SHORTEST_MESSAGE1 <= len(message1) <= MAX_MESSAGE1
    bare = 128 + len(hello.serialize())
    assert bare <= len(message1) <= max(LONGEST_MESSAGE1, bare + SPREAD_MESSAGE1)


def test_the_length_does_not_tell_whether_a_session_is_resumed():
    """Same seed, same length, whatever the hello says."""
    for seed in range(50):
        hellos = [
            HELLO,
            replace(HELLO, session_id=bytes(16)),
            replace(HELLO, session_id=bytes(16), token=bytes(16)),
        ]
        lengths = {len(Pair(rng=Random(seed), hello=hello).client().message1) for hello in hellos}
        assert len(lengths) == 1
    assert len({len(Pair(rng=Random(seed)).client().message1) for seed in range(300)}) > 50
    long = Hello(bytes(16), 64, tuple(range(64)), NOW, bytes(16))
    assert len({len(Pair(rng=Random(seed), hello=long).client().message1) for seed in range(300)}) > 25


@given(bit=st.integers(min_value=0))
def test_any_bit_flip_of_message1_is_refused(bit):
    pair = Pair()
    message1 = pair.client().message1
    with pytest.raises(AuthenticationError):
        pair.bridge().examine(flip(message1, bit), NOW)
    assert len(pair.replay) == 0
    assert pair.bridge().examine(message1, NOW).hello == HELLO


@given(bit=st.integers(min_value=0))
def test_any_bit_flip_below_mask_and_mac_is_refused(bit):
    """A holder of the bridge line can renew mask and MAC; Noise still notices."""
    pair = Pair()
    message1 = pair.client().message1
    message = mask_of(pair.bridge_key.public).up(message1[:16]).update(message1[32:])
    with pytest.raises(AuthenticationError):
        pair.bridge().examine(masked(pair, flip(message, bit)), NOW)
    assert len(pair.replay) == 0


@both
@given(bit=st.integers(min_value=0))
@settings(max_examples=60)
def test_no_bit_flip_of_the_answer_is_believed(seal, bit):
    """Refused at once, or (a length made greater) never complete: no answer, no CONFIRM."""
    pair = Pair(seal=seal)
    client, bridge = pair.client(), pair.bridge()
    bridge.examine(client.message1, NOW)
    changed = flip(bridge.answer(ANSWER, pair.rng), bit)
    try:
        assert client.receive_data(changed) is None
    except AuthenticationError:
        assert True
    else:
        assert bit % (8 * len(changed)) < 16
        with pytest.raises(AuthenticationError):
            client.receive_data(bytes(5000))
    with pytest.raises(LocalProtocolError):
        client.confirm()


@both
@given(bit=st.integers(min_value=0))
@settings(max_examples=60)
def test_any_bit_flip_of_confirm_is_refused(seal, bit):
    client, bridge = Pair(seal=seal).answered()
    with pytest.raises(AuthenticationError):
        bridge.receive_confirm(flip(client.confirm(), bit))
    assert bridge.keys.seal_send == b""


@given(garbage=st.binary(max_size=1200))
def test_garbage_for_a_bridge(garbage):
    with pytest.raises(AuthenticationError):
        Pair().bridge().examine(garbage, NOW)


@given(garbage=st.binary(max_size=1000))
def test_garbage_behind_a_right_mac(garbage):
    pair = Pair()
    with pytest.raises(AuthenticationError):
        pair.bridge().examine(masked(pair, garbage), NOW)


@given(payload=st.binary(max_size=300))
def test_garbage_inside_noise(payload):
    """A client that has a key and speaks nonsense: a documented error or a hello, nothing else."""
    pair = Pair()
    handshake = noise.Initiator(
        noise.IK, prologue(pair.codec, pair.seal, pair.binding), pair.client_key, pair.bridge_key.public
    )
    message1 = masked(pair, handshake.write_message(payload, pair.rng))
    with pytest.raises(AuthenticationError):
        pair.bridge().examine(message1, NOW)


@given(garbage=st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=4))
def test_garbage_for_a_client(garbage):
    client = Pair().client()
    try:
        for part in garbage:
            assert client.receive_data(part) is None
    except AuthenticationError:
        pass
    with pytest.raises(LocalProtocolError):
        _ = client.keys


@pytest.mark.parametrize("length", [0, 1, 15, 32, 128, 142, MAX_MESSAGE1 + 1, 100_000])
def test_impossible_lengths(length):
    with pytest.raises(AuthenticationError, match="length"):
        Pair().bridge().examine(bytes(length), NOW)


def test_cut_or_lengthened_message1_is_refused():
    pair = Pair()
    message1 = pair.client().message1
    for changed in (message1[:-1], message1 + b"\0", message1[:160], message1 + bytes(200)):
        with pytest.raises(AuthenticationError):
            pair.bridge().examine(changed, NOW)


def test_a_stranger_costs_no_exchange(monkeypatch):
    """Neither random bytes nor a client of another bridge, nor a replay, reach a DH."""
    pair = Pair()
    other = pair.client(bridge_key=StaticKey.generate(pair.rng)).message1
    message1 = pair.client().message1
    pair.bridge().examine(message1, NOW)

    def exchange(self, public):
        raise AssertionError("a DH for a stranger")

    monkeypatch.setattr(noise.KeyPair, "exchange", exchange)
    for stranger in (pair.rng.randbytes(220), other, message1):
        with pytest.raises(AuthenticationError):
            pair.bridge().examine(stranger, NOW)


class TestDisagreement:
    """Everything in the prologue, and the keys, must be the same on both sides."""

    def refuse(self, client_over, bindings=None, **bridge_over):
        pair = Pair()
        message1 = pair.client(**client_over).message1
        with pytest.raises(AuthenticationError) as error:
            pair.bridge(bindings, **bridge_over).examine(message1, NOW)
        return str(error.value)

    def test_codec(self):
        assert "codec" in self.refuse({"codec": "http"})

    def test_seal(self):
        assert "seal" in self.refuse({"seal": True})
        assert "seal" in self.refuse({}, seal=True)

    def test_certificate(self):
        assert "certificate" in self.refuse({"binding": OLD_CERTIFICATE})

    def test_unbound_client_of_a_bound_bridge(self):
        assert "certificate" in self.refuse({"binding": Binding.none()})

    def test_bound_client_of_an_unbound_bridge(self):
        assert "certificate" in self.refuse({}, [Binding.none()])

    def test_bridge_key(self):
        assert "MAC" in self.refuse({}, bridge_key=StaticKey.generate(Random(9)))

    def test_bridges_own_key(self):
        pair = Pair()
        assert "own key" in self.refuse({"client_key": pair.bridge_key})


@both
def test_the_previous_certificate_is_accepted_without_another_exchange(seal, monkeypatch):
    pair = Pair(seal=seal, binding=OLD_CERTIFICATE)
    client = pair.client()
    exchanges = []
    real = noise.KeyPair.exchange
    monkeypatch.setattr(
        noise.KeyPair, "exchange", lambda self, public: exchanges.append(1) or real(self, public)
    )
    bridge = pair.bridge([CERTIFICATE, Binding.none(), OLD_CERTIFICATE])
    assert bridge.examine(client.message1, NOW).binding == OLD_CERTIFICATE
    assert len(exchanges) == 2
    answer, _ = client.receive_data(bridge.answer(ANSWER, pair.rng))
    assert answer == ANSWER
    assert bridge.receive_confirm(client.confirm()) == b""


@pytest.mark.parametrize(("skew", "good"), [(0, True), (60, True), (-60, True), (61, False), (-61, False)])
def test_clock(skew, good):
    pair = Pair(hello=replace(HELLO, unix_time=NOW + skew))
    message1 = pair.client().message1
    if good:
        assert pair.bridge().examine(message1, NOW).hello.unix_time == NOW + skew
    else:
        with pytest.raises(AuthenticationError, match="clock"):
            pair.bridge().examine(message1, NOW)


def test_replay():
    pair = Pair()
    message1 = pair.client().message1
    pair.bridge().examine(message1, NOW)
    with pytest.raises(AuthenticationError, match="before"):
        pair.bridge().examine(message1, NOW + 1)


def test_replay_under_another_mask():
    """A holder of the line who saw message 1 gives it another nonce: still the same opening."""
    pair = Pair()
    message1 = pair.client().message1
    message = mask_of(pair.bridge_key.public).up(message1[:16]).update(message1[32:])
    again = masked(pair, message, b"another nonce...")
    assert again != message1
    pair.bridge().examine(message1, NOW)
    with pytest.raises(AuthenticationError, match="seen before"):
        pair.bridge().examine(again, NOW)
    with pytest.raises(AuthenticationError):
        pair.bridge().examine(masked(pair, message + bytes(7), b"another nonce..."), NOW)


def test_replay_after_a_restart():
    pair = Pair()
    message1 = pair.client().message1
    pair.bridge().examine(message1, NOW)
    pair.replay = ReplayFilter.restore(pair.replay.snapshot())
    with pytest.raises(AuthenticationError, match="seen before"):
        pair.bridge().examine(message1, NOW + 30)
    pair.replay = ReplayFilter(NOW + 30)
    with pytest.raises(AuthenticationError, match="before this bridge began"):
        pair.bridge().examine(message1, NOW + 30)


def test_two_of_the_same_at_once():
    """Both objects exist before either examines: one wins."""
    pair = Pair()
    message1 = pair.client().message1
    first, second = pair.bridge(), pair.bridge()
    first.examine(message1, NOW)
    with pytest.raises(AuthenticationError):
        second.examine(message1, NOW)


@both
def test_without_confirm_there_is_nothing(seal):
    _, bridge = Pair(seal=seal).answered()
    assert bridge.receive_confirm(b"") is None
    assert bridge.receive_confirm(bytes(15)) is None
    assert bridge.keys.seal_receive == b""
    with pytest.raises(AuthenticationError):
        bridge.receive_confirm(bytes(1200))
    with pytest.raises(LocalProtocolError):
        bridge.receive_confirm(b"")


def test_what_confirm_was_read_with_is_not_kept():
    """A bridge keeps confirmed openings for tickets: not with the key of ML-KEM, which is most of them."""
    client, bridge = Pair(seal=True).answered()
    assert bridge._decapsulation_key is not None
    assert bridge.receive_confirm(client.confirm()) is not None
    assert bridge._decapsulation_key is None
    assert not bridge._confirm


def test_confirm_of_another_opening():
    """Whoever only replays message 1 and an old CONFIRM gets nowhere."""
    client, _ = Pair().answered()
    pair = Pair()
    replayed = Pair()
    bridge = replayed.bridge()
    bridge.examine(pair.client().message1, NOW)
    bridge.answer(ANSWER, replayed.rng)
    with pytest.raises(AuthenticationError):
        bridge.receive_confirm(client.confirm())


@both
def test_an_impostor_with_the_mask_but_not_the_key_cannot_answer(seal):
    """The bridge's public key makes mask and MAC; only its private key makes message 2."""
    pair = Pair(seal=seal)
    client = pair.client()
    mask = mask_of(pair.bridge_key.public)
    message = pair.rng.randbytes(300)
    forged = mask.down(client.message1[:16]).update(len(message).to_bytes(2, "big") + message)
    with pytest.raises(AuthenticationError, match="message 2"):
        client.receive_data(forged)


def test_answers_of_impossible_length():
    for length in (0, 72, 4097, 65535):
        pair = Pair()
        client = pair.client()
        head = mask_of(pair.bridge_key.public).down(client.message1[:16]).update(length.to_bytes(2, "big"))
        with pytest.raises(AuthenticationError, match="length"):
            client.receive_data(head)


def inside(pair, client, payload):
    """An answer with any payload, made with the bridge's key."""
    bridge = pair.bridge()
    bridge.examine(client.message1, NOW)
    handshake = bridge._handshake
    message = handshake.write_message(payload, pair.rng)
    return (
        mask_of(pair.bridge_key.public)
        .down(client.message1[:16])
        .update(len(message).to_bytes(2, "big") + message)
    )


@both
def test_an_answer_of_nonsense(seal):
    pair = Pair(seal=seal)
    client = pair.client()
    with pytest.raises(AuthenticationError, match="verdict"):
        client.receive_data(inside(pair, client, b"\x09" * 1300))


def test_an_answer_without_or_with_a_bad_encapsulation_key():
    pair = Pair(seal=True)
    client = pair.client()
    with pytest.raises(AuthenticationError, match="encapsulation key"):
        client.receive_data(inside(pair, client, ANSWER.serialize(bytes(1183))))
    pair = Pair(seal=True)
    client = pair.client()
    with pytest.raises(AuthenticationError, match="encapsulation key"):
        client.receive_data(inside(pair, client, ANSWER.serialize(b"\xff" * 1184)))


def test_calls_out_of_order_are_our_own_mistake():
    pair = Pair()
    client, bridge = pair.client(), pair.bridge()
    for call in (
        lambda: client.keys,
        client.confirm,
        lambda: bridge.keys,
        lambda: bridge.answer(ANSWER, pair.rng),
        lambda: bridge.receive_confirm(b""),
    ):
        with pytest.raises(LocalProtocolError):
            call()
    bridge.examine(client.message1, NOW)
    with pytest.raises(LocalProtocolError):
        bridge.examine(client.message1, NOW)
    client.receive_data(bridge.answer(ANSWER, pair.rng))
    client.confirm()
    for call in (client.confirm, lambda: client.receive_data(b""), lambda: bridge.answer(ANSWER, pair.rng)):
        with pytest.raises(LocalProtocolError):
            call()


def test_hellos_and_answers_that_cannot_be_said():
    pair = Pair()
    for hello in (
        replace(HELLO, session_id=b"short"),
        replace(HELLO, token=b"short"),
        replace(HELLO, carrier=2**32),
        replace(HELLO, carrier=-1, alive=()),
        replace(HELLO, unix_time=-1),
        replace(HELLO, alive=(3,)),
        replace(HELLO, carrier=99, alive=tuple(range(65))),
    ):
        with pytest.raises(LocalProtocolError):
            pair.client(hello=hello)
    with pytest.raises(LocalProtocolError):
        pair.client(codec="")
    with pytest.raises(LocalProtocolError):
        pair.client(codec="ö")
    with pytest.raises(LocalProtocolError):
        pair.client(codec="x" * 33)
    bridge = pair.bridge()
    bridge.examine(pair.client().message1, NOW)
    with pytest.raises(LocalProtocolError):
        bridge.answer(Answer(b"", Verdict.NEW, NOW), pair.rng)


def test_a_bridge_key_of_low_order_is_refused():
    pair = Pair()
    with pytest.raises(AuthenticationError):
        ClientOpening(bytes(32), pair.client_key, "http", False, CERTIFICATE, HELLO, pair.rng)


def test_sealing_without_ml_kem_fails_when_constructed(monkeypatch):
    def missing():
        raise StartError("sealing needs ML-KEM-768")

    monkeypatch.setattr(kem, "require", missing)
    pair = Pair()
    for construct in (pair.client, pair.bridge):
        construct()
        with pytest.raises(StartError):
            construct(seal=True)


def test_no_byte_position_is_constant():
    """500 openings of one client and bridge that differ in nothing but their randomness."""
    pair = Pair(rng=SystemRandom())
    messages = [pair.client().message1 for _ in range(500)]
    for position in range(SHORTEST_MESSAGE1):
        values = {message[position] for message in messages}
        assert len(values) > 150  # 256 · (1 - e^(-500/256)) = 220 expected, 6 standard deviations: 180
    ones = sum(message[position].bit_count() for message in messages for position in range(SHORTEST_MESSAGE1))
    bits = 500 * 8 * SHORTEST_MESSAGE1
    assert abs(ones - bits / 2) < 6 * (bits / 4) ** 0.5


def test_points_are_not_recognisable():
    """X25519 keys have the top bit clear and are x of the curve; behind the mask half are neither."""
    pair = Pair(rng=SystemRandom())
    messages = [pair.client().message1 for _ in range(500)]
    bare = [mask_of(pair.bridge_key.public).up(message[:16]).update(message[32:64]) for message in messages]
    assert all(point[31] < 128 and on_curve(point) for point in bare)
    for start in (0, 16, 32, 64):
        shown = [message[start : start + 32] for message in messages]
        assert 150 < sum(point[31] < 128 for point in shown) < 350
        assert 150 < sum(on_curve(point) for point in shown) < 350


def test_the_answer_has_no_constant_byte_position_either():
    pair = Pair(rng=SystemRandom())
    answers = []
    for _ in range(300):
        bridge = pair.bridge()
        bridge.examine(pair.client().message1, NOW)
        answers.append(bridge.answer(ANSWER, pair.rng))
    assert len({len(answer) for answer in answers}) > 100
    for position in range(min(map(len, answers))):
        assert len({answer[position] for answer in answers}) > 100


def on_curve(point):
    """Whether 32 bytes are the x of a point of Curve25519 (RFC 7748 section 4.1): Euler's criterion."""
    p = 2**255 - 19
    x = int.from_bytes(point, "little") & (2**255 - 1)
    return pow(x**3 + 486662 * x**2 + x, (p - 1) // 2, p) in (0, 1)


def test_reprs_hold_no_secret():
    pair = Pair(seal=True, hello=replace(HELLO, session_id=b"S" * 16, token=b"T" * 16))
    client, bridge = pair.client(), pair.bridge()
    peer = bridge.examine(client.message1, NOW)
    client.receive_data(bridge.answer(ANSWER, pair.rng))
    bridge.receive_confirm(client.confirm())
    shown = " ".join(map(repr, (client, bridge, peer, client.keys, bridge.keys, ANSWER, pair.client_key)))
    for secret in (
        b"S" * 16,
        b"T" * 16,
        client.keys.token_key,
        client.keys.seal_send,
        pair.client_key.public,
    ):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


# ---- ML-KEM -----------------------------------------------------------------------------------


def test_sealing_mixes_ml_kem_into_its_keys(monkeypatch):
    """All that Noise agrees on is not enough: with another ML-KEM secret at one end no record opens."""
    client, bridge = Pair(seal=True).answered()
    monkeypatch.setattr(kem.DecapsulationKey, "decapsulate", lambda self, ciphertext: bytes(32))
    assert bridge.receive_confirm(client.confirm()) == b""
    assert bridge.keys.handshake_hash == client.keys.handshake_hash
    assert bridge.keys.token_key == client.keys.token_key
    for sending, receiving in ((client, bridge), (bridge, client)):
        assert len(sending.keys.seal_send) == len(receiving.keys.seal_receive) == 32
        with pytest.raises(AuthenticationError):
            Opener(receiving.keys.seal_receive).receive_data(
                b"".join(Sealer(sending.keys.seal_send).seal([b"x" * 40000]))
            )


def test_the_ml_kem_exchange_is_in_the_answer_and_in_confirm():
    """Fresh for each opening, and neither of the two travels without sealing."""
    answers = []
    for seal in (False, True, True):
        pair = Pair(rng=SystemRandom(), seal=seal)
        client, bridge = pair.client(), pair.bridge()
        bridge.examine(client.message1, NOW)
        answer = bridge.answer(ANSWER, pair.rng)
        client.receive_data(answer)
        answers.append((len(answer), len(client.confirm()), client.keys.seal_send))
    (plain, plain_confirm, no_key), (sealed, confirm, key), (_, _, another) = answers
    assert (plain_confirm, confirm) == (16, 16 + kem.CIPHERTEXT)
    assert plain < kem.ENCAPSULATION_KEY < sealed
    assert no_key == b""
    assert key != another
