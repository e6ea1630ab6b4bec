"""FOUND, the answer that nobody signs: whoever may have sent it, no false record comes of it.

And nodes that are older than GET, which it answers.
"""

from __future__ import annotations

import random

import pytest
from dht_nodes import signed_contact
from dht_records import EPOCH, SEALED, flip, sealed
from test_dht_node import Net, search

from ptproxy.dht.contact import Address
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import PRIVATE, LookupRules
from ptproxy.dht.messages import Find, Found, Get, Holding, Ping, Request, Seek, serialize_answer, tag_of
from ptproxy.dht.record import judge
from ptproxy.dht.round_trips import RoundTrips
from ptproxy.dht.rpc import MAX_FALSE, Calls
from ptproxy.errors import DhtError
