"""The parts of a store that need no file: keys, rows, digests, heads, lineages, indexes."""

import base64
import os
import random
import stat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from store_folder import CHEAP

from ptproxy.errors import LocalProtocolError, StartError, StateError
from ptproxy.fields import Fields
from ptproxy.peers import store_key
from ptproxy.peers.store_head import Head, ListState, Named
from ptproxy.peers.store_index import Index
from ptproxy.peers.store_key import WRAPPED, PassphraseCost, StoreKey
from ptproxy.peers.store_lineage import MAX_RUNS, Finding, Lineage, Mark
from ptproxy.peers.store_rows import (
    HEAD,
    SMALLEST,
    RowKeys,
    entry_place,
    padme,
    piece_place,
)  # fmt: skip

MASTER = bytes(range(32))
KEYS = RowKeys(MASTER)
RNG = random.Random(1).randbytes


# ---- keys ---------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=64), st.binary(min_size=32, max_size=32))
def test_a_master_key_wrapped_and_unwrapped(passphrase, master):
    key = StoreKey.passphrase(passphrase, CHEAP)
    wrapped = key.wrap(master)
    assert len(wrapped) == WRAPPED
    assert StoreKey.passphrase(passphrase).unwrap(wrapped) == master
    with pytest.raises(StartError, match="wrong passphrase"):
        StoreKey.passphrase(passphrase + b"x").unwrap(wrapped)


@given(st.binary(max_size=2 * WRAPPED))
@example(bytes([1, 1]) + bytes(WRAPPED - 2))
@example(bytes([1, 2]) + bytes(WRAPPED - 2))
@example(bytes([2, 1]) + bytes(WRAPPED - 2))
def test_what_is_no_wrapped_key(data):
    for key in (StoreKey.passphrase(b"x"), StoreKey(2, bytes(32), PassphraseCost())):
        with pytest.raises((StateError, StartError)):
            key.unwrap(data)


@pytest.mark.parametrize("place", range(WRAPPED))
def test_every_byte_of_a_wrapped_key_counts(place):
    key = StoreKey.passphrase(b"x", CHEAP)
    wrapped = bytearray(key.wrap(MASTER, RNG))
    wrapped[place] ^= 1
    with pytest.raises((StateError, StartError)):
        key.unwrap(bytes(wrapped))


@pytest.mark.parametrize(
    "cost",
    [
        (store_key.MAX_MEMORY + 1, 1, 1), (0xFFFFFFFF, 1, 1), (8, 0xFFFFFFFF, 1), (8, 0, 1), (8, 1, 0),
        (0, 1, 1), (1 << 20, 1, 17), (1 << 20, 5, 1), (15, 1, 2), (1 << 20, 1, 0xFFFFFFFF),
    ],
)  # fmt: skip
def test_a_cost_that_no_program_should_pay_is_refused_before_it_is_paid(cost, monkeypatch):
    monkeypatch.setattr(PassphraseCost, "derive", lambda *_: pytest.fail("paid"))
    front = store_key._FRONT.pack(1, 1, *cost, bytes(16))
    with pytest.raises(StateError):
        StoreKey.passphrase(b"x").unwrap(front + bytes(WRAPPED - len(front)))


def test_the_cost_it_asks_for_is_one_it_permits():
    assert PassphraseCost().permitted()
    assert CHEAP.permitted()


def test_nobody_wraps_what_nobody_would_open():
    with pytest.raises(LocalProtocolError):
        StoreKey.passphrase(b"x", PassphraseCost(memory=store_key.MAX_MEMORY + 1))


@pytest.mark.parametrize("passphrase", [b"", bytes(1025)])
def test_no_passphrase(passphrase):
    with pytest.raises(StartError, match="a passphrase has"):
        StoreKey.passphrase(passphrase)


def test_argon2id_as_the_specification_has_it():
    """Answers of the reference implementation, libargon2; RFC 9106's own vectors have a secret besides."""
    one, other = PassphraseCost(64, 2, 1), PassphraseCost(256, 3, 4)
    known = "1a98fba8e6394425c9bdc333a9c750aaf811df070f5fb4a5788e1cf4db5793a1"
    assert one.derive(b"password", b"somesaltsomesalt").hex() == known
    known = "3ae75675fc1875866526c8f930cb40d6fe751ec0bea5ad3052bafca5369373b3"
    assert other.derive(b"password", b"somesaltsomesalt").hex() == known


def test_a_key_file(tmp_path):
    path = tmp_path / "sub" / "key"
    key = StoreKey.make_file(path)
    assert len(base64.urlsafe_b64decode(path.read_text().strip() + "=")) == 32
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert StoreKey.file(path).unwrap(key.wrap(MASTER)) == MASTER
    with pytest.raises(StartError, match="wrong key file"):
        StoreKey.make_file(tmp_path / "other").unwrap(key.wrap(MASTER))
    with pytest.raises(StartError, match="exists already"):
        StoreKey.make_file(path)


@pytest.mark.parametrize("content", [b"", b"x", b"A" * 44, b"\xff" * 43, bytes(100_000)])
def test_what_is_no_key_file(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StartError):
        StoreKey.file(path)
    with pytest.raises(StartError, match="there is no key file"):
        StoreKey.file(tmp_path / "none")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_key_file_that_others_can_read(tmp_path):
    StoreKey.make_file(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(StartError, match="others can read"):
        StoreKey.file(tmp_path / "key")


# ---- rows ---------------------------------------------------------------------------------------


@given(st.binary(max_size=2000), st.integers(0, 2**64 - 1))
def test_a_row_sealed_and_opened(content, revision):
    sealed = KEYS.seal(HEAD, revision, content, RNG)
    assert KEYS.open(HEAD, sealed) == (revision, content)
    assert len(sealed) == 12 + padme(12 + len(content)) + 16


def test_a_row_is_of_its_place_only():
    places = [HEAD, piece_place(bytes(16)), piece_place(bytes(15) + b"\1"), entry_place(bytes(16), 1)]
    places += [entry_place(bytes(16), 2), entry_place(bytes(15) + b"\1", 1)]
    for place in places:
        sealed = KEYS.seal(place, 1, b"x", RNG)
        for other in places:
            if other != place:
                with pytest.raises(StateError):
                    KEYS.open(other, sealed)
        with pytest.raises(StateError):
            RowKeys(bytes(32)).open(place, sealed)


@given(st.binary(max_size=400))
def test_what_is_no_row(data):
    with pytest.raises(StateError):
        KEYS.open(HEAD, data)


def test_names_of_pieces_and_lists_are_apart_and_each_stores_own():
    names = {keys.piece(name) for keys in (KEYS, RowKeys(bytes(32))) for name in ("a", "b", "a\0")}
    names |= {keys.list(name) for keys in (KEYS, RowKeys(bytes(32))) for name in ("a", "b", "a\0")}
    assert len(names) == 12


@given(st.lists(st.integers(1, 50), unique=True), st.data())
def test_a_digest_is_of_the_set_however_it_came_about(numbers, data):
    sealed = {number: KEYS.seal(entry_place(bytes(16), number), 1, b"x", RNG) for number in range(1, 51)}

    def element(number):
        return KEYS.element(entry_place(bytes(16), number), sealed[number])

    def digest(order):
        found = 0
        for number in order:
            found ^= element(number)
        return found

    assert digest(data.draw(st.permutations(numbers))) == digest(numbers)
    extra = data.draw(st.integers(1, 50))
    assert digest([*numbers, extra, extra]) == digest(numbers)
    assert digest([*numbers, extra]) != digest(numbers)


@given(st.integers(1, 1 << 24))
def test_padding_tells_little_and_costs_little(length):
    padded = padme(length)
    assert padded >= max(length, SMALLEST)
    assert padded <= max(SMALLEST, length + length // 8)
    assert padme(padded) == padded


# ---- head, pieces, lists ------------------------------------------------------------------------


def test_a_head_and_back():
    head = Head(7, 8, 9, 1 << 250, Lineage().begun(b"r" * 16, 3).begun(b"s" * 16, 7))
    assert Head.parse(head.serialize()) == head


@given(st.binary(max_size=300))
@example(bytes([1]) + bytes(52) + bytes([2]) + bytes(48))
@example(bytes([1]) + bytes(52) + bytes([255]) + bytes(255 * 24))
@example(bytes([2]) + bytes(53))
def test_what_is_no_head(data):
    try:
        assert Head.parse(data).serialize() == data
    except StateError:
        pass


@given(st.text(max_size=60), st.binary(max_size=50))
def test_a_piece_and_back(name, value):
    assert Named.parse(Named(name, value).serialize()) == Named(name, value)


@given(st.binary(max_size=120))
def test_what_is_no_piece(data):
    try:
        assert Named.parse(data).serialize() == data
    except StateError:
        pass


def test_a_list_and_back():
    known = Named.parse(Named("history", ListState(5, 3, 1 << 250)).serialize())
    assert known.name == "history"
    assert known.value == ListState(5, 3, 1 << 250, None)


# ---- lineage ------------------------------------------------------------------------------------


def test_what_is_past_ahead_and_foreign():
    one, two, three = (bytes([n]) * 16 for n in (1, 2, 3))
    lineage = Lineage().begun(one, 1).begun(two, 10)
    found = {
        (run, revision): lineage.find(Mark(run, revision), 12)
        for run in (one, two, three) for revision in (0, 1, 9, 10, 12, 13)
    }  # fmt: skip
    for revision in (0, 1, 9):
        assert found[one, revision] is Finding.PAST
    for revision in (10, 12, 13):
        assert found[one, revision] is Finding.AHEAD
    assert found[two, 12] is Finding.PAST
    assert found[two, 13] is Finding.AHEAD
    assert {found[three, revision] for revision in (0, 9, 13)} == {Finding.FOREIGN}


def test_a_lineage_forgets_the_oldest():
    lineage = Lineage()
    for number in range(1, MAX_RUNS + 10):
        lineage = lineage.begun(bytes([number]) * 16, 10 * number)
    assert len(lineage.runs) == MAX_RUNS
    now = 10 * (MAX_RUNS + 9)
    assert lineage.find(Mark(bytes([1]) * 16, 10), now) is Finding.PAST
    assert lineage.find(Mark(bytes(16), 99), now) is Finding.PAST
    assert lineage.find(Mark(bytes(16), 100), now) is Finding.FOREIGN
    fields = Fields(lineage.serialize(), StateError("short"))
    assert Lineage.take(fields) == lineage
    fields.end()


# ---- index --------------------------------------------------------------------------------------


does = st.sampled_from(("put", "put", "drop", "look"))


@given(st.lists(st.tuples(st.integers(1, 30), does, st.binary(min_size=12, max_size=12))))
def test_an_index_is_what_a_dictionary_would_be(changes):
    index, model = Index(), {}
    for number, what, nonce in changes:
        if what == "put":
            index.put(number, nonce)
            model[number] = nonce
        elif what == "look":
            assert index.page(99, 99) == sorted(model.items(), reverse=True)
        else:
            index.drop(number)
            model.pop(number, None)
    assert len(index) == len(model)
    for number in range(32):
        assert index.nonce(number) == model.get(number)
        for limit in (0, 3, 99):
            below = sorted((key for key in model if key < number), reverse=True)[:limit]
            assert index.page(number, limit) == [(key, model[key]) for key in below]


def test_entries_that_come_backwards_are_moved_once_and_not_each_time():
    index = Index()
    for number in range(10_000, 0, -1):
        index.put(number, number.to_bytes(12))
        assert len(index._numbers) == 1  # the others wait
    assert index.nonce(77) == (77).to_bytes(12)
    assert [number for number, _ in index.page(4, 9)] == [3, 2, 1]
    assert len(index._numbers) == len(index) == 10_000
