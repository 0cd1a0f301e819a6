//! Security compliance as logins and changes of passwords meet it. Sentences and their order are Keystone's; that a user is
//! locked out is told to nobody, as it would tell that the user exists.

use umbel_api::identity::Extra;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{read, tx};

use super::login::mfa_rules;
use super::valid;
use crate::Identity;
use crate::compliance::{SecurityCompliance, TRUTHS, day, days_of};
use crate::passwords::{MAX_PASSWORD, Verdict};
use crate::store::Tx;
use crate::store::guards::{self, GuardRow};
use crate::store::login::LoginUser;
use crate::store::users::UserRow;

/// 400 for options that mean nothing, or could not be read when they matter.
pub(super) fn user_options(given: &Extra) -> Result<()> {
    for (name, value) in given {
        match name.as_str() {
            "multi_factor_auth_rules" => {}
            name if !TRUTHS.contains(&name) => {
                return Err(valid::invalid("options", &format!("There is no option '{name}'")));
            }
            name if !(value.is_boolean() || value.is_null()) => {
                return Err(valid::invalid(name, "The value is not of type 'boolean'"));
            }
            _ => {}
        }
    }
    mfa_rules(given)
}

/// 400 for a password that nobody may have.
pub(super) fn acceptable<'p>(identity: &Identity, password: &'p str) -> Result<&'p str> {
    match password.len() {
        0 => return Err(valid::invalid("password", "The value should be non-empty")),
        length if length > MAX_PASSWORD => {
            return Err(valid::invalid("password", &format!("The value is longer than {MAX_PASSWORD} bytes")));
        }
        _ => {}
    }
    if identity.strength.as_ref().is_none_or(|strength| strength.has(password)) {
        return Ok(password);
    }
    let described = identity.rules().password_regex_description.as_deref();
    Err(Error::bad_request(format!(
        "The password does not match the requirements: {}.",
        described.unwrap_or("it does not fit the expression that the operator chose").trim_end_matches('.')
    )))
}

/// Whether the user may log in as far as its account goes.
pub(super) fn is_open(identity: &Identity, user: &LoginUser) -> bool {
    let lapsed = identity.rules().has_lapsed(&user.options, user.active_at, identity.now());
    user.enabled && user.domain_enabled && !lapsed
}

/// As it is shown: a user that was away too long is disabled, until an administrator enables it.
pub(super) fn shown(identity: &Identity, mut row: UserRow) -> UserRow {
    row.enabled &= !identity.rules().has_lapsed(&row.options, row.active_at, identity.now());
    row
}

/// The password's verdict, as the user's earlier mistakes have it: too many, and even a right one is wrong.
pub(super) async fn judge(identity: &Identity, user: Option<&LoginUser>, verdict: Verdict) -> Result<Verdict> {
    let Some((user, attempts)) = user.and_then(|user| Some((user, identity.rules().attempts(&user.options)?))) else {
        return Ok(verdict);
    };
    let now = identity.now();
    // Read after the check, so that of many guesses at once no more than the rest are judged.
    let guard = read!(identity.db, "read a user's failed logins", |tx| guards::get(tx, &user.id).await)?;
    if guard.failed_count == 0 && verdict != Verdict::Wrong {
        return Ok(verdict);
    }
    tx!(identity.db, "count a login", |tx| {
        let count = match standing(identity, &guards::lock(tx, &user.id, now).await?, attempts, now) {
            Standing::Locked => return Ok(Verdict::Wrong),
            Standing::Failed(count) => count,
        };
        match verdict {
            Verdict::Wrong => guards::failed(tx, &user.id, count + 1, now).await?,
            _ => guards::forgive(tx, &user.id).await?,
        }
        Ok(verdict)
    })
}

enum Standing {
    Locked,
    /// So many times in a row, before this.
    Failed(i64),
}

fn standing(identity: &Identity, guard: &GuardRow, attempts: i64, now: Timestamp) -> Standing {
    if guard.failed_count < attempts {
        return Standing::Failed(guard.failed_count);
    }
    let duration = identity.rules().lockout_duration;
    let over = guard.failed_at.is_none_or(|at| at.plus(std::time::Duration::from_secs(duration)) <= now);
    match duration > 0 && over {
        true => Standing::Failed(0),
        false => Standing::Locked,
    }
}

/// 401 with the reason, which only who knows the password can get to see.
pub(super) fn current(user: &LoginUser, now: Timestamp) -> Result<()> {
    match SecurityCompliance::has_expired(&user.options, user.password_expires_at, now) {
        false => Ok(()),
        true => {
            Err(Error::unauthorized(format!("The password is expired and needs to be changed for user: {}.", user.id)))
        }
    }
}

/// A login was good: the user is not away. Written once a day.
pub(super) async fn seen(identity: &Identity, user: &LoginUser) -> Result<()> {
    let now = identity.now();
    let written = user.active_at.is_some_and(|at| day(at) == day(now));
    if identity.rules().disable_user_account_days_inactive.is_none() || written {
        return Ok(());
    }
    tx!(identity.db, "note that a user is active", |tx| guards::active(tx, &user.id, now).await)
}

/// 400 where the user may not change its password yet, or not to this one.
pub(super) async fn may_change(identity: &Identity, user: &LoginUser, new: &str) -> Result<()> {
    let rules = identity.rules();
    let past = rules.unique_last_password_count.saturating_sub(1);
    let (guard, mut hashes) = read!(identity.db, "read a user's passwords", |tx| {
        Ok((guards::get(tx, &user.id).await?, guards::past_passwords(tx, &user.id, past).await?))
    })?;
    old_enough(rules.minimum_password_age, &guard, identity.now())?;
    if past == 0 {
        return Ok(());
    }
    hashes.extend(user.password_hash.clone());
    for hash in hashes {
        if identity.passwords.verify(&user.id, Some(&hash), new).await? != Verdict::Wrong {
            return Err(Error::bad_request(format!(
                "The new password cannot be identical to a previous password. The total number which includes the new \
                 password must be unique is {}.",
                rules.unique_last_password_count
            )));
        }
    }
    Ok(())
}

fn old_enough(days: u32, guard: &GuardRow, now: Timestamp) -> Result<()> {
    let Some(at) = guard.password_at.filter(|_| guard.self_service && days > 0) else {
        return Ok(());
    };
    let until = at.plus(days_of(days));
    if until <= now {
        return Ok(());
    }
    let left = until.since(now).as_secs().div_ceil(86_400);
    Err(Error::bad_request(format!(
        "You cannot change your password at this time due to the minimum password age. Once you change your password, it \
         must be used for {days} day(s) before it can be changed. Please try again in {left} day(s) or contact your \
         administrator to reset your password."
    )))
}

/// Puts a new password into the row, and the old one among those that must not come back.
pub(super) async fn replace_password(
    identity: &Identity,
    tx: &mut Tx,
    row: &mut UserRow,
    new: Option<&str>,
    by_user: bool,
) -> Result<()> {
    let (now, rules) = (identity.now(), identity.rules());
    if let Some(old) = &row.password_hash {
        let keep = rules.unique_last_password_count.saturating_sub(1) as usize;
        guards::remember_password(tx, &row.id, &identity.new_id(), old, now, keep).await?;
    }
    row.password_hash = new.map(str::to_owned);
    row.password_expires_at = new.and_then(|_| rules.expiry(&row.options, now, by_user));
    guards::password_set(tx, &row.id, now, by_user).await
}

/// An administrator enables the user: whatever kept it out is over.
pub(crate) async fn enable(identity: &Identity, tx: &mut Tx, id: &str) -> Result<()> {
    guards::forgive(tx, id).await?;
    guards::active(tx, id, identity.now()).await
}
