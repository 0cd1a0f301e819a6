use std::sync::Arc;

use umbel_api::identity::SelfLink;
use umbel_api::identity::ec2::{Ec2Credential, Ec2Request};
use umbel_core::Result;
use umbel_http::{Reply, Req};

use super::{no_content, one, whole};
use crate::Identity;
use crate::service::ec2 as service;
use crate::service::ec2::Ec2;

const ONE: &str = "credential";

fn body(req: &Req, ec2: Ec2) -> Ec2Credential {
    let path = format!("users/{}/credentials/OS-EC2/{}", ec2.user_id, ec2.key.access);
    Ec2Credential {
        links: SelfLink::new(&req.root, &path),
        user_id: ec2.user_id,
        tenant_id: ec2.project_id,
        access: ec2.key.access,
        secret: ec2.key.secret,
        trust_id: None,
    }
}

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let all = service::list(&identity, &req.ctx, req.route.policy, req.param("user_id")?).await?;
    Ok(whole(&req, "credentials", all.into_iter().map(|ec2| body(&req, ec2)).collect()))
}

pub(super) async fn create(identity: Arc<Identity>, mut req: Req) -> Result<Reply> {
    let Ec2Request { tenant_id } = req.json().await?;
    let ec2 = service::create(&identity, &req.ctx, req.route.policy, req.param("user_id")?, &tenant_id).await?;
    Ok(one(201, ONE, body(&req, ec2)))
}

pub(super) async fn show(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (user_id, access) = (req.param("user_id")?, req.param("access")?);
    let ec2 = service::show(&identity, &req.ctx, req.route.policy, user_id, access).await?;
    Ok(one(200, ONE, body(&req, ec2)))
}

pub(super) async fn delete(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let (user_id, access) = (req.param("user_id")?, req.param("access")?);
    service::delete(&identity, &req.ctx, req.route.policy, user_id, access).await?;
    Ok(no_content())
}
