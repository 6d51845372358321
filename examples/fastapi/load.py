"""15 users, 100 requests each, against the running app: counts failures and prints how long requests took.

    python load.py [--users 15] [--requests 100] [--p95 MILLISECONDS]

Starts the app with uvicorn on a port of its own, in a database of its own (see tests/conftest.py). Ends non-zero when a
request fails, or, with --p95, when the 95th percentile is above it.
"""

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "tests")]

import conftest  # noqa: E402


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(world: "conftest.World"):
    """The app as it is deployed: uvicorn in a process of its own."""
    port = free_port()
    settings = world.settings
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "codex_api.app:create", "--factory", "--port", str(port), "--log-level", "warning"],
        cwd=HERE,
        env=os.environ
        | {
            "CODEX_MEMBER_DSN": settings.member_dsn,
            "CODEX_SERVICE_DSN": settings.service_dsn,
            "CODEX_TOKEN_KEY": settings.token_key,
        },
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{address}/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        else:
            raise RuntimeError("the app did not start")
        yield address
    finally:
        process.terminate()
        process.wait(10)


async def user(address: str, world: "conftest.World", number: int, requests: int, times: list[float], failures: list[str]):
    """One person at work: mostly reading, some writing, each in one of two workspaces."""
    place = (world.alpenglow, world.brightside)[number % 2]
    person = (place.anna, place.ben)[number // 2 % 2]
    dice = random.Random(number)
    mine: list[str] = []
    async with httpx.AsyncClient(base_url=address, timeout=10) as client:
        for _ in range(requests):
            as_person = conftest.token(place.id, person)
            as_service = conftest.token(place.id)
            choices = [
                ("GET", "/campaigns", as_person, None, 200),
                ("GET", "/me/notifications", as_person, None, 200),
                ("GET", "/signals/priority", as_person, None, 200),
                ("GET", "/alerts/critical", as_person, None, 200),
                ("GET", "/me/achievements", as_person, None, 200),
                ("GET", "/agents/performance", as_person, None, 200),
                ("POST", "/campaigns", as_person, {"name": f"Campaign of {number}"}, 201),
                (
                    "POST",
                    f"/agents/{world.agent}/executions",
                    as_service,
                    {"execution_id": str(uuid4()), "seconds": dice.random() * 9, "success": True},
                    204,
                ),
                ("POST", "/notifications", as_service, {"user_ids": [str(person)], "title": "Hi", "message": "There"}, 201),
                (
                    "POST",
                    "/alerts",
                    as_service,
                    {"alert_type": "error", "severity": "high", "title": "Down", "dedup_key": f"down {number % 3}"},
                    201,
                ),
            ]
            if mine:
                choices.append(("POST", f"/campaigns/{dice.choice(mine)}/quests", as_person, {"name": "Quest"}, 201))
            method, path, headers, body, expected = dice.choice(choices)
            begun = time.perf_counter()
            try:
                response = await client.request(method, path, headers=headers, json=body)
                if response.status_code != expected:
                    failures.append(f"{method} {path}: {response.status_code} {response.text}")
                elif method == "POST" and path == "/campaigns":
                    mine.append(response.json()["id"])
            except httpx.HTTPError as error:
                failures.append(f"{method} {path}: {error!r}")
            times.append(time.perf_counter() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=15)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--p95", type=float, help="the most milliseconds for 95 of 100 requests")
    options = parser.parse_args()
    times: list[float] = []
    failures: list[str] = []

    async def everybody(address: str, world: "conftest.World") -> None:
        await asyncio.gather(
            *(user(address, world, number, options.requests, times, failures) for number in range(options.users))
        )

    with contextmanager(conftest.world.__wrapped__)() as world, running(world) as address:
        begun = time.perf_counter()
        asyncio.run(everybody(address, world))
        took = time.perf_counter() - begun

    times.sort()
    p50, p95, p99 = (1000 * times[min(len(times) - 1, int(len(times) * share))] for share in (0.50, 0.95, 0.99))
    print(
        f"{len(times)} requests of {options.users} users in {took:.1f} s ({len(times) / took:.0f}/s): "
        f"{len(failures)} failed; p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms"
    )
    for failure in failures[:10]:
        print(f"  {failure}")
    if failures:
        return 1
    if options.p95 is not None and p95 > options.p95:
        print(f"p95 is above {options.p95:.0f} ms")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
