//! The configuration of one domain. An update changes what is there and adds to it; an update of a group or an option
//! needs that this is set already.

use serde_json::{Value, json};
use umbel_api::identity::domain_config::{Config, Groups, Options};
use umbel_core::{Ctx, Error, Result};
use umbel_db::{read, tx};

use super::{domain_options, policy, valid};
use crate::bootstrap::DEFAULT_DOMAIN;
use crate::store::Tx;
use crate::store::domain_config::OptionRow;
use crate::{Identity, store};

/// What of a configuration is asked for: all, a group, or an option of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub group: Option<&'a str>,
    pub option: Option<&'a str>,
}

/// A group that is read and never set.
const COMPLIANCE: &str = "security_compliance";

pub(crate) const WHOLE: Part<'static> = Part { group: None, option: None };

impl Part<'_> {
    fn words(self) -> String {
        match (self.group, self.option) {
            (None, _) => "any options".to_owned(),
            (Some(group), None) => format!("group {group}"),
            (Some(group), Some(option)) => format!("option {option} in group {group}"),
        }
    }

    fn not_found(self, domain_id: &str) -> Error {
        let words = self.words();
        Error::not_found(format!("Could not find {words} in domain configuration for domain {domain_id}."))
    }

    /// Refuses names that no domain can set.
    fn check(self) -> Result<()> {
        match (self.group, self.option) {
            (Some(group), None) => known_group(group),
            (Some(group), Some(option)) => known_option(group, option),
            (None, _) => Ok(()),
        }
    }
}

fn invalid(why: &str) -> Error {
    Error::forbidden(format!("Invalid domain specific configuration: {why}."))
}

fn known_group(group: &str) -> Result<()> {
    match domain_options::is_group(group) {
        true => Ok(()),
        false => Err(invalid(&format!("Group {group} is not supported for domain specific configurations"))),
    }
}

fn known_option(group: &str, option: &str) -> Result<()> {
    known_group(group)?;
    match domain_options::is_option(group, option) {
        true => Ok(()),
        false => {
            let why = format!("Option {option} in group {group} is not supported for domain specific configurations");
            Err(invalid(&why))
        }
    }
}

/// What a request sets, as groups whatever part it names.
fn given(config: Value, part: Part<'_>) -> Result<Groups> {
    part.check()?;
    let shape = || invalid("Groups of options are expected, and nothing else");
    let groups: Groups = match (part.group, part.option) {
        (Some(group), Some(_)) => {
            let options: Options =
                serde_json::from_value(config).map_err(|error| shape().because(error.to_string()))?;
            Groups::from([(group.to_owned(), options)])
        }
        _ => serde_json::from_value(config).map_err(|error| shape().because(error.to_string()))?,
    };
    if groups.is_empty() {
        return Err(invalid("No options specified"));
    }
    for (group, options) in &groups {
        known_group(group)?;
        for option in options.keys() {
            known_option(group, option)?;
        }
    }
    if let Some(group) = part.group
        && !(groups.len() == 1 && groups.contains_key(group))
    {
        return Err(invalid(&format!("Trying to update group {group}, so that, and only that, group is expected")));
    }
    if let (Some(group), Some(option)) = (part.group, part.option)
        && !groups.get(group).is_some_and(|options| options.len() == 1 && options.contains_key(option))
    {
        return Err(invalid(&format!(
            "Trying to update option {option} in group {group}, so that, and only that, \
                                     option is expected"
        )));
    }
    Ok(groups)
}

/// Rows as they are stored; secrets sealed, bound to their domain.
fn rows(identity: &Identity, domain_id: &str, groups: Groups) -> Result<Vec<OptionRow>> {
    let mut rows = Vec::new();
    for (group, options) in groups {
        for (name, value) in options {
            let text = serde_json::to_string(&value).map_err(Error::internal)?;
            let content = match domain_options::is_secret(&group, &name) {
                true => identity.sealer.seal(&*identity.rng, &format!("{domain_id}/{group}/{name}"), &text)?,
                false => text,
            };
            rows.push(OptionRow { group: group.clone(), name, content });
        }
    }
    Ok(rows)
}

/// What may be shown of them.
fn shown(rows: Vec<OptionRow>) -> Result<Groups> {
    let mut groups = Groups::new();
    for row in rows.into_iter().filter(|row| !domain_options::is_secret(&row.group, &row.name)) {
        let value = serde_json::from_str(&row.content)
            .map_err(|error| Error::internal(error).because(format!("option {} of a domain", row.name)))?;
        groups.entry(row.group).or_default().insert(row.name, value);
    }
    Ok(groups)
}

async fn domain(tx: &mut Tx, id: &str) -> Result<()> {
    let found = store::projects::get(tx, id).await?.filter(|row| row.is_domain);
    found.map(drop).ok_or_else(|| valid::not_found("domain", id))
}

pub(crate) async fn show(
    identity: &Identity,
    ctx: &Ctx,
    policy: &str,
    domain_id: &str,
    part: Part<'_>,
) -> Result<Config> {
    if let Some(COMPLIANCE) = part.group {
        return compliance(identity, domain_id, part.option).await;
    }
    policy::sees_all(ctx, policy)?;
    part.check()?;
    let rows = read!(identity.db, "show a domain's configuration", |tx| {
        domain(tx, domain_id).await?;
        store::domain_config::get(tx, domain_id, part.group, part.option).await
    })?;
    let mut groups = shown(rows)?;
    if groups.is_empty() {
        return Err(part.not_found(domain_id));
    }
    match (part.group, part.option) {
        (Some(group), Some(_)) => Ok(Config::One(groups.remove(group).unwrap_or_default())),
        _ => Ok(Config::Groups(groups)),
    }
}

/// The rules for passwords, which are the installation's: whoever chooses one may read them, and no domain sets its own.
async fn compliance(identity: &Identity, domain_id: &str, option: Option<&str>) -> Result<Config> {
    read!(identity.db, "find a domain", |tx| domain(tx, domain_id).await)?;
    if domain_id != DEFAULT_DOMAIN {
        return Err(invalid(
            "Reading security compliance information for any domain other than the default domain is not allowed or \
             supported",
        ));
    }
    let rules = identity.rules();
    let mut readable = Options::from([
        ("password_regex".to_owned(), json!(rules.password_regex)),
        ("password_regex_description".to_owned(), json!(rules.password_regex_description)),
    ]);
    let Some(option) = option else {
        return Ok(Config::Groups(Groups::from([(COMPLIANCE.to_owned(), readable)])));
    };
    let value = readable.remove(option).ok_or_else(|| {
        invalid(
            "Reading security compliance values other than password_regex and password_regex_description is not allowed",
        )
    })?;
    Ok(Config::One(Options::from([(option.to_owned(), value)])))
}

/// In place of all that was set. Whether nothing was, and the configuration.
pub(crate) async fn create(identity: &Identity, domain_id: &str, config: Value) -> Result<(bool, Config)> {
    let rows = rows(identity, domain_id, given(config, WHOLE)?)?;
    let new = tx!(identity.db, "set a domain's configuration", |tx| {
        domain(tx, domain_id).await?;
        let before = store::domain_config::get(tx, domain_id, None, None).await?;
        store::domain_config::delete(tx, domain_id, None, None).await?;
        for row in &rows {
            store::domain_config::put(tx, domain_id, row).await?;
        }
        Ok(before.is_empty())
    })?;
    Ok((new, Config::Groups(shown(rows)?)))
}

/// The whole configuration as it is then, whatever part was changed.
pub(crate) async fn update(identity: &Identity, domain_id: &str, part: Part<'_>, config: Value) -> Result<Config> {
    let rows = rows(identity, domain_id, given(config, part)?)?;
    let all = tx!(identity.db, "update a domain's configuration", |tx| {
        domain(tx, domain_id).await?;
        let known = store::domain_config::get(tx, domain_id, part.group, part.option).await?;
        if part.group.is_some() && known.is_empty() {
            return Err(part.not_found(domain_id));
        }
        for row in &rows {
            store::domain_config::put(tx, domain_id, row).await?;
        }
        store::domain_config::get(tx, domain_id, None, None).await
    })?;
    Ok(Config::Groups(shown(all)?))
}

pub(crate) async fn delete(identity: &Identity, domain_id: &str, part: Part<'_>) -> Result<()> {
    part.check()?;
    tx!(identity.db, "delete a domain's configuration", |tx| {
        domain(tx, domain_id).await?;
        let known = store::domain_config::get(tx, domain_id, part.group, part.option).await?;
        if part.group.is_some() && known.is_empty() {
            return Err(part.not_found(domain_id));
        }
        store::domain_config::delete(tx, domain_id, part.group, part.option).await
    })
}

pub(crate) fn defaults(ctx: &Ctx, policy: &str, part: Part<'_>) -> Result<Config> {
    policy::sees_all(ctx, policy)?;
    part.check()?;
    match (part.group, part.option) {
        (None, _) => Ok(Config::Groups(domain_options::defaults())),
        (Some(group), None) => {
            let options = domain_options::defaults_of(group).ok_or_else(|| part.not_found("default"))?;
            Ok(Config::Groups(Groups::from([(group.to_owned(), options)])))
        }
        (Some(group), Some(option)) => {
            // A secret has none that could be shown.
            let value = domain_options::default_of(group, option).ok_or_else(|| {
                invalid(&format!("Option {option} in group {group} is sensitive, its default is not shown"))
            })?;
            Ok(Config::One(Options::from([(option.to_owned(), value)])))
        }
    }
}
