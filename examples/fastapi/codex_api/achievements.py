"""Achievements: people read them, services unlock them."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from .caller import Anybody, Person, Service
from .here import Db, one, rows

router = APIRouter(tags=["achievements"])


class Unlock(BaseModel):
    model_config = ConfigDict(extra="forbid")
    user_id: UUID


@router.get("/achievements")
async def list_achievements(caller: Anybody, database: Db) -> list[dict[str, Any]]:
    async with database.workspace(caller) as db:
        return await rows(
            db,
            """SELECT id, name, description, badge_type, tier, points_reward, rarity_level
               FROM public.achievements
               WHERE workspace_id = %s AND is_active
               ORDER BY points_reward, id""",
            (caller.workspace,),
        )


@router.get("/me/achievements")
async def my_achievements(caller: Person, database: Db) -> dict[str, Any]:
    """What the caller has unlocked here, with points and level. The policies show nobody else's."""
    async with database.workspace(caller) as db:
        unlocked = await rows(
            db,
            """SELECT a.id, a.name, a.tier, a.points_reward, u.unlocked_at
               FROM public.user_achievements AS u
               JOIN public.achievements AS a ON a.id = u.achievement_id
               WHERE u.workspace_id = %s AND u.user_id = %s AND u.unlocked_at IS NOT NULL
               ORDER BY u.unlocked_at DESC, a.id""",
            (caller.workspace, caller.user),
        )
        stats = await rows(
            db,
            "SELECT total_points, experience_level FROM public.user_stats WHERE workspace_id = %s AND user_id = %s",
            (caller.workspace, caller.user),
        )
    points = stats[0] if stats else {"total_points": 0, "experience_level": None}
    return {**points, "unlocked": unlocked}


@router.post("/achievements/{achievement_id}/unlock")
async def unlock(achievement_id: UUID, unlock: Unlock, caller: Service, database: Db) -> dict[str, Any]:
    """Exactly once, however often it is sent: a second unlock answers `success: false` and pays nothing."""
    async with database.workspace(caller) as db:
        return await one(
            db,
            "SELECT success, message, points_awarded FROM codex.unlock_achievement(%s, %s, %s)",
            (unlock.user_id, achievement_id, caller.workspace),
        )
