"""The reference chat program above :mod:`ptproxy.peers.messenger`: what a person or a script sees of it.

    commands ──▶ chat ──▶ records            what is asked, what is done, what is told
    line_mode                 screen/        the same in lines, and on a full screen

Read in this order:

- ``shown``      text of other people made fit for a terminal: all of it goes through here
- ``names``      what contacts are called, told apart; ``roster``: whom a name means
- ``commands``   what can be asked, as text and as JSON
- ``told``       what is told, as rows and as JSON; ``told_own``: of ourselves, ``told_files``: of files
- ``chat``       does what is asked, and says what the messenger's events mean
- ``files``      files on their way, by numbers
- ``own``        what is asked about ourselves
- ``bridges``    invites to bridges that are passed on and taken, and who finds us in the directory
- ``safety``     safety numbers as rows; ``qr``: QR codes as rows and as pictures
- ``line_mode``  commands in, records out; ``pipes``: from and to descriptors; ``beside``: until one ends
- ``screen/``    the full screen, in textual

Nothing here dials, opens the store or asks for a passphrase: ``cli.chat`` hands over a messenger.
"""
