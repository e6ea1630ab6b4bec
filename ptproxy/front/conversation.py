"""What every conversation with a local program looks like: its events and its interface.

A conversation takes the bytes that a program sent and gives the bytes to answer
it with. It never dials: it says what is wanted and is told how that went::

    conversation = recognise(first_byte)(users)
    events = conversation.receive_data(data)          # raises FrontError: answer, then close
    transport.write(conversation.data_to_send())
    …TargetRequested: dial, then conversation.send_accepted() or send_refused(reason)

Call order for the three kinds of request:

- :class:`TargetRequested`: a tunnel. Once ``send_accepted`` has been called and
  drained, bytes pass both ways untouched: couple the two ends and drop the
  conversation.
- :class:`AssociationRequested`: datagrams. ``send_accepted(host, port)`` names
  the UDP socket; the connection then stays open and silent until either side
  ends it, and the association with it.
- :class:`OriginRequested`: one HTTP exchange with an origin server. The
  conversation stays between the two ends: what the origin says goes into
  ``receive_reply``. The next request may want another origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ptproxy.buffer import Buffer
from ptproxy.errors import Reason
from ptproxy.front.users import Users
from ptproxy.target import Target


@dataclass(slots=True)
class TargetRequested:
    """Dial ``target``; ``first_data`` came behind the request and may travel with it."""

    target: Target
    first_data: bytes


@dataclass(slots=True)
class AssociationRequested:
    """Open a UDP association. ``port`` is the one the program will send from, 0 if it did not say."""

    port: int


@dataclass(slots=True)
class OriginRequested:
    """Dial an HTTP origin server; ``first_data`` is the head of the request for it."""

    target: Target
    first_data: bytes


@dataclass(slots=True)
class PayloadReceived:
    """Bytes for the target, in order; ``data`` may be a view that is valid during the call only."""

    data: Buffer


@dataclass(slots=True)
class ReplyReceived:
    """Bytes for the local program, in order; ``data`` may be a view that is valid during the call only."""

    data: Buffer


@dataclass(slots=True)
class OriginReleased:
    """The stream to the origin server is not wanted any more: close it."""


@dataclass(slots=True)
class ReplyBroken:
    """The origin's reply broke off in the middle: reset the local connection, lest it looks complete."""


Event = (
    TargetRequested
    | AssociationRequested
    | OriginRequested
    | PayloadReceived
    | ReplyReceived
    | OriginReleased
    | ReplyBroken
)


class Conversation(Protocol):
    """One local connection's conversation, up to where bytes pass untouched."""

    closing: bool
    """True once the connection is to be closed as soon as ``data_to_send()`` is flushed."""

    def __init__(self, users: Users | None = None) -> None:
        """``users``: who may ask; None lets everybody."""

    def receive_data(self, data: Buffer) -> list[Event]:
        """Feed what the program sent, however it is split.

        Raises :class:`~ptproxy.errors.FrontError` for what cannot be
        understood; ``data_to_send()`` then holds the answer, if the protocol
        has one, and ``closing`` is set.
        """

    def receive_eof(self) -> list[Event]:
        """The program will send no more; without a request under way, ``closing`` is set. Raises as above."""

    def send_accepted(self, host: str = "0.0.0.0", port: int = 0) -> None:
        """The far side has answered. ``host``, ``port``: where an association's datagrams go."""

    def send_refused(self, reason: Reason) -> None:
        """What was asked for cannot be had."""

    def data_to_send(self) -> bytes:
        """Drain the answers for the program."""
