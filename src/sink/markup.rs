//! Text of somebody else's in HTML and SVG.

/// Text fit to stand between tags and in a quoted attribute; other control characters than tabs and
/// line ends become U+FFFD.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(letter),
            _ if letter.is_control() => out.push('\u{fffd}'),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        let hostile = "</title><script>alert('1')</script>\" onload=\"x&amp;\0\x1b[31m\u{85}\n";
        let text = escaped(hostile);
        assert!(
            !text.contains(['<', '>', '"', '\'', '\0', '\x1b', '\u{85}']),
            "{text}"
        );
        assert!(text.contains("&amp;amp;") && text.ends_with('\n'), "{text}");
        let plain = "sim000000_NASP_-_4438-10195 ä";
        assert_eq!(escaped(plain), plain);
    }
}
