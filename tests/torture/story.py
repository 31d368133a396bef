"""One run: a group is founded, lives through its plan, is healed, waited for, and judged."""

from __future__ import annotations

import heapq
import json
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.torture import judge, plan, registers
from tests.torture.acts import User
from tests.torture.contents import Contents
from tests.torture.daemons import FOLDER, Member, State, declare_group, found_group, until_up
from tests.torture.hand import Hand
from tests.torture.hosts import Hosts
from tests.torture.ledger import Ledger
from tests.torture.plan import Event

WAIT_S = 240
"""After a minute at most everybody is linked again; the rest is for what is to be fetched."""
QUIET_S = 40.0
"""What came out of a tree is kept until it is quiet (5 s), and is looked at again at the latest after so long."""
ECHO_S = 2.0
"""So long it is watched whether anybody takes what was installed for a change of a user's: looks come within it."""
AGAIN_S = 0.2
DUEL_ACTS = (10, 40, 100)
DUEL_GAPS_S = (0.0, 0.001, 0.003, 0.01, 0.03)
ACTS_BEFORE = 40
"""On all of them together."""
OUR_BUGS = re.compile(r"Traceback|AssertionError|never retrieved|InternalError")
LOG_LINES_MAX = 5


class Story:
    """`run` once; then `findings`, `counts`."""

    def __init__(self, seed: int, seconds: float, size: int, base: Path) -> None:
        self.seed = seed
        self._lives_s = seconds
        self._live_from_s = 0.0
        self.base = base
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self.seconds: dict[str, float] = {}
        """What each phase took."""
        self.hosts = Hosts(size)
        self.ledger = Ledger()
        self.plan = plan.plan(seed, seconds, size)
        self.members: list[Member] = []
        self._hands: list[Hand] = []
        self._later: list[tuple[float, int, Event]] = []
        self._doing: dict[str, Callable[[Event], None]] = {
            plan.ACT: self._act,
            plan.DUEL: self._duel,
            plan.POLICY: self._change_policy,
            plan.KILL: self._kill,
            plan.STOP: self._stop,
            plan.START: self._start,
            plan.CUT: lambda event: self.hosts.cut(event.ways),
            plan.MEND: lambda event: self.hosts.mend(event.ways),
            plan.LOSE: lambda event: self.hosts.lose(event.hosts[0], event.value),
            plan.SLOW: lambda event: self.hosts.slow(event.hosts[0], event.value),
        }

    def run(self) -> None:
        self.hosts.up()
        try:
            for phase in (self._found, self._live, self._heal, self._judge, self._end):
                began_s = time.monotonic()
                phase()
                self.seconds[phase.__name__.strip("_")] = round(time.monotonic() - began_s, 1)
        finally:
            for member in self.members:
                member.end_commands()
                if member.running:
                    member.kill()
            self.hosts.down()
            lines = (entry.show() for entry in self.ledger.history)
            (self.base / "history").write_text("".join(f"{line}\n" for line in lines), errors="backslashreplace")

    # -- the run

    def _found(self) -> None:
        contents = Contents(self.seed)
        for number in range(1, self.hosts.size + 1):
            member = Member(self.base, f"m{number}", number, self.hosts)
            self.members.append(member)
            self._hands.append(Hand(User(member, self.ledger), contents))
        self._hands[0].begin(self.seed)
        if plan.is_declared(self.seed):
            self._happened("declared with copies of one disk", "all")
            self._copy_disk()
            declare_group(self.members, self.base / "secret")
        else:
            self._happened("one founds, the others join", "all")
            found_group(self.members)
            self._find_troubles()
        self._live_from_s = self.ledger.now_s()

    def _copy_disk(self) -> None:
        """Each user goes on with a copy before anybody meets."""
        first, *others = self.members
        for member in others:
            shutil.copytree(first.root, member.root, symlinks=True, dirs_exist_ok=True)
        self.ledger.all_have()
        for hand in self._hands:
            hand.user.founding = True
        for event in [event for event in self.plan if event.what == plan.ACT][:ACTS_BEFORE]:
            self._act(event._replace(value=event.value + 1))

    def _live(self) -> None:
        """Events one after the other, each at its time or as soon as those before it are done. Healing ends what lasts
        beyond the end."""
        self._later = [(event.at_s, number, event) for number, event in enumerate(self.plan)]
        heapq.heapify(self._later)
        while self._later and self._later[0][0] < self._lives_s:
            at_s, _, event = self._later[0]
            for member in self.members:
                member.watch()
            ahead_s = at_s - self._now_s()
            if ahead_s > 0:
                time.sleep(min(ahead_s, AGAIN_S))
                continue
            heapq.heappop(self._later)
            self._doing[event.what](event)

    def _act(self, event: Event) -> None:
        name = self._hands[event.hosts[0] - 1].act(event.value)
        self.counts[name or "(refused by the system)"] += 1

    def _duel(self, event: Event) -> None:
        """Quick acts of two users on a path that both have."""
        rng = random.Random(event.value)
        hands = [self._hands[host - 1] for host in event.hosts]
        both = sorted(set(hands[0].files()) & set(hands[1].files()))
        if not both:
            return
        self.counts["duel"] += 1
        path = rng.choice(both)
        for _ in range(rng.choice(DUEL_ACTS)):
            done = rng.choice(hands).duel(path, rng.randrange(1 << 62))
            self.counts["act in a duel" if done else "(refused in a duel)"] += 1
            time.sleep(rng.choice(DUEL_GAPS_S))

    def _change_policy(self, event: Event) -> None:
        member = self._member(event)
        if member.state is State.UP:
            policy = "sibling" if event.value else "preserve"
            self._happened(f"folder set conflicts={policy}", member.name)
            member.begin_command("folder", "set", FOLDER, f"conflicts={policy}")

    def _kill(self, event: Event) -> None:
        member = self._member(event)
        if member.state is not State.DOWN:
            self._happened(f"kill -9 while {member.state.value}", member.name)
            member.kill()

    def _stop(self, event: Event) -> None:
        member = self._member(event)
        if member.state is State.UP:
            self._happened("clean stop", member.name)
            member.begin_to_stop()

    def _start(self, event: Event) -> None:
        """Once it has ended."""
        member = self._member(event)
        if member.state is State.STOPPING:
            again_s = self._now_s() + AGAIN_S
            heapq.heappush(self._later, (again_s, len(self.plan), event._replace(at_s=again_s)))
        elif member.state is State.DOWN:
            self._happened("start with a clock hours off" if event.value else "start", member.name)
            member.set_clock(event.value)
            member.begin()

    def _heal(self) -> None:
        self._happened("heal", "all")
        for hand in self._hands:
            hand.end()
        self.hosts.heal()
        for member in self.members:
            member.end_commands()
        until_up(self.members)
        for member in self.members:
            if member.state is State.DOWN:
                member.begin()
        until_up(self.members)

    def _end(self) -> None:
        """Cleanly; what the daemons have said is looked through."""
        for member in self.members:
            if member.state is State.UP:
                member.begin_to_stop()
        until_up(self.members)
        self._find_troubles()
        self.findings += registers.used_twice(member.home for member in self.members)
        for member in self.members:
            said = [line for line in member.log.read_text(errors="replace").splitlines() if OUR_BUGS.search(line)]
            if said:
                self.findings.append("\n  ".join([f"{member.log} tells of our own bugs:", *said[:LOG_LINES_MAX]]))

    # -- the judgement

    def _judge(self) -> None:
        roots = {member.name: member.folder(FOLDER) for member in self.members}
        asked = self.members[self.seed % len(self.members)]
        healed_s = time.monotonic()
        done = self._wait(asked)
        self.counts["seconds that wait took"] = round(time.monotonic() - healed_s)
        changes = registers.newest(member.home for member in self.members)
        echoed_s = time.monotonic() + ECHO_S
        different = judge.trees_differ(roots, self.ledger)
        if done and different:
            self._look_again(asked, roots)
        self.findings += different
        found = judge.read_disks(roots, self.ledger)
        end_s = time.monotonic() + QUIET_S
        while found.missing(self.ledger) & found.staged.keys() and time.monotonic() < end_s:
            time.sleep(AGAIN_S)
            found = judge.read_disks(roots, self.ledger)
        for promise in (judge.lost, judge.came_back, judge.never_written):
            self.findings += promise(found, self.ledger)
        time.sleep(max(0.0, echoed_s - time.monotonic()))
        after = registers.newest(member.home for member in self.members)
        if done and after != changes:
            self.findings.append(f"I9: nobody did anything, and there are new changes: {changes} became {after}")
        self._count(found)

    def _look_again(self, asked: Member, roots: dict[str, Path]) -> None:
        """Trees that differ after a wait is a finding; that they are one after another tells more of it."""
        waits = [self._wait(member) for member in self.members]
        if all(waits) and not judge.trees_differ(roots, self.ledger):
            self.findings.append(f"wait: {asked.name} said that all is done, and the trees became one later")

    def _wait(self, member: Member) -> bool:
        answer = member.run(
            "wait", "--members", str(len(self.members)), "--timeout", str(WAIT_S), timeout_s=WAIT_S + QUIET_S
        )
        if answer.returncode != 0:
            words = f"{answer.stdout.strip()} {answer.stderr.strip()}"
            self.findings.append(f"wait on {member.name}: exit status {answer.returncode}: {words}\n{self._statuses()}")
        return answer.returncode == 0

    def _statuses(self) -> str:
        lines = []
        for member in self.members:
            with suppress(Exception):
                status = member.folder_status(FOLDER)
                kept = ("state", "reason", "scanning", "objects", "backlog_in", "backlog_out", "blocked")
                shown = json.dumps({name: status.get(name) for name in kept})
                lines.append(f"  {member.name}: linked with {sorted(member.connected())}; {shown[:2_000]}")
        return "\n".join(lines)

    def _count(self, found: judge.Found) -> None:
        ledger = self.ledger
        excused = ledger.affirmed | ledger.copied
        told = {
            "contents written": len(ledger.written),
            "contents taken off by users": len(ledger.taken_off.keys() & ledger.written.keys()),
            "of them after they were surely seen": len(ledger.condemned.keys() & ledger.written.keys()),
            "of these excused from coming back": len(ledger.condemned.keys() & excused),
            "acts of which cannot be told what they took off": len(ledger.untold),
            "contents live at the end": len(found.live),
            "contents preserved at the end": len(found.preserved),
            "that no user took off, preserved alone": len(
                found.preserved.keys() - found.live.keys() - ledger.taken_off.keys()
            ),
        }
        self.counts.update(told)

    # -- inside

    def _now_s(self) -> float:
        """As the plan's times are meant."""
        return self.ledger.now_s() - self._live_from_s

    def _member(self, event: Event) -> Member:
        return self.members[event.hosts[0] - 1]

    def _happened(self, what: str, who: str) -> None:
        self.counts[what] += 1
        self.ledger.note(who, what)

    def _find_troubles(self) -> None:
        for member in self.members:
            self.findings += [f"daemon {trouble}" for trouble in member.troubles]
            member.troubles.clear()
