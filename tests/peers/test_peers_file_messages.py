"""What is said about files: whatever comes, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.errors import LocalProtocolError
from ptproxy.peers.file_messages import Answer, Answers, FileProtocolError, Offer, accept

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
offers = st.builds(
    Offer,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    names,
)


@given(offer=offers, behind=st.binary(max_size=20), cut=st.integers(0, 2000))
def test_an_offer_comes_back(offer, behind, cut):
    data = offer.serialize()
    assert Offer.parse(data + behind) == (offer, len(data))
    assert cut >= len(data) or Offer.parse(data[:cut]) is None


@given(data=st.binary(max_size=100))
def test_garbage_raises_only_what_is_documented(data):
    for start in (b"", b"\1"):
        try:
            Offer.parse(start + data)
        except FileProtocolError:
            pass


def test_names_are_bounded():
    with pytest.raises(LocalProtocolError):
        Offer(bytes(16), 1, bytes(32), "x" * 1025).serialize()


@given(
    data=st.binary(max_size=30), size=st.integers(0, 2**63 - 1), cuts=st.lists(st.integers(0, 30), max_size=5)
)
def test_answers_are_the_same_however_they_are_cut(data, size, cuts):
    def heard(pieces):
        answers = Answers(size)
        try:
            for piece in pieces:
                answers.receive(piece)
        except FileProtocolError:
            return "refused"
        return answers.offset, answers.result

    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert heard([data]) == heard(pieces)


@given(offset=st.integers(0, 100), complete=st.booleans())
def test_answers_are_understood(offset, complete):
    result = Answer.COMPLETE if complete else Answer.DIFFERENT
    answers = Answers(100)
    for byte in accept(offset):
        assert answers.offset is None
        answers.receive(bytes((byte,)))
    assert (answers.offset, answers.result) == (offset, None)
    answers.receive(bytes((result,)))
    assert (answers.offset, answers.result) == (offset, result)
    refused = Answers(100)
    refused.receive(bytes((Answer.REFUSED,)))
    assert (refused.offset, refused.result) == (None, Answer.REFUSED)
