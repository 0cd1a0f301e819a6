use umbel_api::image::{ImageStatus, MemberStatus, Visibility};
use umbel_auth::Visible;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Direction, Row, Sql, Tx, Value, args};

use super::{Image, claims, parts};
use crate::listing::{self, Asked, Column, Compare, Filter, Listing};
use crate::model::{Data, ImageId, Meta, Record};

const COLUMNS: &str = "SELECT id, generation, name, owner, status, visibility, protected, os_hidden, \
    container_format, disk_format, min_disk, min_ram, size, virtual_size, checksum, hash_algorithm, hash_value, \
    created_at, updated_at, upload_token, upload_store, upload_expires_at, upload_bytes FROM images";

/// A deleted image's row stays until its data are gone, and nobody sees it.
const THERE: &str = "status <> 'pending_delete'";

pub async fn insert(tx: &mut Tx<Image>, record: &Record) -> Result<()> {
    let sql = "INSERT INTO images (id, generation, name, owner, status, visibility, protected, os_hidden, \
        container_format, disk_format, min_disk, min_ram, created_at, updated_at, upload_bytes) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)";
    let meta = &record.meta;
    let values = args![
        record.id,
        record.generation,
        &meta.name,
        &meta.owner,
        record.status.name(),
        meta.visibility.name(),
        meta.protected,
        meta.hidden,
        meta.container_format.map(|format| format.name()),
        meta.disk_format.map(|format| format.name()),
        meta.min_disk,
        meta.min_ram,
        record.created_at,
        record.updated_at,
    ];
    tx.execute(sql, values).await?;
    parts::insert(tx, record.id, meta).await
}

/// The image with all that hangs on it, if there is one and the caller sees it. Sharing counts whatever the member has
/// said to it: one who rejected an image must find it to accept it after all.
pub async fn get(tx: &mut Tx<Image>, visible: &Visible, id: ImageId) -> Result<Option<Record>> {
    let sql = sees(Sql::new(COLUMNS).and("id = ?", args![id]).and(THERE, args![]), visible, None);
    one(tx, sql).await
}

/// As [`get`], and no other transaction changes it before this one ends.
pub async fn lock(tx: &mut Tx<Image>, visible: &Visible, id: ImageId) -> Result<Option<Record>> {
    let sql = sees(Sql::new(COLUMNS).and("id = ?", args![id]).and(THERE, args![]), visible, None);
    one(tx, sql.push("FOR UPDATE")).await
}

/// Whatever its status, for the service's own work.
pub async fn get_any(tx: &mut Tx<Image>, id: ImageId) -> Result<Option<Record>> {
    one(tx, Sql::new(COLUMNS).and("id = ?", args![id])).await
}

/// As [`get_any`], and no other transaction changes it before this one ends.
pub async fn lock_any(tx: &mut Tx<Image>, id: ImageId) -> Result<Option<Record>> {
    one(tx, Sql::new(COLUMNS).and("id = ?", args![id]).push("FOR UPDATE")).await
}

/// For the one that holds the image otherwise: whoever wrote under a claim has lost it.
pub async fn drop_any_claim(tx: &mut Tx<Image>, id: ImageId) -> Result<()> {
    let sql = "UPDATE images SET upload_token = NULL, upload_store = NULL, upload_expires_at = NULL, \
        upload_bytes = 0 WHERE id = ?";
    tx.execute(sql, args![id]).await?;
    Ok(())
}

async fn one(tx: &mut Tx<Image>, sql: Sql) -> Result<Option<Record>> {
    let mut records = tx.select(sql).await?.iter().map(record).collect::<Result<Vec<_>>>()?;
    parts::fill(tx, &mut records).await?;
    Ok(records.pop())
}

/// A page, and whether another follows. `own` is the caller's project, whose community images are in its lists.
///
/// Two statements: the images, and all that hangs on them; a third for a marker.
pub async fn list(
    tx: &mut Tx<Image>,
    visible: &Visible,
    own: Option<&str>,
    listing: &Listing,
) -> Result<(Vec<Record>, bool)> {
    let mut sql = sees(Sql::new(COLUMNS).and(THERE, args![]), visible, listing.member_status);
    sql = sql.and("os_hidden = ?", args![listing.hidden]);
    sql = match (listing.visibility, own) {
        (Asked::All, _) => sql,
        (Asked::One(visibility), _) => sql.and("visibility = ?", args![visibility.name()]),
        (Asked::Usual, Some(own)) => sql.and("visibility <> 'community' OR owner = ?", args![own]),
        (Asked::Usual, None) => sql.and("visibility <> 'community'", args![]),
    };
    for filter in &listing.filters {
        sql = filtered(sql, filter);
    }
    let order: Vec<(&str, Direction)> =
        listing.order.iter().map(|(column, direction)| (sortable(*column), *direction)).collect();
    if let Some(marker) = listing.marker {
        let marker = match get(tx, visible, marker).await? {
            Some(record) => record,
            None => return Err(listing::bad_marker(&marker.to_string())),
        };
        let values: Vec<Value> = listing.order.iter().map(|(column, _)| value_of(&marker, *column)).collect();
        sql = sql.after(&order, &values);
    }
    let rows = tx.select(sql.order(&order).limit(listing.limit + 1)).await?;
    let more = rows.len() > listing.limit;
    let mut records = rows.iter().take(listing.limit).map(record).collect::<Result<Vec<_>>>()?;
    parts::fill(tx, &mut records).await?;
    Ok((records, more))
}

/// Tenant isolation, in one place.
fn sees(sql: Sql, visible: &Visible, member_status: Option<MemberStatus>) -> Sql {
    let Visible::Project(project) = visible else {
        return sql;
    };
    let shared = "SELECT 1 FROM image_members m WHERE m.image_id = images.id AND m.member_id = ?";
    let own = "owner = ? OR visibility IN ('public', 'community')";
    match member_status {
        None => {
            let condition = format!("{own} OR (visibility = 'shared' AND EXISTS ({shared}))");
            sql.and(&condition, args![project, project])
        }
        Some(status) => {
            let condition = format!("{own} OR (visibility = 'shared' AND EXISTS ({shared} AND m.status = ?))");
            sql.and(&condition, args![project, project, status.name()])
        }
    }
}

fn filtered(sql: Sql, filter: &Filter) -> Sql {
    match filter {
        Filter::Text(column, values) => sql.and_in(stored(*column), values),
        Filter::Number(column @ (Column::CreatedAt | Column::UpdatedAt), compare, second) => {
            let second = *second;
            let (start, end) = (Timestamp::from_secs(second), Timestamp::from_secs(second.saturating_add(1)));
            let name = stored(*column);
            match compare {
                Compare::Equal => sql.and(&format!("{name} >= ? AND {name} < ?"), args![start, end]),
                Compare::Unequal => sql.and(&format!("{name} < ? OR {name} >= ?"), args![start, end]),
                Compare::Less => sql.and(&format!("{name} < ?"), args![start]),
                Compare::LessOrEqual => sql.and(&format!("{name} < ?"), args![end]),
                Compare::Greater => sql.and(&format!("{name} >= ?"), args![end]),
                Compare::GreaterOrEqual => sql.and(&format!("{name} >= ?"), args![start]),
            }
        }
        Filter::Number(column, compare, number) => {
            let sign = match compare {
                Compare::Equal => "=",
                Compare::Unequal => "<>",
                Compare::Less => "<",
                Compare::LessOrEqual => "<=",
                Compare::Greater => ">",
                Compare::GreaterOrEqual => ">=",
            };
            sql.and(&format!("{} {sign} ?", stored(*column)), args![*number])
        }
        Filter::Tag(tag) => {
            let condition = "EXISTS (SELECT 1 FROM image_tags t WHERE t.image_id = images.id AND t.tag = ?)";
            sql.and(condition, args![tag])
        }
        Filter::Property(name, value) => {
            let condition = "EXISTS (SELECT 1 FROM image_properties p WHERE p.image_id = images.id AND p.name = ? \
                AND p.value = ?)";
            sql.and(condition, args![name, value])
        }
    }
}

fn stored(column: Column) -> &'static str {
    match column {
        Column::Id => "id",
        Column::Name => "name",
        Column::Owner => "owner",
        Column::Status => "status",
        Column::ContainerFormat => "container_format",
        Column::DiskFormat => "disk_format",
        Column::Checksum => "checksum",
        Column::Hash => "hash_value",
        Column::Size => "size",
        Column::VirtualSize => "virtual_size",
        Column::MinDisk => "min_disk",
        Column::MinRam => "min_ram",
        Column::Protected => "protected",
        Column::CreatedAt => "created_at",
        Column::UpdatedAt => "updated_at",
    }
}

/// Keyset paging needs a value in every row; the engines also disagree on where nulls sort.
fn sortable(column: Column) -> &'static str {
    match column {
        Column::Name => "COALESCE(name, '')",
        Column::ContainerFormat => "COALESCE(container_format, '')",
        Column::DiskFormat => "COALESCE(disk_format, '')",
        Column::Size => "COALESCE(size, -1)",
        other => stored(other),
    }
}

/// The marker's value of what [`sortable`] computes.
fn value_of(record: &Record, column: Column) -> Value {
    let meta = &record.meta;
    match column {
        Column::Id => record.id.into(),
        Column::Name => meta.name.as_deref().unwrap_or("").into(),
        Column::Status => record.status.name().into(),
        Column::ContainerFormat => meta.container_format.map_or("", |format| format.name()).into(),
        Column::DiskFormat => meta.disk_format.map_or("", |format| format.name()).into(),
        Column::Size => record.data.size.map_or(Value::from(-1), Value::from),
        Column::UpdatedAt => record.updated_at.into(),
        // No other column can be asked for as an order.
        _ => record.created_at.into(),
    }
}

/// Writes what the owner says of the image.
pub async fn update(tx: &mut Tx<Image>, before: &Record, after: &Meta, now: Timestamp) -> Result<()> {
    let sql = "UPDATE images SET generation = ?, name = ?, owner = ?, visibility = ?, protected = ?, os_hidden = ?, \
        container_format = ?, disk_format = ?, min_disk = ?, min_ram = ?, updated_at = ? \
        WHERE id = ? AND generation = ?";
    let values = args![
        before.generation.next(),
        &after.name,
        &after.owner,
        after.visibility.name(),
        after.protected,
        after.hidden,
        after.container_format.map(|format| format.name()),
        after.disk_format.map(|format| format.name()),
        after.min_disk,
        after.min_ram,
        now,
        before.id,
        before.generation,
    ];
    tx.compare_and_swap(sql, values).await?;
    parts::update(tx, before.id, &before.meta, after).await
}

pub async fn set_status(tx: &mut Tx<Image>, before: &Record, status: ImageStatus, now: Timestamp) -> Result<()> {
    let sql = "UPDATE images SET generation = ?, status = ?, updated_at = ? WHERE id = ? AND generation = ?";
    let values = args![before.generation.next(), status.name(), now, before.id, before.generation];
    tx.compare_and_swap(sql, values).await
}

/// Data that a service put into a store itself: the image is active from now on.
pub async fn set_data(tx: &mut Tx<Image>, before: &Record, data: &Data, now: Timestamp) -> Result<()> {
    let sql = "UPDATE images SET generation = ?, status = 'active', size = ?, virtual_size = ?, checksum = ?, \
        hash_algorithm = ?, hash_value = ?, updated_at = ? WHERE id = ? AND generation = ?";
    let values = args![
        before.generation.next(),
        data.size,
        data.virtual_size,
        &data.checksum,
        &data.hash_algorithm,
        &data.hash,
        now,
        before.id,
        before.generation,
    ];
    tx.compare_and_swap(sql, values).await
}

/// What is known of data by now, whatever the image's status.
pub async fn set_known(tx: &mut Tx<Image>, before: &Record, data: &Data, now: Timestamp) -> Result<()> {
    let sql = "UPDATE images SET generation = ?, size = ?, virtual_size = ?, checksum = ?, hash_algorithm = ?, \
        hash_value = ?, updated_at = ? WHERE id = ? AND generation = ?";
    let values = args![
        before.generation.next(),
        data.size,
        data.virtual_size,
        &data.checksum,
        &data.hash_algorithm,
        &data.hash,
        now,
        before.id,
        before.generation,
    ];
    tx.compare_and_swap(sql, values).await
}

/// What a project's images count for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes: in each store that has them, and what has arrived of uploads.
    pub stored: u64,
    /// Bytes that are staged, or on their way there.
    pub staged: u64,
    pub images: u64,
    /// Images whose data are on their way in.
    pub uploading: u64,
}

pub async fn counted(tx: &mut Tx<Image>, owner: &str) -> Result<Counted> {
    let sql = "SELECT SUM_INT(stored) AS stored, SUM_INT(staged) AS staged, COUNT(*) AS images, \
        SUM_INT(moving) AS uploading FROM ( \
            SELECT CASE WHEN status IN ('saving', 'importing') THEN upload_bytes \
                    WHEN status IN ('queued', 'uploading') THEN 0 \
                    ELSE COALESCE(size, 0) * (SELECT COUNT(*) FROM image_locations l WHERE l.image_id = images.id) \
                END AS stored, \
                CASE WHEN status NOT IN ('uploading', 'importing') THEN 0 \
                    WHEN upload_token IS NOT NULL THEN upload_bytes ELSE COALESCE(size, 0) END AS staged, \
                CASE WHEN status IN ('saving', 'uploading', 'importing') THEN 1 ELSE 0 END AS moving \
            FROM images WHERE owner = ? AND status <> 'pending_delete') counted";
    let row = tx.fetch_one(sql, args![owner]).await?;
    Ok(Counted {
        stored: row.uint("stored")?,
        staged: row.uint("staged")?,
        images: row.uint("images")?,
        uploading: row.uint("uploading")?,
    })
}

/// From `importing`, or a staging that is whole, back to `queued`: nothing is known of data any more.
pub async fn requeue(tx: &mut Tx<Image>, before: &Record, now: Timestamp) -> Result<()> {
    let sql = "UPDATE images SET generation = ?, status = 'queued', size = NULL, virtual_size = NULL, \
        checksum = NULL, hash_algorithm = NULL, hash_value = NULL, updated_at = ? WHERE id = ? AND generation = ?";
    tx.compare_and_swap(sql, args![before.generation.next(), now, before.id, before.generation]).await
}

/// Deleted images whose data are still to be taken away, and which no upload writes any more.
pub async fn deleted(tx: &mut Tx<Image>, now: Timestamp) -> Result<Vec<ImageId>> {
    let sql = "SELECT id FROM images WHERE status = 'pending_delete' \
        AND (upload_token IS NULL OR upload_expires_at <= ?) ORDER BY id";
    tx.fetch_all(sql, args![now]).await?.iter().map(|row| row.id("id")).collect()
}

/// The last of an image.
pub async fn forget(tx: &mut Tx<Image>, id: ImageId) -> Result<()> {
    parts::delete(tx, id).await?;
    tx.execute("DELETE FROM images WHERE id = ? AND status = 'pending_delete'", args![id]).await?;
    Ok(())
}

fn record(row: &Row) -> Result<Record> {
    let id: ImageId = row.id("id")?;
    let word = |column: &str| row.text(column);
    let meta = Meta {
        name: row.opt_text("name")?,
        owner: row.opt_text("owner")?,
        visibility: word("visibility")?.parse::<Visibility>().map_err(unknown)?,
        protected: row.bool("protected")?,
        hidden: row.bool("os_hidden")?,
        container_format: row.opt_text("container_format")?.map(|text| text.parse()).transpose().map_err(unknown)?,
        disk_format: row.opt_text("disk_format")?.map(|text| text.parse()).transpose().map_err(unknown)?,
        min_disk: row.uint("min_disk")?,
        min_ram: row.uint("min_ram")?,
        ..Meta::new(None)
    };
    let claim = claims::of_row(row)?;
    Ok(Record {
        id,
        generation: row.generation("generation")?,
        status: word("status")?.parse::<ImageStatus>().map_err(unknown)?,
        meta,
        data: Data {
            size: row.opt_uint("size")?,
            virtual_size: row.opt_uint("virtual_size")?,
            checksum: row.opt_text("checksum")?,
            hash_algorithm: row.opt_text("hash_algorithm")?,
            hash: row.opt_text("hash_value")?,
        },
        places: Vec::new(),
        web: Vec::new(),
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        claim,
        uploaded: row.uint("upload_bytes")?,
    })
}

fn unknown(error: Error) -> Error {
    Error::internal(error.message().to_owned()).because("an image's row")
}
