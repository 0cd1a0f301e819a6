//! Names in server lists are matched by regular expression, as upstream has it: databases differ in theirs, and SQLite
//! has none, so rows come by a coarse `LIKE` and are matched here. A crate of regular expressions would be the largest
//! dependency of compute for what is nearly always a plain word.
//!
//! Literals, `.`, `[…]`, `\d \w \s`, `* + ? {m,n}`, groups, `|`, `^`, `$`. Case does not matter. A pattern that
//! backtracks without end is cut off by a budget of steps and does not match.

use umbel_core::{Error, Result};

#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    alternatives: Vec<Vec<Piece>>,
    like: String,
}

#[derive(Clone, Debug)]
struct Piece {
    atom: Atom,
    min: usize,
    max: usize,
}

#[derive(Clone, Debug)]
enum Atom {
    Char(char),
    Any,
    Set { ranges: Vec<(char, char)>, negated: bool },
    Group(Vec<Vec<Piece>>),
    Start,
    End,
}

/// Steps that one name may cost.
const BUDGET: usize = 20_000;

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let chars: Vec<char> = text.to_lowercase().chars().collect();
        let mut parser = Parser { chars: &chars, at: 0, depth: 0 };
        let alternatives = parser.alternatives()?;
        if parser.at < chars.len() {
            return Err(invalid(text));
        }
        let like = like(&alternatives);
        Ok(Pattern { alternatives, like })
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let chars: Vec<char> = name.to_lowercase().chars().collect();
        let mut budget = BUDGET;
        (0..=chars.len()).any(|start| {
            let mut run = Run { chars: &chars, budget: &mut budget };
            self.alternatives.iter().any(|pieces| run.pieces(pieces, start, &mut |_| true))
        })
    }

    /// For `LOWER(name) LIKE ? ESCAPE '!'`: selects every name that matches, and more.
    pub(crate) fn like(&self) -> &str {
        &self.like
    }
}

/// The longest run of literals that every match contains. Engines disagree on the lower case of what is not ASCII, so
/// that stands as a wildcard.
fn like(alternatives: &[Vec<Piece>]) -> String {
    let [pieces] = alternatives else {
        return "%".to_owned();
    };
    let (mut best, mut run) = (String::new(), String::new());
    for piece in pieces {
        match (&piece.atom, piece.min, piece.max) {
            (Atom::Char(c), 1, 1) if c.is_ascii() => run.push(*c),
            _ => best = longer(best, std::mem::take(&mut run)),
        }
    }
    format!("%{}%", umbel_db::escape_like(&longer(best, run)))
}

fn longer(a: String, b: String) -> String {
    if b.len() > a.len() { b } else { a }
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn bad(&self) -> Error {
        invalid(&self.chars.iter().collect::<String>())
    }

    fn alternatives(&mut self) -> Result<Vec<Vec<Piece>>> {
        let mut all = vec![self.sequence()?];
        while self.peek() == Some('|') {
            self.at += 1;
            all.push(self.sequence()?);
        }
        Ok(all)
    }

    fn sequence(&mut self) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || (c == ')' && self.depth > 0) {
                break;
            }
            let atom = self.atom()?;
            let (min, max) = self.repeats()?;
            pieces.push(Piece { atom, min, max });
        }
        Ok(pieces)
    }

    fn atom(&mut self) -> Result<Atom> {
        let c = self.peek().ok_or_else(|| self.bad())?;
        self.at += 1;
        Ok(match c {
            '.' => Atom::Any,
            '^' => Atom::Start,
            '$' => Atom::End,
            '[' => self.set()?,
            '(' => {
                self.depth += 1;
                if self.depth > 16 {
                    return Err(self.bad());
                }
                let group = self.alternatives()?;
                if self.peek() != Some(')') {
                    return Err(self.bad());
                }
                self.at += 1;
                self.depth -= 1;
                Atom::Group(group)
            }
            '*' | '+' | '?' => return Err(self.bad()),
            '\\' => {
                let escaped = self.peek().ok_or_else(|| self.bad())?;
                self.at += 1;
                class(escaped).unwrap_or(Atom::Char(escaped))
            }
            other => Atom::Char(other),
        })
    }

    fn set(&mut self) -> Result<Atom> {
        let negated = self.peek() == Some('^');
        self.at += usize::from(negated);
        let mut ranges = Vec::new();
        loop {
            let mut from = self.peek().ok_or_else(|| self.bad())?;
            self.at += 1;
            if from == ']' && !ranges.is_empty() {
                return Ok(Atom::Set { ranges, negated });
            }
            if from == '\\' {
                from = self.peek().ok_or_else(|| self.bad())?;
                self.at += 1;
                if let Some(Atom::Set { ranges: more, .. }) = class(from) {
                    ranges.extend(more);
                    continue;
                }
            }
            let to = match (self.peek(), self.chars.get(self.at + 1)) {
                (Some('-'), Some(to)) if *to != ']' => {
                    self.at += 2;
                    *to
                }
                _ => from,
            };
            ranges.push((from, to));
        }
    }

    fn repeats(&mut self) -> Result<(usize, usize)> {
        let (min, max) = match self.peek() {
            Some('*') => (0, usize::MAX),
            Some('+') => (1, usize::MAX),
            Some('?') => (0, 1),
            Some('{') => return self.counted(),
            _ => return Ok((1, 1)),
        };
        self.at += 1;
        // Whether as many or as few as can be: the same names match.
        self.at += usize::from(self.peek() == Some('?'));
        Ok((min, max))
    }

    fn counted(&mut self) -> Result<(usize, usize)> {
        let rest = &self.chars[self.at + 1..];
        let end = rest.iter().position(|c| *c == '}').ok_or_else(|| self.bad())?;
        let inner: String = rest[..end].iter().collect();
        self.at += end + 2;
        let number = |text: &str| text.parse::<usize>().ok().filter(|count| *count <= 1_000);
        let counts = match inner.split_once(',') {
            None => number(&inner).map(|count| (count, count)),
            Some((min, "")) => number(min).map(|min| (min, usize::MAX)),
            Some((min, max)) => number(min).zip(number(max)),
        };
        counts.ok_or_else(|| self.bad())
    }
}

fn class(c: char) -> Option<Atom> {
    let ranges = match c {
        'd' => vec![('0', '9')],
        'w' => vec![('a', 'z'), ('0', '9'), ('_', '_')],
        's' => vec![(' ', ' '), ('\t', '\r')],
        _ => return None,
    };
    Some(Atom::Set { ranges, negated: false })
}

struct Run<'a> {
    chars: &'a [char],
    budget: &'a mut usize,
}

impl Run<'_> {
    /// Whether the pieces match from `at`, and `then` holds where they end.
    fn pieces(&mut self, pieces: &[Piece], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
        match pieces.split_first() {
            None => then(at),
            Some((piece, rest)) => self.repeated(piece, 0, at, rest, then),
        }
    }

    fn repeated(
        &mut self,
        piece: &Piece,
        done: usize,
        at: usize,
        rest: &[Piece],
        then: &mut dyn FnMut(usize) -> bool,
    ) -> bool {
        if *self.budget == 0 {
            return false;
        }
        *self.budget -= 1;
        if done < piece.max {
            for end in self.once(&piece.atom, at) {
                // Nothing is gained by repeating what matches nothing.
                let again = end > at || done < piece.min;
                if again && self.repeated(piece, done + 1, end, rest, then) {
                    return true;
                }
            }
        }
        done >= piece.min && self.pieces(rest, at, then)
    }

    /// Where one match of the atom can end.
    fn once(&mut self, atom: &Atom, at: usize) -> Vec<usize> {
        let here = self.chars.get(at).copied();
        let one = |matches: bool| if matches { vec![at + 1] } else { vec![] };
        match atom {
            Atom::Char(c) => one(here == Some(*c)),
            Atom::Any => one(here.is_some()),
            Atom::Set { ranges, negated } => {
                one(here.is_some_and(|c| ranges.iter().any(|(from, to)| *from <= c && c <= *to) != *negated))
            }
            Atom::Start => {
                if at == 0 {
                    vec![at]
                } else {
                    vec![]
                }
            }
            Atom::End => {
                if at == self.chars.len() {
                    vec![at]
                } else {
                    vec![]
                }
            }
            Atom::Group(alternatives) => {
                let mut ends = Vec::new();
                for pieces in alternatives {
                    self.pieces(pieces, at, &mut |end| {
                        if !ends.contains(&end) {
                            ends.push(end);
                        }
                        false
                    });
                }
                ends
            }
        }
    }
}

fn invalid(text: &str) -> Error {
    Error::bad_request(format!("Invalid input for query parameters name. Value: {text}. It is not a 'regex'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_regular_expressions() {
        let check = |pattern: &str, matching: &[&str], other: &[&str]| {
            let pattern = Pattern::parse(pattern).unwrap();
            for name in matching {
                assert!(pattern.matches(name), "{pattern:?} {name}");
            }
            for name in other {
                assert!(!pattern.matches(name), "{pattern:?} {name}");
            }
        };
        check("web", &["web", "my-WEB-1"], &["we", "w.eb"]);
        check("^web$", &["web"], &["web1", "aweb"]);
        check(r"^.*\-instance\-[0-9]+$", &["tempest-instance-42"], &["tempest-instance-x", "instance-1"]);
        check("a|b", &["xa", "xb"], &["c"]);
        check("^(ab)+c?$", &["ab", "ababc"], &["aba", "c"]);
        check("^x{2,3}$", &["xx", "xxx"], &["x", "xxxx"]);
        check(r"^\w+\.\d$", &["vm.1"], &["vm1", "vm.x"]);
        check("^[^a-c]$", &["d"], &["b"]);
        check("ÄÖ", &["xäöx"], &["ao"]);
        check("", &["", "anything"], &[]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["*", "(a", "[a", "a{x}", "a{2", "\\"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = Pattern::parse("^(a*)*(a*)*(a*)*b$").unwrap();
        assert!(!pattern.matches(&"a".repeat(200)));
    }

    #[test]
    fn rows_are_preselected_by_what_every_match_contains() {
        let check = |pattern: &str, like: &str| assert_eq!(Pattern::parse(pattern).unwrap().like(), like, "{pattern}");
        check("web", "%web%");
        check("^Web-1$", "%web-1%");
        check("a.*bcd_?x", "%bcd%");
        check("50%", "%50!%%");
        check("a|b", "%");
        check("é", "%%");
    }
}
