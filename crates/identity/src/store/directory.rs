//! How old a copy of roles and catalog is. Writers add one in their own transaction; readers compare.

use umbel_core::Result;
use umbel_db::args;

use super::Tx;

pub(crate) async fn bump(tx: &mut Tx) -> Result<()> {
    tx.execute("UPDATE directory SET generation = generation + 1 WHERE id = 1", args![]).await?;
    Ok(())
}

pub(crate) async fn generation(tx: &mut Tx) -> Result<i64> {
    tx.fetch_one("SELECT generation FROM directory WHERE id = 1", args![]).await?.int("generation")
}
