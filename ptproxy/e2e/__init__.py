"""Messaging cryptography above the tunnel, without I/O."""
