//! Against sums by hand.

use rco_gemm::{Matrix, ProductError, Threads, add_product, product, write_product};

/// Small whole numbers, whose sums are exact in any order.
fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 13) as f32 - 6.0).collect()
}

fn by_hand(a: &[f32], b: &[f32], m: usize, n: usize, k: usize) -> Vec<f32> {
    let at = |i: usize| (0..k).map(|p| a[i / n * k + p] * b[p * n + i % n]).sum();
    (0..m * n).map(at).collect()
}

fn transpose(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| a[i % rows * columns + i / rows]).collect()
}

#[test]
fn every_form_of_both_sides() {
    for (m, n, k) in [(1, 1, 1), (3, 5, 2), (65, 33, 17), (128, 200, 96), (1, 700, 64), (4, 4, 0)] {
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        let expected = by_hand(&a, &b, m, n, k);
        let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
        let left = [Matrix::new(&a, m, k).unwrap(), Matrix::new(&at, k, m).unwrap().transposed()];
        let right = [Matrix::new(&b, k, n).unwrap(), Matrix::new(&bt, n, k).unwrap().transposed()];
        for a in left {
            for b in right {
                let twice: Vec<f32> = expected.iter().map(|v| 2.0 * v).collect();
                let mut c = product(a, b).unwrap();
                assert_eq!(c, expected, "{m} × {n} × {k}");
                for threads in [Threads::One, Threads::All] {
                    c.fill(f32::NAN);
                    write_product(&mut c, a, b, threads).unwrap();
                    assert_eq!(c, expected, "{m} × {n} × {k}, {threads:?}");
                    add_product(&mut c, a, b, threads).unwrap();
                    assert_eq!(c, twice, "{m} × {n} × {k}, added, {threads:?}");
                }
            }
        }
    }
}

#[test]
fn some_columns_of_a_wider_matrix() {
    let (wide, b) = (values(7 * 10, 1), values(3 * 5, 2));
    let narrow: Vec<f32> = wide[4..].chunks(10).flat_map(|row| row[..3].to_vec()).collect();
    // The last row ends with its own values.
    let a = Matrix::strided(&wide[4..67], 7, 3, 10).unwrap();
    assert_eq!(product(a, Matrix::new(&b, 3, 5).unwrap()).unwrap(), by_hand(&narrow, &b, 7, 5, 3));
    for (values, rows, columns, down) in [
        (&wide[4..66], 7, 3, 10),
        (&wide, 7, 11, 10),
        (&wide, usize::MAX, 3, 10),
        (&wide[..0], 1, 1, 1),
    ] {
        assert!(Matrix::strided(values, rows, columns, down).is_err());
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let value = |i: usize| (i as f32 * 0.618_034).fract() - 0.5;
    let a: Vec<f32> = (0..300 * 257).map(value).collect();
    let b: Vec<f32> = (0..257 * 500).map(|i| value(i + 7)).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (a, b) = (Matrix::new(&a, 300, 257).unwrap(), Matrix::new(&b, 257, 500).unwrap());
        pool.install(|| product(a, b).unwrap())
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let values = [0.0; 6];
    let matrix = |rows, columns| Matrix::new(&values, rows, columns);
    assert_eq!(matrix(4, 2).unwrap_err(), ProductError::Length { rows: 4, columns: 2, found: 6 });
    assert!(matrix(usize::MAX, 2).is_err());
    let a = matrix(2, 3).unwrap();
    assert_eq!(product(a, a).unwrap_err(), ProductError::Inner { left: 3, right: 2 });
    assert!(add_product(&mut [0.0; 3], a, a.transposed(), Threads::All).is_err());
    let none = Matrix::new(&[], usize::MAX, 0).unwrap();
    assert!(product(none, none.transposed()).is_err());
}
