"""The stories of `gap`: one for every kind of step, and for each way in which it comes about."""

from __future__ import annotations

from collections.abc import Sequence

from replicad.core.records import Record, record
from tests.engine.gap import Story
from tests.engine.rig import Author

Records = Sequence[Record]


def nothing(author: Author) -> Records:
    return []


def one_file(author: Author) -> Records:
    return [author.file(b"f", b"old version")]


def two_files(author: Author) -> Records:
    return [author.file(b"f", b"first"), author.file(b"g", b"second")]


def directory_with_file(author: Author) -> Records:
    made = author.directory(b"d")
    return [made, author.file(b"f", b"inside", made.uid)]


def put_new(author: Author, held: Records) -> Records:
    return [author.file(b"f", b"new version")]


def edit(author: Author, held: Records) -> Records:
    return [author.edit(held[0], b"new version")]


def edit_unseen(author: Author, held: Records) -> Records:
    """By somebody who had not seen what is on the disk: that must be preserved."""
    other = Author(author.bodies, replica=3, time_ms=900_000)
    made = other.file(b"f", b"new version")
    return [record(held[0].uid, held[0].kind, held[0].place, made.content)]


def lose_name(author: Author, held: Records) -> Records:
    return [author.file(b"f", b"new version")]


def move(author: Author, held: Records) -> Records:
    return [author.move(held[0], b"g")]


def swap(author: Author, held: Records) -> Records:
    return [author.move(held[0], b"g"), author.move(held[1], b"f")]


def delete(author: Author, held: Records) -> Records:
    return [author.delete(held[0])]


def delete_all(author: Author, held: Records) -> Records:
    return [author.delete(one) for one in reversed(held)]


def new_meta(author: Author, held: Records) -> Records:
    return [author.meta(held[0], 0o600, 4_000_000_000)]


def new_mode(author: Author, held: Records) -> Records:
    return [author.meta(held[0], 0o600, 5)]


def make_directory(author: Author, held: Records) -> Records:
    made = author.directory(b"f")
    return [made, author.file(b"x", b"in it", made.uid)]


def file_becomes_directory(author: Author, held: Records) -> Records:
    made = author.directory(b"f")
    return [author.delete(held[0]), made, author.file(b"x", b"in it", made.uid)]


def directory_becomes_file(author: Author, held: Records) -> Records:
    return [author.delete(held[1]), author.delete(held[0]), author.file(b"d", b"now a file")]


def move_directory(author: Author, held: Records) -> Records:
    return [author.move(held[0], b"e")]


def nest(author: Author, held: Records) -> Records:
    """`mv d t; mkdir d; mv t d/e`: the old directory must be lifted out first."""
    made = author.directory(b"d")
    return [author.move(held[0], b"e", made.uid), made]


def turn(author: Author, held: Records) -> Records:
    """f to g, g to h."""
    return [author.move(held[1], b"h"), author.move(held[0], b"g")]


def move_over(author: Author, held: Records) -> Records:
    """`mv f g`."""
    return [author.delete(held[1]), author.move(held[0], b"g")]


def move_away(author: Author, held: Records) -> Records:
    """`mv f g`, and a new f."""
    return [author.move(held[0], b"g"), author.file(b"f", b"new version")]


def move_over_and_anew(author: Author, held: Records) -> Records:
    return [*move_over(author, held), author.file(b"f", b"new version")]


def move_away_for_a_directory(author: Author, held: Records) -> Records:
    made = author.directory(b"f")
    return [author.move(held[0], b"x", made.uid), made]


def swap_with_edit(author: Author, held: Records) -> Records:
    one, other = author.move(held[0], b"g"), author.move(held[1], b"f")
    return [author.edit(one, b"edited and moved"), other]


def two_directories(author: Author) -> Records:
    one, other = author.directory(b"d"), author.directory(b"e")
    return [one, other, author.file(b"f", b"in d", one.uid), author.file(b"f", b"in e", other.uid)]


def swap_directories(author: Author, held: Records) -> Records:
    return [author.move(held[0], b"e"), author.move(held[1], b"d")]


def one_link(author: Author) -> Records:
    return [author.symlink(b"l", b"old target")]


def retarget(author: Author, held: Records) -> Records:
    return [author.retarget(held[0], b"new target")]


def displaced(author: Author, held: Records) -> Records:
    """A new file takes the name of one that is wanted in a directory nobody knows yet: the old one is lifted."""
    moved = author.move(held[0], b"g", (77).to_bytes(16, "big"))
    return [moved, author.file(b"f", b"new version")]


def the_parent_comes(author: Author, held: Records) -> Records:
    made = author.directory(b"at last")
    return [record((77).to_bytes(16, "big"), made.kind, made.place, made.content)]


LARGE_BODY = b"new and large" * 20_000
"""Has a manifest, and is not read again by whoever sets its times."""


def edit_at_length(author: Author, held: Records) -> Records:
    return [author.edit(held[0], LARGE_BODY)]


def one_large_file(author: Author) -> Records:
    return [author.file(b"f", b"old and large" * 20_000)]


def edit_inside(author: Author, held: Records) -> Records:
    return [author.edit(held[1], b"new version")]


FILE_STORIES = (
    Story("put at a free name", nothing, put_new, (b"f",)),
    Story("put over an older version", one_file, edit, (b"f",), ((b"f",),)),
    Story("put over a version not seen", one_file, edit_unseen, (b"f",), ((b"f",),)),
    Story("put over another object", one_file, lose_name, (b"f",), ((b"f",),)),
    Story("move", one_file, move, (b"f", b"g"), ((b"f", b"g"),)),
    Story("swap", two_files, swap, (b"f", b"g"), ((b"f",), (b"g",))),
    Story("swap and edit", two_files, swap_with_edit, (b"f", b"g"), ((b"f",), (b"g",))),
    Story("move in turn", two_files, turn, (b"f", b"g", b"h")),
    Story("put a large one over another", one_large_file, edit_at_length, (b"f",), ((b"f",),)),
    Story("set mode and mtime of a large one", one_large_file, new_meta, (b"f",), ((b"f",),)),
    Story("remove", one_file, delete, (b"f",)),
    Story("set mode and mtime", one_file, new_meta, (b"f",), ((b"f",),)),
    Story("set mode", one_file, new_mode, (b"f",), ((b"f",),)),
    Story("lift", one_file, displaced, (b"f",), ((b"f",),), the_parent_comes),
    Story("move over another", two_files, move_over, (b"f", b"g"), ((b"g",),)),
    Story("move away from a new one", one_file, move_away, (b"f", b"g"), ((b"f",),)),
    Story("move over another from a new one", two_files, move_over_and_anew, (b"f", b"g"), ((b"f",), (b"g",))),
    Story("a file moves into what takes its name", one_file, move_away_for_a_directory, (b"f",), ((b"f",),)),
    Story("a file becomes a directory", one_file, file_becomes_directory, (b"f",), ((b"f",),)),
)
DIRECTORY_STORIES = (
    Story("make a directory", nothing, make_directory, (b"f",)),
    Story("remove a directory", directory_with_file, delete_all, (b"d",)),
    Story("move a directory", directory_with_file, move_directory, (b"d", b"e"), ((b"d", b"e"),)),
    Story("put in a directory", directory_with_file, edit_inside, (b"d",)),
    Story("nest a directory", directory_with_file, nest, (b"d",)),
    Story("swap directories", two_directories, swap_directories, (b"d", b"e"), ((b"d",), (b"e",))),
    Story("a directory becomes a file", directory_with_file, directory_becomes_file, (b"d",), ((b"d",),)),
    Story("retarget a symlink", one_link, retarget, (b"l",), ((b"l",),)),
)
