"""Finding a way to a bridge, and telling what stands in it. No I/O: what happened in, what to try out.

A *way* is a bridge's front (an address to dial) and a codec to speak there.
Ways differ in what a censor can do to them, and nobody knows beforehand which
one passes; so they race with a stagger, and what came of it is remembered for
the network it happened on.

===========  ======================================================================================
``degrees``  :class:`Degree`: what was done to an attempt or a carrier, from how far it came and how it ended
``way``      :class:`Way`, :class:`Record`: one way and what came of it, with its decay
``memory``   :class:`Ways`: the records of each network; the order in which ways are tried
``cuts``     :class:`Cuts`, :class:`Flow`: carriers that are cut after so many bytes or seconds, or throttled
``race``     :class:`Race`: which attempt to start when (the idea of RFC 8305, over ways)
``network``  :class:`Surroundings`: which network this machine is in, without an address in clear
``portal``   :class:`Portal`: whether a network's login page stands before everything
===========  ======================================================================================

**Nothing here probes.** A way that failed is tried again only when somebody needs a
carrier and its pause is over, beside one that works. While nobody needs one, not a packet leaves.
"""

from __future__ import annotations

from ptproxy.ways.cuts import Cuts, Flow
from ptproxy.ways.degrees import Degree, Ending, Obstructed, Stage, degree_of, remedy
from ptproxy.ways.memory import Ways
from ptproxy.ways.network import Gateway, Surroundings
from ptproxy.ways.race import Race
from ptproxy.ways.way import Record, Way

__all__ = [
    "Cuts", "Degree", "Ending", "Flow", "Gateway", "Obstructed", "Race", "Record", "Stage", "Surroundings",
    "Way", "Ways", "degree_of", "remedy",
]  # fmt: skip
