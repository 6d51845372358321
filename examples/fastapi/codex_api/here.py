"""What the endpoints share."""

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query, Request
from psycopg import AsyncConnection

from .database import Database


def _database(request: Request) -> Database:
    return request.app.state.database


Db = Annotated[Database, Depends(_database)]

#: How many rows a list has at most.
Limit = Annotated[int, Query(ge=1, le=200)]


async def one(connection: AsyncConnection, sql: str, arguments: Any = None) -> dict[str, Any]:
    """The row that a statement gives, or 404: what is not visible here is not there."""
    row = await (await connection.execute(sql, arguments)).fetchone()
    if row is None:
        raise HTTPException(404, "not found")
    return row


async def rows(connection: AsyncConnection, sql: str, arguments: Any = None) -> list[dict[str, Any]]:
    return await (await connection.execute(sql, arguments)).fetchall()
