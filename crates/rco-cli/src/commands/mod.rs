//! The commands, one file or folder each.

pub(crate) mod inspect;
pub(crate) mod schema;
pub(crate) mod solve;
