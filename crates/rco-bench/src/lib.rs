//! Benchmarks: what is claimed about `rco-core`, measured against others in one run.
