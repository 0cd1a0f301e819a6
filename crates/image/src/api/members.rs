use std::sync::Arc;

use umbel_api::image::{self as wire, MemberList, NewMember, UpdateMember};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::Images;
use crate::store::members::Member;

pub async fn create(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let id = image_id(&req)?;
    let body: NewMember = req.json().await?;
    let member = state.add_member(&req.ctx, id, &body.member).await?;
    Ok(Reply::json(200, &view(&member)))
}

pub async fn list(state: Arc<Images>, req: Req) -> Result<Reply> {
    let members = state.list_members(&req.ctx, image_id(&req)?).await?;
    let body = MemberList { members: members.iter().map(view).collect(), schema: "/v2/schemas/members".into() };
    Ok(Reply::json(200, &body))
}

pub async fn show(state: Arc<Images>, req: Req) -> Result<Reply> {
    let member = state.show_member(&req.ctx, image_id(&req)?, req.param("member_id")?).await?;
    Ok(Reply::json(200, &view(&member)))
}

pub async fn update(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    let id = image_id(&req)?;
    let body: UpdateMember = req.json().await?;
    let member = state.set_member(&req.ctx, id, req.param("member_id")?, body.status.parse()?).await?;
    Ok(Reply::json(200, &view(&member)))
}

pub async fn delete(state: Arc<Images>, req: Req) -> Result<Reply> {
    state.remove_member(&req.ctx, image_id(&req)?, req.param("member_id")?).await?;
    Ok(Reply::empty(204))
}

fn view(member: &Member) -> wire::Member {
    wire::Member {
        member_id: member.project.clone(),
        image_id: member.image,
        status: member.status,
        created_at: member.created_at.iso(),
        updated_at: member.updated_at.iso(),
        schema: "/v2/schemas/member".into(),
    }
}
