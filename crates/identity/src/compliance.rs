//! What passwords and accounts must comply with: Keystone's `[security_compliance]`, by its names. All of it is off
//! unless an operator turns it on.

use std::time::Duration;

use regex_automata::meta::Regex;
use serde::Deserialize;
use umbel_api::identity::Extra;
use umbel_core::{Error, Result, Timestamp};

/// The operator's choice.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct SecurityCompliance {
    /// Wrong passwords in a row after which a user is locked out; never if absent.
    pub lockout_failure_attempts: Option<u32>,
    /// Seconds for which a locked user stays so after the last wrong password; 0 for until an administrator enables it.
    pub lockout_duration: u64,
    /// Days a password is good for; without end if absent.
    pub password_expires_days: Option<u32>,
    /// Passwords of a user, the new one among them, that must differ; 0 and 1 ask for nothing.
    pub unique_last_password_count: u32,
    /// Days that a password a user has chosen must be kept.
    pub minimum_password_age: u32,
    /// What a password must match from its beginning. Lookaheads may stand at the beginning, as in Keystone's example
    /// `^(?=.*\d)(?=.*[a-zA-Z]).{7,}$`.
    pub password_regex: Option<String>,
    /// The same in words, for who is refused.
    pub password_regex_description: Option<String>,
    /// Days without a login after which a user is as good as disabled; never if absent.
    pub disable_user_account_days_inactive: Option<u32>,
    /// Whether a password that an administrator chose is good for nothing but to be changed by its user.
    pub change_password_upon_first_use: bool,
}

impl Default for SecurityCompliance {
    fn default() -> Self {
        SecurityCompliance {
            lockout_failure_attempts: None,
            lockout_duration: 1800,
            password_expires_days: None,
            unique_last_password_count: 0,
            minimum_password_age: 0,
            password_regex: None,
            password_regex_description: None,
            disable_user_account_days_inactive: None,
            change_password_upon_first_use: false,
        }
    }
}

impl SecurityCompliance {
    /// 400 for an expression that cannot be used.
    pub fn check(&self) -> Result<()> {
        self.strength().map(drop)
    }

    pub(crate) fn strength(&self) -> Result<Option<Strength>> {
        self.password_regex.as_deref().map(Strength::new).transpose()
    }

    /// Wrong passwords that lock a user out, if any number does.
    pub(crate) fn attempts(&self, options: &Extra) -> Option<i64> {
        let attempts = self.lockout_failure_attempts.filter(|count| *count > 0);
        attempts.filter(|_| !is_set(options, IGNORE_LOCKOUT)).map(i64::from)
    }

    /// Until when a password is good that is set now.
    pub(crate) fn expiry(&self, options: &Extra, now: Timestamp, by_user: bool) -> Option<Timestamp> {
        if !by_user && self.change_password_upon_first_use && !is_set(options, IGNORE_FIRST_USE) {
            return Some(now);
        }
        let days = self.password_expires_days.filter(|days| *days > 0)?;
        let at = now.plus(days_of(days));
        // Whole seconds, as upstream's.
        let whole = || Timestamp::from_secs(at.as_secs());
        (!is_set(options, IGNORE_EXPIRY)).then(whole)
    }

    pub(crate) fn has_expired(options: &Extra, expires_at: Option<Timestamp>, now: Timestamp) -> bool {
        expires_at.is_some_and(|at| at <= now) && !is_set(options, IGNORE_EXPIRY)
    }

    /// Whether a user that was last seen then is left out for being away too long. Days are UTC's, as upstream's.
    pub(crate) fn has_lapsed(&self, options: &Extra, seen: Option<Timestamp>, now: Timestamp) -> bool {
        let (Some(days), Some(seen)) = (self.disable_user_account_days_inactive.filter(|days| *days > 0), seen) else {
            return false;
        };
        day(now) - day(seen) >= i64::from(days) && !is_set(options, IGNORE_INACTIVITY)
    }
}

pub(crate) const IGNORE_FIRST_USE: &str = "ignore_change_password_upon_first_use";
pub(crate) const IGNORE_EXPIRY: &str = "ignore_password_expiry";
pub(crate) const IGNORE_LOCKOUT: &str = "ignore_lockout_failure_attempts";
pub(crate) const IGNORE_INACTIVITY: &str = "ignore_user_inactivity";
pub(crate) const LOCK_PASSWORD: &str = "lock_password";

/// Options of a user that are true or false.
pub(crate) const TRUTHS: [&str; 6] =
    [IGNORE_FIRST_USE, IGNORE_EXPIRY, IGNORE_LOCKOUT, IGNORE_INACTIVITY, LOCK_PASSWORD, "multi_factor_auth_enabled"];

/// What exempts a program's user, whose login nobody could renew by hand.
pub(crate) fn exempt() -> Extra {
    let all = [IGNORE_FIRST_USE, IGNORE_EXPIRY, IGNORE_LOCKOUT, IGNORE_INACTIVITY];
    all.into_iter().map(|name| (name.to_owned(), true.into())).collect()
}

pub(crate) fn is_set(options: &Extra, name: &str) -> bool {
    options.get(name).and_then(serde_json::Value::as_bool) == Some(true)
}

const DAY: u64 = 86_400;

pub(crate) fn days_of(count: u32) -> Duration {
    Duration::from_secs(DAY * u64::from(count))
}

/// Days since the epoch.
pub(crate) fn day(at: Timestamp) -> i64 {
    at.as_secs().div_euclid(DAY as i64)
}

/// An expression that passwords match, or do not.
#[derive(Debug)]
pub(crate) struct Strength {
    /// What must match, or must not, from the beginning.
    parts: Vec<(bool, Regex)>,
}

impl Strength {
    /// Lookaheads at the beginning are expressions of their own, all of which hold at the same place: so an engine
    /// without backtracking, whose time no password can blow up, is enough for the usual ones. Others are refused.
    fn new(pattern: &str) -> Result<Strength> {
        let bad = |error: &dyn std::fmt::Display| {
            Error::bad_request(format!("password_regex '{pattern}' cannot be used: {error}."))
        };
        let mut left = pattern.strip_prefix('^').unwrap_or(pattern);
        let mut parts = Vec::new();
        while let Some((wanted, inner)) = left
            .strip_prefix("(?=")
            .map(|inner| (true, inner))
            .or_else(|| left.strip_prefix("(?!").map(|inner| (false, inner)))
        {
            let end = closing(inner).ok_or_else(|| bad(&"a parenthesis is not closed"))?;
            parts.push((wanted, compiled(&inner[..end]).map_err(|error| bad(&error))?));
            left = &inner[end + 1..];
        }
        parts.push((true, compiled(left).map_err(|error| bad(&error))?));
        Ok(Strength { parts })
    }

    pub(crate) fn has(&self, password: &str) -> bool {
        self.parts.iter().all(|(wanted, part)| part.is_match(password) == *wanted)
    }
}

fn compiled(part: &str) -> std::result::Result<Regex, String> {
    Regex::new(&format!("^(?:{part})")).map_err(|error| match error.syntax_error() {
        Some(error) => error.to_string(),
        None => error.to_string(),
    })
}

/// Where the parenthesis closes that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut class, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class && depth == 0 => return Some(at),
            ')' if !class => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_keystones() {
        let check = |pattern: &str, password: &str, want: bool| {
            assert_eq!(Strength::new(pattern).unwrap().has(password), want, "{pattern} {password}");
        };
        let example = r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$";
        check(example, "abcdef1", true);
        check(example, "abcdefg", false);
        check(example, "1234567", false);
        check(example, "abcde1", false);
        check(r"(?=.*[)(])(?!.*\)\)).*", "a(b", true);
        check(r"(?=.*[)(])(?!.*\)\)).*", "a))b", false);
        check("[a-z]+", "abc1", true);
        check("[a-z]+$", "abc1", false);
        check("x|y", "ay", false);
        check("", "", true);
        for bad in ["(?=a", "a(?=b)", "[", "(?<=a)b"] {
            let error = Strength::new(bad).unwrap_err();
            assert!(error.message().contains(&format!("'{bad}' cannot be used")), "{error}");
        }
    }

    #[test]
    fn an_option_exempts() {
        let at = Timestamp::from_secs;
        let rules = SecurityCompliance {
            lockout_failure_attempts: Some(3),
            password_expires_days: Some(2),
            disable_user_account_days_inactive: Some(2),
            change_password_upon_first_use: true,
            ..SecurityCompliance::default()
        };
        let (none, all) = (Extra::default(), exempt());
        assert_eq!((rules.attempts(&none), rules.attempts(&all)), (Some(3), None));
        assert_eq!(rules.expiry(&none, at(5), false), Some(at(5)));
        assert_eq!(rules.expiry(&none, at(5), true), Some(at(5 + 2 * 86_400)));
        assert_eq!(rules.expiry(&all, at(5), false), None);
        assert!(SecurityCompliance::has_expired(&none, Some(at(5)), at(5)));
        assert!(!SecurityCompliance::has_expired(&none, Some(at(5)), at(4)));
        assert!(!SecurityCompliance::has_expired(&all, Some(at(5)), at(5)));
        let two_days = at(2 * 86_400);
        assert!(rules.has_lapsed(&none, Some(at(86_399)), two_days));
        assert!(!rules.has_lapsed(&none, Some(at(86_400)), two_days));
        assert!(!rules.has_lapsed(&none, None, two_days));
        assert!(!rules.has_lapsed(&all, Some(at(0)), two_days));
    }
}
