//! Writes files byte by byte, right or wrong.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rco_formats::gguf::{Gguf, GgufFault};

/// The bundled model as a GGUF file.
pub(crate) fn tiny_moe_gguf() -> PathBuf {
    tiny_moe_folder().join("tiny-moe.bf16.gguf")
}

/// The bundled model as a folder.
pub(crate) fn tiny_moe_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/tiny-moe")
}

/// Bytes put together without any check.
#[derive(Debug, Clone, Default)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Raw {
    /// Magic, version 3 and the two counts.
    pub(crate) fn gguf(tensors: u64, keys: u64) -> Self {
        Self::default().bytes(b"GGUF").u32(3).u64(tensors).u64(keys)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A key with a 32-bit integer.
    pub(crate) fn key_u32(self, key: &str, value: u32) -> Self {
        self.text(key).u32(4).u32(value)
    }

    /// A tensor description.
    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], ty: u32, offset: u64) -> Self {
        self = self.text(name).u32(shape.len() as u32);
        for &dimension in shape {
            self = self.u64(dimension);
        }
        self.u32(ty).u64(offset)
    }

    /// Zeros up to a multiple of `alignment`.
    pub(crate) fn pad(mut self, alignment: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
        self
    }

    /// `length` bytes of data.
    pub(crate) fn data(mut self, length: usize) -> Self {
        self.0.resize(self.0.len() + length, 0xab);
        self
    }

    pub(crate) fn open(self) -> Result<Gguf, GgufFault> {
        Gguf::from_source("hostile", Arc::new(self.0)).map_err(|error| error.fault)
    }

    /// What is wrong with the file.
    pub(crate) fn fault(self) -> GgufFault {
        self.open().expect_err("the file was accepted")
    }
}
