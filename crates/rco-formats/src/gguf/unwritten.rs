//! A GGUF file that is read before it is written, or without ever being written.

use std::io;
use std::sync::Arc;

use super::encode;
use super::error::{GgufError, GgufFault};
use super::reader::Gguf;
use super::writer::GgufWriter;
use crate::source::ReadAt;

/// The bytes that a writer would write, read where they lie.
#[derive(Debug)]
struct Unwritten {
    /// Header with its padding.
    header: Vec<u8>,
    /// First byte of each tensor in the file, and where its bytes are; zeros follow up to
    /// the next.
    tensors: Vec<(u64, Arc<dyn ReadAt>)>,
    size: u64,
}

impl GgufWriter {
    /// Opens the file as if it had been written; `name` stands for it in errors. Nothing but
    /// its header is held in memory: tensors are read from their sources.
    ///
    /// # Errors
    /// What would keep the file from being written, or from being read again.
    pub fn open_unwritten(&self, name: impl Into<String>) -> Result<Gguf, GgufError> {
        let name = name.into();
        let unwritten = self.unwritten().map_err(|fault| GgufError::new(&*name, fault))?;
        Gguf::from_source(name, Arc::new(unwritten))
    }

    fn unwritten(&self) -> Result<Unwritten, GgufFault> {
        let layout = self.layout()?;
        let mut header = encode::header(self.version(), self.metadata(), self.tensors(), &layout);
        // The layout has bounded the header.
        header.resize(layout.data_start as usize, 0);
        let offsets = layout.offsets.iter().enumerate();
        let tensors =
            offsets.map(|(i, at)| (layout.data_start + at, Arc::clone(self.source(i)))).collect();
        Ok(Unwritten { header, tensors, size: layout.file_size })
    }
}

impl ReadAt for Unwritten {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buf.is_empty() {
            let next = self.tensors.partition_point(|(start, _)| *start <= offset);
            // What `offset` lies in, and the first byte of what comes after it.
            let end = self.tensors.get(next).map_or(self.size, |(start, _)| *start);
            let now = (end - offset).min(buf.len() as u64) as usize;
            let (head, tail) = buf.split_at_mut(now);
            let (start, source): (u64, &dyn ReadAt) = match next.checked_sub(1) {
                None => (0, &self.header),
                Some(i) => (self.tensors[i].0, &*self.tensors[i].1),
            };
            let at = offset - start;
            let there = source.size().saturating_sub(at).min(now as u64) as usize;
            let (data, padding) = head.split_at_mut(there);
            if !data.is_empty() {
                source.read_exact_at(data, at)?;
            }
            padding.fill(0);
            buf = tail;
            offset += now as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{GgufWriter, Metadata, TensorSpec, TensorType, Value};
    use crate::source::ReadAt;

    fn writer() -> GgufWriter {
        let mut metadata = Metadata::new();
        metadata.set("general.alignment", Value::U32(64)).unwrap();
        let mut writer = GgufWriter::new(metadata);
        // Lengths of 12, 0 and 68 bytes: padding in all places, and a tensor of none.
        for (name, len) in [("a", 3), ("none", 0), ("b", 17)] {
            let spec = TensorSpec { name: name.into(), shape: vec![len], ty: TensorType::F32 };
            let bytes: Vec<u8> = (0..4 * len as u8).map(|n| n + 1).collect();
            writer.add(spec, Arc::new(bytes)).unwrap();
        }
        writer
    }

    #[test]
    fn any_range_reads_as_from_the_file_that_would_be_written() {
        let writer = writer();
        let mut written = Vec::new();
        writer.write_to(&mut written).unwrap();
        let unwritten = writer.unwritten().unwrap();
        assert_eq!(unwritten.size(), written.len() as u64);
        for start in 0..written.len() {
            for len in [0, 1, 13, 64, 200, written.len() - start] {
                let end = (start + len).min(written.len());
                let mut found = vec![0xFF; end - start];
                unwritten.read_exact_at(&mut found, start as u64).unwrap();
                assert_eq!(found, written[start..end], "{start}..{end}");
            }
        }
        let end = written.len() as u64;
        assert!(unwritten.read_exact_at(&mut [0], end).is_err());
        assert!(unwritten.read_exact_at(&mut [0; 2], end - 1).is_err());
        assert!(unwritten.read_exact_at(&mut [0; 2], u64::MAX).is_err());
    }

    #[test]
    fn its_tensors_are_those_that_were_added() {
        let file = writer().open_unwritten("unwritten").unwrap();
        assert_eq!(file.read("b").unwrap(), (1..=68).collect::<Vec<u8>>());
        assert_eq!(file.tensors().len(), 3);
    }
}
