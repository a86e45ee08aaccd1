//! Problem files (JSON, CSV), ready-made objectives and benchmark instances.
pub mod planted;
