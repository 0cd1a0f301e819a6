//! Revocations of tokens, and the public keys that verify them.

use umbel_auth::{PublicKey, Revocation, RevocationKind};
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Row, args};

use super::Tx;

#[derive(Clone, Debug)]
pub(crate) struct RevocationRow {
    pub revocation: Revocation,
    pub revoked_at: Timestamp,
}

pub(crate) async fn insert(tx: &mut Tx, id: &str, revocation: &Revocation, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO revocations (id, kind, target, issued_before, revoked_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?)",
        args![id, kind_name(revocation.kind), &revocation.target, revocation.issued_before, now, revocation.expires_at],
    )
    .await?;
    Ok(())
}

/// Those made since a moment, oldest first.
pub(crate) async fn since(tx: &mut Tx, moment: Timestamp) -> Result<Vec<RevocationRow>> {
    let sql = "SELECT kind, target, issued_before, revoked_at, expires_at FROM revocations \
        WHERE revoked_at >= ? ORDER BY revoked_at, id";
    tx.fetch_all(sql, args![moment]).await?.iter().map(read).collect()
}

/// Those that cover only tokens which have expired by themselves.
pub(crate) async fn delete_expired(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    tx.execute("DELETE FROM revocations WHERE expires_at <= ?", args![now]).await
}

fn read(row: &Row) -> Result<RevocationRow> {
    let revocation = Revocation {
        kind: kind_named(&row.text("kind")?)?,
        target: row.text("target")?,
        issued_before: row.time("issued_before")?,
        expires_at: row.time("expires_at")?,
    };
    Ok(RevocationRow { revocation, revoked_at: row.time("revoked_at")? })
}

const KINDS: [(RevocationKind, &str); 8] = [
    (RevocationKind::Audit, "audit"),
    (RevocationKind::Chain, "chain"),
    (RevocationKind::User, "user"),
    (RevocationKind::Grant, "grant"),
    (RevocationKind::Role, "role"),
    (RevocationKind::Project, "project"),
    (RevocationKind::Domain, "domain"),
    (RevocationKind::Credential, "credential"),
];

fn kind_name(kind: RevocationKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
}

fn kind_named(name: &str) -> Result<RevocationKind> {
    let found = KINDS.iter().find(|(_, known)| *known == name);
    found.map(|(kind, _)| *kind).ok_or_else(|| Error::internal(format!("a revocation of kind {name}")))
}

pub(crate) async fn ensure_key(tx: &mut Tx, key: &PublicKey, encoded: &str, now: Timestamp) -> Result<()> {
    let sql = "INSERT IGNORE INTO signing_keys (id, public_key, created_at) VALUES (?, ?, ?)";
    tx.execute(sql, args![key.id(), encoded, now]).await?;
    Ok(())
}

/// Encoded, newest first.
pub(crate) async fn keys(tx: &mut Tx) -> Result<Vec<String>> {
    let rows = tx.fetch_all("SELECT public_key FROM signing_keys ORDER BY created_at DESC, id", args![]).await?;
    rows.iter().map(|row| row.text("public_key")).collect()
}
