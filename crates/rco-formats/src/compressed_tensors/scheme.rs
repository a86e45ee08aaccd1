//! What a grid of integers is, and the tensors that hold it.

use std::fmt;
use std::str::FromStr;

use super::bits::words;
use crate::safetensors::Dtype;

/// Integers of a width, each times the scale of its group: `(q − z) · s`, where the zero
/// point `z` is 0 in a symmetric grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scheme {
    bits: u8,
    group: u32,
    symmetric: bool,
}

/// A tensor that stores a part of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackedPart {
    /// Codes, `[rows, words of a row]` of I32.
    Codes,
    /// Scales, `[rows, groups of a row]` of floats.
    Scales,
    /// Zero points, packed down the rows: `[words of a column, groups of a row]` of I32.
    ZeroPoints,
    /// `[2]` of I64: rows and columns.
    Shape,
}

impl PackedPart {
    /// What follows the name of the module.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Codes => "weight_packed",
            Self::Scales => "weight_scale",
            Self::ZeroPoints => "weight_zero_point",
            Self::Shape => "weight_shape",
        }
    }
}

impl Scheme {
    /// Codes of `bits` (1 to 8) in groups of `group` columns; `None` for others, or groups
    /// that are no whole number of words.
    pub fn new(bits: u8, group: u32, symmetric: bool) -> Option<Self> {
        let sound = (1..=8).contains(&bits) && group > 0 && group.is_multiple_of(32);
        sound.then_some(Self { bits, group, symmetric })
    }

    /// Bits of a code.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Columns of a group.
    pub fn group(self) -> usize {
        self.group as usize
    }

    /// Whether zero points are 0 and not stored.
    pub fn symmetric(self) -> bool {
        self.symmetric
    }

    /// The least and the largest code.
    pub fn range(self) -> (i32, i32) {
        let half = 1 << (self.bits - 1);
        (-half, half - 1)
    }

    /// Whether rows of so many columns are whole groups.
    pub fn fits(self, columns: usize) -> bool {
        columns > 0 && columns.is_multiple_of(self.group())
    }

    /// The tensors of a matrix, with their types and shapes, in the order in which we write
    /// them; scales are of type `scale`. `None` if its rows are not whole groups or a number
    /// overflows.
    pub fn tensors(
        self,
        rows: usize,
        columns: usize,
        scale: Dtype,
    ) -> Option<Vec<(PackedPart, Dtype, Vec<u64>)>> {
        if rows == 0 || !self.fits(columns) {
            return None;
        }
        let groups = (columns / self.group()) as u64;
        let row = words(columns, self.bits)? as u64;
        let mut out = vec![(PackedPart::Codes, Dtype::I32, vec![rows as u64, row])];
        out.push((PackedPart::Scales, scale, vec![rows as u64, groups]));
        if !self.symmetric {
            let column = words(rows, self.bits)? as u64;
            out.push((PackedPart::ZeroPoints, Dtype::I32, vec![column, groups]));
        }
        out.push((PackedPart::Shape, Dtype::I64, vec![2]));
        Some(out)
    }

    /// Bytes of the tensors of a matrix; `None` as [`Scheme::tensors`].
    pub fn bytes(self, rows: usize, columns: usize, scale: Dtype) -> Option<u64> {
        let tensors = self.tensors(rows, columns, scale)?;
        tensors.iter().try_fold(0_u64, |sum, (_, dtype, shape)| {
            let elements = shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d))?;
            sum.checked_add(elements.checked_mul(dtype.bits() / 8)?)
        })
    }
}

/// `4g64`, or `4g64z` with zero points.
impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}g{}{}", self.bits, self.group, if self.symmetric { "" } else { "z" })
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no grid, such as 4g64 or 3g128z");
        let (plain, symmetric) = match text.strip_suffix('z') {
            Some(plain) => (plain, false),
            None => (text, true),
        };
        let (bits, group) = plain.split_once('g').ok_or_else(bad)?;
        let (bits, group) = (bits.parse().map_err(|_| bad())?, group.parse().map_err(|_| bad())?);
        Self::new(bits, group, symmetric).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_codes_scales_zero_points_and_shape() {
        let symmetric = Scheme::new(3, 64, true).unwrap();
        // 192 columns: 18 words and 3 scales a row.
        assert_eq!(symmetric.bytes(10, 192, Dtype::Bf16), Some(10 * 18 * 4 + 10 * 3 * 2 + 16));
        let with_zeros = Scheme::new(3, 64, false).unwrap();
        // 10 rows of 3 bits: one word a column of zero points.
        let expected = 10 * 18 * 4 + 10 * 3 * 2 + 3 * 4 + 16;
        assert_eq!(with_zeros.bytes(10, 192, Dtype::Bf16), Some(expected));
        assert_eq!(symmetric.bytes(10, 100, Dtype::Bf16), None);
        assert_eq!(symmetric.bytes(usize::MAX, 192, Dtype::Bf16), None);
    }

    #[test]
    fn names_are_read_back_and_nonsense_is_refused() {
        for name in ["2g32", "8g128", "3g64z"] {
            assert_eq!(name.parse::<Scheme>().unwrap().to_string(), name);
        }
        for bad in ["", "4", "9g64", "0g64", "4g0", "4g33", "4g64zz", "g64", "4g", "-4g64"] {
            assert!(bad.parse::<Scheme>().is_err(), "{bad}");
        }
    }
}
