"""When records are good: thirty hours, for everybody the same ones."""

from dht_records import EPOCH
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import epoch as epochs
from ptproxy.dht.epoch import begins, ends, epoch_of, epochs_to_search, is_open, open_epochs, opens, slot_of

SECONDS = epochs.EPOCH


def test_thirty_hours():
    for epoch in (0, EPOCH):
        assert ends(epoch) - opens(epoch) == 30 * 3_600
        assert epoch_of(begins(epoch)) == epoch == epoch_of(begins(epoch + 1) - 0.001)
        assert is_open(epoch, opens(epoch))
        assert is_open(epoch, ends(epoch) - 0.001)
        assert not is_open(epoch, opens(epoch) - 0.001)
        assert not is_open(epoch, ends(epoch))


@given(st.floats(SECONDS, 2**40))
def test_epochs_at_any_time(now):
    open_now = [epoch for epoch in range(epoch_of(now) - 3, epoch_of(now) + 4) if is_open(epoch, now)]
    assert list(open_epochs(now)) == open_now
    assert [slot_of(epoch, now) in range(5) for epoch in open_now] == [True] * len(open_now)
    assert epochs_to_search(now)[0] == epoch_of(now)


@given(st.floats(10 * SECONDS, 2**33), st.floats(-0.49 * SECONDS, 0.49 * SECONDS))
def test_a_reader_whose_clock_is_wrong_by_less_than_half_a_day(now, error):
    """The epoch that it really is is among the two that it looks for."""
    assert epoch_of(now) in epochs_to_search(now + error)
