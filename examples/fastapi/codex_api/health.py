"""Whether the app, its database and the extension are there."""

from fastapi import APIRouter

from .here import Db, one

router = APIRouter(tags=["health"])


@router.get("/health")
async def health(database: Db) -> dict[str, str]:
    """No token needed; says nothing about any workspace."""
    async with database.nowhere() as db:
        row = await one(
            db, "SELECT e.extversion AS version FROM pg_extension AS e WHERE e.extname = 'raptorflow_codex'"
        )
    return {"status": "ok", "codex": row["version"]}
