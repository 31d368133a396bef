"""What a user does next, at random: like people and their programs, on few names, so that members meet."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

from tests.torture.acts import User
from tests.torture.contents import FILE, SYMLINK, Contents

NAMES = (b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"A", "\u00e9".encode(), "e\u0301".encode())
DIRECTORY = "directory"
DEPTH_MAX = 5
ENTRIES_MAX = 250
"""More are not made, so that one look at a tree stays short."""
FIRST = 60
"""Directories, and files, of the tree that there is to begin with: so often it is tried."""
MANY = (8, 30)
TRIES = 3
FILE_MODES = (0o644, 0o600, 0o755, 0o640)
DIRECTORY_MODES = (0o755, 0o700, 0o750)
DAYS_NS = 86_400 * 10**9


class Hand:
    """Of one member's user. `act` does one thing and names it; "" where the system refused."""

    def __init__(self, user: User, contents: Contents) -> None:
        self.user = user
        self._contents = contents
        self._name = user.host.name
        self._rng = random.Random()
        acts: list[tuple[int, str, Callable[[], None]]] = [
            (20, "create", self._create),
            (6, "mkdir", self._mkdir),
            (10, "edit in place", self._edit),
            (3, "write slowly", self._edit_slowly),
            (5, "append", self._append),
            (8, "save as an editor", self._save),
            (7, "rename", self._rename),
            (8, "move", self._move),
            (6, "move a directory", self._move_directory),
            (4, "swap", self._swap),
            (7, "delete", self._delete),
            (2, "move out", self._move_out),
            (2, "rm -r", self._remove_tree),
            (4, "recreate", self._recreate),
            (2, "symlink", self._symlink),
            (3, "chmod", self._chmod),
            (3, "mtime", self._touch),
            (2, "many at once", self._many),
            (2, "rename over", self._rename_over),
            (2, "file becomes directory", self._turn),
            (5, "look", self._look),
        ]
        self._acts = [(name, act) for weight, name, act in acts for _ in range(weight)]

    def act(self, seed: int) -> str:
        self._rng.seed(seed)
        for _ in range(TRIES):
            name, act = self._rng.choice(self._acts)
            try:
                act()
            except OSError:
                continue
            return name
        return ""

    def begin(self, seed: int) -> None:
        """A tree to begin with."""
        self._rng.seed(f"begin {seed}")
        for act in (self._mkdir, self._create):
            for _ in range(FIRST):
                with suppress(OSError):
                    act()

    def duel(self, path: bytes, seed: int) -> bool:
        """One quick act on a path on which somebody else acts elsewhere: whether the system let it."""
        self._rng.seed(seed)
        acts: tuple[Callable[[], None], ...] = (
            lambda: self.user.edit(path, self._data()),
            lambda: self.user.save(path, self._data()),
            lambda: self.user.append(path, self._contents.piece(self._name)),
            lambda: self._make_anew(path),
        )
        try:
            self._rng.choice(acts)()
        except OSError:
            return False
        return True

    def files(self) -> list[bytes]:
        return self._paths(FILE)

    def end(self) -> None:
        """Who writes slowly closes his file."""
        for writer in list(self.user.writers):
            self.user.go_on(writer, self._contents.piece(self._name))

    # -- choices

    def _paths(self, kind: str | None = None) -> list[bytes]:
        return [path for path, found in self.user.paths() if kind in (None, found)]

    def _pick(self, kind: str | None = None) -> bytes:
        paths = self._paths(kind)
        if not paths:
            raise FileNotFoundError
        return self._rng.choice(paths)

    def _new_path(self, beneath: bytes | None = None) -> bytes:
        """A name that may be taken, in a directory that is there."""
        shallow = [path for path in self._paths(DIRECTORY) if path.count(b"/") < DEPTH_MAX - 1]
        parent = self._rng.choice([b"", *shallow]) if beneath is None else beneath
        name = self._rng.choice(NAMES)
        return parent + b"/" + name if parent else name

    def _data(self) -> bytes:
        return self._contents.whole(self._name, self._rng)

    def _room(self) -> None:
        if len(self._paths()) > ENTRIES_MAX:
            raise FileExistsError

    # -- acts

    def _create(self) -> None:
        self._room()
        self.user.create(self._new_path(), self._data())

    def _mkdir(self) -> None:
        self._room()
        self.user.mkdir(self._new_path())

    def _edit(self) -> None:
        self.user.edit(self._pick(FILE), self._data())

    def _edit_slowly(self) -> None:
        """Or goes on with what was begun before."""
        if self.user.writers and self._rng.random() < 0.6:
            self.user.go_on(self.user.writers[0], self._contents.piece(self._name))
        elif self._rng.random() < 0.5:
            self.user.edit(self._pick(FILE), self._data(), slowly=True)
        else:
            self.user.create(self._new_path(), self._data(), slowly=True)

    def _append(self) -> None:
        self.user.append(self._pick(FILE), self._contents.piece(self._name))

    def _save(self) -> None:
        self.user.save(self._pick(FILE), self._data())

    def _rename(self) -> None:
        path = self._pick()
        parent, slash, _ = path.rpartition(b"/")
        self._to_free(path, parent + slash + self._rng.choice(NAMES))

    def _move(self) -> None:
        self._to_free(self._pick(), self._new_path())

    def _move_directory(self) -> None:
        """Into another, which may be moved beneath this one elsewhere."""
        directories = self._paths(DIRECTORY)
        if len(directories) < 2:
            raise FileNotFoundError
        source, target = self._rng.sample(directories, 2)
        self._to_free(source, self._new_path(target))

    def _to_free(self, source: bytes, target: bytes) -> None:
        if self.user.kind_at(target) is not None:
            raise FileExistsError
        self.user.rename(source, target)

    def _swap(self) -> None:
        one, other = self._pick(), self._pick()
        if one == other or one.startswith(other + b"/") or other.startswith(one + b"/"):
            raise FileNotFoundError
        if self._rng.random() < 0.5:
            self.user.exchange(one, other)
            return
        free = one.rpartition(b"/")[0] + b"/swap" if b"/" in one else b"swap"
        self._to_free(one, free)
        self._to_free(other, one)
        self._to_free(free, other)

    def _delete(self) -> None:
        path = self._pick()
        if self.user.kind_at(path) == DIRECTORY:
            self.user.rmdir(path)
        else:
            self.user.delete(path)

    def _move_out(self) -> None:
        self.user.move_out(self._pick(FILE))

    def _remove_tree(self) -> None:
        self.user.remove_tree(self._pick(DIRECTORY))

    def _recreate(self) -> None:
        self._make_anew(self._pick(FILE))

    def _make_anew(self, path: bytes) -> None:
        self.user.delete(path)
        self.user.create(path, self._data())

    def _symlink(self) -> None:
        self.user.symlink(self._new_path(), self._contents.target(self._name))

    def _chmod(self) -> None:
        path = self._pick()
        kind = self.user.kind_at(path)
        if kind in (None, SYMLINK):
            raise FileNotFoundError
        self.user.chmod(path, self._rng.choice(FILE_MODES if kind == FILE else DIRECTORY_MODES))

    def _touch(self) -> None:
        self.user.touch(self._pick(FILE), 1_700_000_000 * 10**9 + self._rng.randrange(300 * DAYS_NS))

    def _many(self) -> None:
        """Made, or deleted, or written to."""
        parent = self._rng.choice([b"", *self._paths(DIRECTORY)])
        count = self._rng.randint(*MANY)
        if self._rng.random() < 0.5:
            self._room()
            for number in range(count):
                name = b"m%d" % number
                self.user.create(parent + b"/" + name if parent else name, self._data())
        else:
            files = self._paths(FILE)
            for path in self._rng.sample(files, min(count, len(files) // 3)):
                self._rng.choice((self.user.delete, lambda path: self.user.edit(path, self._data())))(path)

    def _rename_over(self) -> None:
        source, target = self._pick(FILE), self._pick(FILE)
        if source == target:
            raise FileExistsError
        self.user.rename(source, target)

    def _turn(self) -> None:
        """A file becomes a directory, or the other way round."""
        path = self._pick()
        if self.user.kind_at(path) == DIRECTORY:
            self.user.remove_tree(path)
            self.user.create(path, self._data())
        else:
            self.user.delete(path)
            self.user.mkdir(path)
            self.user.create(path + b"/" + self._rng.choice(NAMES), self._data())

    def _look(self) -> None:
        paths = self._paths(FILE)
        for path in self._rng.sample(paths, min(10, len(paths))):
            self.user.look(path)
