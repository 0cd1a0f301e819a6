use crate::{Method, Route, Rule};

pub static UPLOAD: Route = Route::new(Method::Put, "/v2/images/{image_id}/file", "upload_image", Rule::Member);
pub static DOWNLOAD: Route = Route::new(Method::Get, "/v2/images/{image_id}/file", "download_image", Rule::Member);
