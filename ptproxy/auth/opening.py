"""The opening of a carrier: each side learns who the other is before anything else happens.

    client                                                          bridge
      │ message 1   nonce 16 ‖ MAC 16 ‖ masked(Noise IK message 1)     │  in the codec's opening
      │ ──────────────────────────────────────────────────────────▶ │  examine()
      │ answer      masked(length u16 ‖ Noise IK message 2)            │  first payload bytes down
      │ ◀────────────────────────────────────────────────────────── │  answer()
      │ CONFIRM     AES-256-GCM under Split's first key, nonce 0,       │  first payload bytes up
      │ ──────────────────────────────────────────────────────────▶ │  receive_confirm()
      │             AD = handshake hash, plaintext = nothing, or with   │  nothing is acted on before (R26)
      │             sealing the ML-KEM-768 ciphertext                   │

Calls, client: construct, send ``message1``, ``receive_data`` until it answers,
send ``confirm()``. Calls, bridge: construct, ``examine``, decide (``access``),
send ``answer(...)``, ``receive_confirm`` until it returns, spend the token.

Everything a peer can do wrong raises :class:`~ptproxy.errors.AuthenticationError`;
the object is of no use afterwards. Texts name the stage, for our own log; the
peer is to see the web site and nothing else.

``mask.py`` has the mask and MAC, ``payload.py`` the payloads and the prologue,
``keys.py`` the keys, ``PROTOCOL.md`` all of it at once.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from ptproxy.auth import kem, noise
from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.keys import Keys, seal_keys, token_key
from ptproxy.auth.mask import MAC_LENGTH, NONCE_LENGTH, mask_of
from ptproxy.auth.payload import MIN_HELLO, Answer, Hello, Verdict, encapsulation_key, prologue
from ptproxy.auth.replay import Openings, ReplayVerdict
from ptproxy.buffer import Buffer
from ptproxy.errors import AuthenticationError, LocalProtocolError

__all__ = ["Answer", "BridgeOpening", "ClientOpening", "Hello", "Keys", "PeerHello", "Verdict"]

_HEADER: Final = NONCE_LENGTH + MAC_LENGTH
_MESSAGE1_OVERHEAD: Final = _HEADER + noise.DHLEN + (noise.DHLEN + noise.TAGLEN) + noise.TAGLEN
_MESSAGE2_OVERHEAD: Final = noise.DHLEN + noise.TAGLEN
_LENGTH: Final = 2

SHORTEST_MESSAGE1: Final = 190
"""Bytes up to which message 1 is padded at least: with session, token and three other carriers it has 188."""
LONGEST_MESSAGE1: Final = 260
"""Bytes up to which message 1 is padded at most: 347 characters as a cookie, like a real session's."""
SPREAD_MESSAGE1: Final = 32
"""Bytes of padding at most where the hello alone is longer than that."""
MIN_MESSAGE1: Final = _MESSAGE1_OVERHEAD + MIN_HELLO
"""Bytes below which a bridge need not look."""
MAX_MESSAGE1: Final = 1024
"""Bytes above which a bridge does not look: twice the longest hello with all 64 carriers."""
MAX_PADDING_ANSWER: Final = 255
"""Bytes of padding at most in the answer: lengths of small web responses."""
MIN_ANSWER: Final = _MESSAGE2_OVERHEAD + 25
"""Bytes of a Noise message 2 at least."""
MAX_ANSWER: Final = 4096
"""Bytes of a Noise message 2 at most: with sealing 1257 before padding."""


@dataclass(frozen=True, slots=True)
class PeerHello:
    """Who asks, and for what. Nothing of it may be acted on before CONFIRM has verified."""

    hello: Hello
    client_public: bytes = field(repr=False)
    """The client's static key, 32 bytes: proved in so far as message 1 is no replay, for good by CONFIRM."""
    binding: Binding
    """Which of the acceptable bindings the client saw."""


class ClientOpening:
    """The client's side of one opening.

    ``message1`` is what the codec carries. :class:`StartError` where sealing is wanted and
    ML-KEM-768 is missing; :class:`AuthenticationError` for a bridge key that is no usable point.
    """

    __slots__ = (
        "_answer",
        "_ciphertext",
        "_handshake",
        "_keys",
        "_received",
        "_seal",
        "_send",
        "_unmask",
        "message1",
    )

    def __init__(
        self,
        bridge_public: bytes,
        key: StaticKey,
        codec: str,
        seal: bool,
        binding: Binding,
        hello: Hello,
        rng: Random,
    ) -> None:
        if seal:
            kem.require()
        self._seal = seal
        self._handshake = noise.Initiator(noise.IK, prologue(codec, seal, binding), key, bridge_public)
        payload = hello.serialize()
        nonce = rng.randbytes(NONCE_LENGTH)
        message = self._handshake.write_message(payload + bytes(_padding1(len(payload), rng)), rng)
        mask = mask_of(bridge_public)
        masked = mask.up(nonce).update(message)
        self.message1: bytes = nonce + mask.mac(nonce + masked) + masked
        self._unmask = mask.down(nonce)
        self._received = bytearray()
        self._answer: int | None = None  # length of Noise message 2, once known
        self._ciphertext = b""
        self._send: noise.CipherState | None = None
        self._keys: Keys | None = None

    def receive_data(self, data: Buffer) -> tuple[Answer, memoryview] | None:
        """Feed the first payload bytes down, in any split; None: more are needed.

        Returns the answer and what follows it (a view of ``data``). The bridge is then proved to
        hold its key, ``keys`` is there, and ``confirm()`` is to be sent.
        Raises :class:`AuthenticationError`.
        """
        if self._keys is not None:
            raise LocalProtocolError("opening: the answer has been read")
        view = memoryview(data)
        if self._answer is None:
            view = _fill(self._received, view, _LENGTH)
            if len(self._received) < _LENGTH:
                return None
            self._answer = int.from_bytes(self._unmask.update(bytes(self._received)), "big")
            self._received.clear()
            if not MIN_ANSWER <= self._answer <= MAX_ANSWER:
                raise AuthenticationError("answer: an impossible length")
        view = _fill(self._received, view, self._answer)
        if len(self._received) < self._answer:
            return None
        return self._read_answer(self._unmask.update(bytes(self._received))), view

    def _read_answer(self, message: bytes) -> Answer:
        try:
            payload = self._handshake.read_message(message)
        except AuthenticationError:
            raise AuthenticationError("answer: Noise message 2 does not verify") from None
        answer = Answer.parse(payload, kem.ENCAPSULATION_KEY if self._seal else 0)
        send, receive = self._handshake.split()
        k1, k2, handshake_hash = _key(send), _key(receive), self._handshake.handshake_hash
        keys = Keys(handshake_hash, token_key(k1, k2, handshake_hash))
        if self._seal:
            shared, self._ciphertext = kem.encapsulate(encapsulation_key(payload))
            up, down = seal_keys(k1, k2, handshake_hash, self._ciphertext, shared)
            keys = replace(keys, seal_send=up, seal_receive=down)
        self._send = send
        self._keys = keys
        return answer

    @property
    def keys(self) -> Keys:
        """All keys, once ``receive_data`` has answered."""
        if self._keys is None:
            raise LocalProtocolError("opening: no keys before the answer")
        return self._keys

    def confirm(self) -> bytes:
        """CONFIRM, the first payload bytes up: 16 bytes, with sealing 1104. Once."""
        send, self._send = self._send, None
        if send is None:
            raise LocalProtocolError("opening: CONFIRM is made once, after the answer")
        return send.encrypt_with_ad(self.keys.handshake_hash, self._ciphertext)

    def __repr__(self) -> str:
        return "<ClientOpening>"


class BridgeOpening:
    """The bridge's side of one possible opening; a refused one costs an HMAC.

    ``bindings`` are those acceptable, the likeliest first (current and previous certificate).
    :class:`StartError` where sealing is wanted and ML-KEM-768 is missing.
    """

    __slots__ = (
        "_bindings",
        "_codec",
        "_confirm",
        "_decapsulation_key",
        "_handshake",
        "_key",
        "_keys",
        "_mask",
        "_nonce",
        "_receive",
        "_replay",
        "_seal",
        "_send",
    )

    def __init__(
        self, key: StaticKey, codec: str, seal: bool, bindings: Sequence[Binding], replay: Openings
    ) -> None:
        if seal:
            kem.require()
        self._key = key
        self._codec = codec
        self._seal = seal
        self._bindings = bindings
        self._replay = replay
        self._mask = mask_of(key.public)
        self._nonce = b""
        self._handshake: noise.Responder | None = None
        self._decapsulation_key: kem.DecapsulationKey | None = None
        self._send: noise.CipherState | None = None
        self._receive: noise.CipherState | None = None
        self._confirm = bytearray()
        self._keys: Keys | None = None

    def examine(self, message1: Buffer, unix_now: float) -> PeerHello:
        """Judge a possible message 1, ``unix_now`` being the bridge's clock in seconds since 1970.

        In the order of cost: length, MAC, replay by ephemeral key, Noise under each acceptable
        binding (two DH in all), time and replay for good. Raises :class:`AuthenticationError`.
        """
        if self._nonce:
            raise LocalProtocolError("opening: one object examines one message 1")
        if not MIN_MESSAGE1 <= len(message1) <= MAX_MESSAGE1:
            raise AuthenticationError("opening: not of a possible length")
        message1 = bytes(message1)
        nonce, masked = message1[:NONCE_LENGTH], message1[_HEADER:]
        if not hmac.compare_digest(self._mask.mac(nonce + masked), message1[NONCE_LENGTH:_HEADER]):
            raise AuthenticationError(
                "opening: the MAC does not match (a stranger, or another bridge's client)"
            )
        self._nonce = nonce
        message = self._mask.up(nonce).update(masked)
        if message[: noise.DHLEN] in self._replay:
            raise AuthenticationError(f"opening: {ReplayVerdict.REPLAYED.value}")
        handshake, payload, binding = self._read(message)
        hello = Hello.parse(payload)
        verdict = self._replay.check_and_add(handshake.remote_ephemeral, hello.unix_time, unix_now)
        if verdict is not ReplayVerdict.FRESH:
            raise AuthenticationError(f"opening: {verdict.value}")
        if hmac.compare_digest(handshake.remote_static, self._key.public):
            raise AuthenticationError("opening: made with the bridge's own key")
        self._handshake = handshake
        return PeerHello(hello, handshake.remote_static, binding)

    def _read(self, message: bytes) -> tuple[noise.Responder, bytes, Binding]:
        """Noise message 1 under the first acceptable binding that verifies."""
        key = _RememberingKey(self._key)
        for binding in self._bindings:
            handshake = noise.Responder(noise.IK, prologue(self._codec, self._seal, binding), key)
            try:
                return handshake, handshake.read_message(message), binding
            except AuthenticationError:
                continue
        raise AuthenticationError(
            "opening: Noise message 1 does not verify (another codec, seal, certificate or protocol version)"
        )

    def answer(self, answer: Answer, rng: Random) -> bytes:
        """The first payload bytes down. ``keys`` is there afterwards, its seal keys after CONFIRM."""
        handshake, self._handshake = self._handshake, None
        if handshake is None:
            raise LocalProtocolError("opening: an answer is made once, to an examined message 1")
        if self._seal:
            self._decapsulation_key = kem.DecapsulationKey(rng)
            payload = answer.serialize(self._decapsulation_key.public)
        else:
            payload = answer.serialize()
        message = handshake.write_message(payload + bytes(rng.randint(0, MAX_PADDING_ANSWER)), rng)
        self._send, self._receive = handshake.split()
        handshake_hash = handshake.handshake_hash
        self._keys = Keys(handshake_hash, token_key(_key(self._receive), _key(self._send), handshake_hash))
        return self._mask.down(self._nonce).update(len(message).to_bytes(_LENGTH, "big") + message)

    @property
    def keys(self) -> Keys:
        """The keys, once ``answer`` was made; its seal keys once CONFIRM has verified."""
        if self._keys is None:
            raise LocalProtocolError("opening: no keys before the answer")
        return self._keys

    def receive_confirm(self, data: Buffer) -> memoryview | None:
        """Feed the first payload bytes up, in any split; None: more are needed.

        Returns what follows CONFIRM (a view of ``data``): from here on the client is proved to
        hold its key now. Raises :class:`AuthenticationError`.
        """
        if self._receive is None or self._send is None:
            raise LocalProtocolError("opening: CONFIRM is read once, after the answer")
        length = noise.TAGLEN + (kem.CIPHERTEXT if self._seal else 0)
        rest = _fill(self._confirm, memoryview(data), length)
        if len(self._confirm) < length:
            return None
        keys, receive, send = self.keys, self._receive, self._send
        decapsulation_key, confirm = self._decapsulation_key, bytes(self._confirm)
        # Of no use from here on, while what it made may be kept for a ticket's life.
        self._receive = self._send = self._decapsulation_key = None
        self._confirm.clear()
        try:
            ciphertext = receive.decrypt_with_ad(keys.handshake_hash, confirm)
        except AuthenticationError:
            raise AuthenticationError("confirm: does not verify") from None
        if decapsulation_key is not None:
            shared = decapsulation_key.decapsulate(ciphertext)
            up, down = seal_keys(_key(receive), _key(send), keys.handshake_hash, ciphertext, shared)
            self._keys = replace(keys, seal_send=down, seal_receive=up)
        return rest

    def __repr__(self) -> str:
        return "<BridgeOpening>"


class _RememberingKey:
    """A static key that does each DH once, however many prologues are tried: DHs do not depend on it."""

    __slots__ = ("_key", "_known", "public")

    def __init__(self, key: StaticKey) -> None:
        self._key = key
        self.public = key.public
        self._known: dict[bytes, bytes] = {}

    def exchange(self, public: bytes) -> bytes:
        """The shared secret, computed once for each ``public``."""
        shared = self._known.get(public)
        if shared is None:
            shared = self._known[public] = self._key.exchange(public)
        return shared


def _padding1(length: int, rng: Random) -> int:
    """How many zeros go behind a hello of ``length`` bytes.

    The whole length is drawn, not the padding: it then tells nothing of the hello.
    """
    bare = _MESSAGE1_OVERHEAD + length
    if bare > SHORTEST_MESSAGE1:
        return rng.randint(0, max(SPREAD_MESSAGE1, LONGEST_MESSAGE1 - bare))
    return rng.randint(SHORTEST_MESSAGE1, LONGEST_MESSAGE1) - bare


def _fill(buffer: bytearray, view: memoryview, length: int) -> memoryview:
    """Move bytes from ``view`` until ``buffer`` has ``length``; what is left of the view."""
    missing = length - len(buffer)
    buffer += view[:missing]
    return view[missing:]


def _key(state: noise.CipherState) -> bytes:
    if state.key is None:
        raise LocalProtocolError("Noise: Split always gives keys")
    return state.key
