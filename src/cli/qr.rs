//! QR codes in a terminal, two modules a character.

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code; four are asked for by ISO/IEC 18004.
const QUIET: usize = 4;

/// The code as lines of block characters, dark on light whatever the terminal's colours are.
/// `None` when the text is too long for a code.
pub(super) fn render(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let width = code.width();
    let colors = code.to_colors();
    let dark = |row: usize, column: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|&at| at < width);
        let (Some(row), Some(column)) = (inside(row), inside(column)) else {
            return false;
        };
        colors.get(row * width + column) == Some(&Color::Dark)
    };
    let size = width + 2 * QUIET;
    let mut out = String::new();
    for row in (0..size).step_by(2) {
        // Black on white by SGR, so that a light terminal shows the same as a dark one.
        out.push_str("\u{1b}[30;107m");
        for column in 0..size {
            out.push(match (dark(row, column), dark(row + 1, column)) {
                (false, false) => ' ',
                (true, false) => '▀',
                (false, true) => '▄',
                (true, true) => '█',
            });
        }
        out.push_str("\u{1b}[0m\n");
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_square_with_a_light_margin_and_its_three_corners() {
        let text = render("mc1:abc").unwrap();
        let lines: Vec<Vec<char>> = text
            .lines()
            .map(|line| {
                let line = line.strip_prefix("\u{1b}[30;107m").unwrap();
                line.strip_suffix("\u{1b}[0m").unwrap().chars().collect()
            })
            .collect();
        let size = lines[0].len();
        assert_eq!(lines.len(), size.div_ceil(2));
        assert!(lines[0].iter().chain(&lines[1]).all(|&c| c == ' '));
        let corner = |row: usize, column: usize| lines[row][column..column + 7].iter().collect();
        let corners: [String; 2] = [corner(2, QUIET), corner(2, size - QUIET - 7)];
        assert_eq!(corners, ["█▀▀▀▀▀█", "█▀▀▀▀▀█"]);
    }

    #[test]
    fn what_does_not_fit_gives_no_code() {
        assert!(render(&"a".repeat(3_000)).is_none());
    }
}
