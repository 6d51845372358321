//! What the server refused, and how a test says that it had to.

use std::fmt;

/// An error of the server, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The five characters of its SQLSTATE.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// The DETAIL line, or nothing.
    pub detail: String,
    /// The HINT line, or nothing.
    pub hint: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sqlstate, self.message)
    }
}

impl From<&postgres::Error> for Failure {
    fn from(error: &postgres::Error) -> Self {
        match error.as_db_error() {
            Some(server) => Self {
                sqlstate: server.code().code().to_owned(),
                message: server.message().to_owned(),
                detail: server.detail().unwrap_or_default().to_owned(),
                hint: server.hint().unwrap_or_default().to_owned(),
            },
            None => Self {
                sqlstate: String::new(),
                message: with_causes(error),
                detail: String::new(),
                hint: String::new(),
            },
        }
    }
}

/// The SQLSTATE of an error; empty when the error is the client's (a connection lost, a type that does not fit).
pub fn sqlstate(error: &postgres::Error) -> String {
    Failure::from(error).sqlstate
}

/// What the server said, or what went wrong on the way to it.
pub fn error_message(error: &postgres::Error) -> String {
    Failure::from(error).message
}

/// The failure of a statement that has to fail with `sqlstate`; anything else fails the test.
#[track_caller]
pub fn fails_with<T>(result: Result<T, postgres::Error>, sqlstate: &str) -> Failure {
    match result {
        Ok(_) => panic!("the statement went through, and had to fail with {sqlstate}"),
        Err(error) => {
            let failure = Failure::from(&error);
            assert_eq!(failure.sqlstate, sqlstate, "{failure}\n{error:?}");
            failure
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
