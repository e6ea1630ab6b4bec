"""Bindings and their wire form."""

import pytest

from ptproxy.auth import Binding, BindingKind


def test_wire_form():
    assert Binding.none().serialize() == b"\0"
    assert Binding.certificate(b"d" * 32).serialize() == b"\1" + b"d" * 32


@pytest.mark.parametrize(("kind", "digest"), [(BindingKind.NONE, b"d" * 32), (BindingKind.CERTIFICATE, b"")])
def test_a_digest_where_it_belongs(kind, digest):
    with pytest.raises(ValueError, match="32 bytes"):
        Binding(kind, digest)


def test_equal_by_value():
    assert Binding.certificate(bytes(32)) == Binding.certificate(bytes(32)) != Binding.none()
