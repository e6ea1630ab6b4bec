"""``ptproxy chat`` as a person starts it: what is written, what is asked, how failures read."""

from __future__ import annotations

import builtins
import os
import shutil
import stat
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ptproxy.cli import chat_place, chat_run
from ptproxy.cli.main import program
from ptproxy.config.link import Link
from ptproxy.errors import StartError
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_box import Box
from ptproxy.peers.messenger_moving import FormerBoxes
from ptproxy.peers.store_doubt import StoreClonedError, StoreRolledBackError

LINK = Link(
    key=bytes(range(32)), host="127.0.0.1", port=9, path="/", server_name="localhost", codecs=("websocket",)
).serialize()
"""Nobody answers there."""


def run(*arguments: str | Path, stdin: str = "") -> Result:
    result = CliRunner().invoke(program, ["chat", *map(str, arguments)], input=stdin, prog_name="ptproxy")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        traceback.print_exception(result.exception)
        pytest.fail("an exception came through")
    return result


def good(*arguments: str | Path, stdin: str = "") -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.output


def bad(*arguments: str | Path, stdin: str = "", status: int = 1) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def options(tmp_path: Path) -> tuple[str | Path, ...]:
    """Those of an identity that a key file opens."""
    options = ("-d", tmp_path / "anna", "--key-file", tmp_path / "anna.key")
    said = good(*options, "init", "-", "--name", "Anna", stdin=LINK)
    assert "Next, an invite" in said
    return options


def test_init_makes_an_identity_once(tmp_path: Path, options) -> None:
    assert stat.S_IMODE((tmp_path / "anna").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "anna.key").stat().st_mode) == 0o600
    assert "exists" in (said := bad(*options, "init", "-", "--name", "Anna", stdin=LINK)) or "already" in said
    assert good(*options, "contacts") == "* no contacts yet\n"
    for name in ("", "\x1b[2J", "x" * 300):
        assert "--name" in bad("-d", tmp_path / "ben", "init", "-", "--name", name, stdin=LINK, status=2)


def test_nothing_written_is_readable(tmp_path: Path, options) -> None:
    for path in (tmp_path / "anna").iterdir():
        data = path.read_bytes()
        assert b"Anna" not in data
        assert LINK.encode()[10:40] not in data


def test_a_passphrase_from_a_file_from_a_descriptor_or_nobody(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(chat_place.StoreKey.passphrase.__func__, "__defaults__", (chat_place_cost(),))
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    folder = tmp_path / "ben"
    good("-d", folder, "--passphrase-file", secret, "init", "-", "--name", "Ben", stdin=LINK)
    for typed, opens in (("correct horse", True), ("correct mouse", False)):
        ours, theirs = os.pipe()
        os.write(theirs, f"{typed}\nmore".encode())
        os.close(theirs)
        monkeypatch.setenv(chat_place.DESCRIPTOR, str(ours))
        result = run("-d", folder, "contacts")
        assert result.exit_code == (0 if opens else 1)
        assert typed not in result.stderr
    monkeypatch.delenv(chat_place.DESCRIPTOR, raising=False)
    monkeypatch.setattr(chat_place, "_has_terminal", lambda: False)
    assert "no terminal to ask" in bad("-d", folder, "contacts")
    secret.chmod(0o644)
    assert "others can read" in bad("-d", folder, "--passphrase-file", secret, "contacts")
    monkeypatch.setenv(chat_place.DESCRIPTOR, "none")
    assert "no number of a descriptor" in bad("-d", folder, "contacts")


def chat_place_cost():
    """A passphrase's cost that a test can pay."""
    from ptproxy.peers.store_key import PassphraseCost

    return PassphraseCost(memory=64, iterations=1, lanes=1)


def test_the_key_is_changed(tmp_path: Path, options) -> None:
    good(*options, "passphrase", "--new-key-file", tmp_path / "new.key")
    assert "wrong key file" in bad(*options, "contacts")
    assert good("-d", tmp_path / "anna", "--key-file", tmp_path / "new.key", "contacts")


def test_where_there_is_no_identity_nobody_is_asked(tmp_path: Path) -> None:
    for command in ("contacts", "lines", "invite", "passphrase"):
        assert "ptproxy chat init makes one" in bad("-d", tmp_path, command)
    assert "ptproxy chat init makes one" in bad("-d", tmp_path)


def test_the_screen_needs_a_terminal_and_textual(options, monkeypatch) -> None:
    assert "the screen needs a terminal" in bad(*options)
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("ptproxy.peers.chat.screen"):
            raise ModuleNotFoundError("No module named 'textual'", name="textual")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'ptproxy[chat]'" in bad(*options)


def test_invites_stay_off_the_command_line_and_are_made_offline_too(
    options, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(chat_run, "SETTLE", 0.01)
    assert "could see it" in bad(*options, "add", "ptproxy-contact:abc", status=2)
    assert "starts with" in bad(*options, "add", "-", stdin="nonsense")
    result = run(*options, "invite", "--label", "for Ben")
    assert result.exit_code == 1
    assert "mailbox is not reached" in result.stderr
    line = next(line for line in result.stdout.splitlines() if line.startswith("ptproxy-contact:"))
    assert ContactInvite.parse(line).persons == 1
    assert "█" in result.stdout
    assert "with oneself" in bad(*options, "add", "-", stdin=line)
    assert "with oneself" in bad(*options, "add", "-", stdin=result.stdout)  # its QR code and all
    printed = tmp_path / "printed"
    printed.write_text(result.stdout, encoding="utf-8")
    assert "with oneself" in bad(*options, "add", f"@{printed}")
    assert "with oneself" in bad(*options, "add", "-", stdin=f"{line[:80]}\n  {line[80:]}\n")


def test_an_invite_as_a_picture(options, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(chat_run, "SETTLE", 0.01)
    picture = tmp_path / "invite.png"
    result = run(*options, "invite", "--qr", picture)
    assert "Its QR code is in" in result.stdout
    assert "█" not in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    assert "exists already" in bad(*options, "invite", "--qr", picture)
    assert "FILE.png" in bad(*options, "invite", "--qr", tmp_path / "x.jpg", status=2)
    assert "no folder" in bad(*options, "invite", "--qr", tmp_path / "nowhere" / "x.png")
    assert "█" not in run(*options, "invite", "--no-qr").stdout
    assert "█" in run(*options, "invite", "--qr", "--label", "x").stdout


def test_a_window_that_is_too_small_for_a_code_is_told_what_helps(monkeypatch, capsys) -> None:
    monkeypatch.setattr(chat_run.sys.stdout, "isatty", lambda: True)
    for size, drawn in ((os.terminal_size((100, 32)), False), (os.terminal_size((120, 60)), True)):
        monkeypatch.setattr(chat_run.shutil, "get_terminal_size", lambda size=size: size)
        chat_run._draw_qr("PTPROXY:CONTACT:" + "A" * 620, "--qr FILE.png")
        said = capsys.readouterr().out
        assert ("█" in said) is drawn
        assert ("this window has 100 and 32" in said) is not drawn


def test_who_one_is_and_is_called(options, monkeypatch) -> None:
    monkeypatch.setattr(chat_run, "SETTLE", 0.01)
    assert good(*options, "me").startswith("* you are Anna; contacts are told what you have read\n    ")
    run(*options, "me", "--name", "Anna Lind", "--no-receipts")
    said = good(*options, "me")
    assert said.startswith("* you are Anna Lind; contacts are NOT told")
    assert "nothing to see" in bad(*options, "me", "--name", "\u200b")
    assert good(*options, "me", "--receipts").startswith("* you are Anna Lind; contacts are told")


@pytest.mark.parametrize("command", [("lines",), ("invite", "--no-qr"), ("me", "--name", "Anne")])
def test_a_doubt_at_work_says_how_to_go_on(options, monkeypatch, command) -> None:
    """The messenger's tasks end in a group; what else failed at that moment does not hide the doubt."""

    async def doubtful(_) -> None:
        raise StoreRolledBackError("store: it was put back")

    async def failing(_) -> None:
        raise OSError("at the same moment")

    monkeypatch.setattr(Box, "run", failing)
    monkeypatch.setattr(FormerBoxes, "run", doubtful)
    assert "ptproxy chat --accept put-back goes on" in bad(*options, *command)


def test_a_doubt_on_the_screen_says_how_to_go_on_when_the_screen_is_gone(options, monkeypatch) -> None:
    async def doubtful(messenger, files) -> None:
        raise ExceptionGroup("screen", [OSError(), ExceptionGroup("box", [StoreClonedError("a copy runs")])])

    pytest.importorskip("textual")
    from ptproxy.peers.chat.screen import app

    monkeypatch.setattr(app, "run_screen", doubtful)
    place = chat_place.Place(Path(options[1]), Path(options[3]))
    for stream in (chat_run.sys.stdin, chat_run.sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    with pytest.raises(StartError, match="a copy runs; ptproxy chat --accept copied goes on"):
        chat_run.screen(place)


def test_the_mailbox_moves_to_the_bridge_of_a_link(options, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(chat_run, "SETTLE", 0.01)
    assert "your mailbox is at 127.0.0.1:9\n" in good(*options, "me")
    new = tmp_path / "link"
    new.write_text(LINK.replace(":9?", ":10?"))
    said = run(*options, "me", "--mailbox", f"@{new}")
    assert "your mailbox is at 127.0.0.1:10\n" in said.stdout
    assert "contacts are told when ptproxy chat runs" in said.stderr
    run(*options, "me", "--mailbox", "-", stdin=LINK)
    assert "your mailbox is at 127.0.0.1:9\n" in good(*options, "me")
    assert "LINK: " in bad(*options, "me", "--mailbox", "https://a.example/", status=2)


def test_a_second_program_is_told_so(options, tmp_path: Path) -> None:
    from ptproxy.state import StateFolder

    with StateFolder(tmp_path / "anna"):
        assert "another ptproxy runs" in bad(*options, "contacts")


def test_the_lists_of_contacts_and_numbers(options, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(chat_run, "SETTLE", 0.01)
    other = ("-d", tmp_path / "ben", "--key-file", tmp_path / "ben.key")
    good(*other, "init", "-", "--name", "Ben", stdin=LINK)
    line = next(
        line for line in run(*options, "invite").stdout.splitlines() if line.startswith("ptproxy-contact:")
    )
    path = tmp_path / "invite"
    path.write_text(line)
    assert "* Anna: unverified" in run(*other, "add", f"@{path}", "--name", "Anna").stdout
    said = good(*other, "verify", "Anna", stdin="\n")
    digits = said.splitlines()[1].strip()
    assert len(digits.replace(" ", "")) == 60
    assert "NOT the same" in bad(*other, "verify", "Anna", stdin="12345\n")
    assert "is verified" in good(*other, "verify", "Anna", stdin=f"{digits}\n")
    assert "* Anna: verified" in good(*other, "contacts")
    assert "no contact of that name" in bad(*other, "verify", "Eve")


def test_a_folder_that_was_put_back_is_asked_about_and_begins_anew(
    options, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(chat_run, "SETTLE", 0.01)
    begun = []
    real = Messenger.start_anew

    async def start_anew(messenger: Messenger) -> None:
        before = messenger.ledger.correspondence.bundle()
        await real(messenger)
        begun.append(messenger.ledger.correspondence.bundle() != before)

    monkeypatch.setattr(Messenger, "start_anew", start_anew)
    folder, backup = tmp_path / "anna", tmp_path / "backup"
    shutil.copytree(folder, backup)
    run(*options, "invite")
    assert begun == []
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    said = bad(*options, "contacts")
    assert "ptproxy chat --accept " in said
    accepted = ("--accept", "put-back", "--accept", "copied")
    assert good(*options, *accepted, "contacts") == "* no contacts yet\n"
    assert begun == [True]
    assert good(*options, "contacts") == "* no contacts yet\n"
    assert begun == [True]
