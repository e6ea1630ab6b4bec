"""Each rule of the session left out in turn: what the walks must catch, and what they cannot and why.

The table of catches, made by ``scripts/walk --mutants``, is MUTANTS.md beside this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mutation import Edit, Mutant, applied


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The session without one rule ("" for the session as it is) while the context lasts."""
    if not name:
        yield
        return
    with applied(MUTANTS[name]):
        yield


def _mutant(
    name: str, left_out: str, *edits: tuple[str, str, str], unseen: str = "", times: int = 1
) -> Mutant:
    """A mutant whose name begins with its rule."""
    rule = name.partition("-")[0].upper()
    return Mutant(name, rule, left_out, tuple(Edit(*edit) for edit in edits), unseen, times)


_BYTES = "receiving.Receiving._receive_bytes"
_CHECK = "receiving.Receiving._check_bytes"
_OPEN = "receiving.Receiving._receive_open"
_EOF = "receiving.Receiving._receive_eof"
_GONE = "ending.Ending._receive_gone"
_RESET = "ending.Ending._receive_reset"
_BEND = "bridge.BridgeSession."
_CEND = "client.ClientSession."

_EFFICIENCY = "efficiency only: everything still arrives"
_BIND_SAYS = "R12's BIND after every noticed death says `received` again and owes a WINDOW"
_CLOSED_BINDS = "CLOSED (R2) makes the client bind by itself; see R14-never"
_ANSWERED_TOO = "the stream's other frames are answered too; see R17-forgotten"
_CROSSING = "two moves and a death inside one round trip"

_RECEIVING = (
    _mutant(
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
    _mutant(
        "R2-refuse",
        "numbers given up are not refused",
        (_BEND + "_check_number", "number in self._dead or", ""),
        times=40,
    ),
    _mutant(
        "R2-alive",
        "ALIVE gives nothing up",
        (_BEND + "attach_carrier", "carrier.number < number and carrier.number not in alive", "False"),
        (_BEND + "attach_carrier", "self._dead.add_range(start, other)", "pass"),
    ),
    _mutant(
        "R3-set",
        "a high-water mark instead of the set of ids seen",
        (
            "state.SessionState._was_seen",
            "number >> 1 in self._seen",
            "bool(self._seen._ends) and number >> 1 < self._seen._ends[-1]",
        ),
    ),
    _mutant(
        "R3-reuse",
        "ids of forgotten streams are used again",
        (
            "session.Session._new_stream",
            "Stream(self, self._next_id,",
            "Stream(self, next(n for n in range(self.first_id, 1 << 30, 2) if n not in self.streams),",
        ),
    ),
    _mutant(
        "R3-own",
        "OPEN with an id of the receiver's is taken",
        (_OPEN, "if self._is_local(number):", "if False:"),
    ),
    _mutant(
        "R4-offsets",
        "DATA goes where the last ended",
        (_BYTES, "received = stream.received", "offset = received = stream.received"),
    ),
    _mutant(
        "R4-eof-offset",
        "EOF's offset is not checked",
        (_EOF, "if final != (stream.received if known is None else known):", "if False:"),
    ),
    _mutant(
        "R4-eof-unit",
        "EOF occupies no unit",
        (_EOF, "stream.received = final + 1", "stream.received = final"),
    ),
    _mutant("R5-gap", "a gap is no error", (_CHECK, "if offset > stream.received:", "if False:")),
    _mutant("R5-credit", "DATA above the limit is taken", (_CHECK, "if end > stream.granted:", "if False:")),
    _mutant("R5-beyond-eof", "bytes after EOF are taken", (_CHECK, "end > stream.peer_final", "False")),
    _mutant(
        "R5-cut-known",
        "what is known is not cut off",
        (_BYTES, "data if offset == received else data[received - offset :]", "data"),
    ),
    _mutant(
        "R6-dial-once",
        "an OPEN of a known stream is dialled",
        (_OPEN, "self._take_limit(stream, limit)", "self._events.append(StreamOpened(stream, data))"),
    ),
    _mutant(
        "R6-forgotten",
        "an OPEN of a forgotten stream is dialled",
        (_OPEN, "elif self._was_seen(number):", "elif False:"),
    ),
    _mutant(
        "R6-reset-marks",
        "RESET of an unseen id does not mark it seen",
        ("ending.Ending._see_reset", "self._mark_seen(number)", "pass"),
        times=10,
    ),
    _mutant("R6-repeated-data", "first data of a repeated OPEN is dropped", (_OPEN, "if data:", "if False:")),
    _mutant(
        "R7-limit-max",
        "a lower limit overwrites a higher one",
        ("credit.Credit._take_limit", "limit > stream.limit", "limit != stream.limit"),
        unseen="a stale WINDOW is followed by a newer one nearly always",
        times=10,
    ),
    _mutant(
        "R7-received-max",
        "a lower acknowledgement overwrites a higher one",
        (
            "credit.Credit._take_received",
            "if received <= stream.acknowledged:",
            "if received <= stream.acknowledged:\n        stream.acknowledged = received",
        ),
        times=10,
    ),
    _mutant(
        "R7-unsent",
        "an acknowledgement of what was never sent is taken",
        ("credit.Credit._take_window", "if received > stream.high:", "if False:"),
    ),
    _mutant(
        "R8-reading",
        "`received` is what the application has read",
        (
            "credit.Credit._window_to_say",
            "return stream.received, stream.granted",
            "return (stream.received if stream.read == stream.peer_final else stream.read), stream.granted",
        ),
    ),
    _mutant(
        "R8-late",
        "no WINDOW after 100 ms",
        ("credit.Credit._acknowledge_late", "self._window_due(stream)", "pass"),
    ),
    _mutant(
        "R8-soon",
        "no WINDOW before 100 ms",
        (_BYTES, "if stream.received - stream.said_received >= stream.ack_step:", "if False:"),
        unseen=_EFFICIENCY,
    ),
    _mutant(
        "R9-own-carrier",
        "a WINDOW is owed on the stream's carrier, not where the bytes came",
        ("credit.Credit._note_debt", "|= carrier.bit", "|= self.carriers.get(stream.carrier, carrier).bit"),
        unseen=_BIND_SAYS,
        times=10,
    ),
    _mutant(
        "R9-said-again",
        "the last WINDOW said on a carrier that dies is not said again",
        ("credit.Credit._move_debt", "(stream.debts | stream.said)", "stream.debts"),
        unseen=_BIND_SAYS,
        times=10,
    ),
    _mutant(
        "R9-owed-again",
        "an owed WINDOW dies with its carrier",
        ("credit.Credit._move_debt", "(stream.debts | stream.said)", "stream.said"),
        unseen=_BIND_SAYS,
        times=10,
    ),
    _mutant(
        "R9-both-again",
        "neither is said again",
        ("credit.Credit._move_debt", "return bool(lost)", "return False"),
        unseen=_BIND_SAYS,
        times=10,
    ),
    _mutant(
        "R9-several",
        "a WINDOW on one carrier pays the debts on all",
        ("credit.Credit._window_to_say", "stream.debts &= ~carrier.bit", "stream.debts = 0"),
        (
            "sending.Sending._say_windows",
            "del windows[number]",
            "[c.windows.pop(number, None) for c in self.carriers.values()]",
        ),
        times=20,
    ),
)

_SENDING = (
    _mutant(
        "R5-sender",
        "a sender heeds no limit",
        ("sending.Sending._send_from", "min(buffer.end, stream.limit)", "buffer.end"),
    ),
    _mutant(
        "R11-open",
        "an unacknowledged OPEN is not repeated",
        ("state.SessionState._rewind", "stream.open_sent = False", "pass"),
    ),
    _mutant(
        "R11-bytes",
        "unacknowledged bytes are not repeated",
        ("state.SessionState._rewind", "stream.sent = stream.acknowledged", "pass"),
    ),
    _mutant(
        "R12-client-rewind",
        "a client that binds does not go back to the acknowledged offset",
        (_CEND + "_rebind", "self._rewind(stream)", "stream.draining = 0"),
    ),
    _mutant(
        "R12-bridge-rewind",
        "a bridge that follows does not go back to the acknowledged offset",
        (_BEND + "_follow", "self._rewind(stream)", "stream.draining = 0"),
    ),
    _mutant(
        "R12-follow",
        "the bridge follows no BIND while its carrier lives",
        (_BEND + "_is_newer", "generation > stream.generation", "False"),
    ),
    _mutant(
        "R12-generation",
        "the bridge follows any generation",
        (_BEND + "_is_newer", "generation > stream.generation", "True"),
        unseen="it only spares flapping",
    ),
    _mutant(
        "R12-latest",
        "a BIND owed on a carrier that the stream has left says the latest generation",
        ("sending.Sending._say_binds", "- (stream.carrier != carrier.number)", ""),
        unseen="once in 200,000 walks",
    ),
    _mutant(
        "R12-window",
        "BIND owes no WINDOW",
        (_BEND + "_receive_bind", "self._owe_window(stream, carrier)", "pass"),
        times=4,
    ),
    _mutant(
        "R12-jump",
        "`sent` does not jump to an acknowledgement beyond it",
        ("credit.Credit._take_received", "stream.sent = max(stream.sent, received)", "pass"),
    ),
    _mutant(
        "R13-absence",
        "a stream without a carrier that the first BIND does not name is forgotten",
        (
            _BEND + "_receive_bind",
            "stream = self._stream(number)",
            (
                "homeless = [s for s in self.streams.values() if s.carrier is None and s.id != number]\n"
                "    [self._forget(s) for s in homeless]; stream = self._stream(number)"
            ),
        ),
    ),
    _mutant(
        "R14-ask",
        "a bridge never asks",
        (_BEND + "_want_bind", "delay = self.limits.ask_delay", "return"),
        unseen=_CLOSED_BINDS,
        times=10,
    ),
    _mutant(
        "R14-never",
        "a bridge asks neither for a BIND nor by the safety net",
        (_BEND + "_want_bind", "delay = self.limits.ask_delay", "return"),
        (_BEND + "_ask_everywhere", "carrier.asks[stream.id] = None", "pass"),
        (_BEND + "_ask", "carrier = self._choose_carrier()", "return"),
        times=4,
    ),
    _mutant(
        "R14-answer",
        "ASK is not answered",
        (_CEND + "_receive_ask", "self._answer_ask(stream, carrier, now)", "pass"),
        unseen=_CLOSED_BINDS,
        times=10,
    ),
    _mutant(
        "R14-voluntary",
        "a voluntary move while a BIND is owed",
        (_CEND + "_may_move", "or stream.binds", ""),
        unseen=_CROSSING,
        times=10,
    ),
    _mutant(
        "R14-again",
        "no question again when the carrier of the question dies",
        (_BEND + "_give_up", "if asked == carrier.number:", "if False:"),
        unseen=_CLOSED_BINDS,
        times=10,
    ),
    _mutant(
        "R14-attach",
        "no question when a carrier attaches",
        (_BEND + "attach_carrier", "if stream.carrier is None:", "if False:"),
    ),
    _mutant(
        "R15-silent",
        "a draining sender does not wait",
        ("state.SessionState._sendable", "stream.draining or", ""),
    ),
    _mutant(
        "R15-second-client",
        "no rewind on a client's second move while draining",
        (_CEND + "drain", "or stream.draining", ""),
        times=4,
    ),
    _mutant(
        "R15-second-bridge",
        "no rewind on a bridge's second move while draining",
        (_BEND + "_follow", "and not stream.draining", ""),
        unseen=_CROSSING,
        times=10,
    ),
    _mutant(
        "R15-death",
        "no rewind when the old carrier dies while draining",
        ("session.Session._drain_broken", "self._rewind(stream)", "stream.draining = 0"),
        times=4,
    ),
)

_ENDING = (
    _mutant(
        "R16-tombstone",
        "no tombstone stays after RESET was said",
        ("sending.Sending._say_endings", "tombstone.said |= carrier.bit", "del self.tombstones[number]"),
    ),
    _mutant(
        "R16-repeat",
        "RESET is not said again when its carrier dies",
        ("ending.Ending._repeat_reset", "if lost or tombstone.id in dead.resets:", "if False:"),
    ),
    _mutant(
        "R16-answer",
        "a tombstone answers BIND, ASK, EOF with GONE",
        ("ending.Ending._answer_forgotten", "if tombstone is None:", "if True:"),
    ),
    _mutant(
        "R16-gone",
        "RESET is not answered",
        (_RESET, "self._owe_gone(carrier, number)", "pass"),
    ),
    _mutant(
        "R16-clean",
        "a RESET after both EOFs is told",
        ("ending.Ending._end_by_reset", "if stream.finished:", "if False:"),
        unseen="a RESET that crosses the last acknowledgement, of a stream with a WINDOW owed",
        times=10,
    ),
    _mutant(
        "R17-gone-answered",
        "GONE of a forgotten stream is answered by GONE",
        (_GONE, "if stream is None:", "if stream is None:\n        self._owe_gone(carrier, number)"),
    ),
    _mutant(
        "R17-gone-acknowledges",
        "GONE does not stand for the last acknowledgement",
        (_GONE, "self._take_received(stream, final + 1, now)", "pass"),
        times=4,
    ),
    _mutant(
        "R17-gone-mid-life",
        "GONE of a living stream is no error",
        (_GONE, 'raise SessionError("GONE of a stream in mid-life")', "return"),
    ),
    _mutant(
        "R17-eof",
        "EOF of a forgotten stream is not answered",
        (_EOF, "self._answer_forgotten(carrier, number)", "pass"),
        unseen=_ANSWERED_TOO,
        times=4,
    ),
    _mutant(
        "R17-bind",
        "BIND of a forgotten stream is not answered",
        (_BEND + "_receive_bind", "self._answer_forgotten(carrier, number)", "pass"),
        unseen=_ANSWERED_TOO,
        times=4,
    ),
    _mutant(
        "R17-ask",
        "ASK of a forgotten stream is not answered",
        (_CEND + "_receive_ask", "self._answer_forgotten(carrier, number)", "pass"),
        times=4,
    ),
    _mutant(
        "R17-open",
        "OPEN of a forgotten stream is not answered",
        (_OPEN, "self._answer_forgotten(carrier, number)", "pass"),
        unseen=_ANSWERED_TOO,
        times=4,
    ),
    _mutant(
        "R17-forgotten",
        "nothing of a forgotten stream is answered",
        ("ending.Ending._answer_forgotten", "self._owe_gone(carrier, number)", "return"),
    ),
    _mutant(
        "R17-unseen",
        "frames for streams that never were are ignored",
        (
            "state.SessionState._stream",
            'raise SessionError("frame for a stream that never was")',
            "return None",
        ),
    ),
    _mutant(
        "R18-acknowledged",
        "a stream is forgotten before its EOF is acknowledged",
        ("credit.Credit._both_ended", "and stream.acknowledged == final + 1", "and stream.sent == final + 1"),
    ),
    _mutant(
        "R18-window",
        "a stream is forgotten with a WINDOW owed",
        ("credit.Credit._forget_if_over", "and not stream.debts", ""),
    ),
    _mutant(
        "R18-bind",
        "a stream is forgotten with a BIND owed",
        ("credit.Credit._forget_if_over", "and not stream.binds", ""),
        unseen="a question (R14) about a forgotten stream is answered by GONE (R17)",
        times=4,
    ),
    _mutant(
        "R19-replay",
        "every OPEN is replayed",
        (_CEND + "_ever_left", "return stream.open_left", "return False"),
    ),
    _mutant(
        "R19-carry",
        "no OPEN is carried over",
        (_CEND + "_ever_left", "return stream.open_left", "return True"),
    ),
)

_REASONED = (
    _mutant(
        "R10-ready",
        "what is owed does not make its carrier ready",
        ("state.SessionState._mark", "self.ready.add(carrier.number)", "pass"),
    ),
    _mutant(
        "R20-suspect",
        "the client suspects no carrier",
        (_CEND + "_suspect", "carrier.suspect = True", "return"),
    ),
    _mutant(
        "R21-share",
        "a stream may retain whatever the peer's limit allows",
        (
            "credit.Credit._stream_share",
            "free = self.account.share() - self.account.retained",
            "return 1 << 60",
        ),
    ),
    _mutant(
        "R21-told",
        "nobody is told of room that comes back",
        ("credit.Credit._unblock", "if self.stream_room(stream) > 0:", "if False:"),
    ),
    _mutant(
        "R22-budget",
        "windows grow above the receive budget",
        (
            "credit.Credit._resize_window",
            "if self._windows + larger - window <= limits.receive_budget:",
            "if True:",
        ),
    ),
    _mutant(
        "R23-oldest",
        "datagrams are dropped when the queue is full: the newest",
        ("credit.Credit._next_datagram", "popleft()", "pop()"),
        unseen="unreliable anyway",
    ),
    _mutant(
        "R25-session",
        "streams are taken after GOAWAY",
        ("receiving.Receiving._refusal", "if self._goaway_sent:", "if False:"),
        unseen="a peer may have opened before it heard",
    ),
    _mutant(
        "R27-order",
        "bulk before interactive",
        ("sending.Sending._next_stream", "carrier.interactive_run < turn", "False"),
        unseen="order between streams is no matter of correctness",
    ),
)

MUTANTS = {mutant.name: mutant for mutant in (*_RECEIVING, *_SENDING, *_ENDING, *_REASONED)}
"""Every mutant by its name."""
