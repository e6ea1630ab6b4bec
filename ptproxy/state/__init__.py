"""State on disk; the only place in ptproxy that writes files.

===============  =====================================================================
``files``        a file replaced whole, a folder, a log; their modes
``partial``      a file that grows until all of it has come
``lock``         one process at a time
``document``     JSON with a name and a version, changed by several processes
``database``     SQLite that survives a kill and a power cut
``mark``         a few bytes overwritten in place
``as_owner``     root's opening of a file in another user's folder, with that user's rights
``folder``       a role's folder, held by one process; where the others are found
===============  =====================================================================

Nothing here knows what a file means. What cannot be done is a
:class:`~ptproxy.errors.StartError` that names the file and the reason.
"""

from ptproxy.state.document import Document, Json
from ptproxy.state.files import make_folder, open_log, put_aside, remove_folder, write_file
from ptproxy.state.folder import StateFolder, holder_of
from ptproxy.state.mark import MarkFile
from ptproxy.state.partial import PartialFile, remove_abandoned

__all__ = [
    "Document",
    "Json",
    "MarkFile",
    "PartialFile",
    "StateFolder",
    "holder_of",
    "make_folder",
    "open_log",
    "put_aside",
    "remove_abandoned",
    "remove_folder",
    "write_file",
]
