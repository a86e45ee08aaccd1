//! SHA-256 of files, in hexadecimal.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rco_formats::gguf::GgufModel;
use rco_formats::safetensors::HfFolder;
use sha2::{Digest, Sha256};

use crate::error::QuantError;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// SHA-256 of a file.
///
/// # Errors
/// A failed read.
pub fn sha256_file(path: &Path) -> Result<String, QuantError> {
    let mut file = File::open(path).map_err(QuantError::io(path, "opening"))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(QuantError::io(path, "reading"))? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// SHA-256 of a model: of its only file, or of the hashes of all parts in order.
///
/// # Errors
/// A failed read.
pub fn sha256_model(model: &GgufModel) -> Result<String, QuantError> {
    let hashes = model.parts().iter().map(|part| sha256_file(Path::new(part.name())));
    let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
    Ok(match hashes.as_slice() {
        [one] => one.clone(),
        several => sha256(several.concat().as_bytes()),
    })
}

/// SHA-256 of the hashes of a folder's files of tensors, in order.
///
/// # Errors
/// A failed read.
pub fn sha256_folder(folder: &HfFolder) -> Result<String, QuantError> {
    let hashes = folder.shards().iter().map(|part| sha256_file(Path::new(part.name())));
    let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
    Ok(sha256(hashes.concat().as_bytes()))
}

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].map(|n| char::from_digit(n.into(), 16).unwrap_or('0')));
        text
    })
}
