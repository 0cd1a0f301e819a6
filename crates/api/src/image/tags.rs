use crate::{Method, Route, Rule};

pub static CREATE_TAG: Route =
    Route::new(Method::Put, "/v2/images/{image_id}/tags/{tag}", "modify_image", Rule::Member);
pub static DELETE_TAG: Route =
    Route::new(Method::Delete, "/v2/images/{image_id}/tags/{tag}", "modify_image", Rule::Member);
