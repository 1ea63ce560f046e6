//! Enough of Rust's lexical grammar to tell code from comments and literals.

/// A token that matters for names: identifiers, lifetimes, `::` and single punctuation characters.
/// Comments are gone; every literal has become `"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is_name(&self) -> bool {
        self.text.starts_with(is_name_start)
    }
}

pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut rest = source;
    let mut line = 1;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (length, text) = next(rest, first);
        let (taken, left) = rest.split_at(length);
        if let Some(text) = text {
            tokens.push(Token { text, line });
        }
        line += taken.matches('\n').count();
        rest = left;
    }
    tokens
}

/// The length of what stands at the front, and the token it makes.
fn next(rest: &str, first: char) -> (usize, Option<String>) {
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), None);
    }
    if let Some(length) = literal(rest) {
        return (length, Some("\"".to_owned()));
    }
    if is_name_start(first) {
        let raw = if rest.starts_with("r#") { 2 } else { 0 };
        let name = name(&rest[raw..]);
        return (raw + name.len(), Some(name.to_owned()));
    }
    if first == '\'' {
        let lifetime = 1 + name(&rest[1..]).len();
        return (lifetime, Some(rest[..lifetime].to_owned()));
    }
    if rest.starts_with("::") {
        return (2, Some("::".to_owned()));
    }
    (first.len_utf8(), Some(first.to_string()))
}

fn is_name_start(first: char) -> bool {
    first.is_alphabetic() || first == '_'
}

fn name(rest: &str) -> &str {
    let end = rest
        .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .unwrap_or(rest.len());
    &rest[..end]
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
        if left.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if left.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += left.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a string, character or number at the front.
fn literal(rest: &str) -> Option<usize> {
    if rest.starts_with(|digit: char| digit.is_ascii_digit()) {
        return Some(name(rest).len());
    }
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|rest| {
            let hashes = rest.trim_start_matches('#');
            let raw = prefix.ends_with('r');
            hashes.starts_with('"') && (raw || hashes.len() == rest.len())
        })
    });
    if let Some(prefix) = prefix {
        let body = &rest[prefix.len()..];
        let length = if prefix.ends_with('r') {
            raw_string(body)
        } else {
            escaped(body, '"')
        };
        return Some(prefix.len() + length);
    }
    let prefix = usize::from(rest.starts_with("b'"));
    let body = rest[prefix..].strip_prefix('\'')?;
    let closes = match body.chars().next()? {
        '\\' => true,
        letter => body[letter.len_utf8()..].starts_with('\''),
    };
    closes.then(|| prefix + escaped(&rest[prefix..], '\''))
}

fn raw_string(body: &str) -> usize {
    let hashes = body.len() - body.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 1;
    body[start..]
        .find(&end)
        .map_or(body.len(), |at| start + at + end.len())
}

fn escaped(body: &str, quote: char) -> usize {
    let mut letters = body.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == quote {
            return at + 1;
        }
    }
    body.len()
}

#[test]
fn comments_and_literals_hide_what_is_in_them() {
    let source = r##"
        // unsafe
        /* unsafe /* unsafe */ unsafe */
        let a = "unsafe \" unsafe"; let b = r#"unsafe " unsafe"#; let c = b"unsafe";
        let d = br"unsafe"; let e = '"'; let f = b'\''; let g = 'x'; let h = '\u{1f}';
        fn k<'unsafe_life>(r#type: &'static str) -> 0xFFusize { crate::x }
    "##;
    let texts: Vec<String> = tokens(source).into_iter().map(|token| token.text).collect();
    assert!(!texts.contains(&"unsafe".to_owned()), "{texts:?}");
    for expected in ["a", "h", "k", "'unsafe_life", "type", "'static", "::", "x"] {
        assert!(texts.contains(&expected.to_owned()), "{expected}");
    }
}

#[test]
fn a_token_knows_its_line() {
    let found = tokens("a\n/*\n*/ b \"\n\" c");
    let lines: Vec<usize> = found.iter().map(|token| token.line).collect();
    assert_eq!(lines, [1, 3, 3, 4]);
}
