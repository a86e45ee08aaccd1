//! Tables for the terminal.

use comfy_table::{CellAlignment, Table, presets};

/// A table without frames; columns from `first_number` on are aligned to the right.
pub(crate) struct Columns {
    table: Table,
}

impl Columns {
    pub(crate) fn new(header: &[&str], first_number: usize) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.iter().copied());
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((2, 0));
            if at >= first_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<_> = self.table.lines().map(|l| l.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}
