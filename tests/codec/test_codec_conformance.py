"""Every codec of the table through the conformance suite."""

from __future__ import annotations

import pytest
from conformance import CHECKS, Trial, check_no_constant_bytes

from ptproxy.codec import codec_table


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["websocket", "http", "random"])
def test_conformance(name, check, seed):
    check(Trial(codec_table()[name], seed))


def test_random_has_no_constant_bytes():
    check_no_constant_bytes(Trial(codec_table()["random"]))


def test_the_check_for_constant_bytes_can_fail():
    with pytest.raises(AssertionError, match="byte 0 "):
        check_no_constant_bytes(Trial(codec_table()["websocket"]), carriers=50)
