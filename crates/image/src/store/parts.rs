//! What hangs on an image: properties, tags and places, all of a page's in one statement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Tx, Value, args};

use super::Image;
use crate::model::{ImageId, Meta, Place, Record, WebPlace};

/// Fills in properties, tags and places of these records. One statement, whatever their number.
pub async fn fill(tx: &mut Tx<Image>, records: &mut [Record]) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let marks = vec!["?"; records.len()].join(", ");
    let sql = format!(
        "SELECT image_id, 1 AS kind, name AS word, value AS first_value, '' AS second_value, '' AS third_value \
             FROM image_properties WHERE image_id IN ({marks}) \
         UNION ALL SELECT image_id, 2, tag, '', '', '' FROM image_tags WHERE image_id IN ({marks}) \
         UNION ALL SELECT image_id, 3, store, url, disk, COALESCE(format, '') \
             FROM image_locations WHERE image_id IN ({marks}) \
         UNION ALL SELECT image_id, 4, ordinal, url, metadata, '' FROM image_web_places WHERE image_id IN ({marks}) \
         ORDER BY kind, word"
    );
    let ids: Vec<Value> = records.iter().map(|record| Value::from(record.id)).collect();
    let rows = tx.fetch_all(&sql, [ids.clone(), ids.clone(), ids.clone(), ids].concat()).await?;
    let mut by_id: HashMap<ImageId, &mut Record> = records.iter_mut().map(|record| (record.id, record)).collect();
    for row in rows {
        let Some(record) = by_id.get_mut(&row.id("image_id")?) else {
            continue;
        };
        let word = row.text("word")?;
        match row.int("kind")? {
            1 => {
                record.meta.properties.insert(word, row.opt_text("first_value")?);
            }
            2 => {
                record.meta.tags.insert(word);
            }
            4 => {
                let metadata = serde_json::from_str(&row.text("second_value")?);
                let metadata = metadata.map_err(|error| Error::internal(error).because("a place's row"))?;
                record.web.push(WebPlace { url: row.text("first_value")?, metadata });
            }
            _ => {
                let (disk, url) = (row.text("second_value")?, row.text("first_value")?);
                let format = row.text("third_value")?.parse().ok();
                record.places.push(Place { store: word, disk, url, format });
            }
        }
    }
    for record in records {
        // The oldest store's name says nothing of age; a fixed order keeps answers the same from call to call.
        record.places.sort_by(|one, two| one.store.cmp(&two.store));
    }
    Ok(())
}

pub async fn insert(tx: &mut Tx<Image>, id: ImageId, meta: &Meta) -> Result<()> {
    write(tx, id, &BTreeMap::new(), &BTreeSet::new(), meta).await
}

/// Writes what is new or changed and removes what is gone.
pub async fn update(tx: &mut Tx<Image>, id: ImageId, before: &Meta, after: &Meta) -> Result<()> {
    write(tx, id, &before.properties, &before.tags, after).await
}

async fn write(
    tx: &mut Tx<Image>,
    id: ImageId,
    properties: &BTreeMap<String, Option<String>>,
    tags: &BTreeSet<String>,
    after: &Meta,
) -> Result<()> {
    for (name, before) in properties {
        if after.properties.get(name) != Some(before) {
            tx.execute("DELETE FROM image_properties WHERE image_id = ? AND name = ?", args![id, name]).await?;
        }
    }
    for (name, value) in &after.properties {
        if properties.get(name) != Some(value) {
            let sql = "INSERT INTO image_properties (image_id, name, value) VALUES (?, ?, ?)";
            tx.execute(sql, args![id, name, value]).await?;
        }
    }
    for tag in tags.difference(&after.tags) {
        tx.execute("DELETE FROM image_tags WHERE image_id = ? AND tag = ?", args![id, tag]).await?;
    }
    for tag in after.tags.difference(tags) {
        tx.execute("INSERT INTO image_tags (image_id, tag) VALUES (?, ?)", args![id, tag]).await?;
    }
    Ok(())
}

pub async fn delete(tx: &mut Tx<Image>, id: ImageId) -> Result<()> {
    let tables = [
        "image_properties",
        "image_tags",
        "image_members",
        "image_locations",
        "image_web_places",
        "image_stages",
        "image_cache",
        "image_twins",
    ];
    for table in tables {
        tx.execute(&format!("DELETE FROM {table} WHERE image_id = ?"), args![id]).await?;
    }
    Ok(())
}

pub async fn insert_place(tx: &mut Tx<Image>, id: ImageId, place: &Place, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO image_locations (image_id, store, disk, url, format, created_at) VALUES (?, ?, ?, ?, ?, ?)";
    let format = place.format.map(|format| format.name());
    tx.execute(sql, args![id, &place.store, &place.disk, &place.url, format, now]).await?;
    Ok(())
}

/// False if it was not there.
pub async fn delete_place(tx: &mut Tx<Image>, id: ImageId, store: &str) -> Result<bool> {
    let sql = "DELETE FROM image_locations WHERE image_id = ? AND store = ?";
    Ok(tx.execute(sql, args![id, store]).await? > 0)
}

/// Writes a property of the service's own, or takes it away.
pub async fn set_own(tx: &mut Tx<Image>, id: ImageId, name: &str, value: Option<&str>) -> Result<()> {
    tx.execute("DELETE FROM image_properties WHERE image_id = ? AND name = ?", args![id, name]).await?;
    if let Some(value) = value {
        let sql = "INSERT INTO image_properties (image_id, name, value) VALUES (?, ?, ?)";
        tx.execute(sql, args![id, name, value]).await?;
    }
    Ok(())
}
