//! Plain floating point of files, widened to single precision.

use half::f16;

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
    use super::{bf16s, f16s, f32s};

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
