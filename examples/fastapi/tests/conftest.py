"""A database of its own on the server at CODEX_TEST_PGHOST, two workspaces in it, and the app on top."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest
from codex_api.app import create
from codex_api.caller import AUDIENCE
from codex_api.settings import Settings
from fastapi.testclient import TestClient
from psycopg import sql

KEY = secrets.token_urlsafe(48)


def dsn(database: str, user: str) -> str:
    host = os.environ.get("CODEX_TEST_PGHOST") or os.environ.get("PGHOST")
    if not host:
        pytest.exit("no server: run `make test-clients`, or set CODEX_TEST_PGHOST", returncode=2)
    port = os.environ.get("CODEX_TEST_PGPORT", "5432")
    return f"host={host} port={port} dbname={database} user={user}"


@dataclass(frozen=True)
class Place:
    """A workspace with its people."""

    id: UUID
    anna: UUID
    ben: UUID
    achievement: UUID
    cohort: UUID


@dataclass(frozen=True)
class World:
    database: str
    member: str
    service: str
    alpenglow: Place
    brightside: Place
    agent: UUID
    #: Is a member of no workspace.
    stranger: UUID

    @property
    def settings(self) -> Settings:
        return Settings(dsn(self.database, self.member), dsn(self.database, self.service), KEY, pool_size=4)


def _place(db: psycopg.Connection, name: str) -> Place:
    place = Place(uuid4(), uuid4(), uuid4(), uuid4(), uuid4())
    db.execute("INSERT INTO public.workspaces (id, name) VALUES (%s, %s)", (place.id, name))
    for person, who in ((place.anna, "anna"), (place.ben, "ben")):
        db.execute("INSERT INTO public.users (id, email) VALUES (%s, %s)", (person, f"{who}@{name}.example"))
        db.execute(
            "INSERT INTO public.workspace_members (workspace_id, user_id) VALUES (%s, %s)", (place.id, person)
        )
    db.execute(
        """INSERT INTO public.achievements (id, workspace_id, name, badge_type, condition_type, points_reward)
           VALUES (%s, %s, 'First campaign', 'milestone', 'count', 150)""",
        (place.achievement, place.id),
    )
    return place


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    name = f"codex_api_{secrets.token_hex(4)}"
    member, service = f"{name}_member", f"{name}_service"
    admin = psycopg.connect(dsn("postgres", "postgres"), autocommit=True)
    identifier = sql.Identifier
    admin.execute(sql.SQL("CREATE DATABASE {}").format(identifier(name)))
    for role in (member, service):
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(identifier(role)))
    try:
        with psycopg.connect(dsn(name, "postgres"), autocommit=True) as db:
            db.execute("SET client_min_messages = warning")
            db.execute("CREATE EXTENSION raptorflow_codex")
            db.execute("SELECT count(*) FROM codex.migrate()")
            db.execute("SELECT codex.grant_member_role(%s::regrole)", (member,))
            db.execute("SELECT codex.grant_service_role(%s::regrole)", (service,))
            agent = db.execute(
                "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Herald', 'lord') RETURNING id"
            ).fetchone()[0]
            stranger = uuid4()
            db.execute("INSERT INTO public.users (id, email) VALUES (%s, 'stranger@example.com')", (stranger,))
            yield World(name, member, service, _place(db, "alpenglow"), _place(db, "brightside"), agent, stranger)
    finally:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier(name)))
        for role in (member, service):
            admin.execute(sql.SQL("DROP ROLE {}").format(identifier(role)))
        admin.close()


@pytest.fixture(scope="session")
def app(world: World) -> Iterator[TestClient]:
    with TestClient(create(world.settings)) as client:
        yield client


def token(workspace: UUID, user: UUID | None = None, **claims: object) -> dict[str, str]:
    """The header of a person's request, or of a service's where there is no user."""
    payload: dict[str, object] = {
        "aud": AUDIENCE,
        "exp": datetime.now(UTC) + timedelta(minutes=5),
        "workspace_id": str(workspace),
    }
    payload |= {"sub": str(user)} if user else {"role": "service"}
    return {"Authorization": f"Bearer {jwt.encode(payload | claims, KEY, 'HS256')}"}


class As:
    """The app as one caller sees it."""

    def __init__(self, client: TestClient, headers: dict[str, str]) -> None:
        self.client, self.headers = client, headers

    def __call__(self, method: str, path: str, status: int = 200, **options):
        headers = self.headers | options.pop("headers", {})
        response = self.client.request(method, path, headers=headers, **options)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None


@pytest.fixture
def anna(app: TestClient, world: World) -> As:
    return As(app, token(world.alpenglow.id, world.alpenglow.anna))


@pytest.fixture
def ben(app: TestClient, world: World) -> As:
    return As(app, token(world.alpenglow.id, world.alpenglow.ben))


@pytest.fixture
def neighbour(app: TestClient, world: World) -> As:
    return As(app, token(world.brightside.id, world.brightside.anna))


@pytest.fixture
def service(app: TestClient, world: World) -> As:
    return As(app, token(world.alpenglow.id))
