//! Services and their endpoints.

use umbel_api::identity::Extra;
use umbel_core::{Generation, Result};
use umbel_db::{Row, Sql, args};

use super::{TextFilter, Tx, Window, document, read_document};

#[derive(Clone, Debug)]
pub(crate) struct ServiceRow {
    pub id: String,
    pub generation: Generation,
    /// `compute`, `image`, …
    pub kind: String,
    pub name: Option<String>,
    pub enabled: bool,
    pub extra: Extra,
}

impl ServiceRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(ServiceRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            kind: row.text("kind")?,
            name: row.opt_text("name")?,
            enabled: row.bool("enabled")?,
            extra: read_document(row, "extra")?,
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct EndpointRow {
    pub id: String,
    pub generation: Generation,
    pub service_id: String,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    pub region_id: Option<String>,
    pub url: String,
    pub enabled: bool,
    pub extra: Extra,
}

impl EndpointRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(EndpointRow {
            id: row.text("id")?,
            generation: row.generation("generation")?,
            service_id: row.text("service_id")?,
            interface: row.text("interface")?,
            region_id: row.opt_text("region_id")?,
            url: row.text("url")?,
            enabled: row.bool("enabled")?,
            extra: read_document(row, "extra")?,
        })
    }
}

const SERVICES: &str = "SELECT id, generation, kind, name, enabled, extra FROM services";
const ENDPOINTS: &str = "SELECT id, generation, service_id, interface, region_id, url, enabled, extra FROM endpoints";

pub(crate) async fn get_service(tx: &mut Tx, id: &str) -> Result<Option<ServiceRow>> {
    tx.select(Sql::new(SERVICES).and("id = ?", args![id])).await?.first().map(ServiceRow::read).transpose()
}

pub(crate) async fn list_services(
    tx: &mut Tx,
    kind: Option<&str>,
    name: Option<&TextFilter>,
    window: &Window,
) -> Result<Vec<ServiceRow>> {
    let mut sql = Sql::new(SERVICES);
    if let Some(kind) = kind {
        sql = sql.and("kind = ?", args![kind]);
    }
    if let Some(name) = name {
        sql = name.apply(sql, "name");
    }
    tx.select(window.apply(sql, "id")).await?.iter().map(ServiceRow::read).collect()
}

pub(crate) async fn all_services(tx: &mut Tx) -> Result<Vec<ServiceRow>> {
    tx.select(Sql::new(SERVICES)).await?.iter().map(ServiceRow::read).collect()
}

pub(crate) async fn insert_service(tx: &mut Tx, row: &ServiceRow) -> Result<()> {
    tx.execute(
        "INSERT INTO services (id, generation, kind, name, enabled, extra) VALUES (?, 0, ?, ?, ?, ?)",
        args![&row.id, &row.kind, &row.name, row.enabled, document(&row.extra)?],
    )
    .await?;
    super::directory::bump(tx).await
}

pub(crate) async fn update_service(tx: &mut Tx, row: &ServiceRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE services SET generation = generation + 1, kind = ?, name = ?, enabled = ?, extra = ? \
         WHERE id = ? AND generation = ?",
        args![&row.kind, &row.name, row.enabled, document(&row.extra)?, &row.id, row.generation],
    )
    .await?;
    super::directory::bump(tx).await
}

/// With its endpoints.
pub(crate) async fn delete_service(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM endpoints WHERE service_id = ?", args![id]).await?;
    tx.execute("DELETE FROM services WHERE id = ?", args![id]).await?;
    super::directory::bump(tx).await
}

#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointFilter {
    pub interface: Option<String>,
    pub service_id: Option<String>,
    pub region_id: Option<String>,
}

pub(crate) async fn get_endpoint(tx: &mut Tx, id: &str) -> Result<Option<EndpointRow>> {
    tx.select(Sql::new(ENDPOINTS).and("id = ?", args![id])).await?.first().map(EndpointRow::read).transpose()
}

pub(crate) async fn list_endpoints(tx: &mut Tx, filter: &EndpointFilter, window: &Window) -> Result<Vec<EndpointRow>> {
    let mut sql = Sql::new(ENDPOINTS);
    let wanted =
        [("interface", &filter.interface), ("service_id", &filter.service_id), ("region_id", &filter.region_id)];
    for (column, value) in wanted {
        if let Some(value) = value {
            sql = sql.and(&format!("{column} = ?"), args![value]);
        }
    }
    tx.select(window.apply(sql, "id")).await?.iter().map(EndpointRow::read).collect()
}

pub(crate) async fn all_endpoints(tx: &mut Tx) -> Result<Vec<EndpointRow>> {
    tx.select(Sql::new(ENDPOINTS)).await?.iter().map(EndpointRow::read).collect()
}

/// Whether one stands in any of these regions.
pub(crate) async fn any_in_regions(tx: &mut Tx, region_ids: &[String]) -> Result<bool> {
    let sql = Sql::new("SELECT id FROM endpoints").and_in("region_id", region_ids).limit(1);
    Ok(!tx.select(sql).await?.is_empty())
}

pub(crate) async fn insert_endpoint(tx: &mut Tx, row: &EndpointRow) -> Result<()> {
    tx.execute(
        "INSERT INTO endpoints (id, generation, service_id, interface, region_id, url, enabled, extra) \
         VALUES (?, 0, ?, ?, ?, ?, ?, ?)",
        args![&row.id, &row.service_id, &row.interface, &row.region_id, &row.url, row.enabled, document(&row.extra)?],
    )
    .await?;
    super::directory::bump(tx).await
}

pub(crate) async fn update_endpoint(tx: &mut Tx, row: &EndpointRow) -> Result<()> {
    tx.compare_and_swap(
        "UPDATE endpoints SET generation = generation + 1, service_id = ?, interface = ?, region_id = ?, url = ?, \
         enabled = ?, extra = ? WHERE id = ? AND generation = ?",
        args![
            &row.service_id,
            &row.interface,
            &row.region_id,
            &row.url,
            row.enabled,
            document(&row.extra)?,
            &row.id,
            row.generation
        ],
    )
    .await?;
    super::directory::bump(tx).await
}

pub(crate) async fn delete_endpoint(tx: &mut Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM endpoints WHERE id = ?", args![id]).await?;
    super::directory::bump(tx).await
}
