"""Declared members: started at one moment, they are one group with one folder, and a declaration is idempotent."""

import json
import socket
from pathlib import Path

from tests.system.harness import Server, Servers, until


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def declared(servers: Servers, names: tuple[str, ...], ports: list[int], secret: str = "the secret") -> list[Server]:
    made = []
    for name, port in zip(names, ports, strict=True):
        server = servers.add(name)
        (server.base / "secret").write_text(secret + "\n")
        server.settings.update(
            REPLICAD_MEMBER_NAME=name,
            REPLICAD_MEMBER_LISTEN=f"127.0.0.1:{port}",
            REPLICAD_API_LISTEN="127.0.0.1:0",
            REPLICAD_GROUP_NAME="demo",
            REPLICAD_GROUP_SECRET_FILE=str(server.base / "secret"),
            REPLICAD_GROUP_SEEDS=",".join(f"127.0.0.1:{one}" for one in ports),
            REPLICAD_FOLDER_NAME="docs",
            REPLICAD_FOLDER_PATH=str(server.folder()),
        )
        server.folder().mkdir()
        made.append(server)
    return made


def start_together(members: list[Server]) -> None:
    for member in members:
        member.begin()
    for member in members:
        member.await_start()


def test_members_declared_alike_and_started_together_are_one_group(servers: Servers) -> None:
    members = declared(servers, ("alpha", "beta", "gamma"), free_ports(3))
    for number, member in enumerate(members):
        (member.folder() / f"from-{member.name}").write_text(str(number))
        (member.folder() / "same").write_text("equal on all")
    start_together(members)
    for member in members:
        servers.synchronized(member, members=3)
    servers.same(members)
    assert sorted(path.name for path in members[0].folder().iterdir() if path.name != ".replicad") == [
        "from-alpha",
        "from-beta",
        "from-gamma",
        "same",
    ]
    shots = [member.status() for member in members]
    assert len({shot["group"]["id"] for shot in shots}) == 1
    assert len({shot["folders"][0]["id"] for shot in shots}) == 1
    assert sum(shot["folders"][0]["preserved"]["files"] for shot in shots) == 0


def test_a_declared_member_that_comes_later_joins_by_itself_and_again_after_a_restart(servers: Servers) -> None:
    members = declared(servers, ("alpha", "beta"), free_ports(2))
    alpha, beta = members
    (alpha.folder() / "f").write_text("x")
    alpha.start()
    servers.synchronized(alpha, members=1)
    beta.start()
    servers.synchronized(beta, members=2)
    servers.same(members)
    before = json.loads(beta.cli("member", "list", "--json"))
    beta.stop()
    (beta.folder() / "g").write_text("y")
    beta.start()
    servers.synchronized(beta, members=2)
    servers.same(members)
    assert json.loads(beta.cli("member", "list", "--json")) == before


def test_another_secret_keeps_a_member_out(servers: Servers) -> None:
    ports = free_ports(2)
    (alpha,) = declared(servers, ("alpha",), ports[:1])
    (mallory,) = declared(servers, ("mallory",), ports[1:], secret="another secret")
    mallory.settings["REPLICAD_GROUP_SEEDS"] = alpha.settings["REPLICAD_GROUP_SEEDS"]
    start_together([alpha, mallory])
    told = until("mallory says why it is not let in", lambda: "does not take this member in" in mallory.last_words())
    assert told
    assert alpha.status()["members"] == []
    assert mallory.status()["group"]["id"] != alpha.status()["group"]["id"]


def test_a_folder_that_is_declared_no_more_is_detached_and_its_files_stay(servers: Servers) -> None:
    members = declared(servers, ("alpha", "beta"), free_ports(2))
    alpha, beta = members
    start_together(members)
    (alpha.folder() / "f").write_text("x")
    servers.synchronized(alpha, members=2)
    beta.stop()
    folder = {key: beta.settings.pop(key) for key in ("REPLICAD_FOLDER_NAME", "REPLICAD_FOLDER_PATH")}
    beta.start()
    until("alpha knows", lambda: not alpha.folder_status()["backlog_out"])
    assert beta.status()["folders"] == []
    assert (beta.folder() / "f").read_text() == "x"

    beta.stop()
    beta.settings.update(folder)
    (alpha.folder() / "g").write_text("y")
    beta.start()
    servers.synchronized(beta, members=2)
    servers.same(members)


def test_the_declaration_may_stand_in_a_file(servers: Servers) -> None:
    alpha = servers.add("alpha")
    (alpha.base / "secret").write_text("the secret")
    config = Path(alpha.base / "declared.toml")
    config.write_text(f"""
[member]
name = "alpha"
listen = "127.0.0.1:0"
[api]
listen = "127.0.0.1:0"
[group]
name = "demo"
secret_file = "{alpha.base}/secret"
[[folder]]
name = "docs"
path = "{alpha.folder()}"
""")
    alpha.folder().mkdir()
    alpha.start("--config", str(config))
    alpha.until_state(4)
    assert alpha.status()["member"]["name"] == "alpha"
    refused = alpha.run("folder", "leave", "docs")
    assert refused.returncode == 1
    assert "declared" in refused.stderr
