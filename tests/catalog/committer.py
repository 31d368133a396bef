"""A program for test_crash: commits until it is killed, and tells each commit once it is durable."""

from __future__ import annotations

import sys
from pathlib import Path

from replicad.catalog.store import Catalog
from replicad.core.draft import Draft
from replicad.core.view import ObjectState
from tests.catalog.making import FOLDER, OWN, created, node


def main(path: Path) -> None:
    catalog = Catalog.open(path, FOLDER, lambda: OWN)
    while True:
        draft = Draft(catalog)
        for _ in range(20):
            number = draft.new_node_id()
            cn = draft.allocate()
            draft.put_node(node(number, name=b"%d" % cn.counter, shows=cn))
            draft.put(ObjectState(created(cn, name=b"%d" % cn.counter), node=number, pending=bool(cn.counter % 3)))
        if catalog.counter > 60:
            draft.drop(draft.children(b"")[0])
        head = catalog.commit(draft, now_ms=catalog.head)
        print(catalog.counter, head, catalog.next_node, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
