//! Documents divided into calibration and held-out text.

/// Which documents are held out: about `share` of the bytes.
///
/// Documents are put into an order that their bytes and the seed decide, not their place in
/// the file; each is held out if that brings the total nearer to the share. Equal
/// documents go to the same side. With two or more different documents neither side is
/// empty.
pub(super) fn held_out(documents: &[&str], share: f64, seed: u64) -> Vec<bool> {
    let mut order: Vec<(u64, usize)> =
        documents.iter().enumerate().map(|(i, d)| (hash(d.as_bytes(), seed), i)).collect();
    order.sort_unstable();
    let groups: Vec<&[(u64, usize)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    let bytes = |group: &[(u64, usize)]| -> f64 {
        group.iter().map(|&(_, i)| documents[i].len() as f64).sum()
    };
    let target = share * groups.iter().map(|group| bytes(group)).sum::<f64>();

    let mut chosen = vec![false; groups.len()];
    let mut sum = 0.0;
    for (chosen, group) in chosen.iter_mut().zip(&groups) {
        let size = bytes(group);
        if sum + size / 2.0 <= target {
            *chosen = true;
            sum += size;
        }
    }
    if groups.len() > 1 && chosen.iter().all(|&c| c == chosen[0]) {
        // All or none: the smallest goes to the empty side.
        let size = |&g: &usize| bytes(groups[g]);
        let smallest = (0..groups.len()).min_by(|a, b| size(a).total_cmp(&size(b)));
        if let Some(smallest) = smallest {
            chosen[smallest] = !chosen[smallest];
        }
    }
    let mut held = vec![false; documents.len()];
    for (group, chosen) in groups.iter().zip(chosen) {
        for &(_, i) in *group {
            held[i] = chosen;
        }
    }
    held
}

/// Positions in an order that bytes and seed decide; of equal documents the first comes
/// first.
pub(super) fn shuffled(documents: &[&str], seed: u64) -> Vec<usize> {
    // Another order than that of the division, where one side would come before the other.
    let mut order: Vec<(u64, usize)> =
        documents.iter().enumerate().map(|(i, d)| (hash(d.as_bytes(), !seed), i)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i).collect()
}

/// FNV-1a, then the finaliser of `SplitMix64`: the same on every machine.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325;
    for byte in seed.to_le_bytes().iter().chain(bytes) {
        h = (h ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

#[cfg(test)]
mod tests {
    use super::{held_out, shuffled};

    fn texts(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("document {i} {}", "x".repeat(i * 7 % 40))).collect()
    }

    #[test]
    fn the_share_is_met_and_the_seed_decides() {
        let texts = texts(400);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let total: usize = texts.iter().map(|t| t.len()).sum();
        for share in [0.02, 0.25, 0.7] {
            let held = held_out(&texts, share, 3);
            let bytes: usize =
                texts.iter().zip(&held).filter(|(_, h)| **h).map(|(t, _)| t.len()).sum();
            assert!((bytes as f64 / total as f64 - share).abs() < 0.005, "{share}");
            assert_eq!(held, held_out(&texts, share, 3));
            assert_ne!(held, held_out(&texts, share, 4));
        }
    }

    #[test]
    fn equal_documents_stay_together_and_their_places_do_not_matter() {
        let mut texts = texts(60);
        texts.extend_from_within(..);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let held = held_out(&texts, 0.3, 1);
        assert_eq!(held[..60], held[60..]);
        let reversed: Vec<&str> = texts.iter().rev().copied().collect();
        let mut again = held_out(&reversed, 0.3, 1);
        again.reverse();
        assert_eq!(held, again);
    }

    #[test]
    fn neither_side_is_empty() {
        for share in [0.001, 0.999] {
            let held = held_out(&["a", "bb", "ccc"], share, 0);
            assert!(held.contains(&true) && held.contains(&false), "{share}");
        }
        assert_eq!(held_out(&["a"], 0.1, 0), [false]);
    }

    #[test]
    fn an_order_has_every_document_once() {
        let texts = texts(50);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut order = shuffled(&texts, 5);
        assert_ne!(order, shuffled(&texts, 6));
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
