//! Pieces against whole rows.

use candle_core::{Device, Tensor};

use super::{Against, PIECE, Streamed, Work};
use crate::head::rows::{RowLoss, cross_entropy_row, drawn_label, kl_row};
use crate::head::{Head, Wanted};
use crate::ops::{ActivationRounding, linear_backward, weight_gradient};

const HIDDEN: usize = 8;
/// Two whole pieces and one that is cut off, whose last lanes are, too.
const VOCABULARY: usize = 2 * PIECE + 1003;
const ROWS: usize = 5;
const LABELS: [Option<u32>; ROWS] =
    [Some(0), Some(PIECE as u32), None, Some(VOCABULARY as u32 - 1), Some(77)];
const UNIFORM: [f64; ROWS] = [0.0, 0.2, 0.5, 0.9, 0.999_999];
const NOTHING: Wanted = Wanted { states: false, matrix: false };
const ALL: Wanted = Wanted { states: true, matrix: true };

fn values(count: usize, step: f32, scale: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin() * scale).collect()
}

fn tensor(values: Vec<f32>, rows: usize) -> Tensor {
    let width = values.len() / rows;
    Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
}

fn head(step: f32) -> Head {
    let matrix = tensor(values(VOCABULARY * HIDDEN, step, 1.5), VOCABULARY);
    Head { matrix, cap: None, rounding: ActivationRounding::Exact }
}

fn states() -> Tensor {
    tensor(values(ROWS * HIDDEN, 1.3, 2.0), ROWS)
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn streamed(head: &Head, against: Against<'_>, wanted: Wanted, values: usize) -> Streamed {
    let states = states();
    let student = (head, &states);
    let work = Work { student, against, labels: &LABELS, wanted, scale: 0.25, values };
    work.run().unwrap().unwrap()
}

/// Losses and gradient at the logits, from whole rows.
fn whole(head: &Head, against: Against<'_>) -> (Vec<Option<RowLoss>>, Vec<f32>) {
    let row =
        |head: &Head, i: usize| flat(&head.logits(&states().narrow(0, i, 1).unwrap()).unwrap());
    let mut gradient = vec![0.0; ROWS * VOCABULARY];
    let rows = gradient.chunks_mut(VOCABULARY).enumerate().map(|(i, g)| {
        let s = row(head, i);
        match against {
            Against::Teacher((teacher, _)) => {
                Some(kl_row(&s, &row(teacher, i), LABELS[i], Some((g, 0.25))))
            }
            Against::Drawn(uniform) => {
                let label = drawn_label(&s, uniform[i]);
                Some(cross_entropy_row(&s, label, Some((g, 0.25))))
            }
            Against::Text => Some(cross_entropy_row(&s, LABELS[i]?, Some((g, 0.25)))),
        }
    });
    (rows.collect(), gradient)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6 * b.abs().max(1.0)
}

#[test]
fn pieces_give_the_losses_and_gradients_of_whole_rows() {
    let (student, teacher, states) = (head(0.7), head(0.7001), states());
    for against in [Against::Teacher((&teacher, &states)), Against::Drawn(&UNIFORM), Against::Text]
    {
        let (expected, gradient) = whole(&student, against);
        let gradient = tensor(gradient, ROWS);
        let at_states = flat(&linear_backward(&student.matrix, &gradient).unwrap());
        let at_matrix = flat(&weight_gradient(&states, &gradient).unwrap());
        // One row at a time, two, all of them.
        for at_once in [1, 2 * VOCABULARY, 1 << 23] {
            for wanted in [NOTHING, ALL] {
                let found = streamed(&student, against, wanted, at_once);
                assert_eq!(found.rows.len(), expected.len());
                for (found, expected) in found.rows.iter().zip(&expected) {
                    let (Some(found), Some(expected)) = (found, expected) else {
                        assert_eq!(found.is_some(), expected.is_some());
                        continue;
                    };
                    assert!(expected.loss > 1e-3);
                    assert!(near(found.loss, expected.loss), "{found:?} {expected:?}");
                    assert_eq!(found.same_top, expected.same_top);
                    for (a, b) in
                        [(found.nll, expected.nll), (found.teacher_nll, expected.teacher_nll)]
                    {
                        assert_eq!(a.is_some(), b.is_some());
                        assert!(near(a.unwrap_or(0.0), b.unwrap_or(0.0)));
                    }
                }
                assert_eq!(found.states.is_some(), wanted.states);
                for (found, expected) in [(found.states, &at_states), (found.matrix, &at_matrix)] {
                    let Some(found) = found else { continue };
                    let far = flat(&found)
                        .iter()
                        .zip(expected)
                        .fold(0.0, |far: f32, (a, b)| far.max((a - b).abs()));
                    // Sums over thousands of tokens in another order.
                    let size = expected.iter().fold(0.0, |size: f32, x| size.max(x.abs()));
                    assert!(size > 1e-4 && far < 5e-5 * size, "{far} of {size}");
                }
            }
        }
    }
}

#[test]
fn a_model_does_not_diverge_from_itself_at_all() {
    let (head, states) = (head(0.3), states());
    let found = streamed(&head, Against::Teacher((&head, &states)), ALL, 1 << 23);
    for row in found.rows {
        let row = row.unwrap();
        assert_eq!((row.loss, row.same_top), (0.0, Some(true)));
        assert_eq!(row.nll, row.teacher_nll);
    }
    assert!(flat(&found.states.unwrap()).iter().all(|g| *g == 0.0));
}
