"""The fixtures of :mod:`config_files`."""

from config_files import folder, problems

__all__ = ["folder", "problems"]
