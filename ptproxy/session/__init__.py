"""Streams that outlive connections, without I/O: bytes in, bytes out.

A *session* is a set of streams between one client and one bridge. A *carrier*
is one connection; a session has one or several, they come and go, and each
stream rides one at a time. When a carrier dies, what was not acknowledged
goes out again on another one. The rules R1 to R27 that make this hold, and
the wire format, are in ``PROTOCOL.md``; every method names the rule it keeps.

A newcomer's map, from the wire up; each class below adds its rules to the one
above it, ending in the two that are used:

===============  =====================================================================
``frames``       the wire format, and the parser of one carrier
``limits``       every number, in one dataclass
``intervals``    sets of ids and carrier numbers
``budget``       what a process keeps for all its sessions
``stream``       one stream's state, and the calls an application makes
``carrier``      one live carrier's marks: what is owed there, who wants to send there
``events``       what a session tells
``state``        the tables, the clock, who is ready to send
``credit``       WINDOW: acknowledgement, permission, debts, room (R7–R9, R18, R21, R22)
``sending``      draining a carrier: frames from state, in order (R10, R27)
``ending``       RESET, tombstones, GONE (R16, R17)
``receiving``    DATA, EOF, OPEN, datagrams (R5, R6, R23)
``session``      opening streams, carriers lost, time (R2, R11, R20, R25)
``client``       ``ClientSession``: binds, moves, suspects (R12, R14, R15, R19, R20)
``bridge``       ``BridgeSession``: follows and asks (R12, R14)
``handover``     a bridge's session as bytes, for the process that takes it over
===============  =====================================================================

Use: feed ``receive_data``, deal with the events, then drain every carrier in
``ready`` with ``data_to_send``; call ``on_deadline`` at ``deadline()``.
"""

from ptproxy.session import events
from ptproxy.session.bridge import BridgeSession
from ptproxy.session.budget import RetentionBudget
from ptproxy.session.client import ClientSession
from ptproxy.session.limits import Limits, SessionExhausted
from ptproxy.session.session import Session
from ptproxy.session.stream import Stream

__all__ = [
    "BridgeSession",
    "ClientSession",
    "Limits",
    "RetentionBudget",
    "Session",
    "SessionExhausted",
    "Stream",
    "events",
]
