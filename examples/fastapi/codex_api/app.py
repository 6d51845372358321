"""The app: `uvicorn codex_api.app:create --factory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from . import achievements, agents, alerts, campaigns, errors, health, intelligence, notifications
from .database import Database
from .settings import Settings


def create(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings.from_environment()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.database = Database(settings)
        await app.state.database.open()
        yield
        await app.state.database.close()

    app = FastAPI(title="Codex", lifespan=lifespan)
    app.state.settings = settings
    errors.install(app)
    for room in (health, campaigns, achievements, agents, intelligence, alerts, notifications):
        app.include_router(room.router)
    return app
