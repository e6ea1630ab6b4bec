"""``ptproxy env`` with the shells and the desktop it writes for: what they have then, and that it goes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from live import ENVIRONMENT, HOST, PATIENCE, ROOT, made

PORT = 1080
SETTINGS = f"""
role: client
listen: {HOST}:{PORT}
key: client.key
state: state
bridge: ptproxy://{"A" * 43}@192.0.2.1:443?codecs=websocket
"""


@pytest.fixture
def config(tmp_path):
    """A client's configuration; no client runs."""
    key = tmp_path / "client.key"
    key.write_text("K" * 43)
    key.chmod(0o600)
    (tmp_path / "client.yaml").write_text(SETTINGS)
    return tmp_path / "client.yaml"


def run(shell: str, script: str, **environment: str) -> str:
    done = subprocess.run(
        [shell, "-c", script],
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def proxies(environment: str) -> set[str]:
    return {line for line in environment.splitlines() if line.split("=")[0].lower().endswith("_proxy")}


@pytest.mark.program("fish")
def test_fish_has_what_sh_has(config, tmp_path):
    command = f"{sys.executable} -m ptproxy env -c {config}"
    fish = run("fish", f"{command} --for fish | source; env", HOME=str(tmp_path))
    sh = run("sh", f'eval "$({command})"; env')
    assert proxies(fish) == proxies(sh)
    assert f"all_proxy=socks5h://{HOST}:{PORT}" in proxies(fish)
    undone = run(
        "fish", f"{command} --for fish | source; {command} --for fish --off | source; env", HOME=str(tmp_path)
    )
    assert proxies(undone) == set()


@pytest.mark.program("gsettings")
def test_gnome_keeps_what_it_is_told(config, tmp_path):
    """In settings of the test's own: a file instead of the session's database."""
    where = {
        "GSETTINGS_BACKEND": "keyfile",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "HOME": str(tmp_path),
    }
    asked = "; ".join(
        f"gsettings get org.gnome.system.proxy{name}"
        for name in (" mode", ".socks host", ".socks port", ".http host", ".https port", " ignore-hosts")
    )
    if subprocess.run(["sh", "-c", asked], env=ENVIRONMENT, capture_output=True, check=False).returncode:
        pytest.skip("this machine has no GNOME schemas")
    on = run("sh", made("env", "-c", config, "--for", "gnome") + asked, **where)
    here = "['localhost', '127.0.0.1', '::1']"
    assert on.splitlines() == ["'manual'", f"'{HOST}'", str(PORT), f"'{HOST}'", str(PORT), here]
    off = run("sh", made("env", "-c", config, "--for", "gnome", "--off") + asked, **where)
    assert off.splitlines()[0] == "'none'"
