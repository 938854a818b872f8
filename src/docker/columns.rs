//! Columns: cells with tabs between them, made as wide as the widest of each.
//!
//! By hand: `docker ps | cat -A` shows spaces only. As with Docker, a column has ten places at least and three between it and the next, and
//! the last is not filled up.

/// The fewest places of a column, and the space after its widest cell.
const LEAST: usize = 10;
const SPACE: usize = 3;

/// Lines of cells with tabs between them, aligned; each line ends with a newline.
pub fn aligned<S: AsRef<str>>(lines: &[S]) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.as_ref().split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        // The last cell of a row has no tab after it, and widens nothing.
        for (at, cell) in row[..row.len() - 1].iter().enumerate() {
            let width = cell.chars().count() + SPACE;
            match widths.get_mut(at) {
                Some(widest) => *widest = (*widest).max(width),
                None => widths.push(width.max(LEAST)),
            }
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if at + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[at] - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = aligned(&["ID\tNAMES\tX", "a\tquiet_fox\tyy", "bb\tä\t"]);
        assert_eq!(text, "ID        NAMES       X\na         quiet_fox   yy\nbb        ä           \n");
        assert_eq!(aligned(&["one"]), "one\n");
        assert_eq!(aligned::<&str>(&[]), "");
    }
}
