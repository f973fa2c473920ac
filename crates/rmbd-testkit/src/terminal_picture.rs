//! What a terminal shows, as a picture.

use std::fmt::Write;
use std::num::NonZeroU16;

use vt100::{Cell, Color, Parser};

/// What makes a terminal again of a full screen. What was on the screen goes with it.
const LEAVES: &str = "\x1b[?1049l";
/// Width and height of a cell, and from the top of a cell to the foot of its letters, in pixels.
const CELL: [f64; 3] = [8.4, 19.0, 14.0];
/// Free room around all cells, in pixels.
const EDGE: f64 = 12.0;
/// Parts of a cell's height that are filled from below, from an eighth to all of it.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The full screen that a program showed last in a terminal of so many lines and columns, as SVG, and as text.
pub fn svg(output: &str, [height, width]: [u16; 2]) -> (String, String) {
    let shown = output
        .rsplit_once(LEAVES)
        .map_or(output, |(shown, _)| shown);
    let [lines, columns] = [height, width].map(|it| NonZeroU16::new(it).unwrap());
    let mut parser = Parser::new(lines, columns, 0);
    parser.process(shown.as_bytes());
    let screen = parser.screen();
    let [cell_width, cell_height, _] = CELL;
    let across = f64::from(width).mul_add(cell_width, 2.0 * EDGE);
    let down = f64::from(height).mul_add(cell_height, 2.0 * EDGE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{across:.0}\" height=\"{down:.0}\" \
         viewBox=\"0 0 {across:.0} {down:.0}\" font-family=\"monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#12161c\"/>\n"
    );
    for row in 0..height {
        let mut column = 0;
        while column < width {
            let first = screen.cell(row, column).unwrap();
            let end = (column + 1..width)
                .find(|next| !is_alike(first, screen.cell(row, *next).unwrap()))
                .unwrap_or(width);
            let cells = (column..end).map(|it| screen.cell(row, it).unwrap().contents());
            let text: String = cells
                .map(|it| if it.is_empty() { " " } else { it })
                .collect();
            draw(&mut svg, [column, row], &text, first);
            column = end;
        }
    }
    (svg + "</svg>\n", screen.contents())
}

/// Whether two neighbours are of one piece.
fn is_alike(one: &Cell, other: &Cell) -> bool {
    let looks = |it: &Cell| (it.fgcolor(), it.bold(), it.dim(), bar(it.contents()));
    let is_blank = |it: &Cell| it.contents().trim().is_empty();
    looks(one) == looks(other) && is_blank(one) == is_blank(other)
}

/// How many eighths of the cell are filled.
fn bar(text: &str) -> Option<usize> {
    let place = BARS.iter().position(|bar| text.starts_with(*bar))?;
    Some(place + 1)
}

/// Adds a piece of a line that begins at this column and row.
fn draw(svg: &mut String, [column, row]: [u16; 2], text: &str, looks: &Cell) {
    if text.trim().is_empty() {
        return;
    }
    let [cell_width, cell_height, foot] = CELL;
    let left = f64::from(column).mul_add(cell_width, EDGE);
    let top = f64::from(row).mul_add(cell_height, EDGE);
    let long = text.chars().count() as f64 * cell_width;
    let color = match (looks.fgcolor(), looks.dim()) {
        (Color::Idx(1), _) => "#ff7b72",
        (Color::Idx(6), _) => "#56d4dd",
        (_, true) => "#8b949e",
        _ => "#e6edf3",
    };
    let written = if let Some(eighths) = bar(text) {
        let filled = cell_height * eighths as f64 / 8.0;
        let from = top + cell_height - filled;
        writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{from:.1}\" width=\"{long:.1}\" height=\"{filled:.1}\" fill=\"{color}\"/>"
        )
    } else {
        let weight = if looks.bold() {
            " font-weight=\"bold\""
        } else {
            ""
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let line = top + foot;
        writeln!(
            svg,
            "<text x=\"{left:.1}\" y=\"{line:.1}\" textLength=\"{long:.1}\" fill=\"{color}\"{weight}>{text}</text>"
        )
    };
    written.unwrap();
}
