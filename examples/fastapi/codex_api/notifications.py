"""Notifications: services send them, people read their own."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from .caller import Person, Service
from .here import Db, Limit, one, rows

router = APIRouter(tags=["notifications"])


class NewNotification(BaseModel):
    model_config = ConfigDict(extra="forbid")
    user_ids: Annotated[list[UUID], Field(min_length=1, max_length=10_000)]
    notification_type: Literal["alert", "achievement", "message", "reminder", "summary"] = "message"
    title: Annotated[str, Field(min_length=1, max_length=500)]
    message: Annotated[str, Field(min_length=1)]
    priority: Literal["low", "normal", "high", "urgent"] = "normal"


@router.post("/notifications", status_code=201)
async def send(
    notification: NewNotification,
    caller: Service,
    database: Db,
    idempotency_key: Annotated[str | None, Header(max_length=160)] = None,
) -> dict[str, Any]:
    """To all or to none: somebody who is no member of the workspace is refused. Sent again with the same
    `Idempotency-Key`, nobody gets it twice."""
    async with database.workspace(caller) as db:
        return await one(
            db,
            """SELECT codex.send_user_notifications(
                   %(workspace)s, %(user_ids)s, %(notification_type)s, %(title)s, %(message)s, p_priority => %(priority)s,
                   p_idempotency_key => %(key)s) AS sent""",
            notification.model_dump() | {"workspace": caller.workspace, "key": idempotency_key},
        )


@router.get("/me/notifications")
async def unread(caller: Person, database: Db, limit: Limit = 50) -> list[dict[str, Any]]:
    async with database.workspace(caller) as db:
        return await rows(
            db, "SELECT * FROM codex.get_user_unread_notifications(%s, %s)", (caller.user, limit)
        )


@router.post("/me/notifications/{notification_id}/read", status_code=204)
async def mark_as_read(notification_id: UUID, caller: Person, database: Db) -> Response:
    async with database.workspace(caller) as db:
        await db.execute("SELECT codex.mark_notification_as_read(%s)", (notification_id,))
    return Response(status_code=204)


@router.post("/me/notifications/read-all")
async def mark_all_as_read(caller: Person, database: Db) -> dict[str, Any]:
    async with database.workspace(caller) as db:
        return await one(
            db, "SELECT codex.mark_all_notifications_read(%s) AS marked", (caller.user,)
        )
