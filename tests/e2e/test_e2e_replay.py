"""The replay cache against a model, its bounds, and its stored form."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.replay import KEY, MAX_BUNDLES, MAX_KEYS, ReplayCache, replay_key
from ptproxy.errors import LocalProtocolError, StateError


def key(number):
    return number.to_bytes(KEY, "big")


def test_once():
    cache = ReplayCache()
    cache.add(7, key(1))
    assert key(1) in cache
    assert key(2) not in cache
    cache.keep_only({8})
    assert key(1) not in cache
    assert len(cache) == 0


def test_a_full_list_forgets_nothing_and_refuses():
    cache = ReplayCache(limit=3)
    for number in range(3):
        assert not cache.full(7)
        cache.add(7, key(number))
    assert cache.full(7)
    assert not cache.full(8)
    with pytest.raises(LocalProtocolError):
        cache.add(7, key(9))
    assert all(key(number) in cache for number in range(3))


def test_bounds():
    cache = ReplayCache()
    for bundle in range(1, MAX_BUNDLES + 1):
        cache.add(bundle, key(bundle))
    with pytest.raises(LocalProtocolError):
        cache.add(99, key(99))
    assert MAX_KEYS * MAX_BUNDLES * KEY < 1 << 20


steps = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 4), st.integers(0, 9)),
    st.tuples(st.just("keep"), st.frozensets(st.integers(1, 4), max_size=4), st.none()),
    st.tuples(st.just("reload"), st.none(), st.none()),
)


@given(walk=st.lists(steps, max_size=40))
def test_against_a_model(walk):
    cache, model = ReplayCache(limit=6), {}
    for what, which, number in walk:
        if what == "add" and not cache.full(which):
            cache.add(which, key(number))
            model.setdefault(which, set()).add(key(number))
        elif what == "keep":
            cache.keep_only(set(which))
            model = {bundle: keys for bundle, keys in model.items() if bundle in which}
        elif what == "reload":
            cache = ReplayCache.parse(cache.serialize(), limit=6)
        assert len(cache) == sum(map(len, model.values()))
        assert all((key(n) in cache) == any(key(n) in keys for keys in model.values()) for n in range(10))


@given(data=st.binary(max_size=100))
def test_garbage(data):
    try:
        cache = ReplayCache.parse(data)
    except StateError:
        return
    assert cache.serialize() == data


@pytest.mark.parametrize(
    "entries",
    [
        [(7, [1, 1])],  # the same key twice
        [(7, [2, 1])],  # not sorted
        [(7, [])],  # an empty list is not kept
        [(7, [1]), (7, [2])],  # the same bundle twice
        [(8, [1]), (7, [2])],  # bundles not sorted
        [(number, [1]) for number in range(1, MAX_BUNDLES + 2)],
    ],
)
def test_states_that_are_never_left(entries):
    data = bytes((len(entries),))
    for bundle, keys in entries:
        data += bundle.to_bytes(4, "big") + len(keys).to_bytes(2, "big") + b"".join(map(key, keys))
    with pytest.raises(StateError):
        ReplayCache.parse(data)


def test_keys_of_ephemerals():
    keys = {replay_key(CurveKeyPair(Random(seed).randbytes(32)).public) for seed in range(9)}
    assert {len(entry) for entry in keys} == {KEY}
    assert len(keys) == 9
    assert repr(ReplayCache()) == "<ReplayCache 0>"
