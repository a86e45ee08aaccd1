//! The commands, one file or folder each.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod inspect;
pub(crate) mod quantize;
pub(crate) mod schema;
pub(crate) mod solve;
