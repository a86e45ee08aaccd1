//! Space on disks.

use std::path::Path;

/// Bytes that an ordinary user may still write in `folder`; `None` where the system does not
/// say.
#[cfg(unix)]
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    // Some network file systems report no sizes at all.
    (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes that an ordinary user may still write in `folder`; `None` where the system does not
/// say.
#[cfg(not(unix))]
pub fn free_bytes(_: &Path) -> Option<u64> {
    None
}
