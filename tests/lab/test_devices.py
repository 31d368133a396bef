"""Devices, which only root can make: listed as blocked with their reason, like fifos and sockets."""

import os
import socket

import pytest

from replicad.core.diff import OTHER_KIND
from tests.system.folder_tools import all_the_same, at_rest, wait
from tests.system.harness import Servers
from tests.system.test_what_is_not_replicated import blocked, make_special

pytestmark = pytest.mark.lab


def test_devices_are_listed_with_their_reason_and_stop_nothing(servers: Servers) -> None:
    one, two = members = servers.group(2)
    opened: list[socket.socket] = []
    made = make_special(one.folder(), opened)
    assert {"d/null", "d/loop"} < made
    wait(one, 2)
    assert blocked(one) == dict.fromkeys(made, OTHER_KIND)
    assert [path.name for path in (two.folder() / "d").iterdir()] == ["beside"]
    for one_socket in opened:
        one_socket.close()
    for name in made:
        os.unlink(os.path.join(os.fsencode(one.folder()), name if isinstance(name, bytes) else os.fsencode(str(name))))
    all_the_same(servers, members)
    at_rest(members)
