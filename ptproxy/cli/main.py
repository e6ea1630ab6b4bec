"""The program: sub-commands that are imported when used, and one line for every failure."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from ptproxy import __version__
from ptproxy.errors import ConfigError, PtproxyError

USAGE_STATUS: Final = 2
"""Exit status for wrong usage and wrong configurations."""
FAILURE_STATUS: Final = 1
"""Exit status for everything else that fails."""
INTERRUPTED_STATUS: Final = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""

COMMANDS: Final = {
    "init": ("ptproxy.cli.init:init", "Write keys and a configuration for a bridge or a client."),
    "bridge": ("ptproxy.cli.run:bridge", "Run a bridge."),
    "client": ("ptproxy.cli.run:client", "Run a client: a local SOCKS and HTTP proxy."),
    "page": ("ptproxy.cli.page:page", "Run a client from a page in the browser."),
    "forward": ("ptproxy.cli.forward:forward", "Let ports of this machine stand for targets."),
    "reverse": ("ptproxy.cli.reverse:reverse", "Offer services of this machine at the bridge."),
    "env": ("ptproxy.cli.env:env", "Print the commands that make other programs use a client."),
    "status": ("ptproxy.cli.status:status", "Show what a running bridge or client is doing."),
    "reload": ("ptproxy.cli.reload:reload", "Have a running role read its configuration again."),
    "doctor": ("ptproxy.cli.doctor:doctor", "Find what is wrong, and what to do about it."),
    "check": ("ptproxy.cli.check:check", "Check a configuration without running it."),
    "inspect": ("ptproxy.cli.inspect:inspect", "See your own bridge and client as a censor does."),
    "invite": ("ptproxy.cli.invite:invite", "Invite clients to a bridge, list and revoke them."),
    "account": (
        "ptproxy.cli.account:account",
        "Limit what clients of a bridge may use, and see what they did.",
    ),
    "dht": ("ptproxy.cli.dht:dht", "Find bridges that have moved; publish them."),
    "directory": ("ptproxy.cli.directory:directory", "Run a node of the directory of bridges."),
    "tor-pt": ("ptproxy.cli.tor_pt:tor_pt", "Be tor's transport; tor starts it."),
    "sip003": ("ptproxy.cli.sip003:sip003", "Be Shadowsocks' plugin; Shadowsocks starts it."),
    "chat": ("ptproxy.cli.chat:chat", "Talk to people, end to end, through bridges."),
    "completion": ("ptproxy.cli.completion:completion", "Print a shell's completion script."),
    "manual": ("ptproxy.cli.manual:manual", "Write a manual page for every command."),
}
"""Where each command is, and its line in the program's help."""


class Program(click.Group):
    """A group that imports a command when it is called, and tells failures in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and leave with the status; the only place that turns errors into text."""
        kwargs["standalone_mode"] = False
        try:
            result = super().main(*args, **kwargs)
            status = result if isinstance(result, int) else 0
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on: nothing to flush at exit
            status = FAILURE_STATUS
        except click.exceptions.Exit as error:
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            status = INTERRUPTED_STATUS
        except Exception as error:
            status = tell(error)
        sys.exit(status)


def tell(error: Exception) -> int:
    """Print what happened on standard error; returns the exit status."""
    if os.environ.get("PTPROXY_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        _tell_usage(error)
        return USAGE_STATUS
    if isinstance(error, ConfigError):
        for problem in error.problems:
            click.echo(problem, err=True)
        return USAGE_STATUS
    if isinstance(error, PtproxyError):
        click.echo(f"ptproxy: {error}", err=True)
        return FAILURE_STATUS
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    click.echo(
        f"ptproxy: unexpected {' '.join(text.split())[:500]} (ptproxy --debug … shows where)", err=True
    )
    return FAILURE_STATUS


def _tell_usage(error: click.ClickException) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later; earlier ones leave by themselves
        click.echo(error.format_message(), err=True)
        return
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    text = " ".join(error.format_message().split()).rstrip(".")
    click.echo(f"ptproxy: {text}{hint}", err=True)


def _debug(_context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        os.environ["PTPROXY_DEBUG"] = "1"


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"ptproxy {__version__}")
        context.exit()


@click.command(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A first try: ptproxy init bridge, ptproxy bridge, ptproxy init client, ptproxy client.",
)
@click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_debug,
    help="Show tracebacks (also: PTPROXY_DEBUG=1).",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
def program() -> None:
    """A proxy that looks like the web.

    A client on your machine offers a SOCKS and HTTP proxy; what goes through it travels to
    a bridge elsewhere over TLS 1.3 connections that look like ordinary web traffic, and
    from there to its target.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The ``ptproxy`` command; ``arguments`` without the program's name."""
    program.main(args=list(arguments) if arguments is not None else None, prog_name="ptproxy")
