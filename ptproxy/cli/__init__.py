"""The command line: ``ptproxy``, and its commands in the order in which a newcomer needs them.

- :mod:`~ptproxy.cli.main`: the program, its sub-commands found lazily, and how failures are told.
- :mod:`~ptproxy.cli.run`: ``bridge`` and ``client``, with :mod:`~ptproxy.cli.services` (what a bridge offers
  besides the way out).
- :mod:`~ptproxy.cli.check`: ``check``, and loading a configuration with every check there is.
- :mod:`~ptproxy.cli.status` (with ``status_sheet``, ``status_text``, ``status_view``) and
  :mod:`~ptproxy.cli.reload`: asked of a running role, which :mod:`~ptproxy.cli.asked` reaches.
- :mod:`~ptproxy.cli.doctor`, with ``doctor_findings``, ``doctor_client`` and ``doctor_bridge``.
- :mod:`~ptproxy.cli.init`: ``init bridge`` (:mod:`~ptproxy.cli.init_bridge`) and ``init client``
  (:mod:`~ptproxy.cli.init_client`), with :mod:`~ptproxy.cli.written` (the YAML they write) and
  :mod:`~ptproxy.cli.web_server` (what a web server in front includes). ``examples/`` are the configurations
  of ``configs/``, installed, those of web servers with names in angle brackets to fill in.
- :mod:`~ptproxy.cli.invite`: ``invite new | list | revoke``.
- :mod:`~ptproxy.cli.inspect`: ``inspect probes | hello | capture | record``, each in an ``inspect_*`` module.
- :mod:`~ptproxy.cli.tor_pt`, :mod:`~ptproxy.cli.sip003`: what tor and Shadowsocks start (:mod:`ptproxy.pt`).
- :mod:`~ptproxy.cli.chat`: ``chat init | passphrase`` (:mod:`~ptproxy.cli.chat_init`), the screen and
  ``chat lines | invite | add | contacts | verify`` (:mod:`~ptproxy.cli.chat_run`), on what
  :mod:`~ptproxy.cli.chat_place` opens; what they show is :mod:`ptproxy.peers.chat`'s.
- :mod:`~ptproxy.cli.directory`: ``directory init | node | sign | run``.
- :mod:`~ptproxy.cli.completion`: shell completion.
- :mod:`~ptproxy.cli.words`: parameter types and what commands print in common.

Every failure is one line on standard error. Exit status: 0 done, 1 it could not
be done, 2 wrong usage or configuration, 130 interrupted. ``inspect`` has its own: 0 nothing
found, 1 something, 2 not looked at.
"""
