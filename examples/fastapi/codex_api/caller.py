"""Who is asking: the verified token of a request."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import jwt
from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

AUDIENCE = "codex-api"


@dataclass(frozen=True)
class Caller:
    """A person in a workspace, or a service that works for the whole of it."""

    workspace: UUID
    #: None for a service.
    user: UUID | None

    @property
    def is_service(self) -> bool:
        return self.user is None


def _refuse(why: str) -> HTTPException:
    return HTTPException(401, why, headers={"WWW-Authenticate": "Bearer"})


def caller(
    request: Request,
    credentials: Annotated[
        HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
    ],
) -> Caller:
    """The caller of a request, or 401.

    A token names its workspace (`workspace_id`); a person's also its user (`sub`), a service's instead `role: service`.
    Membership is not looked up here: the database does it when the workspace is entered.
    """
    if credentials is None:
        raise _refuse("no bearer token")
    try:
        claims = jwt.decode(
            credentials.credentials,
            request.app.state.settings.token_key,
            algorithms=["HS256"],
            audience=AUDIENCE,
            options={"require": ["exp", "workspace_id"]},
        )
        workspace = UUID(claims["workspace_id"])
        if claims.get("role") == "service":
            return Caller(workspace, None)
        return Caller(workspace, UUID(claims["sub"]))
    except (jwt.InvalidTokenError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise _refuse(f"the token is not valid: {type(error).__name__}") from None


def person(found: Annotated[Caller, Depends(caller)]) -> Caller:
    """The caller, who has to be a person."""
    if found.is_service:
        raise HTTPException(403, "for people, not for services")
    return found


def service(found: Annotated[Caller, Depends(caller)]) -> Caller:
    """The caller, which has to be a service."""
    if not found.is_service:
        raise HTTPException(403, "for services, not for people")
    return found


Anybody = Annotated[Caller, Depends(caller)]
Person = Annotated[Caller, Depends(person)]
Service = Annotated[Caller, Depends(service)]
