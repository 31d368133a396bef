"""A folder's content for its members, from the files as they lie on this member's disk.

What is asked for is (object, digest). It is served if the catalog says that this content is installed at the object's
entry, and if the file there still looks as it did then, before and after it was read, or, where it is small, still
begins with it: else it is gone here, and the records will tell the asker of what has become of it. The asker verifies
the whole by its digest in any case.

A content that a live record asks for is also served from what was preserved here (ConflictAndDeleted, PreExisting): a
loser that comes up again may be in nobody's tree any more. The preserved file stays, it is the operator's. `Nearby` is
how this member's own fetcher gets at it.

Blocking; called in several threads at once.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from blake3 import blake3

from replicad.core.diff import SMUDGED_NS
from replicad.core.ids import FolderId, MemberId, Uid
from replicad.core.manifest import Manifest, decode_whole, page_digest
from replicad.core.plan import node_path
from replicad.core.records import FILE
from replicad.core.view import Node
from replicad.engine.disposal import store_path
from replicad.engine.readers import Readers
from replicad.errors import CatalogError, PeerError
from replicad.files.fs import FileSystem, Stat
from replicad.net.content_wire import SMALL_FILE_BYTES_MAX


class FolderContent:
    """Of one folder that is kept here."""

    def __init__(self, fs: FileSystem, readers: Readers) -> None:
        self._fs = fs
        self._readers = readers
        self._idle = threading.Condition()
        self._reading = 0
        self._closed = False

    def close(self) -> None:
        """Waits for reads under way; nothing is read after this, so the file system may be closed."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._reading)

    def open_small(self, uid: Uid, digest: bytes) -> bytes | None:
        return self._read(uid, digest, 0, None)

    def read_range(self, uid: Uid, digest: bytes, offset: int, length: int) -> bytes | None:
        return self._read(uid, digest, offset, length)

    def manifest(self, uid: Uid, digest: bytes, page: bytes | None) -> bytes | None:
        """Manifests are kept by digest: where one is here, it does not matter of which object."""
        whole = self.manifest_of(digest)
        if whole is None:
            return None
        if page is None:
            return whole.top
        return next((blob for blob in whole.pages if page_digest(blob) == page), None)

    def manifest_of(self, digest: bytes) -> Manifest | None:
        """None where it is not known here."""
        try:
            with self._readers.reader() as reader:
                held = reader.manifest(digest)
            if held is None:
                with self._readers.reader(fresh=True) as reader:
                    held = reader.manifest(digest)
            return decode_whole(held.blob) if held is not None else None
        except (CatalogError, PeerError):
            return None  # the folder is being closed, or a peer's manifest that no longer can be read

    def _read(self, uid: Uid, digest: bytes, offset: int, length: int | None) -> bytes | None:
        """Exactly so many bytes, or a whole small file; None where they are not here (any more)."""
        tried: Sequence[_Installed | _Preserved] = ()
        for fresh in (False, True):  # what a snapshot that is not quite new shows may have moved, or not been there yet
            copies = self._look_up(uid, digest, fresh=fresh)
            for copy in copies:
                if copy not in tried and (data := self._read_copy(copy, digest, offset, length)) is not None:
                    return data
            tried = copies
        return None

    def _read_copy(self, copy: _Installed | _Preserved, digest: bytes, offset: int, length: int | None) -> bytes | None:
        size = copy.size if length is None else length
        if length is None and size > SMALL_FILE_BYTES_MAX:
            return None
        try:
            with self._under_way(), self._fs.open_read(copy.path) as file:
                still = copy.is_still(file.stat())
                if not still and length is not None:
                    return None
                data = file.read_at(offset, size)
                if len(data) == size and still and copy.is_still(file.stat()):
                    return data
                # A log that has grown since, say: it begins with what was there.
                return data if length is None and blake3(data).digest() == digest else None
        except OSError:
            return None  # gone or unreadable: the folder's own scan lists it with its reason

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """Raises OSError once it is closed."""
        with self._idle:
            if self._closed:
                raise OSError(errno.EBADF, "the folder is closed")
            self._reading += 1
        try:
            yield
        finally:
            with self._idle:
                self._reading -= 1
                self._idle.notify_all()

    def _look_up(self, uid: Uid, digest: bytes, *, fresh: bool) -> Sequence[_Installed | _Preserved]:
        try:
            with self._readers.reader(fresh=fresh) as reader:
                state = reader.object(uid)
                if state is None or state.record.kind != FILE:
                    return []
                base = state.base_content
                node = reader.node(state.node) if state.node is not None else None
                if node is not None and base is not None and base.gone is None and base.digest == digest:
                    return [_Installed(node_path(reader, node.id), node)]
                wanted = state.record.content
                if wanted is None or wanted.gone is not None or wanted.digest != digest:
                    return []
                return [_Preserved(store_path(kept.store, kept.stored_name), kept.size) for kept in reader.kept(digest)]
        except CatalogError:
            return []


class _Installed(NamedTuple):
    path: bytes
    node: Node

    @property
    def size(self) -> int:
        return self.node.size

    def is_still(self, stat: Stat) -> bool:
        """Whether the file is the one that was hashed. One whose times were too fresh to trust then is served all the
        same: whoever installs it checks the digest of the whole."""
        node = self.node
        if node.ctime_ns not in (SMUDGED_NS, stat.ctime_ns):
            return False
        return (stat.kind, stat.inode, stat.size, stat.mtime_ns) == (node.kind, node.inode, node.size, node.mtime_ns)


class _Preserved(NamedTuple):
    path: bytes
    size: int

    def is_still(self, stat: Stat) -> bool:
        """Operators may do with it what they like; whoever installs it checks the digest of the whole."""
        return (stat.kind, stat.size) == (FILE, self.size)


class ContentShelf:
    """net.content_server.ContentSource over all folders kept here. `may_read` as in the hierarchy."""

    def __init__(self, may_read: Callable[[MemberId, FolderId], bool]) -> None:
        self._may_read = may_read
        self._folders: dict[FolderId, FolderContent] = {}

    def add(self, folder: FolderId, content: FolderContent) -> None:
        self._folders[folder] = content

    def remove(self, folder: FolderId, content: FolderContent) -> None:
        """Where it is still this one: another may have taken its place."""
        if self._folders.get(folder) is content:
            del self._folders[folder]

    def may_read(self, member_id: MemberId, folder: FolderId) -> bool:
        return self._may_read(member_id, folder)

    def open_small(self, folder: FolderId, uid: Uid, digest: bytes) -> bytes | None:
        content = self._folders.get(folder)
        return content.open_small(uid, digest) if content is not None else None

    def manifest(self, folder: FolderId, uid: Uid, digest: bytes, page: bytes | None) -> bytes | None:
        content = self._folders.get(folder)
        return content.manifest(uid, digest, page) if content is not None else None

    def read_range(self, folder: FolderId, uid: Uid, digest: bytes, offset: int, length: int) -> bytes | None:
        content = self._folders.get(folder)
        return content.read_range(uid, digest, offset, length) if content is not None else None
