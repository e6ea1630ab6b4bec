"""Why something of a stream is refused.

    E2EError
    └── StreamError
        ├── StreamSignalError    a signal that this program does not know: ignored
        ├── MeetingError         bytes on a meeting that do not verify: the meeting is over, the stream is not
        │   └── TurnsApartError  the two know no common turn at this moment: meet again
        └── StreamRuleError      the peer itself has broken a rule of STREAM.md: the stream is over

The difference matters: whoever carries a meeting can break it, and nothing more; only the peer can
end the stream.
"""

from __future__ import annotations

from ptproxy.errors import E2EError


class StreamError(E2EError):
    """Something of a stream was refused."""


class StreamSignalError(StreamError):
    """Not a signal, or one of a later version."""


class MeetingError(StreamError):
    """Altered, cut, reflected or foreign bytes; nothing that the stream has was changed by them."""


class TurnsApartError(MeetingError):
    """The ratchets' turns have no secret in common just now: messages are on their way."""


class StreamRuleError(StreamError):
    """It verified, and breaks a rule: the program at the other end is faulty or hostile."""
