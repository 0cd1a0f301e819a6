use std::sync::Arc;

use umbel_api::identity::revocations::RevocationEvent;
use umbel_auth::RevocationKind;
use umbel_core::{Result, Timestamp};
use umbel_http::{Reply, Req};

use super::query::Query;
use super::whole;
use crate::Identity;
use crate::store::assignments::SYSTEM;
use crate::store::revocations::RevocationRow;

pub(super) async fn list(identity: Arc<Identity>, req: Req) -> Result<Reply> {
    let since = Query::of(&req).given("since").map(|text| Timestamp::parse(&text)).transpose()?;
    let rows = identity.revocations().await?;
    let rows = rows.into_iter().filter(|row| since.is_none_or(|since| row.revoked_at >= since));
    Ok(whole(&req, "events", rows.map(event).collect()))
}

fn event(row: RevocationRow) -> RevocationEvent {
    let revocation = row.revocation;
    // A single token is revoked whenever it was issued, which no calendar can say.
    let issued_before = revocation.issued_before.min(revocation.expires_at);
    let mut event = RevocationEvent {
        issued_before: issued_before.iso_micros(),
        revoked_at: row.revoked_at.iso_micros(),
        expires_at: revocation.expires_at.iso_micros(),
        ..RevocationEvent::default()
    };
    let target = revocation.target;
    match revocation.kind {
        RevocationKind::Audit => event.audit_id = Some(target),
        RevocationKind::Chain => event.audit_chain_id = Some(target),
        RevocationKind::User => event.user_id = Some(target),
        RevocationKind::Role => event.role_name = Some(target),
        RevocationKind::Project => event.project_id = Some(target),
        RevocationKind::Domain => event.domain_id = Some(target),
        RevocationKind::Credential => event.application_credential_id = Some(target),
        RevocationKind::Grant => {
            let (user_id, scope_id) = target.split_once('/').unwrap_or((&target, SYSTEM));
            event.user_id = Some(user_id.to_owned());
            event.scope_id = Some(scope_id.to_owned());
        }
    }
    event
}
