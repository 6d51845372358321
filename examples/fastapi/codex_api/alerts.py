"""Alerts: raised by people and services, answered by people."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field

from .caller import Anybody, Person
from .here import Db, Limit, one, rows

router = APIRouter(prefix="/alerts", tags=["alerts"])


class NewAlert(BaseModel):
    model_config = ConfigDict(extra="forbid")
    alert_type: Literal["performance", "error", "milestone", "anomaly", "action_required", "opportunity"]
    severity: Literal["critical", "high", "medium", "low", "info"]
    title: Annotated[str, Field(min_length=1, max_length=500)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    campaign_id: UUID | None = None
    data_points: dict[str, Any] | None = None
    #: While an alert with this key is open, it is counted up instead of another one being made.
    dedup_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class Resolution(BaseModel):
    model_config = ConfigDict(extra="forbid")
    action_taken: str | None = None


@router.post("", status_code=201)
async def create_alert(alert: NewAlert, caller: Anybody, database: Db) -> dict[str, Any]:
    values = alert.model_dump()
    if values["data_points"] is not None:
        values["data_points"] = Jsonb(values["data_points"])
    async with database.workspace(caller) as db:
        return await one(
            db,
            """SELECT codex.create_system_alert(
                   %(workspace)s, %(alert_type)s, %(severity)s, %(title)s, %(description)s, p_campaign_id => %(campaign_id)s,
                   p_data_points => %(data_points)s, p_dedup_key => %(dedup_key)s) AS id""",
            values | {"workspace": caller.workspace},
        )


@router.get("/critical")
async def critical_alerts(caller: Anybody, database: Db, limit: Limit = 20) -> list[dict[str, Any]]:
    async with database.workspace(caller) as db:
        return await rows(
            db, "SELECT * FROM codex.get_critical_alerts(%s, %s)", (caller.workspace, limit)
        )


@router.post("/{alert_id}/acknowledge", status_code=204)
async def acknowledge(alert_id: UUID, caller: Person, database: Db) -> Response:
    async with database.workspace(caller) as db:
        await db.execute("SELECT codex.acknowledge_alert(%s, %s)", (alert_id, caller.user))
    return Response(status_code=204)


@router.post("/{alert_id}/resolve", status_code=204)
async def resolve(alert_id: UUID, resolution: Resolution, caller: Person, database: Db) -> Response:
    async with database.workspace(caller) as db:
        await db.execute(
            "SELECT codex.resolve_alert(%s, %s, %s)", (alert_id, caller.user, resolution.action_taken)
        )
    return Response(status_code=204)


@router.post("/{alert_id}/dismiss", status_code=204)
async def dismiss(alert_id: UUID, caller: Person, database: Db) -> Response:
    async with database.workspace(caller) as db:
        await db.execute("SELECT codex.dismiss_alert(%s, %s)", (alert_id, caller.user))
    return Response(status_code=204)
