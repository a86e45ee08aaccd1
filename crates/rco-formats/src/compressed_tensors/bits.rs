//! Codes in 32-bit words: a stream of bits, lowest first, so that the bytes of the words are
//! the stream itself.

/// Words of `count` codes; `None` if that overflows.
pub fn words(count: usize, bits: u8) -> Option<usize> {
    count.checked_mul(usize::from(bits)).map(|bits| bits.div_ceil(32))
}

/// Appends codes (as numbers from 0 on, below `2^bits`) to bytes, filled up to whole words.
#[inline]
pub fn pack(codes: impl IntoIterator<Item = u8>, bits: u8, out: &mut Vec<u8>) {
    let start = out.len();
    let (mut held, mut count) = (0_u32, 0_u32);
    for code in codes {
        held |= u32::from(code) << count;
        count += u32::from(bits);
        while count >= 8 {
            out.push(held as u8);
            held >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        out.push(held as u8);
    }
    out.resize(start + (out.len() - start).next_multiple_of(4), 0);
}

/// Reads codes from the beginning of a stream; what the stream does not hold becomes 0.
#[inline]
pub fn unpack(stream: &[u8], bits: u8, out: &mut [u8]) {
    let done = match bits {
        1 => unpack_eights::<1>(stream, out),
        2 => unpack_eights::<2>(stream, out),
        3 => unpack_eights::<3>(stream, out),
        4 => unpack_eights::<4>(stream, out),
        5 => unpack_eights::<5>(stream, out),
        6 => unpack_eights::<6>(stream, out),
        7 => unpack_eights::<7>(stream, out),
        8 => unpack_eights::<8>(stream, out),
        _ => 0,
    };
    unpack_any(&stream[done * usize::from(bits)..], bits, &mut out[8 * done..]);
}

/// Reads all whole eights of codes; gives their number. Loops with a constant width are what
/// decoding spends its time on.
#[inline]
fn unpack_eights<const BITS: usize>(stream: &[u8], out: &mut [u8]) -> usize {
    let mask = ((1_u32 << BITS) - 1) as u8;
    let (eights, streams) = (out.as_chunks_mut::<8>().0, stream.as_chunks::<BITS>().0);
    let done = eights.len().min(streams.len());
    for (codes, bytes) in eights.iter_mut().zip(streams) {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        for (n, code) in codes.iter_mut().enumerate() {
            *code = (word >> (n * BITS)) as u8 & mask;
        }
    }
    done
}

fn unpack_any(stream: &[u8], bits: u8, out: &mut [u8]) {
    let mask = ((1_u32 << bits) - 1) as u8;
    // Eight codes are as many bytes as a code has bits.
    for (codes, bytes) in out.chunks_mut(8).zip(stream.chunks(usize::from(bits))) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        for (n, code) in codes.iter_mut().enumerate() {
            *code = (word >> (n * usize::from(bits))) as u8 & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_straddle_words_as_in_the_reference() {
        // 11 codes of 3 bits: the eleventh begins at bit 30 and ends in the second word.
        let codes: Vec<u8> = (0..11).map(|n| (n * 5 + 3) % 8).collect();
        let mut bytes = Vec::new();
        pack(codes.iter().copied(), 3, &mut bytes);
        let expected: u64 = codes.iter().enumerate().map(|(n, &c)| u64::from(c) << (3 * n)).sum();
        assert_eq!(bytes, expected.to_le_bytes());
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for bits in 1..=8 {
            for count in [1, 7, 8, 31, 32, 33, 64, 100] {
                let codes: Vec<u8> =
                    (0..count).map(|n| ((n * 37 + 11) % (1 << bits)) as u8).collect();
                let mut bytes = vec![9];
                pack(codes.iter().copied(), bits, &mut bytes);
                assert_eq!(bytes.len() - 1, 4 * words(count, bits).unwrap());
                let mut out = vec![0; count];
                unpack(&bytes[1..], bits, &mut out);
                assert_eq!(out, codes, "{count} codes of {bits} bits");
            }
        }
    }

    #[test]
    fn a_short_stream_is_no_panic() {
        let mut out = [7; 20];
        unpack(&[0xff, 0xff], 5, &mut out);
        assert_eq!(out[..3], [31, 31, 31]);
        assert_eq!(out[4..8], [0; 4]);
    }
}
