//! The `rco` command.

fn main() {}
