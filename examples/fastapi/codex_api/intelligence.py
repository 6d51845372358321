"""Signals, and the insights made from them."""

from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from .caller import Anybody, Person
from .here import Db, Limit, one, rows

router = APIRouter(tags=["intelligence"])

Score = Annotated[Decimal, Field(ge=0, le=100)]


class NewSignal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    source_type: Literal["competitor", "market", "trend", "industry", "customer"]
    signal_category: Literal[
        "competitor_activity", "market_trend", "industry_news", "customer_sentiment", "technology_shift"
    ]
    signal_title: Annotated[str, Field(min_length=1, max_length=500)]
    data_source: str | None = None
    confidence_score: Score | None = None
    relevance_score: Score | None = None


class NewInsight(BaseModel):
    model_config = ConfigDict(extra="forbid")
    signal_ids: Annotated[list[UUID], Field(min_length=1, max_length=1000)]
    title: Annotated[str, Field(min_length=1, max_length=500)]
    insight_type: str
    conclusions: list[str]


@router.post("/signals", status_code=201)
async def create_signal(signal: NewSignal, caller: Anybody, database: Db) -> dict[str, Any]:
    async with database.workspace(caller) as db:
        return await one(
            db,
            """INSERT INTO public.intelligence_signals (
                   workspace_id, created_by, source_type, signal_category, signal_title, data_source, confidence_score,
                   relevance_score
               )
               VALUES (
                   %(workspace)s, %(user)s, %(source_type)s, %(signal_category)s, %(signal_title)s, %(data_source)s,
                   %(confidence_score)s, %(relevance_score)s
               )
               RETURNING id, signal_title, signal_category, confidence_score, relevance_score, created_at""",
            signal.model_dump() | {"workspace": caller.workspace, "user": caller.user},
        )


@router.get("/signals/priority")
async def priority_signals(
    caller: Anybody, database: Db, min_confidence: Score = Decimal(75), limit: Limit = 20
) -> list[dict[str, Any]]:
    async with database.workspace(caller) as db:
        return await rows(
            db,
            "SELECT * FROM codex.get_priority_signals(%s, %s, %s)",
            (caller.workspace, min_confidence, limit),
        )


@router.post("/insights", status_code=201)
async def create_insight(insight: NewInsight, caller: Person, database: Db) -> dict[str, Any]:
    """All signals or none: one that is unknown here is 404 and nothing is written."""
    async with database.workspace(caller) as db:
        return await one(
            db,
            "SELECT codex.create_insight_from_signals(%s, %s, %s, %s, %s, %s) AS id",
            (
                caller.workspace,
                insight.signal_ids,
                insight.title,
                insight.insight_type,
                insight.conclusions,
                caller.user,
            ),
        )


@router.get("/insights/active")
async def active_insights(caller: Anybody, database: Db, limit: Limit = 20) -> list[dict[str, Any]]:
    async with database.workspace(caller) as db:
        return await rows(
            db, "SELECT * FROM codex.get_active_insights(%s, %s)", (caller.workspace, limit)
        )
