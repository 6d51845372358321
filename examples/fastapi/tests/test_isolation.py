"""No token reaches another workspace, and none is taken that is not right."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest
from conftest import KEY, As, World, token


@pytest.fixture
def secret(anna: As):
    campaign = anna("POST", "/campaigns", 201, json={"name": "Secret"})["id"]
    yield campaign
    anna("DELETE", f"/campaigns/{campaign}", 204)


def test_a_neighbour_sees_and_changes_nothing(neighbour: As, anna: As, secret: str):
    path = f"/campaigns/{secret}"
    neighbour("GET", path, 404)
    neighbour("PATCH", path, 404, json={"name": "Mine"})
    neighbour("DELETE", path, 404)
    neighbour("GET", f"{path}/quests", 404)
    neighbour("POST", f"{path}/quests", 404, json={"name": "Foothold"})
    assert neighbour("GET", "/campaigns") == []
    assert anna("GET", path)["name"] == "Secret"


def test_a_neighbours_ids_are_as_good_as_none(neighbour: As, service: As, world: World):
    alert = service("POST", "/alerts", 201, json={"alert_type": "error", "severity": "high", "title": "Ours"})["id"]
    for verb in ("acknowledge", "dismiss"):
        ours = neighbour("POST", f"/alerts/{alert}/{verb}", 404)
        nobodys = neighbour("POST", f"/alerts/{uuid4()}/{verb}", 404)
        assert ours["sqlstate"] == nobodys["sqlstate"]
    assert neighbour("GET", "/alerts/critical") == []


def test_a_token_for_a_workspace_that_one_is_no_member_of(app, world: World):
    for user in (world.brightside.anna, world.stranger, uuid4()):
        refused = As(app, token(world.alpenglow.id, user))("GET", "/campaigns", 403)
        assert refused["sqlstate"] == "42501"


def test_a_member_who_leaves_is_out_at_once(app, world: World, anna: As):
    leaver = uuid4()
    with psycopg.connect(world.settings.member_dsn.replace(world.member, "postgres")) as db:
        db.execute("INSERT INTO public.users (id, email) VALUES (%s, %s)", (leaver, f"{leaver}@example.com"))
        db.execute("INSERT INTO public.workspace_members (workspace_id, user_id) VALUES (%s, %s)", (world.alpenglow.id, leaver))
    caller = As(app, token(world.alpenglow.id, leaver))
    caller("GET", "/campaigns")
    with psycopg.connect(world.settings.member_dsn.replace(world.member, "postgres")) as db:
        db.execute("DELETE FROM public.workspace_members WHERE user_id = %s", (leaver,))
    caller("GET", "/campaigns", 403)


def test_connections_are_used_again_by_the_next_tenant_without_a_trace(anna: As, neighbour: As, secret: str):
    # Four connections, forty requests in turn: each connection serves both.
    for _ in range(20):
        assert [c["id"] for c in anna("GET", "/campaigns")] == [secret]
        assert neighbour("GET", "/campaigns") == []


def claims(workspace: UUID, user: UUID, **others: object) -> dict[str, object]:
    return {
        "aud": "codex-api",
        "exp": datetime.now(UTC) + timedelta(minutes=5),
        "workspace_id": str(workspace),
        "sub": str(user),
    } | others


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: (c, "another key that is long enough, yes", "HS256"),
        lambda c: (c | {"exp": datetime.now(UTC) - timedelta(minutes=1)}, KEY, "HS256"),
        lambda c: (c | {"aud": "elsewhere"}, KEY, "HS256"),
        lambda c: ({k: v for k, v in c.items() if k != "exp"}, KEY, "HS256"),
        lambda c: ({k: v for k, v in c.items() if k != "workspace_id"}, KEY, "HS256"),
        lambda c: ({k: v for k, v in c.items() if k != "sub"}, KEY, "HS256"),
        lambda c: (c | {"workspace_id": "'; DROP TABLE public.campaigns; --"}, KEY, "HS256"),
        lambda c: (c | {"workspace_id": 7}, KEY, "HS256"),
        lambda c: (c, "", "none"),
    ],
)
def test_a_token_that_is_not_right_is_401(app, world: World, spoil):
    payload, key, algorithm = spoil(claims(world.alpenglow.id, world.alpenglow.anna))
    header = {"Authorization": f"Bearer {jwt.encode(payload, key or None, algorithm)}"}
    As(app, header)("GET", "/campaigns", 401)
    As(app, {})("GET", "/campaigns", 401)


def test_a_person_is_no_service_and_a_service_no_person(anna: As, service: As, world: World):
    anna("POST", "/notifications", 403, json={"user_ids": [str(world.alpenglow.ben)], "title": "T", "message": "M"})
    service("GET", "/me/notifications", 403)
