//! Rust source seen coarsely: which characters are code, and which lines are tests.

/// A Rust file with its comments and literals blanked out, line by line.
pub struct Source {
    /// Each line's code; comments, strings and character literals are spaces.
    pub lines: Vec<String>,
    /// Whether that line belongs to an item under `#[cfg(test)]`.
    in_test: Vec<bool>,
    whole_file_is_test: bool,
}

impl Source {
    pub fn of(path: &str, text: &str) -> Source {
        let code = blank(text);
        let lines: Vec<String> = code.lines().map(str::to_owned).collect();
        let in_test = test_lines(&lines);
        Source { lines, in_test, whole_file_is_test: is_test_path(path) }
    }

    /// The lines that hold a word, whole: `unsafe` does not find `unsafe_code`. Counted from 1.
    pub fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.lines.iter().enumerate().filter(move |(_, line)| has_word(line, word)).map(|(at, _)| at + 1)
    }

    /// Is this line (counted from 1) part of a test?
    pub fn is_test(&self, line: usize) -> bool {
        self.whole_file_is_test || self.in_test.get(line - 1).copied().unwrap_or(false)
    }

    /// Lines that are not tests, comments and blanks included.
    pub fn lines_of_code(&self) -> usize {
        (1..=self.lines.len()).filter(|line| !self.is_test(*line)).count()
    }
}

fn is_test_path(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "e2e" || part == "benches")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Does `word` stand in `line` with no letter, digit or `_` next to it? The ends of `word` that are none of these
/// themselves need no border: `#[ignore` finds `#[ignore = "x"]`.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(is_word);
    let starts = is_letter(word.chars().next());
    let ends = is_letter(word.chars().next_back());
    line.match_indices(word).any(|(at, _)| {
        let runs_on_before = starts && is_letter(line[..at].chars().next_back());
        let runs_on_after = ends && is_letter(line[at + word.len()..].chars().next());
        !runs_on_before && !runs_on_after
    })
}

/// Lines from a `#[cfg(test)]` to the end of the item it stands on.
fn test_lines(lines: &[String]) -> Vec<bool> {
    let mut marks = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        let Some(column) = lines[at].find("#[cfg(test)]") else {
            at += 1;
            continue;
        };
        let end = end_of_item(lines, at, column + "#[cfg(test)]".len());
        marks[at..=end].fill(true);
        at = end + 1;
    }
    marks
}

/// The line on which an item ends that starts at this place: its closing brace, or a `;` before any brace.
fn end_of_item(lines: &[String], line: usize, column: usize) -> usize {
    let mut depth = 0usize;
    for (at, text) in lines.iter().enumerate().skip(line) {
        let from = if at == line { column } else { 0 };
        for c in text[from..].chars() {
            match c {
                '{' => depth += 1,
                '}' if depth <= 1 => return at,
                '}' => depth -= 1,
                ';' if depth == 0 => return at,
                _ => {}
            }
        }
    }
    lines.len() - 1
}

/// The text with comments and literals replaced by spaces; line breaks stay where they are.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let after_word = at > 0 && is_word(chars[at - 1]);
        let length =
            comment(rest).or_else(|| if after_word { None } else { raw_string(rest) }).or_else(|| quoted(rest));
        let Some(length) = length else {
            out.push(chars[at]);
            at += 1;
            continue;
        };
        out.extend(rest[..length].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at += length;
    }
    out
}

fn comment(rest: &[char]) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => Some(block_comment(rest)),
        _ => None,
    }
}

/// Block comments nest.
fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"…"`, `br#"…"#` and the like; not the raw identifier `r#type`.
fn raw_string(rest: &[char]) -> Option<usize> {
    let prefix = match rest {
        ['r', ..] => 1,
        ['b' | 'c', 'r', ..] => 2,
        _ => return None,
    };
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let body = prefix + hashes + 1;
    if rest.get(body - 1) != Some(&'"') {
        return None;
    }
    let closes =
        |at: usize| rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    let end = (body..rest.len()).find(|at| closes(*at));
    Some(end.map_or(rest.len(), |end| end + 1 + hashes))
}

/// `"…"` and `'c'`; not a lifetime.
fn quoted(rest: &[char]) -> Option<usize> {
    let quote = match rest {
        ['"', ..] => '"',
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => '\'',
        _ => return None,
    };
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank() {
        for (text, expected) in [
            ("a // b", "a     "),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x\"y", 'z')"#, "f(      ,    )"),
            ("r#\"a\"b\"# + br\"c\" + r#type", "         +       + r#type"),
            ("fn f<'a>(x: &'a str, c: '\\'')", "fn f<'a>(x: &'a str, c:     )"),
            ("var\"x\"", "var   "),
            ("\"a\nb\" c", "  \n   c"),
        ] {
            assert_eq!(blank(text), expected, "{text}");
        }
    }

    #[test]
    fn words_are_whole() {
        for (line, word, expected) in [
            ("unsafe {", "unsafe", true),
            ("#![forbid(unsafe_code)]", "unsafe", false),
            ("tokio::time::sleep(x)", "time::sleep", true),
            ("time::sleep_until(x)", "time::sleep", false),
            ("#[ignore = 1]", "#[ignore", true),
            ("#[ignored]", "#[ignore", false),
        ] {
            assert_eq!(has_word(line, word), expected, "{line}");
        }
    }

    #[test]
    fn tests_are_told_from_code() {
        let text =
            "fn a() {}\n#[cfg(test)]\nuse x;\nfn b() {}\n#[cfg(test)]\nmod tests {\n  fn c() { \"}\" }\n}\nfn d() {}\n";
        let source = Source::of("crates/a/src/lib.rs", text);
        let tests: Vec<usize> = (1..=9).filter(|line| source.is_test(*line)).collect();
        assert_eq!(tests, [2, 3, 5, 6, 7, 8]);
        assert_eq!(source.lines_of_code(), 3);
        assert_eq!(Source::of("crates/a/tests/it/main.rs", text).lines_of_code(), 0);
    }
}
