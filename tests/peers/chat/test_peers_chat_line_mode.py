"""Line mode: commands in, records out, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
from pathlib import Path

import pytest
from chat_fake import FakeMessenger, leave_partial_files

from ptproxy.errors import DialError, Reason, StartError
from ptproxy.peers.chat.beside import beside
from ptproxy.peers.chat.commands import MAX_LINE, CommandError, parse_text
from ptproxy.peers.chat.line_mode import Ending, Form, run_lines
from ptproxy.peers.chat.pipes import MAX_UNWRITTEN, MAX_WAITING, LineReader, LineWriter
from ptproxy.peers.messenger_events import LineState, Trouble

PATIENCE = 120.0
FILES = Path("files")
ENDING = Ending()


class Script:
    """Whoever writes commands and reads what comes."""

    def __init__(self, *names: str) -> None:
        self.messenger = FakeMessenger(*names)
        self.said: list[str] = []
        self.flushes = 0
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, text: str) -> None:
        self.said += text.split("\n")

    async def flushed(self) -> None:
        self.flushes += 1
        await asyncio.sleep(0)

    async def commands(self):
        while (line := await self.lines.get()) is not None:
            yield line

    def run(self, *lines: str, form: Form = Form.TEXT, ending: Ending = ENDING) -> int:
        async def main() -> int:
            for line in lines:
                self.lines.put_nowait(line.encode("utf-8", "surrogateescape"))
            self.lines.put_nowait(None)
            async with asyncio.timeout(PATIENCE):
                return await run_lines(self.messenger, FILES, self.commands(), self, form, ending)

        return asyncio.run(main())

    def objects(self) -> list[dict]:
        return [json.loads(line) for line in self.said]


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


def test_text() -> None:
    script = Script("anna", "ben")
    assert script.run("anna: hello", "", "/contacts", "/help") == 0
    assert script.said[:4] == [
        "* you are Me; /help tells what can be written here",
        "* to anna: line 1 is waiting",
        "* anna: unverified",
        "* ben: unverified",
    ]
    assert "* /verify WHO TEXT  The safety number was compared." in script.said
    assert script.messenger.contacts()[0].lines[0].text == "hello"


def test_json() -> None:
    script = Script("anna")
    commands = [
        {"do": "say", "who": "anna", "text": "hello", "id": "1"},
        {"do": "number", "who": "anna", "id": "2"},
        {"do": "keep", "id": "3"},
    ]
    assert script.run(*map(json.dumps, commands), "{", form=Form.JSON) == 1
    found = script.objects()
    assert [(each["event"], each.get("id")) for each in found] == [
        ("ready", None), ("state", "1"), ("done", "1"), ("number", "2"), ("done", "2"), ("error", "3"),
        ("error", None),
    ]  # fmt: skip


def test_what_came_of_files_that_nobody_goes_on_with_is_deleted_at_the_start(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "FILES", tmp_path)
    old, fresh = leave_partial_files(tmp_path)
    assert Script().run() == 0
    assert (old.exists(), fresh.exists()) == (False, True)


def test_what_was_refused_is_told_by_the_status() -> None:
    assert Script("anna").run("ben: hello") == 1
    assert Script("anna").run("\udcff") == 1
    assert Script("anna").run("anna: hello") == 0


@pytest.mark.parametrize("form", Form)
def test_a_line_that_is_too_long_is_refused_aloud(form: Form) -> None:
    script = Script("anna")
    assert script.run("anna: " + "x" * MAX_LINE, form=form) == 1
    assert "a line has at most" in script.said[-1]


def test_help_lists_what_can_be_written() -> None:
    script = Script()
    assert script.run("/help") == 0
    verbs = [row.removeprefix("* /").split()[0] for row in script.said if row.startswith("* /")]
    assert "verify" in verbs
    for verb in verbs:
        with contextlib.suppress(CommandError):
            parse_text(f"/{verb}")
            continue
        with pytest.raises(CommandError, match="too few"):
            parse_text(f"/{verb}")


def test_whoever_writes_much_does_not_end_the_program() -> None:
    """More than may wait unwritten, at the start and as an answer; whoever reads is only slower."""

    async def main() -> None:
        theirs, ours = os.pipe()
        messenger = FakeMessenger("anna")
        for _ in range(400):
            messenger.contacts()[0].writes("\N{SNOWMAN}" * 5000 + "\\" * 9000, told=False)
        writer = LineWriter(ours)
        reading = asyncio.create_task(asyncio.to_thread(_drain, theirs))

        async def commands():
            yield json.dumps({"do": "history", "who": "anna", "count": 1000}).encode()

        try:
            async with asyncio.timeout(PATIENCE):
                assert await run_lines(messenger, FILES, commands(), writer, Form.JSON, ENDING) == 0
        finally:
            writer.close()
            await asyncio.to_thread(writer._thread.join)
            os.close(ours)
        assert await reading > 2 * MAX_UNWRITTEN

    asyncio.run(main())


def _drain(descriptor: int) -> int:
    """How much comes, until its end."""
    count = 0
    while data := os.read(descriptor, 1 << 20):
        count += len(data)
    os.close(descriptor)
    return count


def test_quit_ends_before_the_input_does() -> None:
    script = Script("anna")
    assert script.run("/quit", "anna: never", ending=Ending(follow=True)) == 0
    assert script.messenger.contacts()[0].lines == []


def test_unread_lines_come_first_once_and_in_order_and_are_read_then() -> None:
    script = Script("anna", "ben")
    anna, ben = script.messenger.contacts()
    for number in range(150):
        anna.writes(f"a{number}", told=False)
    for number in range(3):
        ben.writes(f"b{number}", told=False)

    async def main() -> None:
        task = asyncio.ensure_future(
            run_lines(script.messenger, FILES, script.commands(), script, Form.JSON, Ending(follow=True))
        )
        await until(lambda: anna.unread == ben.unread == 0)
        anna.writes("live")
        await until(lambda: anna.unread == 0)
        script.lines.put_nowait(b'{"do": "quit"}')
        assert await task == 0

    asyncio.run(main())
    texts = [each["text"] for each in script.objects() if each["event"] == "line"]
    assert [text for text in texts if text[0] == "a"] == [f"a{number}" for number in range(150)]
    assert [text for text in texts if text[0] == "b"] == ["b0", "b1", "b2"]
    assert texts[:2] in (["a0", "b0"], ["b0", "a0"])
    assert texts[-1] == "live"
    assert script.flushes >= 2
    script.said.clear()
    assert script.run() == 0
    assert len(script.said) == 1


def test_nothing_counts_as_read_that_was_not_written() -> None:
    script = Script("anna")
    anna = script.messenger.contacts()[0]
    anna.writes("hello", told=False)

    async def broken() -> None:
        raise BrokenPipeError

    script.flushed = broken
    with pytest.raises(BrokenPipeError):
        script.run(ending=Ending(follow=True))
    assert anna.lines[0].state is LineState.DELIVERED


def test_what_cannot_leave_in_time_is_told() -> None:
    script = Script("anna")

    async def never() -> None:
        await asyncio.Event().wait()

    script.messenger.settled = never
    assert script.run("anna: hello", ending=Ending(wait=0.0)) == 1
    assert script.said[-1] == "! something has not left yet; lines go on when this program runs again"


def test_without_input_what_has_come_is_told_and_confirmed_before_it_leaves() -> None:
    script = Script("anna")
    anna = script.messenger.contacts()[0]
    order: list[str] = []

    async def settled() -> None:
        order.append("settled")
        if not anna.lines:
            anna.writes("from the mailbox")
        await asyncio.sleep(0)

    async def mark_read(number: int) -> None:
        await asyncio.sleep(0)
        order.append("read")

    script.messenger.settled, anna.mark_read = settled, mark_read
    assert script.run() == 0
    assert script.said[-1] == "anna: from the mailbox"
    assert order[0] == order[-1] == "settled"  # the receipt has left, too
    assert "read" in order


def test_a_mailbox_that_was_not_reached_is_told() -> None:
    script = Script("anna")
    script.messenger.trouble = Trouble.MAILBOX_UNREACHABLE
    assert script.run() == 1
    assert script.said[-1].startswith("! your mailbox was not reached")


def test_files_get_their_time_when_the_input_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    script = Script("anna")

    async def slow(*_: object) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        raise DialError(Reason.NOT_PERMITTED)

    script.messenger.streams.open_stream = slow
    assert script.run(f"/send anna {path}") == 0
    assert "was broken off: not permitted" in script.said[-1]


def test_a_messenger_that_fails_ends_it() -> None:
    script = Script("anna")

    async def fail() -> None:
        raise StartError("the box was taken over")

    script.messenger.run = fail
    with pytest.raises(StartError, match="taken over"):
        script.run(ending=Ending(follow=True))


def test_beside_leaves_nothing_behind() -> None:
    ended = []

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def main() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(beside(main(), other(), other())) == 7
    assert ended == [1, 1]


# ---- descriptors ---------------------------------------------------------------------------------


def test_lines_are_read_however_they_are_cut() -> None:
    async def main() -> None:
        ours, theirs = os.pipe()
        lines = aiter(LineReader(ours, 10))
        os.write(theirs, b"one\r\ntw")
        assert await anext(lines) == b"one"
        os.write(theirs, b"o\n\n0123456789\n01234567890\nx")
        assert [await anext(lines) for _ in range(4)] == [b"two", b"", b"0123456789", b"01234567890"]
        os.write(theirs, b"y" * 100_000)
        os.write(theirs, b"z\nlast")
        os.close(theirs)
        assert [line async for line in lines] == [b"x" + b"y" * 10, b"last"]  # to be seen as too long
        os.close(ours)

    asyncio.run(main())


def test_who_is_slow_is_not_read_ahead() -> None:
    async def main() -> None:
        ours, theirs = os.pipe()
        reader = LineReader(ours, 10)
        os.write(theirs, b"x\n" * 1000)
        os.close(theirs)
        await until(lambda: reader._lines.qsize() == MAX_WAITING)
        assert len([line async for line in reader]) == 1000
        os.close(ours)

    asyncio.run(main())


def test_what_is_put_is_written_in_order() -> None:
    async def main() -> None:
        theirs, ours = os.pipe()
        writer = LineWriter(ours)
        reader = LineReader(theirs, 1 << 20)
        lines = aiter(reader)
        for number in range(200):
            writer.put(f"{number} " + "x" * 10_000)
        for number in range(200):
            assert (await anext(lines)).startswith(f"{number} ".encode())
        await writer.flushed()
        writer.close()
        writer._thread.join()
        os.close(ours)
        assert [line async for line in lines] == []
        os.close(theirs)

    asyncio.run(main())


def test_nobody_reads_on() -> None:
    async def main() -> None:
        theirs, ours = os.pipe()
        writer = LineWriter(ours)
        os.close(theirs)
        writer.put("lost")
        with pytest.raises(BrokenPipeError):
            await writer.flushed()
        writer.close()
        writer._thread.join()
        os.close(ours)

    asyncio.run(main())


def test_a_reader_that_stopped_is_given_up() -> None:
    async def main() -> None:
        theirs, ours = os.pipe()
        writer = LineWriter(ours)
        writer.put("x" * (10 << 20))
        with pytest.raises(StartError, match="nobody reads"):
            writer.put("x" * (10 << 20))
        os.close(theirs)
        writer.close()
        writer._thread.join()
        os.close(ours)

    asyncio.run(main())
    gc.collect()
