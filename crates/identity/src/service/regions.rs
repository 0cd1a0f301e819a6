use umbel_api::identity::regions::RegionFields;
use umbel_core::{Error, Generation, Kind, Result};
use umbel_db::{read, tx};

use super::valid;
use crate::store::regions::RegionRow;
use crate::store::{Tx, Window};
use crate::{Identity, store};

const MAX_ID: usize = 255;

fn not_found(id: &str) -> Error {
    valid::not_found("region", id)
}

/// Everyone with a token may read them: the catalog names them anyway.
pub(crate) async fn list(identity: &Identity, parent_id: Option<&str>, window: &Window) -> Result<Vec<RegionRow>> {
    read!(identity.db, "list regions", |tx| store::regions::list(tx, parent_id, window).await)
}

pub(crate) async fn show(identity: &Identity, id: &str) -> Result<RegionRow> {
    let found = read!(identity.db, "show region", |tx| store::regions::get(tx, id).await)?;
    found.ok_or_else(|| not_found(id))
}

/// With the id that the path or the body names, or one of ours.
pub(crate) async fn create(identity: &Identity, path_id: Option<&str>, fields: RegionFields) -> Result<RegionRow> {
    if let (Some(path_id), Some(id)) = (path_id, &fields.id)
        && path_id != id
    {
        return Err(Error::bad_request(format!("Conflicting region IDs specified: \"{path_id}\" != \"{id}\"")));
    }
    let id = match path_id.map(str::to_owned).or(fields.id).filter(|id| !id.is_empty()) {
        Some(id) => id,
        None => identity.new_id(),
    };
    valid::id(&id, "id", MAX_ID)?;
    let row = RegionRow {
        id,
        generation: Generation::default(),
        parent_id: fields.parent_region_id.flatten(),
        description: fields.description.flatten().unwrap_or_default(),
        extra: valid::extra(fields.extra, &[]),
    };
    tx!(identity.db, "create region", |tx| {
        if let Some(parent_id) = &row.parent_id {
            store::regions::get(tx, parent_id).await?.ok_or_else(|| not_found(parent_id))?;
        }
        store::regions::insert(tx, &row).await
    })
    .map_err(|error| match error.is(Kind::Conflict) {
        true => Error::conflict(format!("Conflict occurred attempting to store region - Duplicate ID, {}.", row.id)),
        false => error,
    })?;
    Ok(row)
}

pub(crate) async fn update(identity: &Identity, id: &str, fields: RegionFields) -> Result<RegionRow> {
    valid::same_id(fields.id.as_deref(), id)?;
    let extra = valid::extra(fields.extra, &[]);
    tx!(identity.db, "update region", |tx| {
        let mut row = store::regions::get(tx, id).await?.ok_or_else(|| not_found(id))?;
        if let Some(description) = &fields.description {
            row.description = description.clone().unwrap_or_default();
        }
        if let Some(parent_id) = &fields.parent_region_id {
            if let Some(parent_id) = parent_id {
                check_parent(tx, id, parent_id).await?;
            }
            row.parent_id.clone_from(parent_id);
        }
        valid::merge(&mut row.extra, extra.clone());
        store::regions::update(tx, &row).await?;
        Ok(row)
    })
}

/// It stands, and is not below the region itself.
async fn check_parent(tx: &mut Tx, id: &str, parent_id: &str) -> Result<()> {
    let all = store::regions::all(tx).await?;
    all.iter().find(|row| row.id == parent_id).ok_or_else(|| not_found(parent_id))?;
    match with_children(id, &all).iter().any(|below| below == parent_id) {
        true => Err(Error::bad_request(format!("Region {parent_id} is below region {id}."))),
        false => Ok(()),
    }
}

/// A region goes with the regions below it, and none of them while an endpoint stands there.
pub(crate) async fn delete(identity: &Identity, id: &str) -> Result<()> {
    tx!(identity.db, "delete region", |tx| {
        let all = store::regions::all(tx).await?;
        all.iter().find(|row| row.id == id).ok_or_else(|| not_found(id))?;
        let doomed = with_children(id, &all);
        if store::catalog::any_in_regions(tx, &doomed).await? {
            return Err(Error::forbidden(format!(
                "Unable to delete region {id} because it or its child regions have associated endpoints."
            )));
        }
        for id in &doomed {
            store::regions::delete(tx, id).await?;
        }
        Ok(())
    })
}

fn with_children(id: &str, all: &[RegionRow]) -> Vec<String> {
    let mut found = vec![id.to_owned()];
    let mut at = 0;
    while at < found.len() {
        let children = all.iter().filter(|row| row.parent_id.as_ref() == Some(&found[at]));
        let new: Vec<String> = children.map(|row| row.id.clone()).filter(|id| !found.contains(id)).collect();
        found.extend(new);
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_found_also_in_circles() {
        let row =
            |id: &str, parent: Option<&str>| RegionRow { parent_id: parent.map(str::to_owned), ..RegionRow::named(id) };
        let all = [row("a", Some("c")), row("b", Some("a")), row("c", Some("b")), row("d", None)];
        assert_eq!(with_children("a", &all), ["a", "b", "c"]);
        assert_eq!(with_children("d", &all), ["d"]);
    }
}
