"""What a save writes and deletes."""

from ptproxy.e2e.unsaved import Unsaved


class Counter:
    def __init__(self):
        self.value = 0

    def serialize(self):
        return bytes((self.value,))


def test_each_piece_once_as_it_is_when_it_is_taken():
    unsaved, piece = Unsaved(), Counter()
    unsaved.changed("one", piece)
    piece.value = 7
    unsaved.changed("one", piece)
    unsaved.gone("two")
    assert unsaved
    assert unsaved.take() == {"one": b"\x07", "two": None}
    assert not unsaved
    assert unsaved.take() == {}


def test_what_comes_back_is_not_deleted_and_what_goes_is_not_written():
    unsaved, piece = Unsaved(), Counter()
    unsaved.gone("one")
    unsaved.changed("one", piece)
    unsaved.changed("two", piece)
    unsaved.gone("two")
    assert unsaved.take() == {"one": b"\x00", "two": None}
