"""``python -m ptproxy``: the command line."""

from ptproxy.cli.main import main

main()
