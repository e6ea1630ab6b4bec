"""Fixed fields: nothing past the end, nothing left over, whatever is taken."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.errors import E2EError
from ptproxy.fields import Fields


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


def test_a_form_takes_its_fields_together():
    fields = Fields(b"\1\0\2xyz", E2EError("cut short"))
    form = struct.Struct(">BH")
    assert fields.unpack(form) == (1, 2)
    with pytest.raises(E2EError):
        fields.unpack(struct.Struct(">I"))
    assert fields.rest() == b"xyz"
