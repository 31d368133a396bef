"""Simulated users: what people and their programs do to a tree. The ledger is told what they write and destroy.

Everything happens on the disk, whether or not the member's daemon runs. What the system refuses (a name that is taken,
a directory into itself) is refused here too, and is no act.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from replicad.files.fs import DIRECTORY, FILE, SYMLINK
from replicad.files.paths import PRIVATE, join, split

if TYPE_CHECKING:
    from tests.sim.member import SimMember

NAMES = (b"a", b"b", b"c", b"d", b"e")
DEPTH_MAX = 4
DEPLOYED_MAX = 6
"""Directories in one that is made anew: so that a tree does not double with each."""
COMMON = (b"common 1", b"common 2")
"""Contents that everybody may write: equal content is never a conflict."""


class User:
    """Of one member. Every method is one act; it raises OSError where the system refuses."""

    def __init__(self, member: SimMember) -> None:
        self._member = member
        self._fs = member.fs
        self._ledger = member.group.ledger

    # -- single acts

    def write(self, path: bytes, data: bytes) -> None:
        """In place: makes the file, or empties it and writes it anew."""
        self._took_off(path)
        self._ledger.wrote(data)
        self._arrives(path, data)
        self._fs.user_write(path, data)

    def append(self, path: bytes, data: bytes) -> None:
        before = self._data(path)
        self._took_off(path)
        with self._fs.user_open(path) as file:
            file.write_at(len(before), data)
        self._ledger.wrote(before + data)

    def save(self, path: bytes, data: bytes) -> None:
        """As an editor: a temporary file, renamed over."""
        self._took_off(path)
        self._took_off(path + b"~")  # what an earlier save has left there, where the disk refused
        self._ledger.wrote(data)
        self._arrives(path, data)
        self._fs.user_save(path, data)

    def mkdir(self, path: bytes) -> None:
        self._fs.user_mkdir(path)

    def symlink(self, path: bytes, target: bytes) -> None:
        self._fs.user_symlink(path, target)

    def chmod(self, path: bytes, mode: int) -> None:
        self._affirms(path)
        self._fs.user_chmod(path, mode)

    def touch(self, path: bytes, mtime_ns: int) -> None:
        self._affirms(path)
        self._fs.user_set_mtime(path, mtime_ns)

    def rename(self, source: bytes, target: bytes) -> None:
        """rename(2): over what is there."""
        moving = self._peek(source) if source != target else None
        if moving is not None:
            self._took_off(target)
        self._moves(source)
        self._fs.user_rename(source, target)
        if moving is not None:
            self._ledger.left.setdefault((self._member.name, source), []).append(moving)
            self._arrives(target, moving)

    def exchange(self, one: bytes, other: bytes) -> None:
        datas = [self._peek(path) for path in (one, other)]
        for path in (one, other):
            self._moves(path)
        self._fs.user_exchange(one, other)
        for path, leaving in zip((one, other), datas, strict=True):
            if leaving is not None:
                self._ledger.left.setdefault((self._member.name, path), []).append(leaving)
        for path, coming in zip((other, one), datas, strict=True):
            if coming is not None:
                self._arrives(path, coming)

    def delete(self, path: bytes) -> None:
        self._took_off(path)
        self._fs.user_unlink(path)

    def remove_tree(self, path: bytes) -> None:
        for inner, (stat, data) in self._fs.read_tree().items():
            if stat.kind == FILE and (inner == path or inner.startswith(path + b"/")):
                self._ledger.took_off(self._member, data)
        self._fs.user_remove_tree(path)

    # -- looking

    def _is_file(self, path: bytes) -> bool:
        stat = _stat(self._member, path)
        return stat is not None and stat.kind == FILE

    def _data(self, path: bytes) -> bytes:
        with self._fs.user_open(path) as file:
            return file.read_at(0, 1 << 30)

    def _peek(self, path: bytes) -> bytes | None:
        """Of a file; nobody is told of it."""
        parent, name = split(path)
        if not self._is_file(path):
            return None
        node = self._fs.tree.find(self._fs.tree.directory(parent), name)
        return bytes(node.data) if node is not None else None

    def _affirms(self, path: bytes) -> None:
        if self._is_file(path):
            self._ledger.affirms(self._data(path))

    def _moves(self, path: bytes) -> None:
        """It is renamed, with all that is in it."""
        if self._member.name not in self._ledger.copied:
            return
        for inner, (stat, data) in self._fs.read_tree().items():
            if stat.kind == FILE and (inner == path or inner.startswith(path + b"/")):
                self._ledger.affirms(data)

    def _arrives(self, path: bytes, data: bytes) -> None:
        """A file with `data` takes a name. Where another file left it by a rename, and this one is new to the replica,
        the disk shows what an editor does that keeps a backup: the object stays at its name, edited, and what left is
        another one, a copy (engine.scan_moves)."""
        for left in self._ledger.left.get((self._member.name, path), ()):
            self._ledger.took_the_name(self._member, data, left)

    def _took_off(self, path: bytes) -> None:
        """What is at `path`, if it is a file, is about to be overwritten or deleted."""
        if self._is_file(path):
            self._ledger.took_off(self._member, self._data(path))


class Hand:
    """A user who does things at random. `act` does one, and names it; "" where the system refused.

    `deploys`: also whole directories at once.
    """

    def __init__(self, member: SimMember, rng: random.Random, *, deploys: bool = False) -> None:
        self._member = member
        self.rng = rng
        self._user = User(member)
        self._written = 0
        acts: list[tuple[int, str, Callable[[], None]]] = [
            (14, "create", self._create),
            (5, "mkdir", self._mkdir),
            (10, "edit in place", self._edit),
            (5, "append", self._append),
            (8, "save as an editor", self._save),
            (7, "rename", self._rename),
            (8, "move", self._move),
            (6, "move a directory", self._move_directory),
            (4, "swap", self._swap),
            (9, "delete", self._delete),
            (3, "rm -r", self._remove_tree),
            (4, "recreate", self._recreate),
            (2, "symlink", self._symlink),
            (3, "chmod", self._chmod),
            (3, "touch", self._touch),
            (2, "many at once", self._many),
            (2, "rename over", self._rename_over),
            (1, "large file", self._large),
            (2, "file becomes directory", self._turn),
        ]
        if deploys:
            acts.append((3, "deploy", self._deploy))
        self._acts = [(name, act) for weight, name, act in acts for _ in range(weight)]

    def act(self) -> str:
        name, act = self.rng.choice(self._acts)
        try:
            act()
        except OSError:
            return ""
        return name

    # -- choices

    def _paths(self, kind: int | None = None) -> list[bytes]:
        return [path for path, (stat, _) in self._member.fs.read_tree().items() if kind in (None, stat.kind)]

    def _pick(self, kind: int | None = None) -> bytes:
        paths = self._paths(kind)
        if not paths:
            raise FileNotFoundError
        return self.rng.choice(paths)

    def _new_path(self, beneath: bytes | None = None) -> bytes:
        """A name that may be taken, in a directory that is there."""
        directories = [b"", *(path for path in self._paths(DIRECTORY) if path.count(b"/") < DEPTH_MAX - 1)]
        parent = self.rng.choice(directories) if beneath is None else beneath
        return join(parent, self.rng.choice(NAMES))

    def _data(self) -> bytes:
        if self.rng.random() < 0.08:
            return self.rng.choice(COMMON)
        self._written += 1
        return b"%s wrote %d" % (self._member.name.encode(), self._written) + b"." * self.rng.randrange(30)

    # -- acts

    def _create(self) -> None:
        path = self._new_path()
        if _stat(self._member, path) is not None:
            raise FileExistsError
        self._user.write(path, self._data())

    def _mkdir(self) -> None:
        self._user.mkdir(self._new_path())

    def _edit(self) -> None:
        self._user.write(self._pick(FILE), self._data())

    def _append(self) -> None:
        self._user.append(self._pick(FILE), self._data())

    def _save(self) -> None:
        self._user.save(self._pick(FILE), self._data())

    def _rename(self) -> None:
        path = self._pick()
        target = join(split(path)[0], self.rng.choice(NAMES))
        self._to_free(path, target)

    def _move(self) -> None:
        self._to_free(self._pick(), self._new_path())

    def _move_directory(self) -> None:
        directories = self._paths(DIRECTORY)
        if len(directories) < 2:
            raise FileNotFoundError
        source, target = self.rng.sample(directories, 2)
        self._to_free(source, self._new_path(target))

    def _to_free(self, source: bytes, target: bytes) -> None:
        if _stat(self._member, target) is not None:
            raise FileExistsError
        self._user.rename(source, target)

    def _swap(self) -> None:
        one, other = self._pick(), self._pick()
        if one == other or one.startswith(other + b"/") or other.startswith(one + b"/"):
            raise FileNotFoundError
        if self.rng.random() < 0.3:
            self._user.exchange(one, other)
            return
        free = join(split(one)[0], b"swap")
        self._to_free(one, free)
        self._to_free(other, one)
        self._to_free(free, other)

    def _delete(self) -> None:
        path = self._pick()
        stat = _stat(self._member, path)
        if stat is not None and stat.kind == DIRECTORY:
            self._member.fs.user_rmdir(path)
        else:
            self._user.delete(path)

    def _remove_tree(self) -> None:
        self._user.remove_tree(self._pick(DIRECTORY))

    def _recreate(self) -> None:
        path = self._pick(FILE)
        self._user.delete(path)
        self._user.write(path, self._data())

    def _symlink(self) -> None:
        self._user.symlink(self._new_path(), self.rng.choice((b"a", b"b/c", b"../x")))

    def _chmod(self) -> None:
        path = self._pick()
        stat = _stat(self._member, path)
        if stat is None or stat.kind == SYMLINK:
            raise FileNotFoundError
        self._user.chmod(path, self.rng.choice((0o644, 0o600, 0o755) if stat.kind == FILE else (0o755, 0o700, 0o750)))

    def _touch(self) -> None:
        self._user.touch(self._pick(FILE), (self._member.now_ms - self.rng.randrange(10**7)) * 1_000_000)

    def _many(self) -> None:
        parent = self.rng.choice([b"", *self._paths(DIRECTORY)])
        for number in range(self.rng.randrange(5, 20)):
            self._user.write(join(parent, b"m%d" % number), self._data())

    def _rename_over(self) -> None:
        self._user.rename(self._pick(FILE), self._pick(FILE))

    def _large(self) -> None:
        """Large enough to have a manifest, or to be hashed by others."""
        size = self.rng.choice((2_000, 5_000, 200_000))
        self._user.write(self._new_path(), self._data() + self.rng.randbytes(size))

    def _turn(self) -> None:
        path = self._pick()
        self._user.remove_tree(path)
        if self.rng.random() < 0.5:
            self._user.mkdir(path)
            self._user.write(join(path, self.rng.choice(NAMES)), self._data())
        else:
            self._user.write(path, self._data())

    def _deploy(self) -> None:
        """A directory takes the place of another one of the same shape, whose directories have the same names."""
        path = self._pick(DIRECTORY)
        parent = split(path)[0]
        new, old = join(parent, b"new"), join(parent, b"old")
        shape = [inner for inner in self._paths(DIRECTORY) if inner.startswith(path + b"/")][:DEPLOYED_MAX]
        self._user.mkdir(new)
        for inner in shape:  # a directory comes before what is in it
            self._user.mkdir(new + inner[len(path) :])
        for directory in (new, *(new + inner[len(path) :] for inner in shape)):
            self._user.write(join(directory, self.rng.choice(NAMES) + b"1"), self._data())
        if self.rng.random() < 0.5 and _stat(self._member, old) is None:
            self._user.rename(path, old)
        else:
            self._user.remove_tree(path)
        self._user.rename(new, path)


def _stat(member: SimMember, path: bytes):  # type: ignore[no-untyped-def]
    """As a user sees it: past the hooks."""
    if path == PRIVATE:
        return None
    parent, name = split(path)
    try:
        node = member.fs.tree.find(member.fs.tree.directory(parent), name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return node.stat() if node is not None else None
