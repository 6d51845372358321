"""What the database refuses, as HTTP: by SQLSTATE, in the database's own words."""

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from psycopg import DataError, Error, OperationalError
from psycopg_pool import PoolTimeout

log = logging.getLogger(__name__)

#: SQLSTATE: HTTP status. The classes of two characters stand for what is not listed by itself.
STATUS = {
    "22004": 422,  # a required argument is NULL
    "22023": 422,  # a value that is not taken
    "23502": 422,
    "23503": 404,  # refers to nothing, or to what belongs to another workspace
    "23505": 409,
    "23514": 422,  # a CHECK
    "42501": 403,  # not a member, or not the caller's workspace
    "55000": 409,  # not in a state in which this can be done
    "P0002": 404,
    "40001": 503,  # try again
    "40P01": 503,
    "55P03": 503,
    "57014": 503,
    "22": 422,
    "23": 409,
}


def status_of(sqlstate: str | None) -> int:
    """The HTTP status for a SQLSTATE; 500 for what is nobody's fault but ours."""
    if sqlstate is None:
        return 503
    return STATUS.get(sqlstate, STATUS.get(sqlstate[:2], 500))


async def answer(request: Request, error: Error) -> JSONResponse:
    # psycopg itself refuses a text with a NUL byte, which Postgres could not store.
    status = 422 if isinstance(error, DataError) else status_of(error.sqlstate)
    if status == 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
        return JSONResponse({"detail": "internal error"}, status)
    body = {
        "detail": error.diag.message_primary or str(error) or "the database cannot be reached",
        "sqlstate": error.sqlstate,
        "hint": error.diag.message_hint,
    }
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse(
        {key: value for key, value in body.items() if value is not None}, status, headers
    )


async def busy(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "busy"}, 503, {"Retry-After": "1"})


def install(app: FastAPI) -> None:
    app.add_exception_handler(PoolTimeout, busy)
    app.add_exception_handler(OperationalError, answer)
    app.add_exception_handler(Error, answer)
