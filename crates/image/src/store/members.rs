use umbel_api::image::MemberStatus;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::{Row, Sql, Tx, args};

use super::Image;
use crate::model::ImageId;

/// A project that an image is shared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub image: ImageId,
    pub project: String,
    pub status: MemberStatus,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

const COLUMNS: &str = "SELECT image_id, member_id, status, created_at, updated_at FROM image_members";

/// [`umbel_core::Kind::Conflict`] if it is one already.
pub async fn insert(tx: &mut Tx<Image>, member: &Member) -> Result<()> {
    let sql = "INSERT INTO image_members (image_id, member_id, status, created_at, updated_at) VALUES (?, ?, ?, ?, ?)";
    let values = args![member.image, &member.project, member.status.name(), member.created_at, member.updated_at];
    tx.execute(sql, values).await?;
    Ok(())
}

/// All of an image's, or the one project's: a member sees itself only.
pub async fn list(tx: &mut Tx<Image>, image: ImageId, only: Option<&str>) -> Result<Vec<Member>> {
    let mut sql = Sql::new(COLUMNS).and("image_id = ?", args![image]);
    if let Some(project) = only {
        sql = sql.and("member_id = ?", args![project]);
    }
    tx.select(sql.push("ORDER BY created_at, member_id")).await?.iter().map(member).collect()
}

pub async fn count(tx: &mut Tx<Image>, image: ImageId) -> Result<u64> {
    let sql = "SELECT COUNT(*) AS members FROM image_members WHERE image_id = ?";
    tx.fetch_one(sql, args![image]).await?.uint("members")
}

/// False if there is none.
pub async fn set_status(
    tx: &mut Tx<Image>,
    image: ImageId,
    project: &str,
    status: MemberStatus,
    now: Timestamp,
) -> Result<bool> {
    let sql = "UPDATE image_members SET status = ?, updated_at = ? WHERE image_id = ? AND member_id = ?";
    Ok(tx.execute(sql, args![status.name(), now, image, project]).await? > 0)
}

/// False if there is none.
pub async fn delete(tx: &mut Tx<Image>, image: ImageId, project: &str) -> Result<bool> {
    let sql = "DELETE FROM image_members WHERE image_id = ? AND member_id = ?";
    Ok(tx.execute(sql, args![image, project]).await? > 0)
}

fn member(row: &Row) -> Result<Member> {
    Ok(Member {
        image: row.id("image_id")?,
        project: row.text("member_id")?,
        status: row.text("status")?.parse().map_err(|error: Error| Error::internal(error).because("a member's row"))?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
