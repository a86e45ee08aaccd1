//! Reads the header in order, with the limits checked before anything is allocated.

use super::error::GgufFault;
use super::limits::{MAX_ARRAY_DEPTH, MAX_HEADER_BYTES};
use super::value::{Array, Text, Value, ValueType};
use crate::source::ReadAt;

/// Bytes read from the source at a time.
const CHUNK: usize = 64 << 10;

pub(crate) struct Cursor<'a> {
    source: &'a dyn ReadAt,
    position: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
    what: String,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, position: 0, buffer: Vec::new(), buffer_start: 0, what: String::new() }
    }

    /// Names what is read from here on, for errors.
    pub(crate) fn enter(&mut self, what: impl Into<String>) {
        self.what = what.into();
    }

    pub(crate) fn what(&self) -> String {
        self.what.clone()
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Checks that `count` elements of at least `least` bytes each can follow.
    pub(crate) fn need(&self, count: u64, least: u64) -> Result<(), GgufFault> {
        let needed = count
            .checked_mul(least)
            .ok_or_else(|| GgufFault::CountTooLarge { what: self.what(), count })?;
        let left = self.source.size().saturating_sub(self.position);
        if needed > left {
            let at = self.position;
            return Err(GgufFault::Truncated { what: self.what(), at, needed, left });
        }
        if self.position + needed > MAX_HEADER_BYTES {
            return Err(GgufFault::HeaderTooLarge { what: self.what(), limit: MAX_HEADER_BYTES });
        }
        Ok(())
    }

    /// The next `length` bytes, at most [`CHUNK`].
    fn take(&mut self, length: usize) -> Result<&[u8], GgufFault> {
        self.need(length as u64, 1)?;
        let mut start = (self.position - self.buffer_start) as usize;
        if start + length > self.buffer.len() {
            let left = (self.source.size() - self.position).min(CHUNK as u64) as usize;
            self.buffer.resize(left, 0);
            self.source
                .read_exact_at(&mut self.buffer, self.position)
                .map_err(|source| GgufFault::Io { action: "read the header", source })?;
            self.buffer_start = self.position;
            start = 0;
        }
        self.position += length as u64;
        Ok(&self.buffer[start..start + length])
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufFault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, GgufFault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, GgufFault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length and that many bytes.
    pub(crate) fn text(&mut self) -> Result<Vec<u8>, GgufFault> {
        let length = self.u64()?;
        self.need(length, 1)?;
        self.numbers(length, |[byte]: [u8; 1]| byte)
    }

    pub(crate) fn value(&mut self) -> Result<Value, GgufFault> {
        Ok(match self.value_type()? {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.array()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array()?)),
            ValueType::U32 => Value::U32(self.u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            ValueType::Bool => Value::Bool(self.bool()?),
            ValueType::String => Value::String(Text(self.text()?)),
            ValueType::Array => Value::Array(self.array_value(1)?),
            ValueType::U64 => Value::U64(self.u64()?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
        })
    }

    fn value_type(&mut self) -> Result<ValueType, GgufFault> {
        let found = self.u32()?;
        ValueType::from_number(found)
            .ok_or_else(|| GgufFault::UnknownValueType { what: self.what(), found })
    }

    fn bool(&mut self) -> Result<bool, GgufFault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(GgufFault::BadBool { what: self.what(), found }),
        }
    }

    /// An array at nesting depth `depth`, counted from 1.
    fn array_value(&mut self, depth: usize) -> Result<Array, GgufFault> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(GgufFault::TooDeep { what: self.what(), limit: MAX_ARRAY_DEPTH });
        }
        let element = self.value_type()?;
        let count = self.u64()?;
        self.need(count, element.least_bytes())?;
        Ok(match element {
            ValueType::U8 => Array::U8(self.numbers(count, u8::from_le_bytes)?),
            ValueType::I8 => Array::I8(self.numbers(count, i8::from_le_bytes)?),
            ValueType::U16 => Array::U16(self.numbers(count, u16::from_le_bytes)?),
            ValueType::I16 => Array::I16(self.numbers(count, i16::from_le_bytes)?),
            ValueType::U32 => Array::U32(self.numbers(count, u32::from_le_bytes)?),
            ValueType::I32 => Array::I32(self.numbers(count, i32::from_le_bytes)?),
            ValueType::F32 => Array::F32(self.numbers(count, f32::from_le_bytes)?),
            ValueType::U64 => Array::U64(self.numbers(count, u64::from_le_bytes)?),
            ValueType::I64 => Array::I64(self.numbers(count, i64::from_le_bytes)?),
            ValueType::F64 => Array::F64(self.numbers(count, f64::from_le_bytes)?),
            ValueType::Bool => Array::Bool(self.elements(count, Self::bool)?),
            ValueType::String => Array::String(self.elements(count, |c| c.text().map(Text))?),
            ValueType::Array => Array::Array(self.elements(count, |c| c.array_value(depth + 1))?),
        })
    }

    /// Elements of one size. The caller has checked that they can follow.
    fn numbers<const N: usize, T>(
        &mut self,
        count: u64,
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufFault> {
        let mut left = count as usize;
        let mut out = Vec::with_capacity(left);
        while left > 0 {
            let now = left.min(CHUNK / N);
            out.extend(self.take(now * N)?.as_chunks::<N>().0.iter().map(|&bytes| decode(bytes)));
            left -= now;
        }
        Ok(out)
    }

    /// Elements of any size. Grows as they come: an element takes more memory than the
    /// fewest bytes it can have in the file.
    fn elements<T>(
        &mut self,
        count: u64,
        read: impl Fn(&mut Self) -> Result<T, GgufFault>,
    ) -> Result<Vec<T>, GgufFault> {
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(read(self)?);
        }
        out.shrink_to_fit();
        Ok(out)
    }
}
