"""Agents: a registry that all workspaces share, and what they did in this one."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from .caller import Anybody, Service
from .here import Db, Limit, rows

router = APIRouter(tags=["agents"])


class Execution(BaseModel):
    model_config = ConfigDict(extra="forbid")
    #: The caller's own id of the execution: sent again, it counts once.
    execution_id: UUID
    seconds: Annotated[Decimal, Field(ge=0)]
    input_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0
    cost: Annotated[Decimal, Field(ge=0)] = Decimal(0)
    success: bool
    campaign_id: UUID | None = None


@router.get("/agents")
async def list_agents(caller: Anybody, database: Db, limit: Limit = 100) -> list[dict[str, Any]]:
    async with database.workspace(caller) as db:
        return await rows(
            db,
            "SELECT id, agent_name, agent_type FROM public.agent_registry ORDER BY agent_name, id LIMIT %s",
            (limit,),
        )


@router.get("/agents/performance")
async def performance(
    caller: Anybody, database: Db, since: datetime | None = None, until: datetime | None = None
) -> list[dict[str, Any]]:
    """Executions, success rate in percent, percentiles of the time in seconds, tokens and cost, a row an agent."""
    async with database.workspace(caller) as db:
        return await rows(
            db,
            "SELECT * FROM codex.agent_performance_summary(%s, p_from => %s, p_to => %s)",
            (caller.workspace, since, until),
        )


@router.post("/agents/{agent_id}/executions", status_code=204)
async def record_execution(agent_id: UUID, execution: Execution, caller: Service, database: Db) -> Response:
    async with database.workspace(caller) as db:
        await db.execute(
            """SELECT codex.record_agent_execution(
                   %(workspace)s, %(agent)s, %(seconds)s, %(input_tokens)s, %(output_tokens)s, %(cost)s, %(success)s,
                   p_campaign_id => %(campaign_id)s, p_execution_id => %(execution_id)s)""",
            execution.model_dump() | {"workspace": caller.workspace, "agent": agent_id},
        )
    return Response(status_code=204)
