"""What is told of files on their way: a part of what :mod:`~ptproxy.peers.chat.told` begins."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

from ptproxy.peers.chat.shown import shown_name, shown_text
from ptproxy.peers.chat.told import Record

KIB: Final = 1024


def amount(size: int) -> str:
    """Bytes for people."""
    if size < KIB:
        return f"{size} bytes"
    kibibytes = size / KIB
    return f"{kibibytes:.1f} KiB" if kibibytes < KIB else f"{kibibytes / KIB:.1f} MiB"


class FileState(StrEnum):
    """How far a file has come."""

    OFFERED = "offered"
    """A contact's, which waits for the person."""
    OFFERING = "offering"
    """Ours, which waits for the contact."""
    SENDING = "sending"
    RECEIVING = "receiving"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileTold(Record):
    """A file on its way, either way; told again whenever it has come a hundredth further."""

    event: ClassVar[str] = "file"
    who: str
    contact: str
    file: str
    """Its number, which commands name it by."""
    name: str
    size: int
    done: int
    state: FileState
    path: str = ""
    """Where it was saved."""
    why: str = ""
    """What was in the way."""

    def percent(self) -> int:
        """Of a hundred."""
        return 100 * self.done // self.size if self.size else 0

    def rows(self) -> list[str]:
        """One row; of the progress only quarters."""
        name = f"file {self.file} ({shown_name(self.name)}, {amount(self.size)})"
        if self.state is FileState.OFFERED:
            return [f"* {self.who} offers {name}: /take {self.file} or /refuse {self.file}"]
        if self.state in (FileState.SENDING, FileState.RECEIVING):
            quarter = self.percent() % 25 == 0 and self.done > 0
            return [f"* {name}: {self.state}, {self.percent()} %"] if quarter else []
        what = {
            FileState.OFFERING: f"is offered to {self.who}",
            FileState.DONE: f"is saved as {shown_text(self.path)}" if self.path else "has arrived",
            FileState.REFUSED: "is not wanted",
            FileState.FAILED: f"was broken off: {shown_text(self.why)}",
        }[self.state]
        return [f"{'!' if self.state is FileState.FAILED else '*'} {name} {what}"]
