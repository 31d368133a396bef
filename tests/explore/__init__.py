"""Everything that two members can do with three operations of users on two names: every order of scans, deliveries,
losses, installs and crashes between them. `python -m tests.explore` searches, `make soak` the whole of it.

**A state** (`space.State`) is a value: both members, the pages on their way to each, whether the link is up, how many
operations have been, how many faults may still be; and what no member knows, but the checks do (which changes were
made that not both know, which contents users wrote and took off). A member (`member.Member`) is its catalog as values
(`catalog.Stored`: object states, nodes, intents, what is out, what is preserved, known, head, how far the peer was
read), its disk (`disk.Disk`: a tree in memory, taken down), and what does not outlive a crash: what its watch has told
and nobody looked at, unsettled parts, checkpoints, what the peer has told on this link.

**The steps.** A user creates, makes a directory, edits, moves (renames; over what rename(2) replaces), or deletes, on
`a`, `b`, `a/b`, `b/a`. A member scans all that its watch has told of (after a crash: everything). The next page on its
way is delivered. A member asks for the next page of a series; it tells the other what it knows. A member installs one
step, and fetches the content for it where the other has it. Faults: the link is lost, with all that is on its way, and
comes up again later; the peer is silent for half a minute (rule 7 ends); a member is killed, between two steps or in a
scan, a delivery or an install before each call that changes the disk, and before and after each commit, and starts
again. Pages have one record, so that a series can be cut off anywhere; a batch of the workbench has one step.

**Real**: all of core that takes part (local, absorb, records, tree, want, plan, author, series, settling, outbox,
fetching, cnset, diff), and of the engine scanner, workbench, planner, applier with acts, intents and completion,
resume and recovery, disposal, the exchange's intake and pager; the tree in memory and its watch are the simulator's.
**Modelled**: the catalog is `core.memory_view` with the ledger in dictionaries, because a database cannot be copied
a hundred thousand times (tests/catalog holds both views to one contract); `Exchange` with its timers, jitter and
status board is the steps *ask*, *tell*, *up* above, because when it does a thing is what is to be varied here, and its
messages but for pages arrive at once; a scanner and a workbench are new in each step, so what they remember between
two (what waits for what, what is retried when) is not tried; `FolderReplica`, hashing by others, large files, phases,
originals and the fence do not occur. tests/sim runs all of that, on histories drawn at random.

**Time** stands still but for users: each operation is some 17 minutes after the last, and what replicad does is done
half-way to the next. So stamps depend on the operations alone, never tie, and no file is too fresh to be trusted.

**Equal states** are visited once (`canonical`): counters, positions, node ids and inode numbers are replaced by their
rank among those that occur, since only their order counts. A step of one member is a function of that member's value,
so it is computed once for each value (`Space._moved`) however many states that value is part of.

**Checks.** At each step: I2 (of each CN that becomes known the register is held, or one that beats it), I5 (no CN for
two changes), equal knowledge has equal digests. Where nothing is left to do, which heals whatever was lost
(`promises`): I1 (both know the same, both disks are equal, are the tree kept up by differences, and that is
`core.full_tree`), nothing is pending or left in staging, I9 (another look at everything writes nothing), I3 (each
content ever written is live, preserved, or was overwritten or deleted by a user who had it before him), I7 (what was
so taken off, after replicad had looked at it, is not back).

The whole is large. `--turns N` leaves out what needs more than N choices out of turn: there is one order in which
scans, deliveries and installs are done until none is left, and only so often something else comes first. Every
sequence of operations is still in it. A few turns find most mistakes, and make a part that can be searched to its end.
`--equal` adds files of one content, which members may make apart (rule 2).

How many states that is: from nothing two operations without a fault 9,157 in every interleaving (408 leaves); with a
fault at any instant and two things out of turn 163,040 (3,158 leaves); three operations without a fault and one thing
out of turn 56,963 (6,216 leaves). From two files one operation with a fault are more than 100,000 in every
interleaving. Three operations with a fault, in every interleaving, were never searched to their end.
"""
