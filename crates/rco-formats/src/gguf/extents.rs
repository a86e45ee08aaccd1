//! Checks that the tensors tile the data section: in the file, without overlaps and
//! without holes beyond padding.

use super::error::GgufFault;
use super::limits::align_up;
use super::tensor::{TensorInfo, TensorSpec};

/// Gives every tensor its bytes. `offsets` count from `data_start`.
pub(crate) fn place(
    specs: Vec<TensorSpec>,
    offsets: &[u64],
    alignment: u64,
    data_start: u64,
    file_size: u64,
) -> Result<Vec<TensorInfo>, GgufFault> {
    let mut tensors = Vec::with_capacity(specs.len());
    let mut known = Vec::with_capacity(specs.len());
    for (spec, &offset) in specs.into_iter().zip(offsets) {
        let length = spec.byte_length()?;
        if !offset.is_multiple_of(alignment) {
            return Err(GgufFault::Misaligned { name: spec.name, offset, alignment });
        }
        known.push(length);
        tensors.push(TensorInfo { spec, offset, length: length.unwrap_or(0) });
    }

    let available = file_size.saturating_sub(data_start);
    // A tensor without bytes may share its offset with the next one; a tensor of unknown
    // length must come last among equals, for it takes all bytes up to the next offset.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (tensors[i].offset, known[i].unwrap_or(u64::MAX)));

    let mut expected = 0_u64;
    let mut previous: Option<usize> = None;
    for (at, &i) in order.iter().enumerate() {
        let TensorInfo { spec, offset, .. } = &tensors[i];
        let offset = *offset;
        if offset < expected {
            return Err(GgufFault::Overlap {
                name: spec.name.clone(),
                offset,
                previous: previous.map_or_else(String::new, |p| tensors[p].spec.name.clone()),
                end: expected,
            });
        }
        if offset > expected {
            let (name, bytes) = (spec.name.clone(), offset - expected);
            return Err(GgufFault::Hole { name, offset, bytes });
        }
        let end = match known[i] {
            Some(length) => offset.checked_add(length),
            None => {
                let next = order.get(at + 1).map_or(available, |&n| tensors[n].offset);
                if next <= offset && spec.elements()? > 0 {
                    let (name, ty) = (spec.name.clone(), spec.ty.0);
                    return Err(GgufFault::UnknownExtent { name, ty });
                }
                Some(next.max(offset))
            }
        };
        let padded = end.and_then(|end| align_up(end, alignment));
        let (Some(end), Some(padded)) = (end.filter(|&end| end <= available), padded) else {
            let name = spec.name.clone();
            return Err(GgufFault::OutsideFile { name, end: end.unwrap_or(u64::MAX), available });
        };
        tensors[i].length = end - offset;
        expected = padded;
        previous = Some(i);
    }
    if available > expected {
        return Err(GgufFault::TrailingBytes { bytes: available - expected });
    }
    Ok(tensors)
}
