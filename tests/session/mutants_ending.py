"""R16 to R19 left out: resets, forgotten streams, lost sessions."""

from __future__ import annotations

from mutation import mutant

_OPEN = "receiving.Receiving._receive_open"
_EOF = "receiving.Receiving._receive_eof"
_GONE = "ending.Ending._receive_gone"
_RESET = "ending.Ending._receive_reset"
_BEND = "bridge.BridgeSession."
_CEND = "client.ClientSession."

ENDING = (
    mutant(
        "R16-tombstone",
        "no tombstone stays after RESET was said",
        ("sending.Sending._say_endings", "tombstone.said |= carrier.bit", "del self.tombstones[number]"),
    ),
    mutant(
        "R16-repeat",
        "RESET is not said again when its carrier dies",
        ("ending.Ending._repeat_reset", "if lost or tombstone.id in dead.resets:", "if False:"),
    ),
    mutant(
        "R16-answer",
        "a tombstone answers BIND, ASK, EOF with GONE",
        ("ending.Ending._answer_forgotten", "if tombstone is None:", "if True:"),
    ),
    mutant(
        "R16-gone",
        "RESET is not answered",
        (_RESET, "self._owe_gone(carrier, number)", "pass"),
    ),
    mutant(
        "R16-clean",
        "a RESET after both EOFs is told",
        ("ending.Ending._end_by_reset", "if stream.finished:", "if False:"),
    ),
    mutant(
        "R17-gone-answered",
        "GONE of a forgotten stream is answered by GONE",
        (_GONE, "if stream is None:", "if stream is None:\n        self._owe_gone(carrier, number)"),
    ),
    mutant(
        "R17-gone-acknowledges",
        "GONE does not stand for the last acknowledgement",
        (_GONE, "self._take_received(stream, final + 1, now)", "pass"),
    ),
    mutant(
        "R17-gone-mid-life",
        "GONE of a living stream is no error",
        (_GONE, 'raise SessionError("GONE of a stream in mid-life")', "return"),
    ),
    mutant(
        "R17-eof",
        "EOF of a forgotten stream is not answered",
        (_EOF, "self._answer_forgotten(carrier, number)", "pass"),
    ),
    mutant(
        "R17-bind",
        "BIND of a forgotten stream is not answered",
        (_BEND + "_receive_bind", "self._answer_forgotten(carrier, number)", "pass"),
    ),
    mutant(
        "R17-ask",
        "ASK of a forgotten stream is not answered",
        (_CEND + "_receive_ask", "self._answer_forgotten(carrier, number)", "pass"),
    ),
    mutant(
        "R17-open",
        "OPEN of a forgotten stream is not answered",
        (_OPEN, "self._answer_forgotten(carrier, number)", "pass"),
    ),
    mutant(
        "R17-forgotten",
        "nothing of a forgotten stream is answered",
        ("ending.Ending._answer_forgotten", "self._owe_gone(carrier, number)", "return"),
    ),
    mutant(
        "R17-unseen",
        "frames for streams that never were are ignored",
        (
            "state.SessionState._stream",
            'raise SessionError("frame for a stream that never was")',
            "return None",
        ),
    ),
    mutant(
        "R18-acknowledged",
        "a stream is forgotten before its EOF is acknowledged",
        ("credit.Credit._both_ended", "and stream.acknowledged == final + 1", "and stream.sent == final + 1"),
        times=10,
    ),
    mutant(
        "R18-window",
        "a stream is forgotten with a WINDOW owed",
        ("credit.Credit._forget_if_over", "and not stream.debts", ""),
    ),
    mutant(
        "R18-bind",
        "a stream is forgotten with a BIND owed",
        ("credit.Credit._forget_if_over", "and not stream.binds", ""),
    ),
    mutant(
        "R19-replay",
        "every OPEN is replayed",
        (_CEND + "_ever_left", "return stream.open_left", "return False"),
    ),
    mutant(
        "R19-carry",
        "no OPEN is carried over",
        (_CEND + "_ever_left", "return stream.open_left", "return True"),
    ),
)
