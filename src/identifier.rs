//! Time-ordered identifiers.

use pgrx::prelude::*;

/// A new version 7 UUID (RFC 9562): the first 48 bits are the milliseconds since 1970, so that keys made one
/// after the other lie side by side in an index. Within one backend they are strictly increasing.
#[pg_extern(volatile, parallel_safe)]
pub fn uuid_v7() -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*uuid::Uuid::now_v7().as_bytes())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION uuid_v7() IS
'A new version 7 UUID (RFC 9562), ordered by the time it was made; strictly increasing within a session. The default of every id column.';
"#,
    name = "comment_identifier",
    requires = [uuid_v7]
);
