"""The command line: what there is, and the help that says so. Nothing is imported here that a command needs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from replicad import __version__
from replicad.errors import UsageError

EXIT_STATUSES = """\
exit status: 0 done; 1 it could not be done; 2 wrong usage or configuration; 3 no daemon answers; 4 time ran out"""

DESCRIPTION = """\
Keeps folders the same on many servers, every one of them writable.

A member founds a group with `init`, others come in with `invite` and `join`; `folder create` and `folder join` say
which folders are kept where; `run` is the daemon. Or declare all of it in one file: `run --config FILE`."""


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line on stderr and exit status 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="replicad",
        description=DESCRIPTION,
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    home = "the member's home (REPLICAD_HOME; root's is /var/lib/replicad); also after the command"
    parser.add_argument("--home", metavar="DIR", type=Path, help=home)
    parser.add_argument("--json", action="store_true", help="print JSON; also after the command")
    parser.add_argument("--version", action="version", version=f"replicad {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_membership(commands)
    _add_folders(commands)
    _add_preserved(commands)
    _add_holds(commands)
    _add_daemon(commands)
    return parser


Commands = argparse._SubParsersAction


def _command(commands: Commands[_Parser], name: str, runs: str, help_text: str, more: str = "") -> _Parser:
    """`runs`: MODULE:FUNCTION below replicad.cli."""
    parser: _Parser = commands.add_parser(
        name,
        help=help_text,
        description=f"{help_text[0].upper()}{help_text[1:]}.{chr(10) * 2 + more if more else ''}",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(runs=runs, command=name)
    _add_common(parser)
    return parser


def _add_common(parser: _Parser) -> None:
    """Without defaults of their own, so that what stands before the command is kept."""
    unset = argparse.SUPPRESS
    home = "the member's home (REPLICAD_HOME; root's is /var/lib/replicad)"
    parser.add_argument("--home", metavar="DIR", type=Path, default=unset, help=home)
    parser.add_argument("--json", action="store_true", default=unset, help="print JSON")


def _group(commands: Commands[_Parser], name: str, help_text: str) -> Commands[_Parser]:
    parser = commands.add_parser(name, help=help_text, description=help_text, epilog=EXIT_STATUSES, allow_abbrev=False)
    _add_common(parser)
    added: Commands[_Parser] = parser.add_subparsers(metavar="ACTION", required=True, parser_class=_Parser)
    return added


def _add_addresses(parser: _Parser) -> None:
    parser.add_argument("--listen", metavar="HOST:PORT", help="where peers connect (default 0.0.0.0:7722)")
    parser.add_argument(
        "--advertise",
        metavar="HOST:PORT",
        action="extend",
        nargs="+",
        default=[],
        help="addresses to tell the others, where those that they see are not enough (behind NAT, say)",
    )
    parser.add_argument("--api", metavar="HOST:PORT", help="where the operator API answers (default 127.0.0.1:7723)")


def _add_membership(commands: Commands[_Parser]) -> None:
    init = _command(commands, "init", "membership:init", "found a group, of which this is the first member")
    init.add_argument("--name", required=True, help="this member's name in the group")
    init.add_argument("--group", default="replicad", help="the group's name (default: replicad)")
    _add_addresses(init)

    more = (
        "The token is one line; whoever has it can join, so often and so long as it says. See also invite list, revoke."
    )
    invite = _command(commands, "invite", "membership:invite", "print a token with which another member can join", more)
    invite.add_argument("--ttl", default="1h", metavar="TIME", help="how long it is good: 30min, 1h, 7d (default 1h)")
    invite.add_argument(
        "--uses", type=int, default=1, metavar="N", help="how many members may join with it (default 1)"
    )
    # `invite` alone makes a token, so list and revoke are words after it and not commands of their own.
    invite.add_argument("action", nargs="?", choices=["list", "revoke"], help="list the tokens, or revoke one")
    invite.add_argument("id", nargs="?", help="revoke: the token's id as `invite list` shows it")

    more = "Use - to read the token from standard input, so that it stands in no list of processes."
    join = _command(commands, "join", "membership:join", "join the group of the member that made the token", more)
    join.add_argument("token", metavar="TOKEN|-", help="as `replicad invite` printed it")
    join.add_argument("--name", required=True, help="this member's name in the group")
    _add_addresses(join)

    member = _group(commands, "member", "The members of the group.")
    _command(member, "list", "membership:member_list", "list the members")
    more = "It is out for good, wherever it is: it is refused from now on, and nothing waits for it any more."
    remove = _command(member, "remove", "membership:member_remove", "remove a member from the group", more)
    remove.add_argument("name", metavar="NAME", help="the member's name, or the first characters of its id")

    more = """\
For one that is away: deletions are forgotten without it, and all else goes on as before. When it is back it rejoins
where that is needed, and is living again by itself. Members that see more than half of the group say so by themselves
once it has been away for `[member] offline_limit` (60d)."""
    lapse = _command(member, "lapse", "membership:member_lapse", "wait for a member no more, until it is back", more)
    lapse.add_argument("name", metavar="NAME", help="the member's name, or the first characters of its id")
    lapse.add_argument("--force", action="store_true", help="although it was seen in the last 24 hours")

    more = "It is asked for over TCP: for every change, and for everything from outside loopback."
    token = _command(commands, "token", "membership:token", "print the operator API's token", more)
    token.add_argument("--rotate", action="store_true", help="make a new one; the old one is refused from now on")


def _add_folders(commands: Commands[_Parser]) -> None:
    folder = _group(commands, "folder", "The folders of the group, and which of them are kept here.")
    more = "What PATH holds is the folder's content. A name that the group has already is refused: join that folder."
    create = _command(folder, "create", "folders:create", "make a new folder of the group, kept at PATH here", more)
    create.add_argument("name", metavar="NAME")
    create.add_argument("path", metavar="PATH")

    more = """\
What PATH holds already is compared with the folder: what is equal is kept as it is, the rest goes to
PATH/.replicad/PreExisting; with --merge, what only PATH has becomes part of the folder."""
    join = _command(folder, "join", "folders:join", "keep an existing folder of the group at PATH here", more)
    join.add_argument("name", metavar="NAME")
    join.add_argument("path", metavar="PATH")
    join.add_argument("--merge", action="store_true", help="add what only PATH has to the folder")

    _command(folder, "list", "folders:list_folders", "list the folders of the group")
    more = """\
staging_quota=SIZE   space for files that are being put together; a larger file passes alone (default 4GiB)
scan_interval=TIME   how often the whole folder is scanned, for what no event told of; 0: never (default 1h)
preserved_quota=SIZE  ConflictAndDeleted: from 90 % of it on the oldest go, down to 60 % (default 4GiB)
preserved_min_age=TIME  what is younger stays there, whatever the quota (default 30d)
tombstone_lifetime=TIME  how long a deletion is remembered at least (default 60d)
scan_deletions_max=N  what a scan finds deleted beyond it, and beyond a quarter of the folder, is held (default 1000)

These hold at once, on this member alone. One holds for the folder on every member of the group:

conflicts=preserve|sibling  of two files of one name the loser is preserved (see `replicad preserved`), or stands
                            beside the winner as NAME.conflict-0123456789ab.EXT (default preserve)

KEY=default takes a setting back."""
    change = _command(folder, "set", "folders:change", "change how a folder is kept", more)
    change.add_argument("name", metavar="NAME")
    change.add_argument("settings", metavar="KEY=VALUE", nargs="+")

    more = """\
Move the directory first, with everything in it (mv; across filesystems: cp -a, then `hold approve`). Then say where it
is: nothing is transferred again."""
    move = _command(folder, "move", "folders:move", "say where a folder's directory is now, on this member", more)
    move.add_argument("name", metavar="NAME")
    move.add_argument("path", metavar="PATH")

    more = "First everything that only this member has goes to others. The files at its path stay as they are."
    leave = _command(folder, "leave", "folders:leave", "stop keeping a folder here", more)
    leave.add_argument("name", metavar="NAME")
    _add_drain(leave)
    more = "First every member in reach gets what it lacks. The files stay where they are, on every member."
    remove = _command(folder, "remove", "folders:remove", "take a folder out of the group", more)
    remove.add_argument("name", metavar="NAME")
    _add_drain(remove)


def _add_preserved(commands: Commands[_Parser]) -> None:
    preserved = _group(commands, "preserved", "Files that lost a conflict or were in the way, kept to be brought back.")
    more = """\
Each member keeps what it had installed; what several keep is one line. ConflictAndDeleted has a quota (`folder set`),
PreExisting, what was in a folder's path before it was replicated, is emptied by `preserved empty` alone."""
    listed = _command(preserved, "list", "preserved:list_preserved", "list them, on all members in reach", more)
    listed.add_argument("--folder", metavar="NAME", help="only this folder (default: all that are kept here)")

    more = "It never takes the place of anything: where its name is taken, it is brought back beside it."
    restore = _command(preserved, "restore", "preserved:restore", "bring one back into the folder", more)
    restore.add_argument("id", metavar="ID", help="as `preserved list` gives it")
    restore.add_argument("--to", metavar="PATH", help="a path in the folder that is free (default: where it was)")
    restore.add_argument("--folder", metavar="NAME", help="where ID is only MEMBER:NUMBER")

    more = "Only what this member keeps: what others keep is deleted there."
    delete = _command(preserved, "delete", "preserved:delete", "delete preserved files for good", more)
    delete.add_argument("ids", metavar="ID", nargs="+", help="as `preserved list` gives it")
    empty = _command(preserved, "empty", "preserved:empty", "delete all that this member keeps in a store", more)
    empty.add_argument("store", metavar="STORE", choices=["ConflictAndDeleted", "PreExisting"], help="which one")
    empty.add_argument("--folder", metavar="NAME", required=True, help="of this folder")
    empty.add_argument("--older-than", metavar="TIME", help="only what was preserved so long ago: 90d")


def _add_holds(commands: Commands[_Parser]) -> None:
    hold = _group(commands, "hold", "Folders that wait for an operator's decision.")
    _command(hold, "list", "holds:list_holds", "list the folders that are held, what is there, and what is missing")
    more = "What is missing there is deleted on every member, what differs is a change made here."
    approve = _command(hold, "approve", "holds:approve", "take what is at the folder's path for the folder", more)
    approve.add_argument("name", metavar="FOLDER")
    more = """\
What equals the group's files there is kept, the rest goes to .replicad/PreExisting; what is missing comes from others.
"""
    reject = _command(
        hold, "reject", "holds:reject", "take nothing there for a change, and bring the folder back", more
    )
    reject.add_argument("name", metavar="FOLDER")

    more = """\
What is known of this member's disk is forgotten, and what the others know is learned again. What equals the group's
files here is kept, the rest goes to .replicad/PreExisting; what is missing comes from others.

With --primary it is the other way round: what is on this disk counts. What differs here is a change made now, and what
is not here is deleted on every member, also what has not arrived here yet."""
    rejoin = _command(commands, "rejoin", "holds:rejoin", "begin a folder anew on this member", more)
    rejoin.add_argument("name", metavar="FOLDER")
    rejoin.add_argument("--primary", action="store_true", help="what is on this member's disk counts")
    rejoin.add_argument("--force", action="store_true", help="--primary, although most of the folder is not here")

    more = """\
For a file whose newest version was on a member that is gone for good. The version that is on this member's disk becomes
the newest one for the whole group; where there is none, the file is deleted. For a directory: every such file in it.
Run it on the member that has the best version left. Whoever has another version keeps it in ConflictAndDeleted.
Refused while a member that is not removed has told that it has the newest version."""
    abandon = _command(commands, "abandon", "holds:abandon", "give up a version that nobody has any more", more)
    abandon.add_argument("path", metavar="PATH", help="a file or directory in a folder that is kept here")
    abandon.add_argument("--force", action="store_true", help="although a member has told that it has it")


def _add_drain(parser: _Parser) -> None:
    parser.add_argument("--now", action="store_true", help="do not wait until everything is replicated")
    parser.add_argument(
        "--timeout", type=_timeout, default=300.0, metavar="S", help="give up waiting after so long (default 300 s)"
    )


def _add_daemon(commands: Commands[_Parser]) -> None:
    more = """\
Runs in the foreground until SIGTERM or SIGINT and logs to stderr. FILE declares everything: it is brought about where
it is not there yet. Every setting can also be given in the environment, as REPLICAD_<SECTION>_<KEY>, which beats FILE,
which beats the home's replicad.toml."""
    run = _command(commands, "run", "run:run", "run the daemon", more)
    run.add_argument("--config", metavar="FILE", type=Path, help="the member's declaration (TOML)")

    more = "For every field see GET /v1/status: `replicad status --json` prints the same."
    _command(commands, "status", "show:status", "show members, folders, states and backlog at a glance", more)

    more = """\
Every reachable member first looks at all that was changed on its disk before this command began; then it waits until
all of that is installed on each. What is changed later is not waited for."""
    wait = _command(commands, "wait", "show:wait", "wait until what is on the disks now is on all of them", more)
    wait.add_argument("--folder", metavar="NAME", help="only this folder (default: all that are kept here)")
    wait.add_argument(
        "--members", type=_members, metavar="N", help="so many members must have it, this one counted (default: all)"
    )
    wait.add_argument(
        "--timeout", type=_timeout, default=60.0, metavar="S", help="give up after so long; 0 looks once (default 60 s)"
    )

    more = """\
Runs beside the daemon's other work, at the lowest priority; Ctrl-C ends it. What differs in size, times, mode or
presence is looked at now, as a scan would. Where only the content differs, nothing is changed unless it is asked for:
it may be an edit of which nothing told, or the disk's fault. Either way nothing that is there is lost."""
    verify = _command(commands, "verify", "verify:verify", "read this member's disk again and report differences", more)
    verify.add_argument("name", metavar="FOLDER")
    remedy = verify.add_mutually_exclusive_group()
    remedy.add_argument("--take", action="store_true", help="content that differs is an edit, made now")
    remedy.add_argument(
        "--mend", action="store_true", help="fetch the group's content again, and preserve what is there"
    )

    events = _command(commands, "events", "show:events", "show what the daemon reported last")
    events.add_argument("--follow", action="store_true", help="go on with what it reports from now on")


def _timeout(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400 * 30:
        raise argparse.ArgumentTypeError(f"{text} is out of range: 0 to {86_400 * 30} s")
    return seconds


def _members(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000:
        raise argparse.ArgumentTypeError(f"{text} is out of range: 1 to 1000")
    return number
