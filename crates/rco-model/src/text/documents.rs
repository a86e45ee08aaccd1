//! A text cut into documents.

/// The documents of a text, without the blank lines around them; none is blank.
///
/// A document ends at two or more blank lines, and begins at a line like ` = Title = ` (one
/// sign on each side, as in `WikiText`; sections have more). A text of one document is cut
/// at single blank lines instead, one without blank lines into its lines.
pub(super) fn documents(text: &str) -> Vec<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (blank_lines, titles) in [(2, true), (1, false), (0, false)] {
        let found = cut(text, blank_lines, titles);
        if found.len() > 1 || blank_lines == 0 {
            return found;
        }
    }
    Vec::new()
}

/// Cuts at `blank_lines` or more blank lines, and before titles.
fn cut(text: &str, blank_lines: usize, titles: bool) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut at, mut blanks) = (0, 0, 0);
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        if !blank && (blanks >= blank_lines || titles && is_title(line)) {
            found.push(&text[start..at]);
            start = at;
        }
        blanks = if blank { blanks + 1 } else { 0 };
        at += line.len();
    }
    found.push(&text[start..]);
    let trim = |text: &'_ str| -> (usize, usize) {
        // Blank lines go, the indentation of the first line stays.
        let lead = text.len() - text.trim_start().len();
        (text[..lead].rfind('\n').map_or(0, |i| i + 1), text.trim_end().len())
    };
    found
        .into_iter()
        .filter(|document| !document.trim().is_empty())
        .map(|document| {
            let (start, end) = trim(document);
            &document[start..end]
        })
        .collect()
}

fn is_title(line: &str) -> bool {
    let inner = line.trim().strip_prefix("= ").and_then(|rest| rest.strip_suffix(" ="));
    inner.is_some_and(|title| {
        let title = title.trim();
        !title.is_empty() && !title.starts_with('=') && !title.ends_with('=')
    })
}

#[cfg(test)]
mod tests {
    use super::documents;

    #[test]
    fn two_blank_lines_end_a_document() {
        let text = "\u{feff}\n\nOne.\n\nStill one.\r\n \r\n\r\n  Two.\n\n\n\n\nThree.\n";
        assert_eq!(documents(text), ["One.\n\nStill one.", "  Two.", "Three."]);
    }

    #[test]
    fn titles_begin_documents_and_sections_do_not() {
        let text = " = A = \n\n Text.\n\n = = Section = = \n\n More.\n\n = B = \n Text.\n";
        let expected = [" = A = \n\n Text.\n\n = = Section = = \n\n More.", " = B = \n Text."];
        assert_eq!(documents(text), expected);
        assert_eq!(documents("a = b\n= c\n= =\n\nd"), ["a = b\n= c\n= =", "d"]);
    }

    #[test]
    fn a_single_document_falls_into_paragraphs_and_then_into_lines() {
        assert_eq!(documents("a\nb\n\nc\n"), ["a\nb", "c"]);
        assert_eq!(documents("a\nb\n"), ["a", "b"]);
        assert_eq!(documents("a"), ["a"]);
        assert!(documents(" \n\n \n").is_empty());
    }
}
