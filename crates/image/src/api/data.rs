use std::sync::Arc;

use umbel_core::{Ctx, Error, Kind, Result};
use umbel_http::{Reply, Req};

use super::images::image_id;
use crate::service::{Range, UploadRequest, drain};
use crate::{Download, ImageId, Images};

const OCTETS: &str = "application/octet-stream";

pub async fn upload(state: Arc<Images>, req: Req) -> Result<Reply> {
    take_in(state, req, Aim::Store).await
}

/// In the default store's pool, whatever the header says: what is staged goes to any store.
pub async fn stage(state: Arc<Images>, mut req: Req) -> Result<Reply> {
    if !state.import_methods().contains(&"glance-direct") {
        drain(Some(req.stream())).await;
        return Err(Error::not_found("'glance-direct' method is not available at this site."));
    }
    req.headers.remove("x-image-meta-store");
    take_in(state, req, Aim::Stage).await
}

#[derive(Clone, Copy)]
enum Aim {
    Store,
    Stage,
}

async fn take_in(state: Arc<Images>, mut req: Req, aim: Aim) -> Result<Reply> {
    let (id, how) = match (image_id(&req), upload_request(&req)) {
        (Ok(id), Ok(how)) => (id, how),
        (Err(error), _) | (_, Err(error)) => {
            drain(Some(req.stream())).await;
            return Err(error);
        }
    };
    let body = req.stream();
    match aim {
        Aim::Store => state.upload(&req.ctx, id, how, body).await?,
        Aim::Stage => state.stage(&req.ctx, id, how, body).await?,
    }
    Ok(Reply::empty(204))
}

/// A client that streams without a length can tell the size in a header of its own (since 2.17).
fn upload_request(req: &Req) -> Result<UploadRequest> {
    if req.content_type().as_deref() != Some(OCTETS) {
        let message = format!("Image data are sent with Content-Type {OCTETS}.");
        return Err(Error::new(Kind::UnsupportedMediaType, message));
    }
    let told = match req.header("x-openstack-image-size") {
        Some(text) => Some(
            text.trim().parse().map_err(|_| Error::bad_request("Invalid or missing image size in request headers."))?,
        ),
        None => None,
    };
    let size = match (told, req.content_length()) {
        (Some(told), Some(length)) if told != length => {
            return Err(Error::bad_request("X-OpenStack-Image-Size and Content-Length differ."));
        }
        (told, length) => told.or(length),
    };
    Ok(UploadRequest { store: req.header("x-image-meta-store").map(str::to_owned), size })
}

pub async fn download(state: Arc<Images>, req: Req) -> Result<Reply> {
    let id = image_id(&req)?;
    let pairs = req.query_pairs();
    let prefer = pairs.iter().find(|(name, _)| name == "prefer").map_or("", |(_, stores)| stores.as_str());
    let prefer: Vec<&str> = prefer.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let found = match state.download(&req.ctx, id, req.header("range"), &prefer).await {
        Err(error) if error.is(Kind::RangeNotSatisfiable) => return state.unsatisfiable(&req.ctx, id, &error).await,
        found => found?,
    };
    let Some(Download { size, checksum, format, range, stream }) = found else {
        return Ok(Reply::empty(204));
    };
    let reply = match range {
        Some(range @ Range { first, last }) => Reply::stream(206, OCTETS, Some(range.length()), stream)
            .header("content-range", format!("bytes {first}-{last}/{size}")),
        // The checksum is of everything (RFC 1864), so a part does not carry it.
        None => match checksum {
            Some(checksum) => Reply::stream(200, OCTETS, Some(size), stream).header("content-md5", checksum),
            None => Reply::stream(200, OCTETS, Some(size), stream),
        },
    };
    // An image may be given other data, its raw twin, after it was shown: who converts must know what these are.
    let reply = match format {
        Some(format) => reply.header("x-umbel-disk-format", format.name()),
        None => reply,
    };
    Ok(reply.header("accept-ranges", "bytes"))
}

impl Images {
    /// 416 says how long the data are.
    async fn unsatisfiable(&self, ctx: &Ctx, id: ImageId, error: &Error) -> Result<Reply> {
        let size = self.show(ctx, id).await?.data.size.unwrap_or(0);
        let title = "Range Not Satisfiable";
        let body = serde_json::json!({"code": format!("416 {title}"), "title": title, "message": error.message()});
        Ok(Reply::json(416, &body).header("content-range", format!("bytes */{size}")))
    }
}
