"""One transaction a request, in the caller's workspace and nowhere else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from .caller import Caller
from .settings import Settings


def _pool(dsn: str, settings: Settings) -> AsyncConnectionPool:
    return AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=settings.pool_size,
        open=False,
        kwargs={
            "row_factory": dict_row,
            "autocommit": True,  # the transaction below is the only one
            "options": "-c statement_timeout=10s -c lock_timeout=3s",
        },
        # A connection that the server closed meanwhile is replaced before it is lent.
        check=AsyncConnectionPool.check_connection,
    )


class Database:
    """Two pools: people log in as a member role, services as a service role. Neither bypasses row-level security."""

    def __init__(self, settings: Settings) -> None:
        self._members = _pool(settings.member_dsn, settings)
        self._services = _pool(settings.service_dsn, settings)

    async def open(self) -> None:
        await self._members.open(wait=True)
        await self._services.open(wait=True)

    async def close(self) -> None:
        await self._members.close()
        await self._services.close()

    @asynccontextmanager
    async def workspace(self, caller: Caller) -> AsyncIterator[AsyncConnection]:
        """A transaction in the caller's workspace: committed at the end, rolled back when anything is raised.

        The context is set for this transaction alone, so that the next request on the same connection starts with none.
        It is used inside the endpoint, not as a dependency: what was not committed must not be answered with success.
        """
        pool = self._services if caller.is_service else self._members
        async with pool.connection() as connection, connection.transaction():
            await connection.execute(
                "SELECT codex.enter_workspace(%s, %s)", (caller.workspace, caller.user)
            )
            yield connection

    @asynccontextmanager
    async def nowhere(self) -> AsyncIterator[AsyncConnection]:
        """A transaction without a workspace, which sees no rows of any."""
        async with self._services.connection() as connection, connection.transaction():
            yield connection
