"""``init bridge --behind``: the files for nginx, caddy and haproxy, judged by those programs."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ptproxy.cli.check import load_checked
from ptproxy.cli.main import program
from ptproxy.cli.web_server import DEFAULT_LISTEN, SERVERS, WebServer
from ptproxy.codec.cookie import NAMES, session_cookie_name
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.model import BridgeConfig
from ptproxy.config.quantities import Endpoint, SiteUrl, parse_listen
from ptproxy.tunnel.certificate import self_signed

CONFIGS = Path(__file__).parent.parent.parent / "configs"
EXAMPLE = CodecSettings.of("example.org", 443, "/assets/live")
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
ODD_PATHS = ("/a.b/c", "/it's/$uri", "/a(b)*c+d", "/~!,;=:@x", "/" + "long" * 60)
"""Secret paths with everything that means something in a configuration."""

each_server = pytest.mark.parametrize(
    "server", [pytest.param(name, marks=pytest.mark.program(name)) for name in SERVERS]
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate; its key and both together are beside it."""
    folder = tmp_path_factory.mktemp("certificate")
    pem, key = self_signed("example.org", datetime.now(UTC), random.SystemRandom())
    for name, content in (("front.pem", pem), ("front.key", key), ("front.both", pem + key)):
        (folder / name).write_bytes(content)
    return folder / "front.pem"


def init(*options: str | Path) -> Result:
    return CliRunner().invoke(program, ["init", "bridge", *map(str, options), "--no-qr"])


def accepted(folder: Path, certificate: Path, server: str) -> str:
    """What the program says of the example beside the files in ``folder``; "" where it takes them."""
    names = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg"}
    text = (CONFIGS / names[server]).read_text()
    text = text.replace("/etc/letsencrypt/live/example.org/fullchain.pem", str(certificate))
    text = text.replace("/etc/letsencrypt/live/example.org/privkey.pem", str(certificate.with_suffix(".key")))
    text = text.replace("/etc/haproxy/example.org.pem", str(certificate.with_suffix(".both")))
    if server == "haproxy":  # the lines are pasted there
        before, _, rest = text.partition("    # haproxy in front of")
        after = rest[rest.index("    default_backend") :]
        text = before + (folder / "haproxy-frontend.cfg").read_text() + after
    config = folder / names[server]
    config.write_text(text)
    temporary = "".join(
        f" {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    if server == "nginx":
        config.write_text(text.replace("http {", f"http {{ access_log off;{temporary}", 1))
    argv = {
        "nginx": ["nginx", "-t", "-p", folder, "-c", config, "-g",
                  f"pid {folder}/pid; error_log {folder}/error.log;"],
        "caddy": ["caddy", "validate", "--adapter", "caddyfile", "--config", config],
        "haproxy": ["haproxy", "-c", "-f", config, "-f", folder / "haproxy-backend.cfg"],
    }[server]  # fmt: skip
    home = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    done = subprocess.run(
        list(map(str, argv)), env=ENVIRONMENT | home, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stderr


def put_down(server: WebServer, folder: Path) -> None:
    for name, text in server.files().items():
        (folder / name).write_text(text)


@each_server
def test_what_init_writes_is_accepted(tmp_path: Path, certificate: Path, server: str) -> None:
    done = init(
        tmp_path, "--address", "example.org:443", "--behind", server, "--front-certificate", certificate,
        "--path", "/assets/live",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    config = load_checked(tmp_path / "bridge.yaml")
    assert isinstance(config, BridgeConfig)
    assert (config.mode, str(config.listen[0]), config.keepalive) == ("behind", DEFAULT_LISTEN[server], 0.0)
    assert config.codecs == ("websocket", "http")
    files = WebServer(server, EXAMPLE, parse_listen(DEFAULT_LISTEN[server])).files()
    for name, text in files.items():
        assert (tmp_path / name).read_text() == text
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert name in done.output
        assert name in (tmp_path / "bridge.yaml").read_text()
    assert "proxy_pass" not in (tmp_path / "bridge.yaml").read_text()
    assert accepted(tmp_path, certificate, server) == ""


@each_server
def test_the_examples_are_what_init_writes(tmp_path: Path, certificate: Path, server: str) -> None:
    for name, text in WebServer(server, EXAMPLE, parse_listen(DEFAULT_LISTEN[server])).files().items():
        if name == "haproxy-frontend.cfg":
            assert text in (CONFIGS / "haproxy.cfg").read_text()
        else:
            assert (CONFIGS / name).read_text() == text
    for path in CONFIGS.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    put_down(WebServer(server, EXAMPLE, parse_listen(DEFAULT_LISTEN[server])), tmp_path)
    assert accepted(tmp_path, certificate, server) == ""


@each_server
@pytest.mark.parametrize("path", ODD_PATHS)
def test_any_path_is_said_in_each_language(tmp_path: Path, certificate: Path, server: str, path: str) -> None:
    settings = CodecSettings.of("example.org", 8443, path)
    site = SiteUrl("https", "::1", 8444)
    put_down(WebServer(server, settings, Endpoint("::1", 9443), site), tmp_path)
    assert accepted(tmp_path, certificate, server) == ""


@each_server
def test_a_mistake_would_be_noticed(tmp_path: Path, certificate: Path, server: str) -> None:
    put_down(WebServer(server, EXAMPLE, parse_listen(DEFAULT_LISTEN[server])), tmp_path)
    for path in tmp_path.iterdir():
        path.write_text(path.read_text() + "\n    nonsense here\n")
    assert accepted(tmp_path, certificate, server)


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_is_left_to_fill_in(server: str) -> None:
    for text in WebServer(server, EXAMPLE, Endpoint("localhost", 9443)).files().values():
        assert not re.search(r"<[a-z ]+>", text)
        assert "/run/ptproxy" not in text


@pytest.mark.parametrize("number", range(len(NAMES)))
@pytest.mark.parametrize("server", SERVERS)
def test_the_gate_asks_for_the_cookie_that_clients_send(server: str, number: int) -> None:
    """Whatever name the link's host and path give, dots included."""
    settings = next(
        settings
        for settings in (CodecSettings.of("example.org", 443, f"/x/{n}") for n in range(10_000))
        if session_cookie_name(settings) == NAMES[number]
    )
    text = "".join(WebServer(server, settings, parse_listen(DEFAULT_LISTEN[server])).files().values())
    name = NAMES[number]
    if server == "haproxy":
        assert f"req.cook({name}) -m reg" in text
        assert f"req.cook({name}.0) -m reg" in text
    else:
        assert f"{re.escape(name)}(\\.0)?=[A-Za-z0-9_-]{{24,}}(;|$)" in text


def test_a_cdn_in_front_as_well(tmp_path: Path) -> None:
    done = init(tmp_path, "--address", "example.org:443", "--behind", "nginx", "--cdn")
    assert done.exit_code == 0, done.output
    config = load_checked(tmp_path / "bridge.yaml")
    assert isinstance(config, BridgeConfig)
    assert (config.seal, config.tls.binding, config.keepalive) == (True, "none", 10.0)


def test_haproxys_site_is_the_one_named(tmp_path: Path, certificate: Path) -> None:
    done = init(
        tmp_path, "--address", "example.org:443", "--behind", "haproxy", "--front-certificate", certificate,
        "--site", "https://[::1]:8443",
    )  # fmt: skip
    assert "Strangers see https://[::1]:8443" in done.output
    assert (
        "server site [::1]:8443 ssl verify none sni str(::1)"
        in (tmp_path / "haproxy-backend.cfg").read_text()
    )
    config = load_checked(tmp_path / "bridge.yaml")
    assert isinstance(config, BridgeConfig)
    assert config.site is None


def test_files_that_are_there_stay(tmp_path: Path, certificate: Path) -> None:
    (tmp_path / "ptproxy.caddy").write_text("mine")
    options = ("--address", "a.org:443", "--behind", "caddy", "--front-certificate", certificate)
    done = init(tmp_path, *options)
    assert done.exit_code != 0
    assert (tmp_path / "ptproxy.caddy").read_text() == "mine"
    assert not (tmp_path / "bridge.yaml").exists()
    assert init(tmp_path, *options, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--behind", "apache"], "'apache' is not one of 'nginx', 'caddy', 'haproxy'"),
        (["--behind", "nginx", "--mode", "standalone", "--cdn"], "leave out --mode"),
        (["--behind", "nginx"], "--behind nginx needs --front-certificate"),
        (["--behind", "nginx", "--cdn", "--codec", "random"], "passes only HTTP"),
        (["--behind", "nginx", "--cdn", "--site", "http://127.0.0.1:1"], "leave out --site"),
        (["--behind", "haproxy", "--cdn", "--site", "builtin"], "takes the URL of the web server behind it"),
        (["--mode", "behind", "--cdn", "--site", "builtin"], "leave out --site"),
        (
            ["--behind", "caddy", "--cdn", "--listen", "0.0.0.0:9443"],
            "only the web server may reach the bridge",
        ),
        (["--mode", "behind", "--cdn", "--listen", "[::]:9443"], "only the web server may reach the bridge"),
        (["--behind", "caddy", "--cdn", "--listen", "unix:/a b/c"], "without spaces"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    done = init(tmp_path / "b", "--address", "example.org:443", *options)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not (tmp_path / "b").exists()


def test_a_relative_socket_is_this_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = init(
        "b", "--address", "example.org:443", "--behind", "haproxy", "--cdn", "--listen", "unix:x.sock"
    )
    assert done.exit_code == 0, done.output
    config = load_checked(tmp_path / "b" / "bridge.yaml")
    assert isinstance(config, BridgeConfig)
    assert f"unix@{config.listen[0].unix}" in (tmp_path / "b" / "haproxy-backend.cfg").read_text()
