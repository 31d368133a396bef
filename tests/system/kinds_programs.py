"""Kinds of change: what programs really do when they save, unpack, install and synchronise."""

import io
import os
import sqlite3
import sys
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

from tests.system.folder_tools import MTIME_NS, put
from tests.system.kind import Kind, outside, run
from tests.system.replay import replay

TEXT = b"a line of text\n" * 100
OLD_S = 946_684_800  # 2000-01-01
FILES = 30
FILES_A_PACKAGE = 6


def documents(root: Path) -> None:
    for name in ("doc.txt", "other.txt"):
        put(root / name, TEXT)


def edited(root: Path, own: bool) -> None:
    assert b"edited" in (root / "doc.txt").read_bytes()


def vim(settings: str) -> Kind:
    """In silent mode, with the swap file that it keeps while a file is open."""

    def change(root: Path) -> None:
        for command in ("%s/line/edited/", "normal Goedited", "1,10d"):
            settings_and_command = ("-c", f"set {settings}", "-c", command)
            run(root, "vim", "-u", "NONE", "-N", "-es", *settings_and_command, "-c", "wq", "doc.txt")

    return Kind("vim-" + settings.replace(" ", "-").replace("=", "-"), documents, change, edited, ("vim",))


def emacs(name: str, form: str) -> Kind:
    def change(root: Path) -> None:
        save = '(goto-char (point-max)) (insert "edited\\n") (save-buffer)'
        run(root, "emacs", "--batch", "-Q", "--eval", f'(progn {form} (find-file "doc.txt") {save} {save})')

    return Kind(name, documents, change, edited, ("emacs",))


def replayed(name: str) -> Kind:
    def after(root: Path, own: bool) -> None:
        assert (root / "doc.txt").read_bytes() == b"a new text\n"

    return Kind(f"save-of-{name}", documents, lambda root: replay(name, root), after)


def repository(root: Path) -> None:
    """Two commits far apart: nearly every file is another one, and so are kinds and modes."""
    root.mkdir(parents=True)
    commit = "git add -A && git -c user.name=n -c user.email=e@x commit -q -m"
    run(root, "git", "init", "-q", "-b", "main")
    for number in range(FILES):
        put(root / f"src/{number % 6}/file-{number}.c", b"%d\n" % number * 20)
    put(root / "becomes-directory", b"a file")
    put(root / "becomes-file/inside", b"in a directory")
    put(root / "becomes-link/inside", b"in a directory")
    put(root / "script", b"#!/bin/sh\n", mode=0o755)
    run(root, script=f"{commit} first && git tag first && git rm -q -r src becomes-directory becomes-file becomes-link")
    for number in range(FILES):
        put(root / f"lib/{number % 4}/file-{number}.c", b"%d\n" % (number % 7) * 30)
        put(root / f"src/{number % 6}/file-{number % 15}.c", b"another %d\n" % number)
    put(root / "becomes-directory/inside", b"in a directory")
    put(root / "becomes-file", b"a file")
    (root / "becomes-link").symlink_to("lib")
    (root / "script").chmod(0o644)
    run(root, script=f"{commit} second && git tag second")


def check_out(root: Path) -> None:
    run(root, script="git checkout -q first && git checkout -q second && git checkout -q first")


def intact(root: Path, own: bool) -> None:
    run(root, script='git fsck --strict && test "$(git rev-parse HEAD)" = "$(git rev-parse first)"')


def work_with_git(root: Path) -> None:
    as_user = "git -c user.name=n -c user.email=e@x"
    run(
        root,
        script=f"git checkout -q -b side first && echo side >side && git add side && {as_user} commit -q -m side"
        f" && {as_user} rebase -q second && git stash list && git mv lib/0 moved && {as_user} commit -q -m moved"
        f" && git checkout -q main && {as_user} merge -q --no-edit side && git gc -q --prune=now"
        " && git worktree add -q wt first && git clean -fdxq",
    )


def unpack(root: Path) -> None:
    """With old times, in an order in which directories are closed after what is in them was made."""
    archive = outside(root) / "old.tar"
    with tarfile.open(archive, "w") as tar:
        for name, kind, mode in (("d", tarfile.DIRTYPE, 0o555), ("d/sub", tarfile.DIRTYPE, 0o755)):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = kind, mode, OLD_S
            tar.addfile(member)
        for number in range(FILES):
            member = tarfile.TarInfo(f"d/sub/f{number}" if number % 2 else f"d/f{number}")
            member.mode, member.mtime, member.size = (0o444, 0o640, 0o755)[number % 3], OLD_S + number, 10
            tar.addfile(member, io.BytesIO(b"%010d" % number))
    run(root, "tar", "--no-same-owner", "-xpf", str(archive))


def unpacked(root: Path, own: bool) -> None:
    assert (root / "d/f2").stat().st_mtime == OLD_S + 2
    assert (root / "d").stat().st_mode & 0o777 == 0o555


def unpacked_and_edited(root: Path) -> None:
    root.mkdir()
    unpack(root)
    run(root, "chmod", "-R", "u+w", ".")
    for number in range(0, FILES, 6):
        put(root / f"d/f{number}", b"newer, and edited since")


def open_and_remove(root: Path) -> None:
    """As a cleaning script does; for the next test run, which could not remove what is closed."""
    run(root, script="chmod -R u+w d && rm -r d && mkdir d && echo 1 >d/f && touch -d @946684800 d/f")


def wheel(directory: Path, version: str) -> Path:
    path = directory / f"example-{version}-py3-none-any.whl"
    info = f"example-{version}.dist-info"
    files = {f"example/m{number}.py": f"VALUE = '{version} {number}'\n" for number in range(40)}
    files |= {"example/__init__.py": f"__version__ = '{version}'\n", "example/data/table.csv": "1,2,3\n" * 50}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: example\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def unzipped(root: Path) -> None:
    """As pip leaves it, short of compiled files."""
    root.mkdir()
    with zipfile.ZipFile(wheel(outside(root), "1.0")) as archive:
        archive.extractall(root / "site")


def install(root: Path) -> None:
    """Over an older version, which goes."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--isolated", "install", "--no-index")
    run(root, *pip, "--no-deps", "--target", "site", "--upgrade", str(wheel(outside(root), "2.0")))


def installed(root: Path, own: bool) -> None:
    assert "2.0" in (root / "site/example/__init__.py").read_text()
    assert list((root / "site/example").glob("__pycache__/*.pyc")), "pip compiles what it installs"


def modules(root: Path, version: int = 1) -> None:
    """As npm leaves them: packages within packages, links in `.bin`, all files with one time."""
    for name in ("a", "b", "@scope/c", "d"):
        package = root / "node_modules" / name
        for number in range(FILES_A_PACKAGE):
            put(
                package / f"lib/{number % 3}/{number}.js",
                b"exports.v = %d.%d\n" % (version, number),
                mtime_ns=499_162_500 * 10**9,
            )
        put(package / "package.json", b'{"version": "%d"}' % version, mtime_ns=499_162_500 * 10**9)
        put(package / "bin/run.js", b"#!/usr/bin/env node\n", mode=0o755)
        put(package / "node_modules/nested/index.js", b"%d" % version)
        binaries = root / "node_modules/.bin"
        binaries.mkdir(exist_ok=True)
        link = binaries / Path(name).name
        if not link.is_symlink():
            link.symlink_to(f"../{name}/bin/run.js")


def reinstall_modules(root: Path) -> None:
    """As npm does: each package is moved aside under a hidden name, the new one put in its place, the old one removed;
    one is gone, and one that was nested comes up."""
    for name in ("a", "b"):
        run(root / "node_modules", "mv", name, f".{name}-x7Kd93")
    modules(root, 2)
    run(
        root / "node_modules",
        script="rm -r .a-x7Kd93 .b-x7Kd93 d .bin/d && mv a/node_modules/nested . && rmdir a/node_modules",
    )


def databases(root: Path) -> None:
    root.mkdir()
    for name, mode in (("rollback.db", "delete"), ("wal.db", "wal"), ("truncate.db", "truncate")):
        run(
            root,
            "sqlite3",
            name,
            f"PRAGMA journal_mode={mode}; CREATE TABLE t (n, x); INSERT INTO t VALUES (0, zeroblob(9000));",
        )


def use_databases(root: Path) -> None:
    for name in ("rollback.db", "wal.db", "truncate.db"):
        for number in range(3):
            run(
                root,
                "sqlite3",
                name,
                f"INSERT INTO t VALUES ({number}, randomblob(30000)); DELETE FROM t WHERE n < {number};",
            )
    run(root, "sqlite3", "rollback.db", "VACUUM;")
    run(root, "sqlite3", "new.db", "CREATE TABLE t (n); INSERT INTO t VALUES (2);")


def databases_whole(root: Path, own: bool) -> None:
    """Read as they lie there, without the side files that opening them would make."""
    for name in ("rollback.db", "wal.db", "truncate.db", "new.db"):
        with closing(sqlite3.connect(f"file:{root / name}?immutable=1", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT max(n) FROM t").fetchone() == (2,)


def synchronised(root: Path) -> None:
    root.mkdir()
    for number in range(30):
        put(outside(root) / f"d{number % 3}/f{number}", b"%d" % number * 1000)
    run(root, "rsync", "-a", f"{outside(root)}/", "plain/")
    run(root, "rsync", "-a", f"{outside(root)}/", "in-place/")


def rsync(root: Path) -> None:
    """Files that changed, went and came; one of them large; once by temporary names, once written in place."""
    for number in range(0, 30, 4):
        put(outside(root) / f"d{number % 3}/f{number}", b"changed %d" % number, mtime_ns=MTIME_NS + 10**9)
    (outside(root) / "d1/f1").unlink()
    put(outside(root) / "new/large", os.urandom(300_000))
    run(root, "rsync", "-a", "--delete", f"{outside(root)}/", "plain/")
    run(root, "rsync", "-a", "--delete-before", "--inplace", "--no-whole-file", f"{outside(root)}/", "in-place/")


def by_tools(root: Path) -> None:
    run(
        root,
        script="sed -i s/line/edited/ doc.txt && sed -i.bak s/line/edited/ other.txt && cp doc.txt copy"
        " && install -m 600 other.txt installed && cp -a copy kept && truncate -s 10 copy",
    )


PROGRAMS = (
    vim("nobackup nowritebackup"),
    vim("backup backupcopy=no"),
    vim("backup backupcopy=yes"),
    vim("writebackup nobackup"),
    emacs("emacs", ""),
    emacs("emacs-backup-by-copying", "(setq backup-by-copying t)"),
    emacs("emacs-no-backup", "(setq make-backup-files nil)"),
    replayed("gedit"),
    replayed("gedit-with-backup"),
    replayed("libreoffice"),
    Kind("sed-and-coreutils", documents, by_tools, edited),
    Kind("git-checkout", repository, check_out, intact, ("git",)),
    Kind("git-at-work", repository, work_with_git, needs=("git",)),
    Kind("tar", lambda root: root.mkdir(), unpack, unpacked, ("tar",)),
    Kind("tar-over-newer", unpacked_and_edited, unpack, unpacked, ("tar",)),
    Kind("removed-after-tar", lambda root: (root.mkdir(), unpack(root)), open_and_remove, needs=("tar",)),
    Kind("pip-install-target", unzipped, install, installed),
    Kind("npm-install", lambda root: root.mkdir(), modules),
    Kind("npm-update", modules, reinstall_modules),
    Kind("sqlite3", databases, use_databases, databases_whole, ("sqlite3",)),
    Kind("rsync", synchronised, rsync, needs=("rsync",)),
)
