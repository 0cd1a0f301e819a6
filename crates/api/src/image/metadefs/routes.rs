use crate::{Method, Route, Rule};

pub static LIST_NAMESPACES: Route =
    Route::new(Method::Get, "/v2/metadefs/namespaces", "get_metadef_namespaces", Rule::Reader);
pub static CREATE_NAMESPACE: Route =
    Route::new(Method::Post, "/v2/metadefs/namespaces", "add_metadef_namespace", Rule::Admin);
pub static SHOW_NAMESPACE: Route =
    Route::new(Method::Get, "/v2/metadefs/namespaces/{namespace}", "get_metadef_namespace", Rule::Reader);
pub static UPDATE_NAMESPACE: Route =
    Route::new(Method::Put, "/v2/metadefs/namespaces/{namespace}", "modify_metadef_namespace", Rule::Admin);
pub static DELETE_NAMESPACE: Route =
    Route::new(Method::Delete, "/v2/metadefs/namespaces/{namespace}", "delete_metadef_namespace", Rule::Admin);

pub static LIST_OBJECTS: Route =
    Route::new(Method::Get, "/v2/metadefs/namespaces/{namespace}/objects", "get_metadef_objects", Rule::Reader);
pub static CREATE_OBJECT: Route =
    Route::new(Method::Post, "/v2/metadefs/namespaces/{namespace}/objects", "add_metadef_object", Rule::Admin);
pub static CLEAR_OBJECTS: Route =
    Route::new(Method::Delete, "/v2/metadefs/namespaces/{namespace}/objects", "delete_metadef_namespace", Rule::Admin);
pub static SHOW_OBJECT: Route =
    Route::new(Method::Get, "/v2/metadefs/namespaces/{namespace}/objects/{name}", "get_metadef_object", Rule::Reader);
pub static UPDATE_OBJECT: Route =
    Route::new(Method::Put, "/v2/metadefs/namespaces/{namespace}/objects/{name}", "modify_metadef_object", Rule::Admin);
pub static DELETE_OBJECT: Route = Route::new(
    Method::Delete,
    "/v2/metadefs/namespaces/{namespace}/objects/{name}",
    "delete_metadef_object",
    Rule::Admin,
);

pub static LIST_PROPERTIES: Route =
    Route::new(Method::Get, "/v2/metadefs/namespaces/{namespace}/properties", "get_metadef_properties", Rule::Reader);
pub static CREATE_PROPERTY: Route =
    Route::new(Method::Post, "/v2/metadefs/namespaces/{namespace}/properties", "add_metadef_property", Rule::Admin);
pub static CLEAR_PROPERTIES: Route = Route::new(
    Method::Delete,
    "/v2/metadefs/namespaces/{namespace}/properties",
    "delete_metadef_namespace",
    Rule::Admin,
);
pub static SHOW_PROPERTY: Route = Route::new(
    Method::Get,
    "/v2/metadefs/namespaces/{namespace}/properties/{name}",
    "get_metadef_property",
    Rule::Reader,
);
pub static UPDATE_PROPERTY: Route = Route::new(
    Method::Put,
    "/v2/metadefs/namespaces/{namespace}/properties/{name}",
    "modify_metadef_property",
    Rule::Admin,
);
pub static DELETE_PROPERTY: Route = Route::new(
    Method::Delete,
    "/v2/metadefs/namespaces/{namespace}/properties/{name}",
    "remove_metadef_property",
    Rule::Admin,
);

pub static LIST_TAGS: Route =
    Route::new(Method::Get, "/v2/metadefs/namespaces/{namespace}/tags", "get_metadef_tags", Rule::Reader);
pub static CREATE_TAGS: Route =
    Route::new(Method::Post, "/v2/metadefs/namespaces/{namespace}/tags", "add_metadef_tags", Rule::Admin);
pub static CREATE_TAG: Route =
    Route::new(Method::Post, "/v2/metadefs/namespaces/{namespace}/tags/{name}", "add_metadef_tag", Rule::Admin);
pub static CLEAR_TAGS: Route =
    Route::new(Method::Delete, "/v2/metadefs/namespaces/{namespace}/tags", "delete_metadef_tags", Rule::Admin);
pub static SHOW_TAG: Route =
    Route::new(Method::Get, "/v2/metadefs/namespaces/{namespace}/tags/{name}", "get_metadef_tag", Rule::Reader);
pub static UPDATE_TAG: Route =
    Route::new(Method::Put, "/v2/metadefs/namespaces/{namespace}/tags/{name}", "modify_metadef_tag", Rule::Admin);
pub static DELETE_TAG: Route =
    Route::new(Method::Delete, "/v2/metadefs/namespaces/{namespace}/tags/{name}", "delete_metadef_tag", Rule::Admin);

pub static LIST_RESOURCE_TYPES: Route =
    Route::new(Method::Get, "/v2/metadefs/resource_types", "list_metadef_resource_types", Rule::Reader);
pub static LIST_ASSOCIATIONS: Route = Route::new(
    Method::Get,
    "/v2/metadefs/namespaces/{namespace}/resource_types",
    "get_metadef_resource_type",
    Rule::Reader,
);
pub static CREATE_ASSOCIATION: Route = Route::new(
    Method::Post,
    "/v2/metadefs/namespaces/{namespace}/resource_types",
    "add_metadef_resource_type_association",
    Rule::Admin,
);
pub static DELETE_ASSOCIATION: Route = Route::new(
    Method::Delete,
    "/v2/metadefs/namespaces/{namespace}/resource_types/{name}",
    "remove_metadef_resource_type_association",
    Rule::Admin,
);

/// `namespace`, `object`, `property`, `tag`, `resource_type` and their lists: JSON schemas.
pub static SHOW_SCHEMA: Route =
    Route::new(Method::Get, "/v2/schemas/metadefs/{schema}", "get_schema", Rule::Authenticated);
