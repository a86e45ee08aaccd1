//! The commands, one file or folder each.

<<<<<<< HEAD
pub(crate) mod bench;
pub(crate) mod check;
=======
pub(crate) mod inspect;
>>>>>>> formats
pub(crate) mod schema;
pub(crate) mod solve;
