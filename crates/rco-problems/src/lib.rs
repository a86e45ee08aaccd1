//! Problem files (JSON, CSV), ready-made objectives and benchmark instances.
pub mod generators;
pub mod generators;
pub mod planted;
