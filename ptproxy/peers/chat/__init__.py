"""The reference chat program above :mod:`ptproxy.peers.peer`: what a person or a script sees of it."""
