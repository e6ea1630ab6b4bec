"""``ptproxy forward``, ``ptproxy env`` and the settings they share: what they print, take and refuse."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.cli.env import WRITERS, env, macos_on
from ptproxy.cli.forward import forward
from ptproxy.config.forwards import Forward
from ptproxy.config.load import load_client
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import ConfigError, StartError

HERE = Endpoint("127.0.0.1", 1080)


def client_yaml(folder: Path, **changes: str) -> Path:
    key = folder / "client.key"
    key.write_text("K" * 43)
    key.chmod(0o600)
    settings = {
        "role": "client", "listen": "127.0.0.1:1080", "key": "client.key", "state": "state",
        "bridge": f"ptproxy://{'A' * 43}@192.0.2.1:443?codecs=websocket",
    }  # fmt: skip
    lines = [f"{name}: {value}" for name, value in (settings | changes).items()]
    path = folder / "client.yaml"
    path.write_text("\n".join(lines))
    return path


# ---- forwards -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("127.0.0.1:2222 -> example.org:22", "127.0.0.1:2222 -> example.org:22"),
        ("tcp 2222->EXAMPLE.org:22", "127.0.0.1:2222 -> example.org:22"),
        ("udp [::1]:53  ->  [2001:db8::1]:53", "udp [::1]:53 -> [2001:db8::1]:53"),
    ],
)
def test_a_forward_in_a_line(text: str, canonical: str) -> None:
    assert str(Forward.parse(text)) == canonical
    assert Forward.parse(canonical) == Forward.parse(text)


@given(st.text(max_size=60) | st.integers() | st.none())
def test_what_is_no_forward(text: object) -> None:
    try:
        found = Forward.parse(text)
    except ValueError:
        return
    assert Forward.parse(str(found)) == found


def test_the_settings_of_a_configuration(tmp_path: Path) -> None:
    path = client_yaml(
        tmp_path,
        forward="[127.0.0.1:2222 -> example.org:22, udp 127.0.0.1:2222 -> example.org:22]",
        dns="{listen: 127.0.0.1:5300}",
        pac="127.0.0.1:1081",
    )
    config = load_client(path)
    assert [str(each) for each in config.forward] == [
        "127.0.0.1:2222 -> example.org:22", "udp 127.0.0.1:2222 -> example.org:22",
    ]  # fmt: skip
    assert config.dns.listen == Endpoint("127.0.0.1", 5300)
    assert str(config.dns.resolver) == "9.9.9.9:53"
    for name, value, expected in (
        ("forward", "[127.0.0.1:22 > example.org:22]", "expected LOCAL -> TARGET"),
        ("forward", "[127.0.0.1:22 -> a.b:22, 127.0.0.1:22 -> a.b:23]", "stands twice"),
        ("forward", "[unix:/x -> a.b:22]", "is no port"),
        ("dns", "{listen: 0.0.0.0:53}", "only for programs of this machine"),
        ("pac", "0.0.0.0:1081", "only for programs of this machine"),
    ):
        with pytest.raises(ConfigError, match=expected):
            load_client(client_yaml(tmp_path, **{name: value}))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["2222"], "2222 has no target"),
        (["2222", "example.org"], "HOST:PORT"),
        (["70000", "example.org:22"], "the port is a number"),
        ([], "Missing argument"),
    ],
)
def test_a_command_line_that_is_wrong(words: list[str], expected: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(forward, ["-c", str(client_yaml(tmp_path)), *words])
    assert done.exit_code == 2
    assert expected in done.output


# ---- env --------------------------------------------------------------------------------------------


def lines(path: Path, *options: str) -> str:
    done = CliRunner().invoke(env, ["-c", str(path), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_shell_takes_it_on_and_off(tmp_path: Path) -> None:
    path = client_yaml(tmp_path)
    script = lines(path) + "env\n" + lines(path, "--off") + "echo ----\nenv\n"
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(["sh", "-eu", "-c", script], env=clean, capture_output=True, text=True, check=True)
    on, _, off = done.stdout.partition("----")
    for line in (
        "https_proxy=http://127.0.0.1:1080", "HTTP_PROXY=http://127.0.0.1:1080",
        "ALL_PROXY=socks5h://127.0.0.1:1080", "no_proxy=localhost,127.0.0.1,::1",
    ):  # fmt: skip
        assert line in on.split("\n")
    assert "_proxy=" not in off.lower()


def test_what_it_does_not_do(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret words")
    (tmp_path / "password").chmod(0o600)
    path = client_yaml(tmp_path, front="{user: anna, password_file: password}")
    with pytest.raises(StartError, match="not written into variables"):
        lines(path)
    with pytest.raises(StartError, match="another port at each start"):
        lines(client_yaml(tmp_path, listen="127.0.0.1:0"))


@pytest.mark.parametrize("whom", WRITERS)
def test_every_switch_goes_on_and_off(whom: str, tmp_path: Path) -> None:
    path = client_yaml(tmp_path, listen="'[::1]:1080'")
    on, off = lines(path, "--for", whom), lines(path, "--for", whom, "--off")
    assert "::1" in on
    assert "1080" in on
    assert on != off
    assert "1080" not in off


@pytest.mark.program("gsettings")
@pytest.mark.parametrize("off", [(), ("--off",)])
def test_gnome_has_such_settings(off: tuple[str, ...], tmp_path: Path) -> None:
    """Against gsettings itself, in a home of the test's own and without a session's bus."""
    script = lines(client_yaml(tmp_path), "--for", "gnome", *off)
    env_ = os.environ | {"HOME": str(tmp_path), "GSETTINGS_BACKEND": "memory"}
    done = subprocess.run(["sh", "-eu", "-c", script], env=env_, capture_output=True, text=True, check=False)
    if "No such schema" in done.stderr:
        pytest.skip("this machine has no GNOME schemas")
    assert done.returncode == 0, done.stderr


def test_macos_lines_are_a_script(tmp_path: Path) -> None:
    """With a networksetup that only says what it was asked."""
    fake = tmp_path / "networksetup"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = -listallnetworkservices ] && printf "An asterisk\\nWi-Fi\\n*Off\\nUSB LAN\\n" '
        f'|| echo "$@" >> {tmp_path}/asked\n'
    )
    fake.chmod(0o755)
    assert shutil.which("sh")
    path = os.pathsep.join((str(tmp_path), os.environ["PATH"]))
    subprocess.run(["sh", "-eu", "-c", "\n".join(macos_on(HERE))], env={"PATH": path}, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 8
    assert "-setsocksfirewallproxy Wi-Fi 127.0.0.1 1080" in asked
    assert "-setwebproxy USB LAN 127.0.0.1 1080" in asked
