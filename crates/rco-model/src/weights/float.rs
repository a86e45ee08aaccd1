//! Plain floating point of files, widened to single precision, and rounded to what files hold.

use half::f16;
use rco_formats::safetensors::Dtype;

/// A type of floats that scales of packed matrices can have, and with them the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatType {
    /// Single precision.
    F32,
    /// The upper half of single precision.
    Bf16,
    /// Half precision.
    F16,
}

impl FloatType {
    /// The type that a tensor of a file has; `None` for types that scales cannot have.
    pub fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::Bf16 => Some(Self::Bf16),
            Dtype::F16 => Some(Self::F16),
            _ => None,
        }
    }

    /// The type of a tensor that holds such values.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
            Self::F16 => Dtype::F16,
        }
    }

    /// Reads little-endian values of this type.
    pub(super) fn widen(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => f32s(bytes, out),
            Self::Bf16 => bf16s(bytes, out),
            Self::F16 => f16s(bytes, out),
        }
    }

    /// Writes values of this type, little-endian; others are rounded to it.
    pub fn narrow(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Self::Bf16 => {
                let high = |x: &f32| ((to_bf16(*x).to_bits() >> 16) as u16).to_le_bytes();
                out.extend(values.iter().flat_map(high));
            }
            Self::F16 => out.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        }
    }

    /// Rounds a value to the nearest of this type, halves to even.
    #[allow(clippy::inline_always, reason = "callers compile it for several machines")]
    #[inline(always)]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::Bf16 => to_bf16(x),
            Self::F16 => f16::from_f32(x).to_f32(),
        }
    }

    /// Rounds values each by itself; the type is looked at once.
    #[allow(clippy::inline_always, reason = "callers compile it for several machines")]
    #[inline(always)]
    pub fn round_all(self, values: &mut [f32]) {
        match self {
            Self::F32 => {}
            Self::Bf16 => values.iter_mut().for_each(|x| *x = to_bf16(*x)),
            Self::F16 => values.iter_mut().for_each(|x| *x = f16::from_f32(*x).to_f32()),
        }
    }
}

#[allow(clippy::inline_always, reason = "callers compile it for several machines")]
#[inline(always)]
fn to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    if x.is_nan() { x } else { f32::from_bits(rounded) }
}

/// Little-endian F32.
pub(super) fn f32s(bytes: &[u8], out: &mut [f32]) {
    for (out, &b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = f32::from_le_bytes(b);
    }
}

/// Little-endian BF16.
pub(super) fn bf16s(bytes: &[u8], out: &mut [f32]) {
    for (out, &b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
    }
}

/// Little-endian F16.
pub(super) fn f16s(bytes: &[u8], out: &mut [f32]) {
    for (out, &b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = f16::from_le_bytes(b).to_f32();
    }
}

#[cfg(test)]
mod tests {
    use super::{FloatType, bf16s, f16s, f32s};
    use rco_formats::safetensors::Dtype;

    #[test]
    fn rounding_is_to_the_nearest_and_halves_to_even() {
        let of = |dtype| FloatType::of(dtype).unwrap();
        // 1 + 2⁻⁷ is the next after 1.
        for (x, expected) in
            [(1.0, 1.0), (1.0 + 0.003, 1.0), (1.0 + 1.0 / 256.0, 1.0), (1.005, 1.007_812_5)]
        {
            assert_eq!(of(Dtype::Bf16).round(x), expected, "{x}");
            assert_eq!(of(Dtype::Bf16).round(-x), -expected, "{x}");
        }
        assert_eq!(of(Dtype::F16).round(1.0 + 0.0005), 1.000_976_6);
        assert_eq!(of(Dtype::F32).round(1.0 + 0.0005), 1.0 + 0.0005);
        assert!(FloatType::of(Dtype::I32).is_none());
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            let values = [0.1_f32, -7.3, f32::MAX, f32::INFINITY, 1e-41];
            let mut all = values;
            of(dtype).round_all(&mut all);
            assert_eq!(all, values.map(|x| of(dtype).round(x)));
        }
    }

    #[test]
    fn what_is_written_is_what_was_rounded() {
        let values = [1.0, -2.5, 0.1, -7.3e-6, 3.0e4, f32::INFINITY];
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            let float = FloatType::of(dtype).unwrap();
            let (mut bytes, mut read) = (Vec::new(), [0.0; 6]);
            float.narrow(&values, &mut bytes);
            float.widen(&bytes, &mut read);
            assert_eq!(read, values.map(|x| float.round(x)), "{dtype:?}");
        }
    }

    #[test]
    fn each_type_is_widened_exactly() {
        let mut out = [0.0; 2];
        bf16s(&[0x80, 0x3f, 0x20, 0xc0], &mut out);
        assert_eq!(out, [1.0, -2.5]);
        f16s(&[0x00, 0x3c, 0x00, 0xc1], &mut out);
        assert_eq!(out, [1.0, -2.5]);
        f32s(&[1.5_f32.to_le_bytes(), (-2.5_f32).to_le_bytes()].concat(), &mut out);
        assert_eq!(out, [1.5, -2.5]);
    }
}
