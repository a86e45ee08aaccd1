//! The report as text.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::report::{Report, RowRule, StorageType};

/// The report as tables of plain text. `tensors` adds one line for every tensor.
pub fn render(report: &Report, tensors: bool) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = summary(&mut out, report);
    out.push('\n');
    out.push_str(&kinds(report));
    out.push('\n');
    out.push_str(&rows(report));
    if tensors {
        out.push('\n');
        out.push_str(&all_tensors(report));
    }
    out
}

fn summary(out: &mut String, report: &Report) -> std::fmt::Result {
    let architecture = report.architecture.as_deref().unwrap_or("unknown architecture");
    writeln!(out, "{}", report.path)?;
    write!(out, "  {} · {architecture}", report.format)?;
    if let Some(name) = &report.name {
        write!(out, " · {name}")?;
    }
    if report.files > 1 {
        write!(out, " · {} files", report.files)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "  {} weights in {} tensors, {} bytes: {:.3} bits per weight",
        grouped(report.parameters),
        report.tensors.len(),
        grouped(report.file_bytes),
        report.bits_per_weight
    )?;
    writeln!(
        out,
        "  {} bytes are tensors, {} are header, metadata and padding",
        grouped(report.tensor_bytes),
        grouped(report.overhead_bytes)
    )
}

fn kinds(report: &Report) -> String {
    let header = ["part", "tensors", "weights", "bytes", "bits/weight", "types"];
    let rows = report.kinds.iter().map(|k| {
        let types: Vec<String> = k
            .types
            .iter()
            .map(|(ty, n)| if k.types.len() == 1 { ty.clone() } else { format!("{ty} ×{n}") })
            .collect();
        vec![
            k.kind.label().to_owned(),
            k.tensors.to_string(),
            grouped(k.parameters),
            grouped(k.bytes),
            format!("{:.3}", k.bits_per_weight),
            types.join(", "),
        ]
    });
    table(&header, &[1, 2, 3, 4], rows)
}

fn rows(report: &Report) -> String {
    if report.rows.is_empty() {
        return "No matrices to quantise.\n".to_owned();
    }
    let mut out = "What the matrices can be stored as (a row must be whole blocks):\n".to_owned();
    for rule in &report.rows {
        let _ = row_rule(&mut out, rule);
    }
    out.push_str(
        "  * only with an importance matrix   † for weights trained to two or three values\n",
    );
    out
}

fn row_rule(out: &mut String, rule: &RowRule) -> std::fmt::Result {
    writeln!(
        out,
        "  rows of {}: {} matrices, {} weights",
        grouped(rule.row_length),
        rule.matrices,
        grouped(rule.parameters)
    )?;
    writeln!(out, "    fit: {}", names(&rule.fits))?;
    if rule.refused.is_empty() {
        return Ok(());
    }
    let mut blocks: Vec<u64> = rule.refused.iter().map(|ty| ty.block).collect();
    blocks.sort_unstable();
    blocks.dedup();
    for block in blocks {
        let refused: Vec<StorageType> =
            rule.refused.iter().filter(|ty| ty.block == block).cloned().collect();
        writeln!(out, "    no multiple of {block}: {}", names(&refused))?;
    }
    Ok(())
}

fn names(types: &[StorageType]) -> String {
    let names: Vec<String> = types
        .iter()
        .map(|ty| {
            let mark = match (ty.needs_importance, ty.ternary) {
                (true, _) => "*",
                (_, true) => "†",
                _ => "",
            };
            format!("{}{mark}", ty.ty)
        })
        .collect();
    names.join(" ")
}

fn all_tensors(report: &Report) -> String {
    let header = ["tensor", "part", "shape", "type", "bytes", "bits/weight"];
    let rows = report.tensors.iter().map(|t| {
        let shape: Vec<String> = t.shape.iter().map(u64::to_string).collect();
        vec![
            t.name.clone(),
            t.role.kind.label().to_owned(),
            shape.join(" × "),
            t.ty.clone(),
            grouped(t.bytes),
            format!("{:.3}", t.bits_per_weight),
        ]
    });
    table(&header, &[4, 5], rows)
}

/// Columns of text, the numbers to the right.
fn table(header: &[&str], right: &[usize], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((2, 0));
        if right.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A number with commas between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (16_423_200, "16,423,200")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
