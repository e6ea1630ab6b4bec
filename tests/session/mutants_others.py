"""R20 to R27 left out: dead carriers, memory, datagrams, GOAWAY, order."""

from __future__ import annotations

from mutation import mutant

_DATAGRAM = "receiving.Receiving.send_stream_datagram"
_NEXT = "sending.Sending._next_stream"
_CEND = "client.ClientSession."

OTHERS = (
    mutant(
        "R20-suspect",
        "the client suspects no carrier",
        (_CEND + "_suspect", "carrier.suspect = True", "return"),
        times=10,
    ),
    mutant(
        "R21-share",
        "a stream may retain whatever the peer's limit allows",
        (
            "credit.Credit._stream_share",
            "free = self.account.room()",
            "return 1 << 60",
        ),
    ),
    mutant(
        "R21-told",
        "nobody is told of room that comes back",
        ("credit.Credit._unblock", "if self.stream_room(stream) > 0:", "if False:"),
    ),
    mutant(
        "R22-budget",
        "windows grow above the receive budget",
        (
            "credit.Credit._resize_window",
            "if self._windows + larger - window <= limits.receive_budget:",
            "if True:",
        ),
    ),
    mutant(
        "R23-oldest",
        "a full queue drops the newest datagram",
        (
            _DATAGRAM,
            "self._next_datagram(stream)",
            "stream.datagrams.rotate(1); self._next_datagram(stream)",
        ),
    ),
    mutant(
        "R23-order",
        "datagrams leave newest first",
        (
            "sending.Sending._say_datagrams",
            "address, data = self._next_datagram(stream)",
            "stream.datagrams.rotate(1); address, data = self._next_datagram(stream)",
        ),
    ),
    mutant(
        "R23-count",
        "any number of datagrams waits",
        (_DATAGRAM, "len(queue) > limits.max_datagrams or", ""),
    ),
    mutant(
        "R23-bytes",
        "any number of bytes of datagrams waits",
        (_DATAGRAM, "or stream.datagram_bytes > limits.max_datagram_bytes", ""),
    ),
    mutant(
        "R23-budget",
        "datagrams do not count in the session's retention",
        (_DATAGRAM, "self.account.keep(len(data), now)", "self.account.budget.used += len(data)"),
    ),
    mutant(
        "R25-taken",
        "streams are taken after GOAWAY",
        ("receiving.Receiving._refusal", "if self._goaway_sent:", "if False:"),
    ),
    mutant(
        "R25-open",
        "streams are opened after GOAWAY",
        ("session.Session._new_stream", "or self._goaway_received or self._goaway_sent", ""),
    ),
    mutant(
        "R25-leave",
        "streams stay on a carrier that goes away",
        (_CEND + "_leave", "self._empty(carrier, now)", "pass"),
    ),
    mutant(
        "R25-bind",
        "streams are bound to a carrier that goes away",
        (_CEND + "_may_move", "or carrier.leaving", ""),
    ),
    mutant(
        "R27-control",
        "bytes before control",
        (
            "sending.Sending.data_to_send",
            "self._say_control(carrier, out, budget, now) if carrier.dirty else 0",
            "0",
        ),
        (
            "sending.Sending.data_to_send",
            "if carrier.ping_due:",
            "if carrier.dirty: self._say_control(carrier, out, budget, now)\n    if carrier.ping_due:",
        ),
    ),
    mutant("R27-order", "bulk before interactive", (_NEXT, "carrier.interactive_run < turn", "False")),
    mutant("R27-share", "bulk has no share", (_NEXT, "carrier.interactive_run < turn", "True")),
    mutant(
        "R27-robin",
        "the stream that sent last goes on",
        (_NEXT, "queue.popitem(last=False)", "queue.popitem(last=True)"),
    ),
    mutant(
        "R27-frame",
        "DATA is large while another stream is active",
        ("sending.Sending._frame_size", "return limits.shared_frame", "return limits.lone_frame"),
    ),
)
