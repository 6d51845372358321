"""What the app reads from its environment."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Where the database is, as whom to log in, and how tokens are checked."""

    #: Connection string of a role that `codex.grant_member_role()` was called for: requests of people.
    member_dsn: str
    #: Connection string of a role that `codex.grant_service_role()` was called for: requests of backends and agents.
    service_dsn: str
    #: The key that tokens are signed with (HS256). At least 32 characters.
    token_key: str
    #: Connections a pool keeps open at most.
    pool_size: int = 8

    @classmethod
    def from_environment(cls) -> "Settings":
        missing = [
            name
            for name in ("CODEX_MEMBER_DSN", "CODEX_SERVICE_DSN", "CODEX_TOKEN_KEY")
            if not os.environ.get(name)
        ]
        if missing:
            raise RuntimeError(f"set {', '.join(missing)} (see README.md)")
        return cls(
            member_dsn=os.environ["CODEX_MEMBER_DSN"],
            service_dsn=os.environ["CODEX_SERVICE_DSN"],
            token_key=os.environ["CODEX_TOKEN_KEY"],
            pool_size=int(os.environ.get("CODEX_POOL_SIZE", "8")),
        )

    def __post_init__(self) -> None:
        if len(self.token_key) < 32:
            raise RuntimeError("CODEX_TOKEN_KEY is shorter than 32 characters")
