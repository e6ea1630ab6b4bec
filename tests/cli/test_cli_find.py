"""``ptproxy invite`` in an operator's folder and ``ptproxy dht``: what they say, write and refuse."""

from __future__ import annotations

import io
import random
import re
import sys

from PIL import Image
from test_cli_commands import good, run

from ptproxy.auth.credentials import encode_key as encoded
from ptproxy.cli import given
from ptproxy.config.link import Link
from ptproxy.config.load import load_client
from ptproxy.dht.invite import Invite
from ptproxy.dht.signing import SigningKey
from ptproxy.peers.chat.qr import qr_png
from ptproxy.peers.find_list import BridgeList
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.state import Document, StateFolder

HOST = "127.0.0.1"


def invite_of(said):
    return re.search(r"ptproxy-invite:\S+", said)[0]


def test_commands_for_people(tmp_path):
    """What the commands say without a network: usage, lists, refusals."""
    operator = tmp_path / "operator"
    link = f"ptproxy://{encoded(random.Random(1).randbytes(32))}@{HOST}:443?codecs=websocket"
    other = f"ptproxy://{encoded(random.Random(2).randbytes(32))}@{HOST}:444?codecs=websocket"
    good("invite", "init", operator, "-", stdin=link)
    assert run("invite", "init", operator, link).exit_code == 1
    assert "no bucket yet" in run("invite", "new", operator).stderr
    assert "LINK" in run("invite", "bucket", operator, "friends", "nonsense").stderr
    assert "one to 3" in run("invite", "bucket", operator, "friends", link, link).stderr
    good("invite", "bucket", operator, "friends", link)
    text = invite_of(good("invite", "new", operator, "--name", "anna"))
    assert [bridge.serialize() for bridge in Invite.parse(text).bridges] == [link]
    good("invite", "bucket", operator, "club", other)
    assert "--bucket" in run("invite", "new", operator).stderr
    listed = good("invite", "list", operator)
    assert "anna" in listed
    assert "not yet" in listed
    assert "no invite matches" in run("invite", "revoke", operator, "nobody").stderr
    assert "no bridge" in good("invite", "revoke", operator, "anna")
    assert "revoked" in good("invite", "list", operator)
    for path in operator.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    good("init", "client", tmp_path / "client", "-", stdin=text)
    assert (tmp_path / "client" / "client.invite").stat().st_mode & 0o077 == 0
    assert f"{HOST}:443" in good("dht", "show", tmp_path / "client")
    good("check", tmp_path / "client" / "client.yaml")
    damaged = text[:-9] + ("A" if text[-9] != "A" else "B") + text[-8:]
    for command in (("dht", "find", "-"), ("init", "client", tmp_path / "other", "-")):
        refused = run(*command, stdin=damaged)
        assert refused.exit_code == 2
        assert "damaged" in refused.stderr
        assert text[20:60] not in refused.stderr


def link_of(number):
    return f"ptproxy://{encoded(random.Random(number).randbytes(32))}@{HOST}:{4000 + number}?codecs=websocket"


def test_a_list_of_bridges_is_signed_shown_and_checked(tmp_path):
    folder, three = tmp_path / "club", "\n".join(map(link_of, (1, 2, 3)))
    said = good("dht", "list", "sign", folder, "-", stdin=f"# ours\n{three}\n")
    key = re.search(r"list_key: (\S+)", said)[1]
    assert (folder / "bridges.key").stat().st_mode & 0o077 == 0
    shown = good("dht", "list", "show", f"@{folder / 'bridges.list'}", "--key", key)
    assert shown.count(HOST) == 3
    assert "ptproxy://" not in shown
    links = good("dht", "list", "show", "-", "--links", stdin=(folder / "bridges.list").read_text())
    assert links.split() == three.split()
    first = BridgeList.parse((folder / "bridges.list").read_text(), BridgeList.signer(
        (folder / "bridges.list").read_text()), 0.0)  # fmt: skip
    good("dht", "list", "sign", folder, link_of(4))
    again = BridgeList.parse((folder / "bridges.list").read_text(), first.key, 0.0)
    assert again.sequence > first.sequence
    other = good("dht", "list", "sign", tmp_path / "other", link_of(4))
    stranger = re.search(r"list_key: (\S+)", other)[1]
    refused = run("dht", "list", "show", f"@{folder / 'bridges.list'}", "--key", stranger)
    assert refused.exit_code == 1
    assert "another signer's" in refused.stderr
    text = (folder / "bridges.list").read_text().strip()
    assert "damaged" in run("dht", "list", "show", "-", stdin=text[:-20] + "\n").stderr
    (folder / "bridges.key").unlink()
    assert "put that key" in run("dht", "list", "sign", folder, link_of(4)).stderr


def test_a_list_that_is_over_is_told_as_such(tmp_path):
    signer = SigningKey(bytes(32))
    text = BridgeList.sign(signer, 1, 5, (Link.parse(link_of(1)),))
    (tmp_path / "list").write_text(text)
    refused = run("dht", "list", "show", "--links", f"@{tmp_path / 'list'}")
    assert refused.exit_code == 1
    assert "(over)" in refused.output
    assert "ptproxy://" not in refused.output


def test_links_are_read_out_of_what_surrounds_them(tmp_path):
    """A file that commands were written into, a pipe, a picture of a QR code."""
    link = link_of(7)
    (tmp_path / "said.txt").write_text(f"Lets in one client.\n\n{link}\n\n")
    (tmp_path / "code.png").write_bytes(qr_png(link))
    good("init", "client", tmp_path / "a", f"@{tmp_path / 'said.txt'}")
    good("init", "client", tmp_path / "b", f"@{tmp_path / 'code.png'}")
    good("init", "client", tmp_path / "c", "-", stdin=f"Here:\n{link}\n")
    for name in "abc":
        assert load_client(tmp_path / name / "client.yaml").bridge.serialize() == link
    operator = tmp_path / "operator"
    good("invite", "init", operator, f"@{tmp_path / 'said.txt'}")
    good("invite", "bucket", operator, "friends", f"@{tmp_path / 'code.png'}", "-", stdin=link_of(8))
    text = invite_of(good("invite", "new", operator, "--no-qr"))
    (tmp_path / "invite.png").write_bytes(qr_png(text))
    good("init", "client", tmp_path / "d", f"@{tmp_path / 'invite.png'}")
    assert (tmp_path / "d" / "client.invite").read_text().strip() == text


def test_pictures_that_say_nothing(tmp_path, monkeypatch):
    (tmp_path / "empty.png").write_bytes(picture())
    assert "no QR code" in run("init", "client", tmp_path / "x", f"@{tmp_path / 'empty.png'}").stderr
    (tmp_path / "cut.png").write_bytes(qr_png("x")[:60])
    assert "damaged" in run("init", "client", tmp_path / "x", f"@{tmp_path / 'cut.png'}").stderr
    monkeypatch.setattr(given, "MAX_PIXELS", 100)
    assert "too many" in run("init", "client", tmp_path / "x", f"@{tmp_path / 'empty.png'}").stderr
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    assert "ptproxy[qr]" in run("init", "client", tmp_path / "x", f"@{tmp_path / 'empty.png'}").stderr
    assert not (tmp_path / "x").exists()


def picture():
    data = io.BytesIO()
    Image.new("L", (64, 64), 255).save(data, "PNG")
    return data.getvalue()


def test_files_that_are_not_there(tmp_path):
    for command in (("init", "client", tmp_path / "x"), ("invite", "init", tmp_path / "y"), ("dht", "find")):
        refused = run(*command, f"@{tmp_path / 'nothing'}")
        assert refused.exit_code == 1
        assert "cannot read" in refused.stderr


def test_a_directory_is_forgotten_by_whoever_asks_for_it(tmp_path):
    good("init", "client", tmp_path / "client", "-", stdin=link_of(1))
    place = load_client(tmp_path / "client" / "client.yaml").state
    with StateFolder(place) as state:
        state.document("directory").write(KnownNetwork(bytes(range(32))).to_dict())
    good("dht", "forget", tmp_path / "client")
    assert KnownNetwork.from_dict(Document(place, "directory").read()).key == b""
    good("invite", "init", tmp_path / "operator", "-", stdin=link_of(1))
    good("dht", "forget", tmp_path / "operator")


def test_a_file_cannot_name_another_one(tmp_path):
    (tmp_path / "link").write_text(link_of(1))
    (tmp_path / "other").write_text(f"@{tmp_path / 'link'}")
    assert run("init", "client", tmp_path / "x", f"@{tmp_path / 'other'}").exit_code == 2
    assert run("init", "client", tmp_path / "x", "-", stdin=f"@{tmp_path / 'link'}\n").exit_code == 2
