//! Sharing: an owner names projects, and each decides for itself whether it wants the image in its lists.

use umbel_api::image::{MemberStatus, Visibility};
use umbel_core::{Ctx, Error, Kind, Result};
use umbel_db::{Tx, read, tx};

use super::Caller;
use crate::Images;
use crate::model::{ImageId, Record};
use crate::store::Image;
use crate::store::members::{self as rows, Member};

impl Images {
    pub async fn add_member(&self, ctx: &Ctx, id: ImageId, project: &str) -> Result<Member> {
        if project.is_empty() || project.chars().count() > 255 {
            return Err(Error::bad_request("Member can't be empty"));
        }
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        let member = Member {
            image: id,
            project: project.to_owned(),
            status: MemberStatus::Pending,
            created_at: now,
            updated_at: now,
        };
        let added = tx!(self.db, "add member", |tx| {
            let record = caller.lock(tx, id).await?;
            only_shared(&record)?;
            caller.may_change(&record)?;
            let members = rows::count(tx, id).await? + 1;
            if members > self.config.max_members as u64 {
                let message = format!(
                    "The limit has been exceeded on the number of allowed image members for this image. \
                     Attempted: {members}, Maximum: {}.",
                    self.config.max_members
                );
                return Err(Error::new(Kind::TooLarge, message));
            }
            rows::insert(tx, &member).await
        });
        added.map_err(|error| match error.kind() {
            Kind::Conflict => Error::conflict(format!("Member {project} is duplicated for image {id}")),
            _ => error,
        })?;
        Ok(member)
    }

    /// An owner sees all members, a member itself.
    pub async fn list_members(&self, ctx: &Ctx, id: ImageId) -> Result<Vec<Member>> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "list members", |tx| {
            let record = caller.get(tx, id).await?;
            only_shared(&record)?;
            visible_members(tx, &caller, &record).await
        })
    }

    pub async fn show_member(&self, ctx: &Ctx, id: ImageId, project: &str) -> Result<Member> {
        let caller = Caller::of(ctx)?;
        read!(self.db, "show member", |tx| {
            let record = caller.get(tx, id).await?;
            // Not 403: who may not look must not learn that there is something.
            only_shared(&record).map_err(|error| Error::not_found(error.message().to_owned()))?;
            let members = visible_members(tx, &caller, &record).await?;
            members.into_iter().find(|member| member.project == project).ok_or_else(|| no_member(id, project))
        })
    }

    /// Only the member itself, or an administrator, accepts or rejects.
    pub async fn set_member(&self, ctx: &Ctx, id: ImageId, project: &str, status: MemberStatus) -> Result<Member> {
        let caller = Caller::of(ctx)?;
        let now = self.clock.now();
        tx!(self.db, "set member", |tx| {
            let record = caller.lock(tx, id).await?;
            only_shared(&record)?;
            let members = visible_members(tx, &caller, &record).await?;
            let known = members.into_iter().find(|member| member.project == project);
            let member = known.ok_or_else(|| no_member(id, project))?;
            if !caller.admin && caller.project.as_deref() != Some(project) {
                return Err(Error::forbidden("You are not permitted to modify 'status' on this image member."));
            }
            rows::set_status(tx, id, project, status, now).await?;
            Ok(Member { status, updated_at: now, ..member })
        })
    }

    pub async fn remove_member(&self, ctx: &Ctx, id: ImageId, project: &str) -> Result<()> {
        let caller = Caller::of(ctx)?;
        tx!(self.db, "remove member", |tx| {
            let record = caller.lock(tx, id).await?;
            only_shared(&record)?;
            caller.may_change(&record)?;
            match rows::delete(tx, id, project).await? {
                true => Ok(()),
                false => Err(no_member(id, project)),
            }
        })
    }
}

async fn visible_members(tx: &mut Tx<Image>, caller: &Caller, record: &Record) -> Result<Vec<Member>> {
    let all = caller.admin || caller.owns(record);
    let only = if all { None } else { Some(caller.project.as_deref().unwrap_or("")) };
    rows::list(tx, record.id, only).await
}

fn only_shared(record: &Record) -> Result<()> {
    match record.meta.visibility {
        Visibility::Shared => Ok(()),
        _ => Err(Error::forbidden("Only shared images have members.")),
    }
}

fn no_member(id: ImageId, project: &str) -> Error {
    Error::not_found(format!("{project} not found in the member list of the image {id}."))
}
