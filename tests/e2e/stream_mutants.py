"""Rules of streams, each left out in turn: a walk that does not notice shows nothing."""

import contextlib
from unittest import mock

from ptproxy.e2e.stream import Summons
from ptproxy.e2e.stream.meeting import Meeting
from ptproxy.e2e.stream.receiving import Incoming
from ptproxy.e2e.stream.records import Opener, Sealer
from ptproxy.e2e.stream.sending import Outgoing
from ptproxy.e2e.stream.stream import SealedStream


def _no_rewind(self):
    self.waiting = False


def _waits_never(self):
    self.sent = self.acknowledged
    self.waiting = False


def _no_window_at_meetings(self):
    pass


def _due_by_bytes_alone(self, now):
    since = self._owed_since
    return self._urgent or (since is not None and now >= since + 0.1)


def _eof_not_counted(self, final):
    Incoming_take_end(self, final)
    self.received = final


def _same_number(self):
    self.meeting = None
    self._expecting_since = None


def _never_summoned(self, number):
    return Summons.COME if number == self.number else None


def _no_switch(self, key):
    self._cipher = type(self._cipher)(key)


def _counter_stays(self, parts, length, size):
    record = Sealer_seal(self, parts, length, size)
    self.records = max(0, self.records - 1) if self.records % 5 == 4 else self.records
    return record


def _switches_at_once(self, rekey):
    frame, keys = Meeting_accept(self, rekey)
    if keys is not None:
        self._sealer = Sealer(keys.of(self.role))
    return frame, keys


def _forgets_reset(self, turns, now, rng):
    said = self._reset_said
    SealedStream_begin(self, turns, now, rng)
    self._reset_said = said


Incoming_take_end = Incoming.take_end
SealedStream_begin = SealedStream.begin_meeting
Sealer_seal = Sealer.seal
Meeting_accept = Meeting._accept

MUTANTS = {
    "S1 nothing is sent again": (Outgoing, "meet", _no_rewind),
    "S2 credit is not kept to": (Outgoing, "pending", lambda self: max(0, self._buffer.end - self.sent)),
    "S3 nobody waits for the word": (Outgoing, "meet", _waits_never),
    "C2 the end is not acknowledged": (Incoming, "take_end", _eof_not_counted),
    "C3 no WINDOW in a new meeting": (Incoming, "meet", _no_window_at_meetings),
    "C3 no WINDOW for what was read": (Incoming, "due", _due_by_bytes_alone),
    "a lost meeting's number again": (SealedStream, "end_meeting", _same_number),
    "a higher number is not followed": (SealedStream, "summoned", _never_summoned),
    "the counter goes on over new keys": (Opener, "switch", _no_switch),
    "a record's number comes twice": (Sealer, "seal", _counter_stays),
    "REKEYED under the new key": (Meeting, "_accept", _switches_at_once),
    "RESET once, whatever the meeting": (SealedStream, "begin_meeting", _forgets_reset),
}


@contextlib.contextmanager
def mutated(name):
    owner, attribute, replacement = MUTANTS[name]
    with mock.patch.object(owner, attribute, replacement):
        yield
