"""The operator API over real sockets: who is let in, what an error looks like, events, the socket's mode."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from replicad.config.home import CONTROL_SOCKET
from replicad.config.settings import ApiSettings, MemberSettings, Settings
from replicad.errors import OperatorError
from replicad.net.addresses import Address
from replicad.ops.access import read_or_create_token
from replicad.ops.api import OperatorApi
from replicad.ops.events import EventRing
from replicad.ops.home import create_home
from replicad.ops.office import OfflineOffice
from replicad.ops.requests import ROUTES, OfPreserved

LOOPBACK = ApiSettings(listen=Address("127.0.0.1", 0))


class Health:
    def __init__(self) -> None:
        self.reason = ""

    async def status(self) -> dict[str, Any]:
        return {"hello": "there"}

    def not_ready(self) -> str:
        return self.reason


class Bench:
    """The API on a home without a daemon: operations are carried out as a command would."""

    def __init__(self, home: Path) -> None:
        create_home(home)
        self.home = home
        self.health = Health()
        self.events = EventRing()
        settings = Settings(MemberSettings(home, "alpha", Address("127.0.0.1", 7000)))
        self.office = OfflineOffice(settings, lambda: 1_000)
        self.api = OperatorApi(self.office, self.health, self.events, LOOPBACK, home)
        self.token = read_or_create_token(home, LOOPBACK)

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        return await self.ask("GET", path, None, **headers)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        """Over TCP."""
        async with aiohttp.ClientSession() as session:
            url = f"http://{self.api.addresses[0]}{path}"
            data = None if body is None else json.dumps(body)
            async with session.request(method, url, data=data, headers=headers) as response:
                return response.status, await response.text()

    @property
    def with_token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Bench]:
    bench = Bench(home)
    await bench.api.start()
    try:
        yield bench
    finally:
        await bench.api.stop()
        bench.office.close()


async def test_status_and_health_are_served_without_a_token_on_loopback(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as bench:
        assert await bench.get("/v1/status") == (200, '{"hello": "there"}')
        assert await bench.get("/healthz") == (200, "ok\n")
        assert await bench.get("/readyz") == (200, "ok\n")
        bench.health.reason = "folder docs: scanning"
        assert await bench.get("/readyz") == (503, "folder docs: scanning\n")


async def test_every_change_needs_the_token(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as bench:
        for route in (route for route in ROUTES if route.changes):
            path = route.path.replace("{name}", "x").replace("{id}", "x")
            assert (await bench.ask(route.method, path, {}))[0] == 401, path
            wrong = {"Authorization": "Bearer wrong"}
            assert (await bench.ask(route.method, path, {}, **wrong))[0] == 401, path
        status, text = await bench.ask("POST", "/v1/init", {"name": "alpha"}, **bench.with_token)
        assert (status, json.loads(text)["member"]["name"]) == (200, "alpha")


async def test_what_takes_long_beside_the_others_holds_none_of_them_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def slowly(request: OfPreserved) -> dict[str, Any]:
        begun.set()
        await done.wait()
        return {"asked": type(request).__name__}

    async with running(tmp_path / "home") as bench:
        monkeypatch.setattr(bench.office, "preserved", slowly)
        restoring = asyncio.create_task(bench.ask("POST", "/v1/preserved/docs:m1:1/restore", {}, **bench.with_token))
        await begun.wait()
        try:
            async with asyncio.timeout(5):
                assert (await bench.ask("POST", "/v1/init", {"name": "alpha"}, **bench.with_token))[0] == 200
        finally:
            done.set()
        assert await restoring == (200, '{"asked": "PreservedRestore"}')


async def test_a_web_page_whose_name_leads_to_loopback_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as bench:
        assert (await bench.get("/v1/status", Host="evil.example"))[0] == 403
        assert (await bench.get("/v1/status", Origin="https://evil.example"))[0] == 403


async def test_an_operators_mistake_is_an_error_in_json_with_its_exit_status(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as bench:
        status, text = await bench.get("/v1/folders")
        assert (status, json.loads(text)["exit_status"]) == (409, 1)
        assert "belongs to no group yet" in json.loads(text)["error"]
        for body, says in (({"nam": "x"}, "nam"), ({"name": 3}, "Expected `str`"), ([], "no JSON object")):
            status, text = await bench.ask("POST", "/v1/init", body, **bench.with_token)
            assert (status, json.loads(text)["exit_status"]) == (400, 2)
            assert says in json.loads(text)["error"]
        assert (await bench.get("/v1/nothing"))[0] == 404
        assert (await bench.ask("POST", "/v1/init", "x" * 100_000, **bench.with_token))[0] == 413


async def test_the_control_socket_is_its_owners_and_needs_no_token(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 30)  # a path longer than a socket address holds
    (home / "control.sock").parent.mkdir()
    (home / "control.sock").touch()  # what a killed daemon left is replaced
    async with running(home) as bench:
        assert (home / "control.sock").stat().st_mode & 0o777 == 0o600
        from replicad.cli.client import request

        founded = await asyncio.to_thread(request, home, "POST", "/v1/init", {"name": "alpha"})
        assert founded["member"]["name"] == "alpha"
        assert bench.office.group is not None
    assert not (home / "control.sock").exists()


async def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    async with running(tmp_path / "one") as bench:
        create_home(tmp_path / "two")
        taken = ApiSettings(listen=bench.api.addresses[0])
        other = OperatorApi(bench.office, bench.health, bench.events, taken, tmp_path / "two")
        with pytest.raises(OperatorError, match=r"cannot listen at 127\.0\.0\.1:\d+: Address already in use"):
            await other.start()
        await other.stop()


async def test_the_api_ends_though_its_socket_cannot_be_removed(tmp_path: Path) -> None:
    """As on a disk that has turned read-only meanwhile."""
    home = tmp_path / "home"
    async with running(home):
        (home / CONTROL_SOCKET).unlink()
        (home / CONTROL_SOCKET / "in the way").mkdir(parents=True)
    assert (home / CONTROL_SOCKET).is_dir()


async def test_events_are_followed_from_where_one_was(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as bench, aiohttp.ClientSession() as session:
        bench.events.add(1, 4012, "first", folder="docs", path=b"\xff")
        bench.events.add(2, 0, "second")
        url = f"http://{bench.api.addresses[0]}/v1/events"
        async with session.get(url, params={"after": "1"}) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert json.loads((await block(response))["data"])["text"] == "second"
            bench.events.add(3, 0, "third")
            third = await block(response)
            assert (third["id"], json.loads(third["data"])["text"]) == ("3", "third")
        status, text = await bench.get("/v1/events?follow=0")
        assert status == 200
        assert [line for line in text.split("\n") if line.startswith("id:")] == ["id: 1", "id: 2", "id: 3"]
        first = json.loads(text.split("\n")[1].removeprefix("data: "))
        assert (first["code"], first["folder"], first["path"]["path_bytes"]) == (4012, "docs", "/w==")


async def test_the_api_ends_while_somebody_follows(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        async with running(tmp_path / "home") as bench:
            response = await session.get(f"http://{bench.api.addresses[0]}/v1/events")
        async with asyncio.timeout(10):
            assert await response.content.read() == b""
        response.close()


async def test_the_description_names_every_route(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as bench:
        described = json.loads((await bench.get("/v1/openapi.json"))[1])
    for route in ROUTES:
        operation = described["paths"][route.path][route.method.lower()]
        assert operation["summary"] == route.summary
        assert operation["security"] == ([{"token": []}] if route.changes else [{}, {"token": []}])
        for field in route.fields_in_path():
            assert field in [parameter["name"] for parameter in operation["parameters"]]
        assert route.request.__name__ in described["components"]["schemas"]


async def block(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The next server-sent event."""
    fields: dict[str, str] = {}
    while (line := (await response.content.readline()).decode().rstrip("\n")) or not fields:
        key, _, value = line.partition(": ")
        fields[key] = value
    return fields
