//! Tensors that are encoded when the writer asks for their bytes, one in memory at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rayon::prelude::*;
use rco_formats::gguf::{GgufModel, TensorSpec, TensorType};
use rco_formats::imatrix::Imatrix;
use rco_formats::source::ReadAt;

use super::Distortion;
use crate::error::QuantError;
use crate::tensor::{decode_tensor, in_tensor};

/// Values that a task adds up; a constant, so that the order of the sums is one too.
const TASK_ROWS: usize = 64;

/// Time between two reports of progress.
const REPORT: Duration = Duration::from_millis(100);

/// Encodes tensors of a model in one type and notes how far they are from the source.
pub(super) struct Encoder {
    model: Arc<GgufModel>,
    ty: TensorType,
    importance: Option<Imatrix>,
    /// Weights encoded so far.
    weights: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The tensor encoded last.
    current: Option<(String, Arc<Vec<u8>>)>,
    distortions: BTreeMap<String, Distortion>,
    /// An error in full; the writer only passes on a message.
    error: Option<QuantError>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoder({})", self.ty)
    }
}

impl Encoder {
    pub(super) fn new(model: Arc<GgufModel>, ty: TensorType, importance: Option<Imatrix>) -> Self {
        Self { model, ty, importance, weights: AtomicU64::new(0), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_error(&self) -> Option<QuantError> {
        self.state().error.take()
    }

    pub(super) fn take_distortions(&self) -> BTreeMap<String, Distortion> {
        std::mem::take(&mut self.state().distortions)
    }

    /// Runs `work` and reports the weights encoded meanwhile.
    pub(super) fn watch<T: Send>(
        &self,
        report: &mut dyn FnMut(u64),
        work: impl FnOnce() -> T + Send,
    ) -> T {
        thread::scope(|scope| {
            let work = scope.spawn(work);
            while !work.is_finished() {
                report(self.weights.load(Ordering::Relaxed));
                thread::park_timeout(REPORT);
            }
            report(self.weights.load(Ordering::Relaxed));
            work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The bytes of a tensor, encoded now if it is not the one encoded last.
    fn bytes(&self, name: &str) -> Result<Arc<Vec<u8>>, QuantError> {
        let mut state = self.state();
        if let Some((current, bytes)) = &state.current
            && current == name
        {
            return Ok(Arc::clone(bytes));
        }
        state.current = None;
        let (bytes, distortion) = self.encode(name)?;
        let bytes = Arc::new(bytes);
        state.distortions.insert(name.to_owned(), distortion);
        state.current = Some((name.to_owned(), Arc::clone(&bytes)));
        Ok(bytes)
    }

    fn encode(&self, name: &str) -> Result<(Vec<u8>, Distortion), QuantError> {
        let (spec, values) = decode_tensor(&self.model, name)?;
        let row = spec.row_length() as usize;
        let importance = importance_of(self.importance.as_ref(), &spec)?;
        let mut bytes = Vec::new();
        let mut sum = Sum::default();
        for (m, values) in values.chunks(matrix_size(&spec, values.len())).enumerate() {
            let columns = importance.as_ref().map(|i| &i[m * row..(m + 1) * row]);
            let encoded =
                rco_ggml::encode(self.ty, values, row, columns).map_err(in_tensor(name))?;
            let decoded = rco_ggml::decode_to(self.ty, &encoded, row)?;
            sum.add(values, &decoded, row, columns);
            bytes.extend_from_slice(&encoded);
            self.weights.fetch_add(values.len() as u64, Ordering::Relaxed);
        }
        Ok((bytes, sum.distortion()))
    }
}

/// Importance of the columns of a tensor's matrices, one after the other.
pub(super) fn importance_of(
    importance: Option<&Imatrix>,
    spec: &TensorSpec,
) -> Result<Option<Vec<f32>>, QuantError> {
    let matrices = spec.shape.iter().skip(2).product();
    Ok(match importance {
        Some(matrix) => matrix.importance(&spec.name, spec.row_length(), matrices)?,
        None => None,
    })
}

/// Values of one matrix of a tensor of `len` values; at least 1.
pub(super) fn matrix_size(spec: &TensorSpec, len: usize) -> usize {
    let matrices: u64 = spec.shape.iter().skip(2).product();
    (len / (matrices as usize).max(1)).max(1)
}

/// A distortion, matrix by matrix.
#[derive(Debug, Default)]
pub(super) struct Sum {
    error: f64,
    total: f64,
}

impl Sum {
    /// Adds a matrix and what it is decoded to.
    pub(super) fn add(
        &mut self,
        source: &[f32],
        decoded: &[f32],
        row: usize,
        columns: Option<&[f32]>,
    ) {
        let (error, total) = distortion(source, decoded, row, columns);
        self.error += error;
        self.total += total;
    }

    pub(super) fn distortion(&self) -> Distortion {
        let relative = if self.total > 0.0 { self.error / self.total } else { 0.0 };
        Distortion { absolute: self.error, relative }
    }
}

/// Σ importance · difference² and Σ importance · source².
fn distortion(
    source: &[f32],
    decoded: &[f32],
    row: usize,
    importance: Option<&[f32]>,
) -> (f64, f64) {
    let ones = vec![1.0; row];
    let importance = importance.unwrap_or(&ones);
    let tasks = source.par_chunks(row * TASK_ROWS).zip(decoded.par_chunks(row * TASK_ROWS));
    let parts: Vec<(f64, f64)> = tasks
        .map(|(source, decoded)| {
            let mut sums = (0.0, 0.0);
            for (s, d) in source.chunks(row).zip(decoded.chunks(row)) {
                for ((&s, &d), &i) in s.iter().zip(d).zip(importance) {
                    let (s, d, i) = (f64::from(s), f64::from(d), f64::from(i));
                    sums.0 += i * (s - d) * (s - d);
                    sums.1 += i * s * s;
                }
            }
            sums
        })
        .collect();
    parts.iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}

/// A tensor that is encoded at its first read.
#[derive(Debug)]
pub(super) struct LazyTensor {
    encoder: Arc<Encoder>,
    name: String,
    size: u64,
}

impl LazyTensor {
    pub(super) fn new(encoder: Arc<Encoder>, spec: &TensorSpec) -> Result<Self, QuantError> {
        let size = spec.byte_length()?.unwrap_or(0);
        Ok(Self { encoder, name: spec.name.clone(), size })
    }
}

impl ReadAt for LazyTensor {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match self.encoder.bytes(&self.name) {
            Ok(bytes) => bytes.read_exact_at(buf, offset),
            Err(error) => {
                let message = error.to_string();
                self.encoder.state().error = Some(error);
                Err(io::Error::other(message))
            }
        }
    }
}
