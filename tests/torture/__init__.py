"""Torture: real daemons in network namespaces, users at random on all of them, every fault at hand; then one judge.

`make torture SECONDS=180 SEED=7`, as root. Nothing here imports replicad: what is judged shares no line with the judge.
But for `daemons`, which starts members as the system tests do, by their harness.

- `plan`: what happens when, drawn from the seed alone.
- `hand`, `acts`: what users do to a disk; `ledger`: what they wrote, and what they took off it.
- `hosts`: network namespaces, cuts, loss, slow links; `daemons`: members, killed, stopped, started, with other clocks.
- `judge`: trees and preserved files against the ledger; `registers`: the catalogs against each other.
- `story`: one run. `__main__`: the command.
"""
