"""What every format of the package keeps to."""

import pytest
from agreement_pair import Peer

from ptproxy.e2e import Identity, OwnIdentity, PrekeyBundle
from ptproxy.e2e.bundle import OneTimePrekey
from ptproxy.e2e.replay import ReplayCache
from ptproxy.errors import E2EError, StateError


def test_no_format_takes_a_byte_more():
    bob = Peer("bob", one_time=1)
    for parse, data in [
        (Identity.parse, bob.public.serialize()),
        (OwnIdentity.parse, bob.owner.serialize()),
        (PrekeyBundle.parse, bob.prekeys.bundle(bob.owner)),
        (OneTimePrekey.parse, bob.mailbox[0]),
        (ReplayCache.parse, ReplayCache().serialize()),
    ]:
        parse(data)
        with pytest.raises((E2EError, StateError)):
            parse(data + b"\0")
