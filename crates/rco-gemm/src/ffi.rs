//! The calls that take pointers.

use gemm::Parallelism;

use super::{Matrix, Threads};

/// `a b` of `len` values, by all threads; the shapes have been checked.
pub(super) fn product(a: Matrix<'_>, b: Matrix<'_>, len: usize) -> Vec<f32> {
    if a.columns == 0 {
        // A sum of nothing, for which the kernel need not write.
        return vec![0.0; len];
    }
    let mut c: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: `c` has room for `len = a.rows · b.columns` values, and `call` writes each of
    // them without reading it first, which is what `false` asks for.
    unsafe {
        call(c.as_mut_ptr(), false, a, b, Threads::All);
        c.set_len(len);
    }
    c
}

/// Writes `a b` over `c` or adds it; the shapes have been checked.
pub(super) fn write_product(
    c: &mut [f32],
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    if a.columns == 0 && !add {
        return c.fill(0.0);
    }
    // SAFETY: `c` holds `a.rows · b.columns` values, borrowed mutably for the call.
    unsafe { call(c.as_mut_ptr(), add, a, b, threads) }
}

/// # Safety
/// `c` must be valid for writes of `a.rows · b.columns` values, and hold them already if
/// `add` is set; `a.columns` must be `b.rows`.
unsafe fn call(c: *mut f32, add: bool, a: Matrix<'_>, b: Matrix<'_>, threads: Threads) {
    let threads = match (threads, rayon::current_num_threads()) {
        (Threads::One, _) | (_, 1) => Parallelism::None,
        (Threads::All, threads) => Parallelism::Rayon(threads),
    };
    // No allocation is larger than `isize::MAX` bytes, so that a step that is ever taken
    // does not wrap.
    #[allow(clippy::cast_possible_wrap, reason = "as said above")]
    let stride = |step: usize| step as isize;
    // SAFETY: the constructors of `Matrix` have checked that its steps reach values of its
    // slice only: the last one is at `(rows − 1) · down + (columns − 1) · right`, for a
    // matrix as for its transpose. `c` is as the caller promised, row after row.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            c,
            1,
            stride(b.columns),
            add,
            a.values.as_ptr(),
            stride(a.right),
            stride(a.down),
            b.values.as_ptr(),
            stride(b.right),
            stride(b.down),
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}
