"""Fixed fields: nothing past the end, nothing left over, whatever is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import Identity, OwnIdentity, PrekeyBundle
from ptproxy.e2e.bundle import OneTimePrekey
from ptproxy.e2e.fields import Fields
from ptproxy.e2e.replay import ReplayCache
from ptproxy.errors import E2EError, StateError


@given(data=st.binary(max_size=40), lengths=st.lists(st.integers(0, 12), max_size=8))
def test_takes_what_is_there_in_order(data, lengths):
    error = E2EError("cut short")
    fields, position = Fields(data, error), 0
    for length in lengths:
        if position + length > len(data):
            with pytest.raises(E2EError) as caught:
                fields.take(length)
            assert caught.value is error
            return
        assert fields.take(length) == data[position : position + length]
        position += length
        assert fields.so_far() == data[:position]
    if position < len(data):
        with pytest.raises(E2EError):
            fields.end()
    assert fields.rest() == data[position:]
    fields.end()


def test_numbers_are_big_endian():
    fields = Fields(b"\1\2\3\4\5", E2EError("cut short"))
    assert (fields.number(1), fields.number(4)) == (1, 0x02030405)
    with pytest.raises(E2EError):
        fields.number(1)


def test_no_format_takes_a_byte_more():
    from agreement_pair import Peer

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
