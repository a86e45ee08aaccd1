//! Numerical checks of the geometry, for `rco check geometry` and for tests.
