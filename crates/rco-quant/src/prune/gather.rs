//! The parts of a tensor that remain, read where they lie.

use std::io;
use std::sync::Arc;

use rco_formats::source::{ReadAt, Slice};

/// Parts of equal length, one after the other.
#[derive(Debug)]
pub(super) struct Gathered {
    parts: Vec<Slice>,
    each: u64,
}

impl Gathered {
    /// The parts `kept` of a source that holds `count` parts; `None` if it is no whole number
    /// of bytes for each, or there is no such part.
    pub(super) fn new(source: Slice, count: u64, kept: &[usize]) -> Option<Self> {
        let source: Arc<dyn ReadAt> = Arc::new(source);
        let size = source.size();
        if count == 0 || !size.is_multiple_of(count) {
            return None;
        }
        let each = size / count;
        let part = |&e: &usize| {
            let start = each.checked_mul(e as u64)?;
            Slice::new(Arc::clone(&source), start, each)
        };
        Some(Self { parts: kept.iter().map(part).collect::<Option<_>>()?, each })
    }
}

impl ReadAt for Gathered {
    fn size(&self) -> u64 {
        self.each * self.parts.len() as u64
    }

    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let (n, at) = (offset.checked_div(self.each), offset.checked_rem(self.each));
            let (Some(n), Some(at)) = (n, at) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let part = usize::try_from(n).ok().and_then(|n| self.parts.get(n));
            let part = part.ok_or(io::ErrorKind::UnexpectedEof)?;
            let now = (self.each - at).min(buf.len() as u64) as usize;
            let (head, tail) = buf.split_at_mut(now);
            part.read_exact_at(head, at)?;
            buf = tail;
            offset += now as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rco_formats::source::{ReadAt, Slice};

    use super::Gathered;

    fn source(len: u8) -> Slice {
        let bytes: Arc<dyn ReadAt> = Arc::new((0..len).collect::<Vec<u8>>());
        let size = bytes.size();
        Slice::new(bytes, 0, size).unwrap()
    }

    #[test]
    fn what_remains_is_read_across_parts() {
        let gathered = Gathered::new(source(20), 5, &[0, 3, 4]).unwrap();
        assert_eq!(gathered.size(), 12);
        let mut all = [0; 12];
        gathered.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(all, [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 18, 19]);
        let mut some = [0; 5];
        gathered.read_exact_at(&mut some, 3).unwrap();
        assert_eq!(some, [3, 12, 13, 14, 15]);
        assert!(gathered.read_exact_at(&mut [0; 2], 11).is_err());
    }

    #[test]
    fn parts_that_are_not_there_are_refused() {
        assert!(Gathered::new(source(20), 3, &[0]).is_none());
        assert!(Gathered::new(source(20), 5, &[5]).is_none());
        assert!(Gathered::new(source(20), 0, &[]).is_none());
    }
}
