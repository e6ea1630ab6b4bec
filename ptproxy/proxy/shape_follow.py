"""How a client follows its bridge's shape: asked for over a service, verified, kept, applied.

What a bridge pushes (``shape_push.py`` says how) is taken when the key that the
bridge told in its authenticated answer has signed it, it is good now, and its
number is not lower than that of the last one. A push can only choose within the
limits of :mod:`ptproxy.codec.shape`. The last good one is kept, for the carriers
of the next start; without one the built-in default holds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from typing import Any, Final

from ptproxy.auth.credentials import decode_key, encode_key
from ptproxy.auth.signed import MAX_SIGNED, SignedDocument, verify
from ptproxy.buffer import Buffer
from ptproxy.codec.shape import Shape
from ptproxy.errors import AuthenticationError, DialError, Reason, RemoteProtocolError, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.documents import KeptDocument
from ptproxy.proxy.shape_files import built_in
from ptproxy.proxy.shape_push import KIND
from ptproxy.target import Target
from ptproxy.tunnel.recognise import SHAPE_SERVICE
from ptproxy.tunnel.shaped_dial import ShapedDialer

AGAIN: Final = (5.0, 15.0)
"""Seconds until a stream that has ended is opened again, doubled while that fails ..."""
LOOK_EVERY: Final = 1.0
"""Seconds between looks whether there is a carrier, before the service is asked for."""
AGAIN_MOST: Final = 3600.0
""" ... up to this; at once for a bridge that has no such service."""

log = get_logger(__name__)


class PushReader:
    """Cuts the service's stream into pushes."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: Buffer) -> list[bytes]:
        """The signed documents that are complete. Raises :class:`RemoteProtocolError`."""
        self._buffer += data
        found = []
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if not 0 < length <= MAX_SIGNED:
                raise RemoteProtocolError("a push of an impossible length")
            if len(self._buffer) < 4 + length:
                break
            found.append(bytes(self._buffer[4 : 4 + length]))
            del self._buffer[: 4 + length]
        return found


class KeptShape:
    """The last push of one bridge, on disk."""

    def __init__(self, document: KeptDocument, bridge: bytes) -> None:
        """``bridge`` is its static public key."""
        self._document = document
        self._bridge = bridge
        self.sequence = 0
        self._signed = b""

    def load(self, unix_now: float) -> Shape | None:
        """The shape to begin with: the kept one, else the built-in default."""
        try:
            kept = self._document.read() or {}
            if kept.get("bridge") != encode_key(self._bridge):
                return built_in()
            signed = base64.b64decode(kept["signed"], validate=True)
            key = decode_key(kept["signing_key"])
            self.sequence = int(kept["sequence"])
            document = verify(signed, KIND, key, self._bridge, unix_now)
            self._signed = signed
            return read_body(document)
        except StartError as error:
            log.warning("the kept shape is not used", why=str(error))
        except (RemoteProtocolError, KeyError, TypeError, ValueError, OverflowError) as error:
            log.info("the kept shape is not used", why=str(error) or "it is damaged")
        return built_in()

    def take(self, signed: bytes, signing_key: bytes, unix_now: float) -> Shape | None:
        """The shape in a push, which is kept from now on; None for "no shape".

        Raises :class:`RemoteProtocolError` for one that is not to be taken.
        """
        document = verify(signed, KIND, signing_key, self._bridge, unix_now)
        same = document.sequence == self.sequence and signed == self._signed
        if document.sequence <= self.sequence and not same:
            raise AuthenticationError("push: older than the one that is known")
        shape = read_body(document)
        if document.sequence > self.sequence:
            self.sequence, self._signed = document.sequence, signed
            self._keep(signed, signing_key)
        return shape

    def _keep(self, signed: bytes, signing_key: bytes) -> None:
        try:
            self._document.write(
                {
                    "bridge": encode_key(self._bridge),
                    "signing_key": encode_key(signing_key),
                    "sequence": self.sequence,
                    "signed": base64.b64encode(signed).decode("ascii"),
                }
            )
        except StartError as error:
            log.warning("the pushed shape is not kept", why=str(error))


def read_body(document: SignedDocument) -> Shape | None:
    """The shape that a document holds, None for "no shape"; :class:`RemoteProtocolError` for neither."""
    try:
        body = json.loads(document.body)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("push: no JSON") from None
    if not isinstance(body, dict) or "shape" not in body:
        raise RemoteProtocolError("push: it holds no shape")
    return Shape.parse(body["shape"]) if body["shape"] is not None else None


class ShapeFollower:
    """Keeps the service's stream open and a dialer up to date."""

    def __init__(self, dialer: ShapedDialer, kept: KeptShape) -> None:
        self._dialer = dialer
        self._kept = kept
        self._rng = random.SystemRandom()
        self._task: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow from now on."""
        self._task = loop.create_task(self._follow())

    async def stop(self) -> None:
        """Follow no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        wait = 1.0
        while True:
            while not self._dialer.tunnel.carriers:  # noqa: ASYNC110  (a carrier is for somebody: not for this)
                await asyncio.sleep(LOOK_EVERY)
            stream = _Pushes(self)
            try:
                transport = await self._dialer.dial(Target.service(SHAPE_SERVICE), stream)
            except DialError as error:
                wait = AGAIN_MOST if error.reason is Reason.UNSUPPORTED else min(2 * wait, AGAIN_MOST)
            else:
                wait = 1.0
                try:
                    await stream.over
                finally:
                    transport.abort()
            await asyncio.sleep(min(wait * self._rng.uniform(*AGAIN), AGAIN_MOST))

    def pushed(self, signed: bytes) -> None:
        """Apply a push; one that is not to be taken changes nothing."""
        tunnel = self._dialer.tunnel
        try:
            shape = self._kept.take(signed, tunnel.signing_key, time.time() + tunnel.clock_offset)
        except RemoteProtocolError as error:
            log.warning("the bridge's shape is not taken", why=str(error))
            return
        if shape != self._dialer.shape:
            log.info("shape taken from the bridge", shape=shape.name if shape else "none")
            self._dialer.set_shape(shape)


class _Pushes(asyncio.Protocol):
    """The service's stream at the client."""

    def __init__(self, follower: ShapeFollower) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._follower = follower
        self._reader = PushReader()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = transport

    def data_received(self, data: Buffer) -> None:
        """Pushes, whole or in pieces."""
        try:
            for signed in self._reader.receive_data(data):
                self._follower.pushed(signed)
        except RemoteProtocolError as error:
            log.warning("the bridge's shape is not taken", why=str(error))
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, for whatever reason."""
        del exc
        if not self.over.done():
            self.over.set_result(None)
