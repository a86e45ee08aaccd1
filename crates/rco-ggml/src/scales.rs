//! The floats of blocks, which all weights of a block are proportional to.

use std::io;
use std::sync::Arc;

use half::f16;
use rco_formats::gguf::TensorType;
use rco_formats::source::ReadAt;

/// Where the half-precision floats lie in a block that all of its weights are made of, by the block
/// structures of `ggml-common.h`: the scale, and that of the offset where there is one. A weight is
/// the sum of a part that is proportional to the first and one that is proportional to the second. `None`
/// for types whose blocks have no such floats (floating point itself, scales that are powers of
/// two, and `IQ1_M`, whose scale is in four pieces).
pub fn scale_floats(ty: TensorType) -> Option<&'static [usize]> {
    Some(match ty {
        TensorType::Q4_0
        | TensorType::Q5_0
        | TensorType::Q8_0
        | TensorType::IQ1_S
        | TensorType::IQ2_XXS
        | TensorType::IQ2_XS
        | TensorType::IQ2_S
        | TensorType::IQ3_XXS
        | TensorType::IQ3_S
        | TensorType::IQ4_NL
        | TensorType::IQ4_XS => &[0],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4_K | TensorType::Q5_K => &[0, 2],
        TensorType::Q2_K => &[80, 82],
        TensorType::Q3_K => &[108],
        TensorType::Q6_K => &[208],
        TensorType::TQ1_0 => &[52],
        TensorType::TQ2_0 => &[64],
        _ => return None,
    })
}

/// The bytes of a tensor with the floats of each block multiplied by factors. Nothing is kept but
/// these.
#[derive(Debug, Clone)]
pub struct ScaledBlocks {
    data: Arc<dyn ReadAt>,
    floats: &'static [usize],
    block: u64,
    factors: Arc<[f32]>,
}

impl ScaledBlocks {
    /// `data` are whole blocks of `ty` with a factor for each float, block after block; `None` if
    /// they are not, or if the type has no floats for blocks.
    pub fn new(ty: TensorType, data: Arc<dyn ReadAt>, factors: Arc<[f32]>) -> Option<Self> {
        let (floats, block) = (scale_floats(ty)?, ty.layout()?.bytes);
        let blocks = factors.len() / floats.len();
        let expected = block.checked_mul(blocks as u64)?;
        let whole = factors.len().is_multiple_of(floats.len());
        (whole && data.size() == expected).then_some(Self { data, floats, block, factors })
    }

    /// Multiplies the floats of whole blocks from number `first` on.
    fn multiply(&self, first: usize, blocks: &mut [u8]) {
        let factors = self.factors.chunks_exact(self.floats.len()).skip(first);
        for (block, factors) in blocks.chunks_exact_mut(self.block as usize).zip(factors) {
            for (&at, factor) in self.floats.iter().zip(factors) {
                if let Some(&[low, high]) = block.get(at..at + 2) {
                    let value = f16::from_le_bytes([low, high]).to_f32() * factor;
                    let value = value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
                    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
                }
            }
        }
    }
}

impl ReadAt for ScaledBlocks {
    fn size(&self) -> u64 {
        self.data.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= self.size());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        // Whole blocks around what is asked for.
        let first = offset / self.block;
        let start = first * self.block;
        let length = end.div_ceil(self.block) * self.block - start;
        if start == offset && length == buf.len() as u64 {
            self.data.read_exact_at(buf, start)?;
            self.multiply(first as usize, buf);
            return Ok(());
        }
        let mut blocks = vec![0; length as usize];
        self.data.read_exact_at(&mut blocks, start)?;
        self.multiply(first as usize, &mut blocks);
        let skip = (offset - start) as usize;
        buf.copy_from_slice(&blocks[skip..skip + buf.len()]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{can_decode, can_encode, decode_to, encode, needs_importance};

    /// Two rows of two blocks each of a type, of values that are not alike.
    fn encoded(ty: TensorType) -> (Vec<u8>, usize) {
        let row = 2 * ty.layout().unwrap().block as usize;
        let values: Vec<f32> =
            (0..2 * row).map(|n| ((n * 37 % 101) as f32 - 48.5) * 0.01).collect();
        let importance = vec![1.0; row];
        crate::prepare(ty);
        let importance = needs_importance(ty).then_some(&importance[..]);
        (encode(ty, &values, row, importance).unwrap(), row)
    }

    #[test]
    fn weights_of_a_block_are_proportional_to_its_floats_in_ggmls_decoder() {
        let mut seen = 0;
        for (ty, layout) in TensorType::known() {
            if scale_floats(ty).is_none() {
                continue;
            }
            assert!(can_decode(ty) && can_encode(ty), "{ty}");
            let (bytes, row) = encoded(ty);
            let before = decode_to(ty, &bytes, row).unwrap();
            let floats = scale_floats(ty).unwrap().len();
            let with = |factors: [[f32; 2]; 4]| {
                let factors: Arc<[f32]> =
                    factors.iter().flat_map(|both| both[..floats].to_vec()).collect();
                let scaled = ScaledBlocks::new(ty, Arc::new(bytes.clone()), factors).unwrap();
                let mut found = vec![0; bytes.len()];
                scaled.read_exact_at(&mut found, 0).unwrap();
                let values = decode_to(ty, &found, row).unwrap();
                (scaled, found, values)
            };
            assert!(before.iter().any(|&x| x != 0.0), "{ty}");
            let factors = [[1.0; 2], [0.5, 2.0], [2.0, 0.5], [0.25; 2]];
            let (scaled, found, after) = with(factors);
            // Apart, the parts add up to the whole.
            let (_, _, part) = with([[1.0, 0.0]; 4]);
            for (n, ((before, part), after)) in before.iter().zip(&part).zip(&after).enumerate() {
                let [scale, offset] = factors[n / layout.block as usize];
                let expected = part * scale + (before - part) * offset;
                let size = part.abs().max(before.abs());
                assert!((after - expected).abs() <= 6e-3 * size + 1e-6, "{ty}, {n}");
                assert!(floats == 2 || part == before, "{ty}, {n}");
            }
            // Nothing else has changed, and any part reads as the whole does.
            let different = bytes.iter().zip(&found).filter(|(a, b)| a != b).count();
            assert!(different <= 4 * 2 * scale_floats(ty).unwrap().len(), "{ty}: {different}");
            for (offset, length) in [(0, 1), (1, 7), (bytes.len() - 3, 3), (5, bytes.len() - 5)] {
                let mut part = vec![0; length];
                scaled.read_exact_at(&mut part, offset as u64).unwrap();
                assert_eq!(part, found[offset..offset + length], "{ty} from {offset}");
            }
            seen += 1;
        }
        assert_eq!(seen, 20);
    }

    #[test]
    fn what_lies_outside_is_refused_and_floats_stay_finite() {
        let (bytes, row) = encoded(TensorType::Q4_0);
        let data: Arc<dyn ReadAt> = Arc::new(bytes);
        let of = |count: usize, factor: f32| {
            ScaledBlocks::new(TensorType::Q4_0, Arc::clone(&data), vec![factor; count].into())
        };
        assert!(of(3, 1.0).is_none() && of(5, 1.0).is_none());
        let scaled = of(4, 1e30).unwrap();
        let mut buf = vec![0; data.size() as usize];
        assert!(scaled.read_exact_at(&mut buf[..2], data.size() - 1).is_err());
        assert!(scaled.read_exact_at(&mut buf[..2], u64::MAX).is_err());
        scaled.read_exact_at(&mut buf, 0).unwrap();
        assert!(decode_to(TensorType::Q4_0, &buf, row).unwrap().iter().all(|x| x.is_finite()));
        assert!(ScaledBlocks::new(TensorType::F16, data, vec![1.0; 36].into()).is_none());
    }
}
