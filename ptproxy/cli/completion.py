"""``ptproxy completion SHELL``: what to put into a shell's start-up file."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash:  ptproxy completion bash > ~/.local/share/bash-completion/completions/ptproxy
    zsh:   ptproxy completion zsh > "${fpath[1]}/_ptproxy"
    fish:  ptproxy completion fish > ~/.config/fish/completions/ptproxy.fish
    """
    root = context.find_root().command
    script = _SHELLS[shell](root, {}, "ptproxy", "_PTPROXY_COMPLETE")
    click.echo(script.source_template % script.source_vars())
