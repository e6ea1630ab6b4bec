"""Two event loops in two threads of one process share nothing that bytes are read into."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from ptproxy.tunnel.beside import ends
from ptproxy.tunnel.tcp import READ_SIZE, BufferedReads, read_buffer


class Reads(BufferedReads):
    def __init__(self, got: list[bytes]) -> None:
        self.got = got

    def data_received(self, data) -> None:
        self.got.append(bytes(data))


def test_what_one_thread_reads_is_not_written_over_by_another() -> None:
    """The other thread reads between the first one's ``get_buffer`` and ``buffer_updated``."""
    got: dict[str, list[bytes]] = {"first": [], "second": []}
    begun, done = threading.Event(), threading.Event()

    def first() -> None:
        reads = Reads(got["first"])
        reads.get_buffer(-1)[:5] = b"first"
        read_buffer(100)[5:6] = b"!"
        begun.set()
        assert done.wait(60)
        reads.buffer_updated(6)

    def second() -> None:
        assert begun.wait(60)
        reads = Reads(got["second"])
        reads.get_buffer(-1)[:6] = b"second"
        reads.buffer_updated(6)
        done.set()

    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(first), threads.submit(second)]:
            future.result()
    assert got == {"first": [b"first!"], "second": [b"second"]}


def test_one_thread_has_one_buffer_for_all() -> None:
    async def main() -> tuple[object, object]:
        return Reads([]).get_buffer(-1).obj, read_buffer(READ_SIZE).obj

    one, other = asyncio.run(main())
    assert one is other
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: ends._of_thread.record).result() is not ends._of_thread.record
