"""`replicad verify`: this member's disk read again, every entry of it, and held against the catalog.

What a scan concludes from times it concludes only where they tell. A write that leaves size and times as they were, of
which no event told, and a disk that loses bits, are found by reading alone.

`Walk` reads, in bounded pieces, on a thread of its own beside the folder's work. What it finds is only a *suspect*: it
may have been changed a moment ago. The folder's thread then makes certain that everything the watch has told is
entered, and looks once more (engine.verifying): what still differs is a difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
from blake3 import blake3

from replicad.catalog.store import Reader
from replicad.core.diff import PRIVATE, SMUDGED_NS, Sight, look
from replicad.core.records import DIRECTORY, FILE, SYMLINK, Content
from replicad.core.steps import node_path
from replicad.core.view import ROOT_NODE, Node, NodeId, View
from replicad.engine.renames import trouble
from replicad.files.fs import FileSystem, OpenFile, Stat
from replicad.files.hashing import READ_BYTES
from replicad.files.paths import join

PIECE_BYTES = 16 * 1024 * 1024
PIECE_ENTRIES = 256
"""A piece takes some 10 to 200 ms: so soon an interruption is noticed."""

CONTENT, CHANGED, MISSING, EXTRA, UNREADABLE = "content", "changed", "missing", "extra", "unreadable"
"""Kinds of difference."""
TEXTS = {
    CONTENT: "what is read is not what was there, though size, times and inode are the same: "
    "a change that nothing told of, or bits that the disk has lost",
    CHANGED: "its size, times, mode or inode have changed, and nothing told of it",
    MISSING: "it is not there, and nothing told of it",
    EXTRA: "it is there, and nothing told of it",
    UNREADABLE: "it cannot be read",
}


class Suspect(msgspec.Struct, frozen=True):
    """An entry that was not as the catalog has it. `found`: a file's digest or a symlink's target, for CONTENT."""

    kind: str
    parent: NodeId
    name: bytes
    node: Node | None
    found: bytes = b""
    reason: str = ""


class Piece(msgspec.Struct):
    """What one piece of the work came to."""

    entries: int = 0
    bytes: int = 0
    suspects: list[Suspect] = msgspec.field(default_factory=list)
    done: bool = False


def expected(view: View, node: Node) -> Content | None:
    """What was installed at an entry; None where it stands for nothing that is live."""
    bases = [base for state in view.objects(view.uids_at(node.id)) if (base := state.base_content) is not None]
    live = [base for base in bases if base.gone is None]
    return next((base for base in live if base.cn == node.shows), live[0] if live else None)


def has_other_content(node: Node, content: Content, found: bytes) -> bool:
    return found != (content.value if node.kind == SYMLINK else content.digest)


class _File(msgspec.Struct):
    """A file that is being read, perhaps over several pieces."""

    node: Node
    content: Content
    path: bytes
    file: OpenFile
    offset: int = 0
    whole: blake3 = msgspec.field(default_factory=blake3)


class Walk:
    """Of one folder. `open_reader` gives a snapshot of the catalog; `piece` and `close` are called by one thread."""

    def __init__(self, open_reader: Callable[[], AbstractContextManager[Reader]], fs: FileSystem) -> None:
        """Raises CatalogError."""
        self._open_reader = open_reader
        self._fs = fs
        self._directories = [ROOT_NODE]
        self._waiting: deque[tuple[Node, Content, bytes]] = deque()
        """Of one directory: what looks as it did, and is to be read."""
        self._reading: _File | None = None
        with open_reader() as reader:
            self.entries_total, self.bytes_total = reader.counts()

    def piece(self) -> Piece:
        """The next piece. Raises CatalogError; what the disk does wrong is a suspect."""
        piece = Piece()
        while piece.entries < PIECE_ENTRIES and piece.bytes < PIECE_BYTES:
            if self._reading is not None:
                self._read_on(self._reading, piece)
            elif self._waiting:
                self._begin(*self._waiting.popleft(), piece)
            elif self._directories:
                self._list(self._directories.pop(), piece)
            else:
                piece.done = True
                break
        return piece

    def close(self) -> None:
        if self._reading is not None:
            self._reading.file.close()
            self._reading = None

    # -- directories

    def _list(self, directory: NodeId, piece: Piece) -> None:
        with self._open_reader() as reader:
            at = reader.node(directory)
            if at is None:
                return  # it went meanwhile
            path = node_path(reader, directory) if directory != ROOT_NODE else b""
            nodes = {node.name: node for node in reader.nodes_in(directory)}
            contents = {node.id: expected(reader, node) for node in nodes.values() if node.kind != DIRECTORY}
        try:
            root = self._fs.stat(b"")
            assert root is not None, "an open root has a stat"
            seen = dict(self._fs.list_dir(path))
        except OSError as error:
            piece.suspects.append(_unreadable(at, path, error))
            return
        if directory == ROOT_NODE:
            seen.pop(PRIVATE, None)
        for name in sorted(nodes.keys() | seen.keys()):
            node = nodes.get(name)
            content = contents.get(node.id) if node is not None else None
            self._compare(directory, join(path, name), node, content, seen.get(name), root.mount, piece)

    def _compare(
        self,
        parent: NodeId,
        path: bytes,
        node: Node | None,
        content: Content | None,
        stat: Stat | None,
        mount: int,
        piece: Piece,
    ) -> None:
        sight = look(node, stat, mount)
        kind = kind_of(sight, node)
        if kind:
            piece.entries += 1
            piece.suspects.append(Suspect(kind, parent, path.rpartition(b"/")[2], node))
        if node is not None and node.kind == DIRECTORY and sight in (Sight.SAME, Sight.MODE):
            piece.entries += 1
            self._directories.append(node.id)
        elif node is not None and sight is Sight.SAME and content is not None:
            self._waiting.append((node, content, path))

    # -- files and symlinks

    def _begin(self, node: Node, content: Content, path: bytes, piece: Piece) -> None:
        piece.entries += 1
        try:
            if node.kind == SYMLINK:
                self._end(node, content, self._fs.read_link(path), piece)
                return
            file = self._fs.open_read(path)
        except OSError as error:
            piece.suspects.append(_unreadable(node, path, error))
            return
        self._reading = _File(node, content, path, file)
        try:
            file.drop_cached()
            if not _is_as(node, file.stat()):
                self._give_up(Suspect(CHANGED, node.parent, node.name, node), piece)
        except OSError as error:
            self._give_up(_unreadable(node, path, error), piece)

    def _read_on(self, reading: _File, piece: Piece) -> None:
        node = reading.node
        try:
            while data := reading.file.read_at(reading.offset, READ_BYTES):
                reading.whole.update(data)
                reading.offset += len(data)
                piece.bytes += len(data)
                if piece.bytes >= PIECE_BYTES:
                    return
            reading.file.drop_cached()
            stat = reading.file.stat()
        except OSError as error:
            self._give_up(_unreadable(node, reading.path, error), piece)
            return
        self.close()
        if _is_as(node, stat):
            self._end(node, reading.content, reading.whole.digest(), piece)
        else:
            piece.suspects.append(Suspect(CHANGED, node.parent, node.name, node))

    def _give_up(self, suspect: Suspect, piece: Piece) -> None:
        self.close()
        piece.suspects.append(suspect)

    def _end(self, node: Node, content: Content, found: bytes, piece: Piece) -> None:
        if has_other_content(node, content, found):
            piece.suspects.append(Suspect(CONTENT, node.parent, node.name, node, found))


def kind_of(sight: Sight, node: Node | None) -> str:
    """The kind of difference that a look at an entry tells; empty where it tells of none.

    What was too fresh to be trusted when it was read is none: it was read a moment ago, and is about to be again.
    """
    if sight is Sight.READ and node is not None and node.ctime_ns == SMUDGED_NS:
        return ""
    if sight is Sight.VANISHED:
        return MISSING
    if sight is Sight.APPEARED:
        return EXTRA
    changed = sight in (Sight.READ, Sight.MODE, Sight.REPLACED, Sight.OTHER)
    return CHANGED if changed or (sight is Sight.UNFIT and node is not None) else ""


def _is_as(node: Node, stat: Stat) -> bool:
    return (FILE, node.inode, node.size, node.mtime_ns, node.ctime_ns) == (
        stat.kind,
        stat.inode,
        stat.size,
        stat.mtime_ns,
        stat.ctime_ns,
    )


def _unreadable(node: Node, path: bytes, error: OSError) -> Suspect:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    reason = "" if gone else trouble(path, error).reason
    return Suspect(MISSING if gone else UNREADABLE, node.parent, node.name, node, reason=reason)
