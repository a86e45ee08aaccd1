//! The account that llama.cpp gives of a dry run: one line for each tensor,
//! `[   1/ 103] NAME - [SHAPE], type = bf16, size = 8.00 MiB -> 2.25 MiB (q4_K)`.

use std::collections::HashMap;

use rco_formats::gguf::TensorType;

/// The type of each tensor named in the log, by name. A tensor that keeps its type has
/// `None`. An error says what cannot be read.
pub(super) fn read(log: &str) -> Result<HashMap<&str, Option<TensorType>>, String> {
    let mut types = HashMap::new();
    for line in log.lines() {
        let Some((name, rest)) = tensor_line(line) else { continue };
        let ty = match rest.split_once(" -> ") {
            None => None,
            Some((_, new)) => {
                let name = new.rsplit_once('(').and_then(|(_, name)| name.strip_suffix(')'));
                let ty = name.and_then(TensorType::from_name);
                Some(ty.ok_or_else(|| format!("no type in the line {line:?}"))?)
            }
        };
        if types.insert(name, ty).is_some() {
            return Err(format!("the tensor '{name}' is named twice"));
        }
    }
    Ok(types)
}

/// Name and rest of a line about a tensor.
fn tensor_line(line: &str) -> Option<(&str, &str)> {
    let (count, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (no, of) = count.split_once('/')?;
    if [no, of].iter().any(|part| part.trim().parse::<u32>().is_err()) {
        return None;
    }
    let (name, rest) = rest.rsplit_once(" - [")?;
    Some((name.trim_end_matches(' '), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tensor_has_its_new_type_or_none() {
        let log = "main: loading\n\
            [   1/   3] output.weight                        - [   64,    96,     1,     1], type =   bf16, size =     1.00 MiB ->     0.28 MiB (q4_K)\n\
            warning: x - ncols 576 not divisible by 256 -> falling back to q5_0\n\
            [   2/   3] odd - [name - [   64,     1,     1,     1], type =    f32, size =    0.001 MiB\n\
            [   3/   3] b - [   64,     1,     1,     1], type =    f32, size = 1 MiB -> 1 MiB (iq2_xxs)\n\
            llama: model size = 3.00 MiB (16.00 BPW)\n";
        let types = read(log).unwrap_or_default();
        assert_eq!(types.len(), 3);
        assert_eq!(types["output.weight"], Some(TensorType::Q4_K));
        assert_eq!(types["odd - [name"], None);
        assert_eq!(types["b"], Some(TensorType::IQ2_XXS));
    }

    #[test]
    fn a_line_without_a_type_or_a_name_twice_is_an_error() {
        assert!(read("[1/1] a - [1], type = f32, size = 1 -> 2 MiB\n").is_err());
        assert!(read("[1/2] a - [1], size = 1\n[2/2] a - [1], size = 1\n").is_err());
        assert!(read("[1/1] a - [1], size = 1 -> 2 MiB (q99)\n").is_err());
    }
}
