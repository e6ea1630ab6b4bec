"""R10 to R15 left out: what leaves and is repeated, where streams are bound, questions, moves."""

from __future__ import annotations

from mutation import mutant

_BEND = "bridge.BridgeSession."
_CEND = "client.ClientSession."

SENDING = (
    mutant(
        "R10-ready",
        "what is owed does not make its carrier ready",
        ("state.SessionState._mark", "self.ready.add(carrier.number)", "pass"),
    ),
    mutant(
        "R11-open",
        "an unacknowledged OPEN is not repeated",
        ("state.SessionState._rewind", "stream.open_sent = False", "pass"),
    ),
    mutant(
        "R11-bytes",
        "unacknowledged bytes are not repeated",
        ("state.SessionState._rewind", "stream.sent = stream.acknowledged", "pass"),
    ),
    mutant(
        "R12-client-rewind",
        "a client that binds does not go back to the acknowledged offset",
        (_CEND + "_rebind", "self._rewind(stream)", "stream.draining = 0"),
    ),
    mutant(
        "R12-bridge-rewind",
        "a bridge that follows does not go back to the acknowledged offset",
        (_BEND + "_follow", "self._rewind(stream)", "stream.draining = 0"),
    ),
    mutant(
        "R12-follow",
        "the bridge follows no BIND while its carrier lives",
        (_BEND + "_is_newer", "generation > stream.generation", "False"),
    ),
    mutant(
        "R12-generation",
        "the bridge follows any generation",
        (_BEND + "_is_newer", "generation > stream.generation", "True"),
    ),
    mutant(
        "R12-first",
        "a bridge stays where it took its OPEN, whatever the client binds at first",
        (_BEND + "_is_newer", "or unbound", ""),
    ),
    mutant(
        "R12-latest",
        "a BIND owed on a carrier that the stream has left says the latest generation",
        ("sending.Sending._say_binds", "- (stream.carrier != carrier.number)", ""),
    ),
    mutant(
        "R12-window",
        "BIND owes no WINDOW",
        (_BEND + "_receive_bind", "self._owe_window(stream, carrier)", "pass"),
    ),
    mutant(
        "R12-jump",
        "`sent` does not jump to an acknowledgement beyond it",
        ("credit.Credit._take_received", "stream.sent = max(stream.sent, received)", "pass"),
    ),
    mutant(
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
    mutant(
        "R14-ask",
        "a bridge never asks",
        (_BEND + "_want_bind", "delay = self.limits.ask_delay", "return"),
    ),
    mutant(
        "R14-never",
        "a bridge asks neither for a BIND nor by the safety net",
        (_BEND + "_want_bind", "delay = self.limits.ask_delay", "return"),
        (_BEND + "_ask_on", "carrier.asks[stream.id] = None", "pass"),
        (_BEND + "_ask", "carrier = self._choose_carrier()", "return"),
    ),
    mutant(
        "R14-answer",
        "ASK is not answered",
        (_CEND + "_receive_ask", "self._answer_ask(stream, carrier, now)", "pass"),
    ),
    mutant(
        "R14-voluntary",
        "a voluntary move while a BIND is owed",
        (_CEND + "_may_move", "or stream.binds", ""),
    ),
    mutant(
        "R14-again",
        "no question again when the carrier of the question dies",
        (_BEND + "_give_up", "if asked == carrier.number:", "if False:"),
        times=10,
    ),
    mutant(
        "R14-attach",
        "no question when a carrier attaches",
        (_BEND + "attach_carrier", "if stream.carrier is None:", "if False:"),
    ),
    mutant(
        "R15-silent",
        "a draining sender does not wait",
        ("state.SessionState._sendable", "stream.draining or", ""),
    ),
    mutant(
        "R15-second-client",
        "no rewind on a client's second move while draining",
        (_CEND + "drain", "or stream.draining", ""),
        times=10,
    ),
    mutant(
        "R15-second-bridge",
        "no rewind on a bridge's second move while draining",
        (_BEND + "_follow", "and not stream.draining", ""),
        times=10,
    ),
    mutant(
        "R15-death",
        "no rewind when the old carrier dies while draining",
        ("session.Session._drain_broken", "self._rewind(stream)", "stream.draining = 0"),
    ),
)
