"""R2 to R9 left out: carriers, ids, offsets, what arrives, what is acknowledged."""

from __future__ import annotations

from mutation import mutant

_BYTES = "receiving.Receiving._receive_bytes"
_CHECK = "receiving.Receiving._check_bytes"
_OPEN = "receiving.Receiving._receive_open"
_EOF = "receiving.Receiving._receive_eof"
_BEND = "bridge.BridgeSession."
_CEND = "client.ClientSession."

RECEIVING = (
    mutant(
        "R2-closed",
        "CLOSED is not said",
        ("session.Session._new_carrier", "if other > number:", "if False:"),
        ("session.Session._announce_closed", "in self.carriers.values():", "in ():"),
        (
            _CEND + "attach_carrier",
            "if other not in self.carriers and other not in self._pending:",
            "if False:",
        ),
    ),
    mutant(
        "R2-refuse",
        "numbers given up are not refused",
        (_BEND + "_check_number", "number in self._dead or", ""),
    ),
    mutant(
        "R2-alive",
        "ALIVE gives nothing up",
        (_BEND + "attach_carrier", "carrier.number < number and carrier.number not in alive", "False"),
        (_BEND + "attach_carrier", "self._dead.add_range(start, other)", "pass"),
    ),
    mutant(
        "R3-set",
        "a high-water mark instead of the set of ids seen",
        (
            "state.SessionState._was_seen",
            "number >> 1 in self._seen",
            "bool(self._seen._ends) and number >> 1 < self._seen._ends[-1]",
        ),
    ),
    mutant(
        "R3-reuse",
        "ids of forgotten streams are used again",
        (
            "session.Session._new_stream",
            "Stream(self, self._next_id,",
            "Stream(self, next(n for n in range(self.first_id, 1 << 30, 2) if n not in self.streams),",
        ),
    ),
    mutant(
        "R3-own",
        "OPEN with an id of the receiver's is taken",
        (_OPEN, "if self._is_local(number):", "if False:"),
    ),
    mutant(
        "R4-offsets",
        "DATA goes where the last ended",
        (_BYTES, "received = stream.received", "offset = received = stream.received"),
    ),
    mutant(
        "R4-eof-offset",
        "EOF's offset is not checked",
        (_EOF, "if final != (stream.received if known is None else known):", "if False:"),
    ),
    mutant(
        "R4-eof-unit",
        "EOF occupies no unit",
        (_EOF, "stream.received = final + 1", "stream.received = final"),
    ),
    mutant("R5-gap", "a gap is no error", (_CHECK, "if offset > stream.received:", "if False:")),
    mutant("R5-credit", "DATA above the limit is taken", (_CHECK, "if end > stream.granted:", "if False:")),
    mutant("R5-beyond-eof", "bytes after EOF are taken", (_CHECK, "end > stream.peer_final", "False")),
    mutant(
        "R5-cut-known",
        "what is known is not cut off",
        (_BYTES, "data if offset == received else data[received - offset :]", "data"),
    ),
    mutant(
        "R5-sender",
        "a sender heeds no limit",
        ("sending.Sending._send_from", "end, limit = buffer.end, stream.limit", "end = limit = buffer.end"),
    ),
    mutant(
        "R6-dial-once",
        "an OPEN of a known stream is dialled",
        (_OPEN, "self._take_limit(stream, limit)", "self._events.append(StreamOpened(stream, data))"),
    ),
    mutant(
        "R6-forgotten",
        "an OPEN of a forgotten stream is dialled",
        (_OPEN, "elif self._was_seen(number):", "elif False:"),
    ),
    mutant(
        "R6-reset-marks",
        "RESET of an unseen id does not mark it seen",
        ("ending.Ending._see_reset", "self._mark_seen(number)", "pass"),
    ),
    mutant("R6-repeated-data", "first data of a repeated OPEN is dropped", (_OPEN, "if data:", "if False:")),
    mutant(
        "R7-limit-max",
        "a lower limit overwrites a higher one",
        ("credit.Credit._take_limit", "limit > stream.limit", "limit != stream.limit"),
    ),
    mutant(
        "R7-open-limit",
        "a limit that a repeated OPEN raises wakes nobody",
        (_OPEN, "self._wake(stream, now)", "pass"),
        (_OPEN, "if stream.final is None:", "if False:"),
    ),
    mutant(
        "R7-received-max",
        "a lower acknowledgement overwrites a higher one",
        (
            "credit.Credit._take_received",
            "if received <= stream.acknowledged:",
            "if received <= stream.acknowledged:\n        stream.acknowledged = received",
        ),
    ),
    mutant(
        "R7-unsent",
        "an acknowledgement of what was never sent is taken",
        ("credit.Credit._take_window", "if received > stream.high:", "if False:"),
    ),
    mutant(
        "R8-reading",
        "`received` is what the application has read",
        (
            "credit.Credit._window_to_say",
            "return stream.received, stream.granted",
            "return (stream.received if stream.read == stream.peer_final else stream.read), stream.granted",
        ),
    ),
    mutant(
        "R8-late",
        "no WINDOW after 100 ms",
        ("credit.Credit._acknowledge_late", "self._window_due(stream)", "pass"),
    ),
    mutant(
        "R8-soon",
        "no WINDOW before 100 ms",
        (_BYTES, "if stream.received - stream.said_received >= stream.ack_step:", "if False:"),
    ),
    mutant(
        "R9-own-carrier",
        "a WINDOW is owed on the stream's carrier, not where the bytes came",
        ("credit.Credit._note_debt", "|= carrier.bit", "|= self.carriers.get(stream.carrier, carrier).bit"),
    ),
    mutant(
        "R9-said-again",
        "the last WINDOW said on a carrier that dies is not said again",
        ("credit.Credit._move_debt", "(stream.debts | stream.said)", "stream.debts"),
    ),
    mutant(
        "R9-owed-again",
        "an owed WINDOW dies with its carrier",
        ("credit.Credit._move_debt", "(stream.debts | stream.said)", "stream.said"),
        times=10,
    ),
    mutant(
        "R9-both-again",
        "neither is said again",
        ("credit.Credit._move_debt", "return bool(lost)", "return False"),
    ),
    mutant(
        "R9-several",
        "a WINDOW on one carrier pays the debts on all",
        ("credit.Credit._window_to_say", "stream.debts &= ~carrier.bit", "stream.debts = 0"),
        (
            "sending.Sending._say_windows",
            "del windows[number]",
            "[c.windows.pop(number, None) for c in self.carriers.values()]",
        ),
    ),
)
