"""What keeps a role from starting is told in one clear line, with a non-zero status and no traceback."""

from __future__ import annotations

import re
import socket

import pytest
from live import HOST, Bridge, Client, Program, free_port, made, ptproxy

SOMEBODY_ELSE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
"""32 bytes in base64url that are neither this bridge's key nor its certificate's hash."""
NOBODY = "A" * 43
"""32 bytes that cannot be a public key: X25519 with it gives zero."""


@pytest.fixture
def stopped_bridge(tmp_path):
    """A bridge that could run and does not."""
    return Bridge(tmp_path / "bridge")


@pytest.fixture
def client_of(tmp_path):
    """Makes a client for a link."""
    return lambda link, **changes: Client(tmp_path / "client", link, "websocket", **changes)


def complaint(role, config):
    """The one line in which ``ptproxy ROLE -c config`` says why it does not start."""
    done = ptproxy(role, "-c", config)
    assert done.returncode not in (0, None)
    assert done.returncode > 0
    assert "Traceback" not in done.stderr
    assert "listening on" not in done.stdout
    lines = [line for line in done.stderr.splitlines() if not re.search(r"\[(info|warning|debug) ", line)]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_what_starts_otherwise(stopped_bridge, client_of):
    """The same pair starts when nothing is wrong: each complaint below has its own cause."""
    with stopped_bridge, client_of(stopped_bridge.link):
        pass


@pytest.mark.parametrize("role", ["bridge", "client"])
class TestKeys:
    def config(self, role, bridge, client_of):
        return (bridge if role == "bridge" else client_of(bridge.link)).config

    def test_a_missing_key(self, role, stopped_bridge, client_of):
        config = self.config(role, stopped_bridge, client_of)
        key = config.with_name(f"{role}.key")
        key.unlink()
        line = complaint(role, config)
        assert re.match(rf"{config}:\d+: key: ", line)
        assert str(key) in line

    def test_a_key_that_others_can_read(self, role, stopped_bridge, client_of):
        config = self.config(role, stopped_bridge, client_of)
        config.with_name(f"{role}.key").chmod(0o644)
        line = complaint(role, config)
        assert re.match(rf"{config}:\d+: key: ", line)
        assert "chmod 0600" in line

    def test_a_key_that_is_none(self, role, stopped_bridge, client_of):
        config = self.config(role, stopped_bridge, client_of)
        secret = "not-a-key-but-perhaps-a-secret"
        config.with_name(f"{role}.key").write_text(secret)
        line = complaint(role, config)
        assert re.match(rf"{config}:\d+: key: ", line)
        assert secret not in line


class TestPorts:
    def test_a_bridge_whose_port_is_taken(self, stopped_bridge):
        host, port = stopped_bridge.address.split(":")
        with socket.socket() as sock:
            sock.bind((host, int(port)))
            sock.listen()
            line = complaint("bridge", stopped_bridge.config)
        assert f"cannot listen on {stopped_bridge.address}" in line
        assert "another program" in line

    def test_a_client_whose_port_is_taken(self, stopped_bridge, client_of):
        with socket.socket() as sock:
            sock.bind((HOST, 0))
            sock.listen()
            address = f"{HOST}:{sock.getsockname()[1]}"
            line = complaint("client", client_of(stopped_bridge.link, listen=address).config)
        assert f"cannot listen on {address}" in line

    def test_a_state_folder_that_is_in_use(self, stopped_bridge, tmp_path):
        with stopped_bridge:
            stopped_bridge.change(listen=f"{HOST}:{free_port()}")
            line = complaint("bridge", stopped_bridge.config)
        assert str(stopped_bridge.folder / "state") in line


class TestWrongBridges:
    def test_nobody_is_there(self, stopped_bridge, client_of):
        """The client's port listens, it says what is wrong, and goes on trying."""
        client = client_of(stopped_bridge.link)
        with client:
            told = client.program.logged()  # it listens, and had said so before
            assert "runs without its bridge" in told
            assert f"the bridge at {stopped_bridge.address} is not reached: " in told
            assert "refused" in told

    @pytest.mark.parametrize("key", [SOMEBODY_ELSE, NOBODY])
    @pytest.mark.parametrize("codec", ["websocket", "http", "random"])
    def test_it_has_another_key(self, stopped_bridge, tmp_path, codec, key):
        link = re.sub(r"//[^@]*@", f"//{key}@", stopped_bridge.link)
        client = Client(tmp_path / "client", link, codec)
        with stopped_bridge:
            line = complaint("client", client.config)
        assert stopped_bridge.address in line

    def test_it_has_another_certificate(self, stopped_bridge, client_of):
        link = re.sub(r"cert=[^&]*", f"cert={SOMEBODY_ELSE}", stopped_bridge.link)
        with stopped_bridge:
            line = complaint("client", client_of(link).config)
        assert stopped_bridge.address in line
        assert "certificate" in line

    def test_its_certificate_is_nobody_s(self, stopped_bridge, client_of):
        with stopped_bridge:
            line = complaint("client", client_of(stopped_bridge.link, tls__trust="system").config)
        assert stopped_bridge.address in line
        assert "certificate" in line

    def test_it_has_another_path(self, stopped_bridge, client_of):
        link = re.sub(r"path=[^&]*", "path=/somewhere/else", stopped_bridge.link)
        with stopped_bridge:
            line = complaint("client", client_of(link).config)
        assert stopped_bridge.address in line

    def test_something_else_listens_there(self, stopped_bridge, client_of, echo):
        link = stopped_bridge.link.replace(stopped_bridge.address, f"{HOST}:{echo}")
        line = complaint("client", client_of(link).config)
        assert f"{HOST}:{echo}" in line


class TestConfigurations:
    def test_every_error_is_told_with_its_line(self, stopped_bridge):
        text = stopped_bridge.config.read_text()
        text = text.replace("mode: standalone", "mode: standalon").replace("access: open", "acess: open")
        stopped_bridge.config.write_text(text.replace("streams: 1024", "streams: many"))
        lines = text.splitlines()
        at = {
            word: next(n for n, line in enumerate(lines, 1) if word in line)
            for word in ("mode:", "acess:", "streams:")
        }
        for command in (("bridge", "-c"), ("check",)):
            done = ptproxy(*command, stopped_bridge.config)
            assert done.returncode > 0
            told = done.stderr.splitlines()
            assert len(told) == 3, done.stderr
            assert any(
                line.startswith(f"{stopped_bridge.config}:{at['mode:']}: mode: ") and "standalone" in line
                for line in told
            )
            assert any(
                line.startswith(f"{stopped_bridge.config}:{at['acess:']}: acess: ")
                and "access" in line.split(": ", 2)[2]
                for line in told
            )
            assert any(
                line.startswith(f"{stopped_bridge.config}:{at['streams:']}: limits.streams: ")
                for line in told
            )

    def test_the_other_role_s_file(self, stopped_bridge):
        assert complaint("client", stopped_bridge.config).startswith(f"{stopped_bridge.config}:")

    def test_a_file_that_is_no_yaml(self, tmp_path):
        config = tmp_path / "broken.yaml"
        config.write_text("role: bridge\nlisten: [0.0.0.0:443\nmode: standalone\n")
        assert re.match(rf"{config}:\d+: not valid YAML", complaint("bridge", config))

    def test_a_file_that_is_not_there(self, tmp_path):
        assert "missing.yaml" in complaint("bridge", tmp_path / "missing.yaml")

    def test_what_init_writes_is_fine(self, stopped_bridge, client_of):
        assert "is fine" in made("check", stopped_bridge.config)
        assert "is fine" in made("check", client_of(stopped_bridge.link).config)

    def test_a_damaged_link(self, stopped_bridge, tmp_path):
        done = ptproxy("init", "client", tmp_path / "client", "-", stdin=stopped_bridge.link[:-5])
        assert done.returncode > 0
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "client").exists()


def test_nothing_is_left_running():
    """Tests of this module stop what they start."""
    assert Program.started == []
