"""What goes wrong with a stream, as programs expect it from a network: an ``OSError`` that says why.

Both are :class:`~ptproxy.errors.DialError` too: ``error.reason`` is the far side's own word, ``error.errno``
the number that a direct connection would have failed with.
"""

from __future__ import annotations

import errno
from typing import Final

from ptproxy.errors import DialError, Reason

ERRNO: Final = {
    Reason.NOT_PERMITTED: errno.EACCES,
    Reason.NETWORK_UNREACHABLE: errno.ENETUNREACH,
    Reason.HOST_UNREACHABLE: errno.EHOSTUNREACH,
    Reason.REFUSED: errno.ECONNREFUSED,
    Reason.TIMED_OUT: errno.ETIMEDOUT,
    Reason.CONNECTION_LOST: errno.ECONNRESET,
    Reason.UNSUPPORTED: errno.EOPNOTSUPP,
    Reason.TUNNEL_DOWN: errno.ENETDOWN,
}
"""The number of each reason that has one."""


class ConnectError(DialError, ConnectionError):
    """A target was not reached, or the tunnel does not stand."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(reason, text)
        self.errno = ERRNO.get(reason)

    @classmethod
    def of(cls, error: DialError) -> ConnectError:
        """The same failure as a dialer tells it."""
        return cls(error.reason, str(error))


class StreamLostError(DialError, ConnectionResetError):
    """An open stream was broken off: what was read is not the whole."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(reason, text)
        self.errno = ERRNO.get(reason, errno.ECONNRESET)
