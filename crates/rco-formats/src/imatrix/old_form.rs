//! The older binary form (llama.cpp, `common_imatrix_load_legacy`):
//!
//! ```text
//! i32 entries, then for each: i32 length, name, i32 calls, i32 values, f32 × values
//! optional:   i32 chunks, i32 length, name of the text
//! ```
//!
//! The values are means times `calls`, so values ÷ calls is the mean here as in the GGUF
//! form.

use super::entry::ImatrixEntry;
use super::error::ImatrixFault;
use super::file::{Imatrix, ImatrixForm};
use crate::source::ReadAt;

/// Fewest bytes of an entry: three numbers, one letter, one value.
const LEAST_ENTRY: u64 = 3 * 4 + 1 + 4;

pub(crate) fn read(source: &dyn ReadAt) -> Result<Imatrix, ImatrixFault> {
    let mut reader = Reader { source, at: 0 };
    let count = reader.count("the number of entries", 1)?;
    reader.need("the entries", u64::from(count) * LEAST_ENTRY)?;
    let mut entries = Vec::new();
    for entry in 0..count {
        let what = |part| format!("the {part} of entry {entry}");
        let length = reader.count(&what("length of the name"), 1)?;
        let name = reader.bytes(&what("name"), length.into())?;
        let bad = |problem| ImatrixFault::BadName { entry, problem };
        let name = String::from_utf8(name).map_err(|_| bad("not UTF-8"))?;
        if name.contains('\0') {
            return Err(bad("cut by a zero byte"));
        }
        let calls = reader.count(&what("number of calls"), 0)?;
        let values = reader.count(&what("number of values"), 1)?;
        let bytes = reader.bytes(&what("values"), u64::from(values) * 4)?;
        let sums = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        entries.push(ImatrixEntry::new(name, sums, vec![calls as f32])?);
    }
    let mut imatrix = Imatrix::new(entries)?;
    imatrix.form = ImatrixForm::Old;
    if reader.left() > 0 {
        imatrix.chunk_count = Some(reader.count("the number of chunks", 0)?);
    }
    if reader.left() > 0 {
        let length = reader.count("the length of the name of the text", 0)?;
        let name = reader.bytes("the name of the text", length.into())?;
        imatrix.datasets.push(String::from_utf8_lossy(&name).into_owned());
    }
    match reader.left() {
        0 => Ok(imatrix),
        bytes => Err(ImatrixFault::TrailingBytes { bytes }),
    }
}

struct Reader<'a> {
    source: &'a dyn ReadAt,
    at: u64,
}

impl Reader<'_> {
    fn left(&self) -> u64 {
        self.source.size().saturating_sub(self.at)
    }

    fn need(&self, what: &str, needed: u64) -> Result<(), ImatrixFault> {
        let left = self.left();
        if needed <= left {
            return Ok(());
        }
        Err(ImatrixFault::Truncated { what: what.to_owned(), at: self.at, needed, left })
    }

    fn bytes(&mut self, what: &str, length: u64) -> Result<Vec<u8>, ImatrixFault> {
        self.need(what, length)?;
        let mut bytes = vec![0; length as usize];
        self.source
            .read_exact_at(&mut bytes, self.at)
            .map_err(|source| ImatrixFault::Io { action: "read it", source })?;
        self.at += length;
        Ok(bytes)
    }

    /// A number that counts something.
    fn count(&mut self, what: &str, least: i32) -> Result<u32, ImatrixFault> {
        let bytes = self.bytes(what, 4)?;
        let found = bytes.as_chunks::<4>().0.first().map_or(0, |&b| i32::from_le_bytes(b));
        match u32::try_from(found) {
            Ok(count) if found >= least => Ok(count),
            _ => Err(ImatrixFault::BadNumber { what: what.to_owned(), found, least }),
        }
    }
}
