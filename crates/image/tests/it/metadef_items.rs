//! What namespaces of metadata definitions hold.

use serde_json::{Value, json};
use umbel_db::Engine;
use umbel_http::Body;

use crate::cloud::{Answer, Cloud};

const NS: &str = "/image/v2/metadefs/namespaces/ns";

async fn cloud_with(engine: Engine, body: Value) -> Cloud {
    let cloud = Cloud::on(engine).await;
    let mut body = body;
    body["namespace"] = json!("ns");
    body["visibility"] = json!("public");
    cloud.call(&cloud.admin(), "POST", "/image/v2/metadefs/namespaces", body).await.expect(201);
    cloud.tick();
    cloud
}

/// As an administrator, below the namespace.
async fn call(cloud: &Cloud, method: &str, below: &str, body: Value) -> Answer {
    cloud.call(&cloud.admin(), method, &format!("{NS}/{below}"), body).await
}

async fn names(cloud: &Cloud, query: &str, field: &str) -> Vec<String> {
    let body = cloud.get(&cloud.member("p"), &format!("{NS}/{query}")).await.expect(200);
    body[field].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn objects_have_a_life() {
    for engine in Engine::ALL {
        let cloud = cloud_with(engine, json!({})).await;
        let bus = json!({"bus": {"title": "Bus", "type": "string", "enum": ["virtio", "scsi"], "readonly": true}});
        let body = json!({"name": "disk", "description": "A disk", "required": ["bus"], "properties": bus});
        let made = call(&cloud, "POST", "objects", body.clone()).await.expect(201);
        assert_eq!((&made["properties"], &made["required"]), (&bus, &json!(["bus"])));
        assert_eq!(made["self"], "/v2/metadefs/namespaces/ns/objects/disk");
        assert_eq!(made["schema"], "/v2/schemas/metadefs/object");
        assert_eq!(cloud.get(&cloud.member("p"), &format!("{NS}/objects/disk")).await.expect(200), made);
        let again = call(&cloud, "POST", "objects", body).await;
        again.refused(409, "A metadata definition object with name=disk already exists in namespace=ns.");
        cloud.tick();
        call(&cloud, "POST", "objects", json!({"name": "cpu"})).await.expect(201);
        assert_eq!(names(&cloud, "objects", "objects").await, ["cpu", "disk"]);
        let taken = call(&cloud, "PUT", "objects/disk", json!({"name": "cpu"})).await;
        taken.refused(409, "Invalid update.");
        let changed = call(&cloud, "PUT", "objects/disk", json!({"name": "drive"})).await.expect(200);
        assert_eq!((&changed["name"], &changed["properties"]), (&json!("drive"), &json!({})));
        assert_eq!(changed["created_at"], made["created_at"]);
        assert_ne!(changed["updated_at"], made["updated_at"]);
        // What stays as it is can be said again.
        call(&cloud, "PUT", "objects/drive", json!({"name": "drive"})).await.expect(200);
        let missing = "The metadata definition object with name=disk was not found in namespace=ns.";
        call(&cloud, "GET", "objects/disk", Value::Null).await.refused(404, missing);
        call(&cloud, "PUT", "objects/disk", json!({"name": "disk"})).await.refused(404, missing);
        call(&cloud, "DELETE", "objects/disk", Value::Null).await.refused(404, missing);
        call(&cloud, "DELETE", "objects/drive", Value::Null).await.expect(204);
        call(&cloud, "DELETE", "objects", Value::Null).await.expect(204);
        assert_eq!(names(&cloud, "objects", "objects").await, Vec::<String>::new());
        call(&cloud, "DELETE", "objects", Value::Null).await.expect(204);
    }
}

#[tokio::test]
async fn properties_have_a_life() {
    for engine in Engine::ALL {
        let cloud = cloud_with(engine, json!({})).await;
        let body = json!({
            "name": "OS::Nova::Server", "title": "T", "type": "array", "items": {"type": "string", "enum": ["a"]},
            "minItems": 1, "maxItems": 3, "uniqueItems": true, "default": ["a"], "operators": ["<or>"],
        });
        assert_eq!(call(&cloud, "POST", "properties", body.clone()).await.expect(201), body);
        call(&cloud, "POST", "properties", body.clone()).await.refused(409, "property with name=OS::Nova::Server");
        let one = "properties/OS::Nova::Server";
        assert_eq!(call(&cloud, "GET", one, Value::Null).await.expect(200), body);
        let list = call(&cloud, "GET", "properties", Value::Null).await.expect(200);
        let mut nameless = body.clone();
        nameless.as_object_mut().unwrap().remove("name");
        assert_eq!(list, json!({"properties": {"OS::Nova::Server": nameless}}));
        let other = json!({"name": "size", "title": "Size", "type": "number", "minimum": 0.5, "maximum": 8});
        assert_eq!(call(&cloud, "PUT", one, other.clone()).await.expect(200), other);
        call(&cloud, "GET", one, Value::Null).await.refused(404, "was not found in namespace=ns.");
        call(&cloud, "PUT", "properties/size", json!({"title": "Size", "type": "number"})).await.expect(400);
        call(&cloud, "DELETE", "properties/size", Value::Null).await.expect(204);
        call(&cloud, "POST", "properties", other).await.expect(201);
        call(&cloud, "DELETE", "properties", Value::Null).await.expect(204);
        assert_eq!(call(&cloud, "GET", "properties", Value::Null).await.expect(200), json!({"properties": {}}));
    }
}

#[tokio::test]
async fn properties_have_a_prefix_on_resources() {
    let body = json!({
        "resource_type_associations": [{"name": "OS::Glance::Image", "prefix": "hw_"}, {"name": "OS::Nova::Flavor"}],
        "properties": {"cores": {"title": "Cores", "type": "integer"}},
        "objects": [{"name": "o", "required": ["x"], "properties": {"x": {"title": "X", "type": "string"}}}],
    });
    let cloud = cloud_with(Engine::Sqlite, body).await;
    let show = async |query: &str| cloud.get(&cloud.admin(), &format!("{NS}{query}")).await.expect(200);
    for (query, prefix) in [
        ("", ""),
        ("?resource_type=OS::Glance::Image", "hw_"),
        ("?resource_type=OS::Nova::Flavor", ""),
        ("?resource_type=Unknown", ""),
    ] {
        let shown = show(query).await;
        assert!(shown["properties"].get(format!("{prefix}cores")).is_some(), "{query}: {shown}");
        let object = &shown["objects"][0];
        assert!(object["properties"].get(format!("{prefix}x")).is_some(), "{query}: {shown}");
        assert_eq!(object["required"], json!([format!("{prefix}x")]), "{query}");
    }
    assert_eq!(show("/properties/hw_cores?resource_type=OS::Glance::Image").await["name"], "cores");
    assert_eq!(show("/properties/cores?resource_type=OS::Nova::Flavor").await["name"], "cores");
    let bare = call(&cloud, "GET", "properties/cores?resource_type=OS::Glance::Image", Value::Null).await;
    bare.refused(404, "does not start with the expected resource type association prefix of 'hw_'");
    let unknown = call(&cloud, "GET", "properties/cores?resource_type=Unknown", Value::Null).await;
    unknown.refused(404, "resource-type association of resource-type=Unknown");
}

#[tokio::test]
async fn tags_have_a_life() {
    for engine in Engine::ALL {
        let cloud = cloud_with(engine, json!({})).await;
        let made = call(&cloud, "POST", "tags/Fast", Value::Null).await.expect(201);
        assert_eq!((&made["name"], &made["created_at"]), (&json!("Fast"), &made["updated_at"]));
        call(&cloud, "POST", "tags/FAST", Value::Null).await.refused(409, "already exists in namespace=ns.");
        assert_eq!(call(&cloud, "GET", "tags/fast", Value::Null).await.expect(200), made);
        cloud.tick();
        let renamed = call(&cloud, "PUT", "tags/Fast", json!({"name": "fast"})).await.expect(200);
        assert_eq!((&renamed["name"], &renamed["created_at"]), (&json!("fast"), &made["created_at"]));
        call(&cloud, "PUT", "tags/none", json!({"name": "x"})).await.refused(404, "tag with name=none was not found");
        call(&cloud, "POST", "tags/slow", Value::Null).await.expect(201);
        call(&cloud, "PUT", "tags/slow", json!({"name": "Fast"})).await.refused(409, "duplicate");
        assert_eq!(names(&cloud, "tags", "tags").await, ["slow", "fast"]);
        call(&cloud, "DELETE", "tags/fast", Value::Null).await.expect(204);
        call(&cloud, "DELETE", "tags/fast", Value::Null).await.expect(404);
        call(&cloud, "DELETE", "tags", Value::Null).await.expect(204);
        assert_eq!(names(&cloud, "tags", "tags").await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn many_tags_come_in_place_of_others_or_beside_them() {
    for engine in Engine::ALL {
        let cloud = cloud_with(engine, json!({"tags": [{"name": "old"}]})).await;
        let several = |names: &[&str]| {
            let tags: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({ "tags": tags })
        };
        let append = async |value: &str, body: Value| {
            let token = cloud.admin();
            let headers =
                [("x-auth-token", token.as_str()), ("content-type", "application/json"), ("x-openstack-append", value)];
            cloud.send("POST", &format!("{NS}/tags"), &headers, Body::from(body.to_string())).await
        };
        let made = call(&cloud, "POST", "tags", several(&["b", "a"])).await.expect(201);
        assert_eq!(made, several(&["b", "a"]));
        let sorted = "tags?sort_key=name&sort_dir=asc";
        assert_eq!(names(&cloud, sorted, "tags").await, ["a", "b"]);
        append("True", several(&["c", "d"])).await.expect(201);
        assert_eq!(names(&cloud, sorted, "tags").await, ["a", "b", "c", "d"]);
        append("true", several(&["e", "A"])).await.refused(409, "A metadata tag with name=A already exists");
        call(&cloud, "POST", "tags", several(&["x", "X"])).await.expect(409);
        assert_eq!(names(&cloud, sorted, "tags").await, ["a", "b", "c", "d"], "{engine:?}");
        // Of no tags nothing comes of it, as upstream has it.
        call(&cloud, "POST", "tags", several(&[])).await.expect(201);
        assert_eq!(names(&cloud, "tags?sort_key=name&limit=2", "tags").await, ["d", "c"]);
        assert_eq!(names(&cloud, "tags?sort_key=name&limit=2&marker=c", "tags").await, ["b", "a"]);
        call(&cloud, "GET", "tags?marker=none", Value::Null).await.expect(404);
        append("false", several(&["z"])).await.expect(201);
        assert_eq!(names(&cloud, "tags", "tags").await, ["z"]);
    }
}

#[tokio::test]
async fn namespaces_are_meant_for_resource_types() {
    for engine in Engine::ALL {
        let cloud = cloud_with(engine, json!({})).await;
        let token = cloud.member("p");
        let known = async || {
            let body = cloud.get(&token, "/image/v2/metadefs/resource_types").await.expect(200);
            let types = body["resource_types"].as_array().unwrap().clone();
            types.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let shipped = ["Cinder::Volume", "Glance::Image", "Nova::Aggregate", "Nova::Flavor", "Nova::Server"];
        let before = known().await;
        for name in shipped {
            assert!(before.contains(&format!("OS::{name}")), "{engine:?} {name}");
        }
        let body = json!({"name": "OS::Cinder::Volume", "prefix": "hw_", "properties_target": "image"});
        let made = call(&cloud, "POST", "resource_types", body.clone()).await.expect(201);
        assert_eq!((&made["prefix"], &made["properties_target"]), (&json!("hw_"), &json!("image")));
        let again = call(&cloud, "POST", "resource_types", body).await;
        again.refused(409, "resource-type=OS::Cinder::Volume to namespace=ns already exists.");
        assert_eq!(known().await, before);
        call(&cloud, "POST", "resource_types", json!({"name": "My::Type"})).await.expect(201);
        assert_eq!(known().await.len(), before.len() + 1);
        let field = "resource_type_associations";
        assert_eq!(names(&cloud, "resource_types?sort_key=name", field).await, ["OS::Cinder::Volume", "My::Type"]);
        call(&cloud, "DELETE", "resource_types/OS::Cinder::Volume", Value::Null).await.expect(204);
        let gone = call(&cloud, "DELETE", "resource_types/OS::Cinder::Volume", Value::Null).await;
        gone.refused(404, "Failed to find resource type OS::Cinder::Volume to delete");
        assert_eq!(names(&cloud, "resource_types", field).await, ["My::Type"]);
        // The type itself stays known.
        assert!(known().await.contains(&"OS::Cinder::Volume".to_owned()));
    }
}

#[tokio::test]
async fn nothing_is_put_into_a_namespace_that_is_not_there() {
    let cloud = Cloud::new().await;
    for (method, below, body) in [
        ("POST", "objects", json!({"name": "o"})),
        ("PUT", "objects/o", json!({"name": "o"})),
        ("POST", "properties", json!({"name": "p", "title": "P", "type": "string"})),
        ("POST", "tags/t", Value::Null),
        ("POST", "tags", json!({"tags": [{"name": "t"}]})),
        ("POST", "resource_types", json!({"name": "T"})),
        ("DELETE", "tags", Value::Null),
        ("GET", "tags", Value::Null),
    ] {
        call(&cloud, method, below, body).await.refused(404, "Namespace ns not found");
    }
    call(&cloud, "GET", "objects", Value::Null).await.refused(404, "namespace=ns was not found.");
}
