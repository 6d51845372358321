"""Campaigns and their quests. Tables: row-level security keeps them to the workspace, so no query names one."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, HTTPException
from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from .caller import Anybody, Person
from .here import Db, Limit, one, rows

router = APIRouter(tags=["campaigns"])

Status = Literal["draft", "planning", "active", "paused", "completed", "archived"]
QuestStatus = Literal["pending", "in_progress", "completed", "blocked", "on_hold"]
Name = Annotated[str, Field(min_length=1, max_length=200)]

CAMPAIGN = "id, name, description, objective, status, start_date, end_date, budget_allocation, created_by, created_at, updated_at"
QUEST = "id, campaign_id, name, description, parent_quest_id, quest_order, status, due_date, updated_at"


class NewCampaign(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    description: str | None = None
    objective: str | None = None
    start_date: date | None = None
    end_date: date | None = None
    budget_allocation: Annotated[Decimal, Field(ge=0)] | None = None


class CampaignChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name | None = None
    description: str | None = None
    status: Status | None = None
    start_date: date | None = None
    end_date: date | None = None


class NewQuest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    description: str | None = None
    parent_quest_id: UUID | None = None
    quest_order: int | None = None
    due_date: date | None = None


class QuestChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name | None = None
    status: QuestStatus | None = None
    parent_quest_id: UUID | None = None


def changes(change: BaseModel) -> tuple[sql.Composable, dict[str, Any]]:
    """The SET list of what the request names; the columns are those of the model, the values are parameters."""
    values = change.model_dump(exclude_unset=True)
    if not values:
        raise HTTPException(422, "nothing to change")
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder(column)) for column in values
    )
    return assignments, values


@router.get("/campaigns")
async def list_campaigns(
    caller: Anybody, database: Db, status: Status | None = None, after: UUID | None = None, limit: Limit = 50
) -> list[dict[str, Any]]:
    """Newest last; `after` is the id of the last one of the page before (ids are in the order of creation)."""
    async with database.workspace(caller) as db:
        return await rows(
            db,
            f"""SELECT {CAMPAIGN}
                FROM public.campaigns
                WHERE workspace_id = %(workspace)s
                  AND (%(status)s::text IS NULL OR status = %(status)s)
                  AND (%(after)s::uuid IS NULL OR id > %(after)s)
                ORDER BY id
                LIMIT %(limit)s""",
            {"workspace": caller.workspace, "status": status, "after": after, "limit": limit},
        )


@router.post("/campaigns", status_code=201)
async def create_campaign(campaign: NewCampaign, caller: Person, database: Db) -> dict[str, Any]:
    async with database.workspace(caller) as db:
        return await one(
            db,
            f"""INSERT INTO public.campaigns (
                    workspace_id, created_by, name, description, objective, start_date, end_date, budget_allocation
                )
                VALUES (
                    %(workspace)s, %(user)s, %(name)s, %(description)s, %(objective)s, %(start_date)s, %(end_date)s,
                    %(budget_allocation)s
                )
                RETURNING {CAMPAIGN}""",
            campaign.model_dump() | {"workspace": caller.workspace, "user": caller.user},
        )


@router.get("/campaigns/{campaign_id}")
async def read_campaign(campaign_id: UUID, caller: Anybody, database: Db) -> dict[str, Any]:
    async with database.workspace(caller) as db:
        return await one(db, f"SELECT {CAMPAIGN} FROM public.campaigns WHERE id = %s", (campaign_id,))


@router.patch("/campaigns/{campaign_id}")
async def change_campaign(campaign_id: UUID, change: CampaignChange, caller: Person, database: Db) -> dict[str, Any]:
    assignments, values = changes(change)
    query = sql.SQL("UPDATE public.campaigns SET {} WHERE id = %(id)s RETURNING {}").format(assignments, sql.SQL(CAMPAIGN))
    async with database.workspace(caller) as db:
        return await one(db, query, values | {"id": campaign_id})


@router.delete("/campaigns/{campaign_id}", status_code=204)
async def delete_campaign(campaign_id: UUID, caller: Person, database: Db) -> None:
    async with database.workspace(caller) as db:
        await one(db, "DELETE FROM public.campaigns WHERE id = %s RETURNING id", (campaign_id,))


@router.get("/campaigns/{campaign_id}/quests")
async def list_quests(campaign_id: UUID, caller: Anybody, database: Db) -> list[dict[str, Any]]:
    async with database.workspace(caller) as db:
        await one(db, "SELECT id FROM public.campaigns WHERE id = %s", (campaign_id,))
        return await rows(
            db,
            f"""SELECT {QUEST}
                FROM public.campaign_quests
                WHERE workspace_id = %s AND campaign_id = %s
                ORDER BY quest_order, id""",
            (caller.workspace, campaign_id),
        )


@router.post("/campaigns/{campaign_id}/quests", status_code=201)
async def create_quest(campaign_id: UUID, quest: NewQuest, caller: Person, database: Db) -> dict[str, Any]:
    async with database.workspace(caller) as db:
        return await one(
            db,
            f"""INSERT INTO public.campaign_quests (
                    workspace_id, campaign_id, created_by, name, description, parent_quest_id, quest_order, due_date
                )
                VALUES (
                    %(workspace)s, %(campaign)s, %(user)s, %(name)s, %(description)s, %(parent_quest_id)s, %(quest_order)s,
                    %(due_date)s
                )
                RETURNING {QUEST}""",
            quest.model_dump()
            | {"workspace": caller.workspace, "user": caller.user, "campaign": campaign_id},
        )


@router.patch("/quests/{quest_id}")
async def change_quest(quest_id: UUID, change: QuestChange, caller: Person, database: Db) -> dict[str, Any]:
    assignments, values = changes(change)
    query = sql.SQL("UPDATE public.campaign_quests SET {} WHERE id = %(id)s RETURNING {}").format(
        assignments, sql.SQL(QUEST)
    )
    async with database.workspace(caller) as db:
        return await one(db, query, values | {"id": quest_id})
