//! Matrices as integers times scales: rounding to the nearest and GPTQ.
//!
//! A row is cut into groups of columns, each with a scale and perhaps a zero point
//! ([`Scheme`]); scales are those that the file will hold, rounded to its floats, and values are
//! what a runtime makes of codes and scales, so that no error goes uncounted.
//!
//! GPTQ (Frantar et al. 2023, [arXiv 2210.17323](https://arxiv.org/abs/2210.17323)) rounds the
//! columns one after the other and lets the columns that are left make up for each error, as
//! the second moment `H = Σ x xᵀ` of the inputs says ([`Hessian`]). What that needs of `H` is
//! one triangular matrix ([`Factor`]), the same for all widths and for all matrices that
//! share their input.
//!
//! [`Scheme`]: rco_formats::compressed_tensors::Scheme

mod error;
mod factor;
mod fit;
mod gptq;
mod hessian;
mod quantised;
mod round;

pub use error::GridError;
pub use factor::{Factor, FactorSettings};
pub use fit::{Fit, Step};
pub use gptq::gptq;
pub use hessian::Hessian;
pub use quantised::{Quantised, moment_error};
pub use round::round_to_nearest;
