"""Every error that ptproxy raises on purpose, and the reasons a stream can end with.

    PtproxyError
    ├── LocalProtocolError      our own code asked for something the protocol forbids: a bug
    ├── RemoteProtocolError     the other end broke a rule: the connection or session ends
    │   ├── CodecError          bytes that are not this codec's
    │   ├── SessionError        a frame that session/PROTOCOL.md forbids
    │   ├── FrontError          a local program that speaks neither SOCKS nor HTTP
    │   ├── AuthenticationError an opening, proof or token that does not verify
    │   ├── E2EError            a key, bundle or message between peers that does not verify
    │   └── DhtError            a contact, message or record of the directory that does not verify
    ├── DialError               a target was not reached; carries a :class:`Reason`
    ├── ConfigError             every problem of a configuration at once
    ├── StateError              something we stored is damaged, or of a version that we do not know
    └── StartError              a role cannot start: one line for a person

What a person reads says what happened, to what, and what to do. No message
ever holds a key, a token or payload.
"""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Why a stream ended or was never opened: the code of RESET on the wire (one byte).

    Numbers are part of the wire format (``session/PROTOCOL.md``); an unknown
    number from a newer peer reads as :attr:`GENERAL`.
    """

    CANCELLED = 0
    """The application gave the stream up."""
    GENERAL = 1
    """Anything without a number of its own."""
    NOT_PERMITTED = 2
    """The bridge's egress policy refuses this target."""
    NETWORK_UNREACHABLE = 3
    """No route, or no such address family at the bridge."""
    HOST_UNREACHABLE = 4
    """A router says that the target cannot be reached."""
    REFUSED = 5
    """The target refused the connection."""
    TIMED_OUT = 6
    """The target did not answer in time, or the stream made no progress for too long."""
    NAME_NOT_FOUND = 7
    """The target's name does not resolve."""
    CONNECTION_LOST = 8
    """The target (or local program) broke an open connection."""
    LIMIT = 9
    """A limit of the bridge: streams, buffers, quota."""
    SHUTDOWN = 10
    """The side that says it is stopping."""
    UNSUPPORTED = 11
    """A target kind or service that this bridge does not have."""
    TUNNEL_DOWN = 12
    """Said locally, never on the wire: no bridge could be reached."""
    SESSION_LOST = 13
    """Said locally, never on the wire: the bridge no longer knows the session."""

    @classmethod
    def parse(cls, code: int) -> Reason:
        """The reason for a code from the wire; unknown codes are :attr:`GENERAL`."""
        try:
            return cls(code)
        except ValueError:
            return cls.GENERAL


class PtproxyError(Exception):
    """The root of everything ptproxy raises on purpose."""


class LocalProtocolError(PtproxyError):
    """Our own code asked a protocol object for something it must never do."""


class RemoteProtocolError(PtproxyError):
    """The other end broke a rule; nothing it said since can be relied on."""


class CodecError(RemoteProtocolError):
    """Bytes that are not what this codec's other end would send."""


class SessionError(RemoteProtocolError):
    """A frame that the session rules forbid."""


class FrontError(RemoteProtocolError):
    """A local program that speaks nothing we understand, or speaks it wrongly."""


class AuthenticationError(RemoteProtocolError):
    """An opening, confirmation, proof or token that does not verify."""


class E2EError(RemoteProtocolError):
    """A key, bundle, statement or message between two peers that does not verify; nothing was changed."""


class DhtError(RemoteProtocolError):
    """A contact, message or record of the directory that does not verify; nothing was changed."""


class DialError(PtproxyError):
    """A target was not reached.

    ``reason`` is what a SOCKS or HTTP reply code is made from; the text is for
    the log and holds no address.
    """

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or reason.name.lower().replace("_", " "))
        self.reason = reason


class ConfigError(PtproxyError):
    """A configuration cannot be used; ``problems`` holds one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StateError(PtproxyError):
    """Stored bytes that cannot be used: damaged, or of a version that this program does not know."""


class StartError(PtproxyError):
    """A role cannot start or go on; the text is one line for a person."""


def why(error: OSError) -> str:
    """An operating system error in words, to stand behind what was tried and on what."""
    return (error.strerror or type(error).__name__).lower()
