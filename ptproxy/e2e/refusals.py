"""Refusals that a caller tells apart; every other one is a plain :class:`~ptproxy.errors.E2EError`."""

from __future__ import annotations

from ptproxy.errors import E2EError


class IdentityChangedError(E2EError):
    """A bundle of another identity than the one expected: stop sending until the person has decided."""


class ExpiredError(E2EError):
    """A bundle or one-time prekey past its time: its owner was away, or the mailbox keeps old ones."""


class UnknownPrekeyError(E2EError):
    """A first message to a prekey that is not here: used, deleted, or made by a state since restored."""


class KnownOpeningError(E2EError):
    """A first message whose opening was accepted before.

    ``key`` (16 bytes) names the session that it began: the ratchet's message in it belongs
    there, where a copy is refused. Where that session is gone, so is the message's use.
    """

    def __init__(self, key: bytes) -> None:
        super().__init__("first message: its opening was accepted before")
        self.key = key
