"""``ptproxy env``: what tells other programs to use the client, as commands to paste or evaluate."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from ptproxy.cli.words import FILE
from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import StartError

HERE: Final = ("localhost", "127.0.0.1", "::1")
"""What is not to go through the proxy: this machine."""
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}

Lines = list[str]


def variables(proxy: Endpoint) -> dict[str, str]:
    """The variables that programs look at. curl wants the first two in lower case, most take both."""
    socks, http = f"socks5h://{proxy}", f"http://{proxy}"
    values = {"http_proxy": http, "https_proxy": http, "all_proxy": socks, "no_proxy": ",".join(HERE)}
    return values | {name.upper(): value for name, value in values.items()}


def shell_on(proxy: Endpoint) -> Lines:
    """bash, zsh, dash."""
    return [f"export {name}={shlex.quote(value)}" for name, value in variables(proxy).items()]


def shell_off(proxy: Endpoint) -> Lines:
    """The same, undone."""
    return [f"unset {' '.join(variables(proxy))}"]


def fish_on(proxy: Endpoint) -> Lines:
    """fish."""
    return [f"set -gx {name} '{value}'" for name, value in variables(proxy).items()]


def fish_off(proxy: Endpoint) -> Lines:
    """The same, undone."""
    return [f"set -e {name}" for name in variables(proxy)]


def powershell_on(proxy: Endpoint) -> Lines:
    """PowerShell, where upper and lower case are one."""
    return [f"$env:{name} = '{value}'" for name, value in variables(proxy).items() if name.isupper()]


def powershell_off(proxy: Endpoint) -> Lines:
    """The same, undone."""
    names = [name for name in variables(proxy) if name.isupper()]
    return [f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in names]


def gnome_on(proxy: Endpoint) -> Lines:
    """GNOME's settings, which its programs and Chromium follow."""
    hosts = "[" + ", ".join(f"'{host}'" for host in HERE) + "]"
    lines = [f'gsettings set org.gnome.system.proxy ignore-hosts "{hosts}"']
    for kind in ("http", "https", "socks"):
        lines += [
            f"gsettings set org.gnome.system.proxy.{kind} host '{proxy.host}'",
            f"gsettings set org.gnome.system.proxy.{kind} port {proxy.port}",
        ]
    return [*lines, "gsettings set org.gnome.system.proxy mode 'manual'"]


def gnome_off(proxy: Endpoint) -> Lines:
    """The same, undone."""
    del proxy
    return ["gsettings set org.gnome.system.proxy mode 'none'"]


_EACH_SERVICE: Final = (
    "networksetup -listallnetworkservices | tail -n +2 | grep -v '^\\*' | while read -r s; do"
)


def macos_on(proxy: Endpoint) -> Lines:
    """Every network service of macOS."""
    at = f"{proxy.host} {proxy.port}"
    return [
        _EACH_SERVICE,
        f'  networksetup -setsocksfirewallproxy "$s" {at}',
        f'  networksetup -setwebproxy "$s" {at}',
        f'  networksetup -setsecurewebproxy "$s" {at}',
        f'  networksetup -setproxybypassdomains "$s" {" ".join(HERE)}',
        "done",
    ]


def macos_off(proxy: Endpoint) -> Lines:
    """The same, undone."""
    del proxy
    kinds = ("socksfirewall", "web", "secureweb")
    return [_EACH_SERVICE, *(f'  networksetup -set{kind}proxystate "$s" off' for kind in kinds), "done"]


_INTERNET_SETTINGS: Final = r"HKCU:\Software\Microsoft\Windows\CurrentVersion\Internet Settings"


def windows_on(proxy: Endpoint) -> Lines:
    """Windows' own setting, in PowerShell. It knows only SOCKS4, so the HTTP proxy is named."""
    return [
        f"$s = '{_INTERNET_SETTINGS}'",
        f"Set-ItemProperty $s ProxyServer '{proxy}'",
        "Set-ItemProperty $s ProxyOverride 'localhost;127.*;[::1];<local>'",
        "Set-ItemProperty $s ProxyEnable 1",
    ]


def windows_off(proxy: Endpoint) -> Lines:
    """The same, undone."""
    del proxy
    return [f"Set-ItemProperty '{_INTERNET_SETTINGS}' ProxyEnable 0"]


WRITERS: Final[dict[str, tuple[Callable[[Endpoint], Lines], Callable[[Endpoint], Lines]]]] = {
    "sh": (shell_on, shell_off),
    "fish": (fish_on, fish_off),
    "powershell": (powershell_on, powershell_off),
    "gnome": (gnome_on, gnome_off),
    "macos": (macos_on, macos_off),
    "windows": (windows_on, windows_off),
}
"""For whom, how it is switched on and off."""


@click.command()
@click.option(
    "-c", "--config", "path", type=FILE, required=True, help="The client's configuration, for its port."
)
@click.option(
    "--for", "whom", type=click.Choice(list(WRITERS)), default="sh", show_default=True,
    help="A shell's variables, or a whole desktop's setting.",
)  # fmt: skip
@click.option("--off", is_flag=True, help="The commands that undo it.")
def env(path: Path, whom: str, off: bool) -> None:
    """Print the commands that make other programs use a client.

    \b
      eval "$(ptproxy env -c client.yaml)"              # this shell and what it starts
      ptproxy env -c client.yaml --for gnome | sh       # the desktop; --off undoes it
    """
    from ptproxy.config.load import load_client

    config = load_client(path)
    for line in WRITERS[whom][off](proxy_of(config)):
        click.echo(line)


def proxy_of(config: ClientConfig) -> Endpoint:
    """Where other programs reach the client; StartError where they could not."""
    if config.front.user is not None:
        raise StartError(
            "front.user: a password is not written into variables or settings that other programs can read; "
            "for this, let the port be open to this machine alone"
        )
    endpoint = config.listen[0]
    if not endpoint.port:
        raise StartError(f"listen: {endpoint} is another port at each start: choose one")
    return Endpoint(ANYWHERE.get(endpoint.host, endpoint.literal), endpoint.port)
