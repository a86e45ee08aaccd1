//! Integers with scales: matrices as compressed-tensors packs them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rco_formats::compressed_tensors::{ModuleSchemes, PackedPart, Scheme, unpack, words};
use rco_formats::safetensors::{Dtype, HfFolder};
use rco_formats::source::ReadAt;

use super::float::FloatType;
use super::{HfWeights, WeightSource, checked_start};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::key::WeightKey;

/// A packed matrix, decoded as it is read: `(q − z) · s`, computed and rounded in the type of
/// the scales, as its runtimes do.
#[derive(Clone)]
pub struct PackedMatrix {
    name: String,
    scheme: Scheme,
    shape: [usize; 2],
    float: FloatType,
    codes: Arc<dyn ReadAt>,
    scales: Arc<dyn ReadAt>,
    zeros: Option<Arc<dyn ReadAt>>,
}

impl fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedMatrix({} as {})", self.name, self.scheme)
    }
}

/// The values of the codes of a group. Where it has more codes than there are, each is computed
/// once.
#[inline]
fn decode(codes: &[u8], levels: usize, value: impl Fn(u8) -> f32, out: &mut [f32]) {
    if levels < codes.len() {
        let mut table = [0.0; 256];
        for (code, entry) in (0..).zip(&mut table[..levels]) {
            *entry = value(code);
        }
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = table[usize::from(code)];
        }
    } else {
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = value(code);
        }
    }
}

impl PackedMatrix {
    /// A matrix of `rows` and `columns`, of which `part` gives the bytes of a tensor.
    ///
    /// # Errors
    /// A part that is missing or has another length than shape and scheme say, or a type that
    /// scales cannot have.
    pub fn new(
        name: &str,
        scheme: Scheme,
        [rows, columns]: [usize; 2],
        scale: Dtype,
        mut part: impl FnMut(PackedPart) -> Option<Arc<dyn ReadAt>>,
    ) -> Result<Self, ModelError> {
        let of = |part: PackedPart| format!("{name}.{}", part.suffix());
        let float = FloatType::of(scale).ok_or_else(|| {
            let name = of(PackedPart::Scales);
            ModelError::UnsupportedType { name, found: scale.name().to_owned() }
        })?;
        let shape = vec![rows, columns];
        let wrong = || ModelError::WrongLength { name: name.to_owned(), shape, found: 0 };
        let expected = scheme.tensors(rows, columns, scale).ok_or_else(wrong)?;
        let mut take = |wanted: PackedPart| -> Result<Arc<dyn ReadAt>, ModelError> {
            let name = of(wanted);
            let missing = || ModelError::MissingWeight { name: name.clone() };
            let found = expected.iter().find(|(part, ..)| *part == wanted).ok_or_else(missing)?;
            let data = part(wanted).ok_or_else(missing)?;
            let (_, dtype, shape) = found;
            let bytes = shape.iter().product::<u64>().saturating_mul(dtype.bits() / 8);
            if data.size() == bytes {
                return Ok(data);
            }
            let shape = shape.iter().map(|&d| d as usize).collect();
            let found = (data.size() / (dtype.bits() / 8)) as usize;
            Err(ModelError::WrongLength { name: name.clone(), shape, found })
        };
        let (codes, scales) = (take(PackedPart::Codes)?, take(PackedPart::Scales)?);
        let zeros = if scheme.symmetric() { None } else { Some(take(PackedPart::ZeroPoints)?) };
        let (name, shape) = (name.to_owned(), [rows, columns]);
        Ok(Self { name, scheme, shape, float, codes, scales, zeros })
    }

    /// The module whose weight it is.
    pub fn module(&self) -> &str {
        &self.name
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// How it is stored.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bytes of a part, as they lie.
    pub fn part(&self, part: PackedPart) -> Option<Arc<dyn ReadAt>> {
        match part {
            PackedPart::Codes => Some(Arc::clone(&self.codes)),
            PackedPart::Scales => Some(Arc::clone(&self.scales)),
            PackedPart::ZeroPoints => self.zeros.clone(),
            PackedPart::Shape => {
                let bytes = self.shape.iter().flat_map(|&d| (d as u64).to_le_bytes());
                Some(Arc::new(bytes.collect::<Vec<u8>>()))
            }
        }
    }

    /// The type of the scales, and of the values.
    pub fn dtype(&self) -> Dtype {
        self.float.dtype()
    }

    /// The same.
    pub fn float(&self) -> FloatType {
        self.float
    }

    /// Number of its groups, each of which has a scale.
    pub fn groups(&self) -> usize {
        let [rows, columns] = self.shape;
        rows * (columns / self.scheme.group())
    }

    /// The scales, one for each group of each row.
    ///
    /// # Errors
    /// A failed read.
    pub fn read_scales(&self) -> Result<Vec<f32>, ModelError> {
        let count = self.groups();
        let width = (self.dtype().bits() / 8) as usize;
        let mut scales = vec![0.0; count];
        self.float.widen(&self.read(&*self.scales, 0, count * width)?, &mut scales);
        Ok(scales)
    }

    /// The same codes with other scales, whose bytes lie as those of this matrix do.
    ///
    /// # Errors
    /// Another number of bytes.
    pub fn with_scales(&self, scales: Arc<dyn ReadAt>) -> Result<Self, ModelError> {
        if scales.size() != self.scales.size() {
            let name = format!("{}.{}", self.name, PackedPart::Scales.suffix());
            let [rows, columns] = self.shape;
            let shape = vec![rows, columns / self.scheme.group()];
            let found = (scales.size() / (self.dtype().bits() / 8)) as usize;
            return Err(ModelError::WrongLength { name, shape, found });
        }
        Ok(Self { scales, ..self.clone() })
    }

    fn read(&self, from: &dyn ReadAt, start: usize, len: usize) -> Result<Vec<u8>, ModelError> {
        let mut bytes = vec![0; len];
        from.read_exact_at(&mut bytes, start as u64).map_err(|source| ModelError::ReadFailed {
            name: self.name.clone(),
            source: Arc::new(source),
        })?;
        Ok(bytes)
    }

    /// As [`WeightSource::read_rows`].
    ///
    /// # Errors
    /// As there.
    pub fn read_rows(&self, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let [_, columns] = self.shape;
        checked_start(|| self.name.clone(), &self.shape, first, out)?;
        let rows = out.len() / columns;
        let (bits, group) = (self.scheme.bits(), self.scheme.group());
        let groups = columns / group;
        // The scheme has been found to fit, so nothing overflows here.
        let row_bytes = 4 * words(columns, bits).unwrap_or(0);
        let codes = self.read(&*self.codes, first * row_bytes, rows * row_bytes)?;
        let width = (self.dtype().bits() / 8) as usize;
        let bytes = self.read(&*self.scales, first * groups * width, rows * groups * width)?;
        let mut scales = vec![0.0; rows * groups];
        self.float.widen(&bytes, &mut scales);
        let zeros = match &self.zeros {
            None => None,
            Some(zeros) => Some(self.zero_points(&**zeros, first, rows, groups)?),
        };
        let (levels, half) = (1 << bits, (1_i32 << (bits - 1)) as f32);
        let mut row_codes = vec![0; columns];
        for (r, (out, codes)) in
            out.chunks_exact_mut(columns).zip(codes.chunks_exact(row_bytes)).enumerate()
        {
            unpack(codes, bits, &mut row_codes);
            for (g, (out, codes)) in
                out.chunks_exact_mut(group).zip(row_codes.chunks_exact(group)).enumerate()
            {
                let scale = scales[r * groups + g];
                let zero = zeros.as_ref().map_or(half, |zeros| f32::from(zeros[r * groups + g]));
                let value = |code: u8| (f32::from(code) - zero) * scale;
                match self.float {
                    FloatType::F32 => decode(codes, levels, value, out),
                    FloatType::Bf16 => {
                        decode(codes, levels, |code| FloatType::Bf16.round(value(code)), out);
                    }
                    FloatType::F16 => {
                        decode(codes, levels, |code| FloatType::F16.round(value(code)), out);
                    }
                }
            }
        }
        Ok(())
    }

    /// Zero points of some rows, as numbers from 0 on: packed down the columns.
    fn zero_points(
        &self,
        zeros: &dyn ReadAt,
        first: usize,
        rows: usize,
        groups: usize,
    ) -> Result<Vec<u8>, ModelError> {
        let bits = self.scheme.bits();
        let width = usize::from(bits);
        let (begin, end) = (first * width / 32, ((first + rows) * width).div_ceil(32));
        let bytes = self.read(zeros, begin * groups * 4, (end - begin) * groups * 4)?;
        let mut out = vec![0; rows * groups];
        let mask = ((1_u64 << bits) - 1) as u8;
        for r in 0..rows {
            let bit = (first + r) * width - begin * 32;
            for g in 0..groups {
                let word = |w: usize| {
                    let at = 4 * (w * groups + g);
                    bytes
                        .get(at..at + 4)
                        .map_or(0, |b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                };
                let both = word(bit / 32) | word(bit / 32 + 1) << 32;
                out[r * groups + g] = (both >> (bit % 32)) as u8 & mask;
            }
        }
        Ok(out)
    }
}

/// One packed matrix in the place of a weight.
impl WeightSource for PackedMatrix {
    fn name(&self, _key: WeightKey) -> String {
        self.name.clone()
    }

    fn shape(&self, _key: WeightKey) -> Option<Vec<usize>> {
        Some(self.shape.to_vec())
    }

    fn read_rows(&self, _key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        PackedMatrix::read_rows(self, first, out)
    }
}

/// Weights of a Hugging Face folder of which some are packed.
#[derive(Debug, Clone)]
pub struct PackedWeights {
    plain: HfWeights,
    packed: HashMap<WeightKey, PackedMatrix>,
}

impl PackedWeights {
    /// Takes a folder whose tensors are those that `config` describes, matrices packed in
    /// the scheme that `schemes` names for their modules.
    ///
    /// # Errors
    /// A tensor that the model has no place for, a packed tensor without a scheme, or parts
    /// whose types or lengths are not those of shape and scheme.
    pub fn new(
        folder: HfFolder,
        config: &ModelConfig,
        schemes: &ModuleSchemes,
    ) -> Result<Self, ModelError> {
        let mut packed = HashMap::new();
        let mut known = Vec::new();
        for (key, shape) in config.weights() {
            let name = config.family.hf_name(key);
            let Some(module) = name.strip_suffix(".weight") else { continue };
            let of = |part: PackedPart| format!("{module}.{}", part.suffix());
            if folder.tensor(&of(PackedPart::Codes)).is_none() {
                continue;
            }
            let &[rows, columns] = &shape[..] else { continue };
            let scheme = schemes.scheme(module, columns).ok_or_else(|| ModelError::BadField {
                field: "quantization_config".to_owned(),
                found: format!("without a group that fits {module} of {columns} columns"),
                expected: "one for every packed module".to_owned(),
            })?;
            let scale = folder.tensor(&of(PackedPart::Scales)).map(|(_, entry)| entry.dtype);
            let scale =
                scale.ok_or_else(|| ModelError::MissingWeight { name: of(PackedPart::Scales) })?;
            let tensors = scheme.tensors(rows, columns, scale).unwrap_or_default();
            for (part, dtype, shape) in tensors {
                let name = of(part);
                let Some((_, entry)) = folder.tensor(&name) else {
                    return Err(ModelError::MissingWeight { name });
                };
                if entry.dtype != dtype {
                    let found = entry.dtype.name().to_owned();
                    return Err(ModelError::UnsupportedType { name, found });
                }
                if entry.shape != shape {
                    let sizes = |shape: &[u64]| shape.iter().map(|&d| d as usize).collect();
                    let (expected, found) = (sizes(&shape), sizes(&entry.shape));
                    return Err(ModelError::WrongShape { name, expected, found });
                }
                known.push(name);
            }
            let data = |part: PackedPart| {
                let data = folder.data(&of(part)).ok()?;
                Some(Arc::new(data) as Arc<dyn ReadAt>)
            };
            let matrix = PackedMatrix::new(module, scheme, [rows, columns], scale, data)?;
            packed.insert(key, matrix);
        }
        let plain = HfWeights::with_known(folder, config, known)?;
        Ok(Self { plain, packed })
    }

    /// The folder.
    pub fn folder(&self) -> &HfFolder {
        self.plain.folder()
    }

    /// The packed form of a weight.
    pub fn packed(&self, key: WeightKey) -> Option<&PackedMatrix> {
        self.packed.get(&key)
    }
}

impl WeightSource for PackedWeights {
    fn name(&self, key: WeightKey) -> String {
        self.plain.name(key)
    }

    fn shape(&self, key: WeightKey) -> Option<Vec<usize>> {
        match self.packed.get(&key) {
            Some(matrix) => Some(matrix.shape.to_vec()),
            None => self.plain.shape(key),
        }
    }

    fn read_rows(&self, key: WeightKey, first: usize, out: &mut [f32]) -> Result<(), ModelError> {
        match self.packed.get(&key) {
            Some(matrix) => matrix.read_rows(first, out),
            None => self.plain.read_rows(key, first, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rco_formats::compressed_tensors::pack;

    #[test]
    fn any_rows_are_decoded_as_the_formula_says() {
        let (rows, columns) = (45, 64);
        for bits in [2_u8, 3, 5, 8] {
            let scheme = Scheme::new(bits, 32, false).unwrap();
            let code = |r: usize, c: usize| ((r * 31 + c * 7 + 5) % (1 << bits)) as u8;
            let zero = |r: usize, g: usize| ((r * 3 + g) % (1 << bits)) as u8;
            let scale = |r: usize, g: usize| 0.5 + (r + g) as f32 / 64.0;
            let mut codes = Vec::new();
            for r in 0..rows {
                pack((0..columns).map(|c| code(r, c)), bits, &mut codes);
            }
            let scales: Vec<u8> =
                (0..rows * 2).flat_map(|n| scale(n / 2, n % 2).to_le_bytes()).collect();
            // Columns of zero points, then the words of all columns in turn.
            let packed: Vec<Vec<u8>> = (0..2)
                .map(|g| {
                    let mut out = Vec::new();
                    pack((0..rows).map(|r| zero(r, g)), bits, &mut out);
                    out
                })
                .collect();
            let zeros: Vec<u8> = (0..packed[0].len() / 4)
                .flat_map(|w| packed.iter().flat_map(move |p| p[4 * w..4 * w + 4].to_vec()))
                .collect();
            let matrix = PackedMatrix::new("m", scheme, [rows, columns], Dtype::F32, |part| {
                Some(match part {
                    PackedPart::Codes => Arc::new(codes.clone()) as Arc<dyn ReadAt>,
                    PackedPart::Scales => Arc::new(scales.clone()),
                    PackedPart::ZeroPoints => Arc::new(zeros.clone()),
                    PackedPart::Shape => return None,
                })
            })
            .unwrap();
            for (first, count) in [(0, rows), (7, 1), (31, 9), (rows - 1, 1)] {
                let mut out = vec![0.0; count * columns];
                matrix.read_rows(first, &mut out).unwrap();
                for (n, &found) in out.iter().enumerate() {
                    let (r, c) = (first + n / columns, n % columns);
                    let steps = f32::from(code(r, c)) - f32::from(zero(r, c / 32));
                    assert_eq!(found, steps * scale(r, c / 32), "{bits} bits, {r}, {c}");
                }
            }
            assert!(matrix.read_rows(rows, &mut vec![0.0; columns]).is_err());
        }
    }

    #[test]
    fn parts_of_a_wrong_length_are_named() {
        let scheme = Scheme::new(4, 32, true).unwrap();
        let part = |part: PackedPart| {
            let len = if part == PackedPart::Scales { 3 } else { 2 * 16 };
            Some(Arc::new(vec![0_u8; len]) as Arc<dyn ReadAt>)
        };
        let error = PackedMatrix::new("m", scheme, [2, 32], Dtype::F16, part).unwrap_err();
        assert!(error.to_string().contains("m.weight_scale"), "{error}");
    }
}
