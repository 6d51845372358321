//! Who is asking: the workspace and the user of this transaction.

/// Defines the settings that this room reads.
pub fn define_settings() {}
