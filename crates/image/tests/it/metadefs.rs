//! Metadata definitions as clients use them.

use serde_json::{Value, json};
use umbel_api::{Method, Rule};
use umbel_db::Engine;
use umbel_http::Body;

use crate::cloud::Cloud;

const NAMESPACES: &str = "/image/v2/metadefs/namespaces";

fn path(namespace: &str) -> String {
    format!("{NAMESPACES}/{namespace}")
}

/// Values of this field, in order.
fn all(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
}

async fn create(cloud: &Cloud, body: Value) -> Value {
    let made = cloud.call(&cloud.admin(), "POST", NAMESPACES, body).await.expect(201);
    cloud.tick();
    made
}

/// A namespace with something of each kind.
fn full(name: &str) -> Value {
    json!({
        "namespace": name,
        "display_name": "Everything",
        "description": "One of each",
        "visibility": "public",
        "resource_type_associations": [
            {"name": "OS::Glance::Image", "prefix": "hw_"},
            {"name": "My::Own::Type", "properties_target": "metadata"},
        ],
        "properties": {"cores": {"title": "Cores", "type": "integer", "minimum": 1, "default": 1}},
        "objects": [{
            "name": "disk",
            "description": "A disk",
            "required": ["bus"],
            "properties": {"bus": {"title": "Bus", "type": "string", "enum": ["virtio", "scsi"]}},
        }],
        "tags": [{"name": "Fast"}],
    })
}

#[tokio::test]
async fn a_namespace_is_made_shown_changed_and_deleted() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let admin = cloud.admin();
        let sent = cloud.call(&admin, "POST", NAMESPACES, full("ns")).await;
        assert_eq!(sent.header("location"), "http://cloud:1/image/v2/metadefs/namespaces/ns");
        let made = sent.expect(201);
        assert_eq!(made, cloud.get(&cloud.member("q"), &path("ns")).await.expect(200));
        assert_eq!(made["self"], "/v2/metadefs/namespaces/ns");
        assert_eq!(made["schema"], "/v2/schemas/metadefs/namespace");
        assert_eq!((&made["owner"], &made["protected"]), (&json!("ops"), &json!(false)));
        assert_eq!(made["properties"], full("ns")["properties"]);
        assert_eq!(made["tags"], json!([{"name": "Fast"}]));
        assert_eq!(made["objects"][0]["properties"], full("ns")["objects"][0]["properties"]);
        assert_eq!(made["objects"][0]["self"], "/v2/metadefs/namespaces/ns/objects/disk");
        assert_eq!(made["resource_type_associations"].as_array().unwrap().len(), 2);
        cloud.tick();
        let body = json!({"namespace": "renamed", "description": "Other"});
        let changed = cloud.call(&admin, "PUT", &path("ns"), body).await.expect(200);
        assert_eq!((&changed["namespace"], &changed["visibility"]), (&json!("renamed"), &json!("private")));
        assert_eq!((changed.get("display_name"), changed.get("objects")), (None, None));
        assert_eq!(changed["created_at"], made["created_at"]);
        assert_ne!(changed["updated_at"], made["updated_at"]);
        cloud.get(&admin, &path("ns")).await.refused(404, "Metadata definition namespace=ns was not found.");
        assert_eq!(cloud.get(&admin, &path("renamed")).await.expect(200)["tags"], made["tags"]);
        cloud.delete(&admin, &path("renamed")).await.expect(204);
        cloud.delete(&admin, &path("renamed")).await.refused(404, "Namespace renamed not found");
        // What it held went with it.
        create(&cloud, json!({"namespace": "renamed"})).await;
        let again = cloud.get(&admin, &path("renamed")).await.expect(200);
        for field in ["objects", "properties", "tags", "resource_type_associations"] {
            assert_eq!(again.get(field), None, "{engine:?} {field}");
        }
    }
}

#[tokio::test]
async fn a_namespace_is_made_whole_or_not_at_all() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let admin = cloud.admin();
        let twice = json!({"namespace": "ns", "tags": [{"name": "one"}, {"name": "ONE"}]});
        cloud.call(&admin, "POST", NAMESPACES, twice).await.refused(409, "case insensitive");
        cloud.get(&admin, &path("ns")).await.expect(404);
        create(&cloud, full("ns")).await;
        create(&cloud, json!({"namespace": "other"})).await;
        let again = cloud.call(&admin, "POST", NAMESPACES, full("ns")).await;
        again.refused(409, "The metadata definition namespace=ns already exists.");
        let renamed = cloud.call(&admin, "PUT", &path("other"), json!({"namespace": "ns"})).await;
        renamed.refused(409, "duplicate metadata definition namespace");
    }
}

#[tokio::test]
async fn what_no_schema_allows_is_refused() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    for (body, status) in [
        (json!({}), 400),
        (json!([]), 400),
        (json!({"namespace": ""}), 400),
        (json!({"namespace": "x".repeat(81)}), 400),
        (json!({"namespace": "n", "description": "x".repeat(501)}), 400),
        (json!({"namespace": "n", "visibility": "shared"}), 400),
        (json!({"namespace": "n", "colour": "red"}), 400),
        (json!({"namespace": "n\u{0}"}), 400),
        (json!({"namespace": "n", "properties": {"p": {"type": "string"}}}), 400),
        (json!({"namespace": "n", "properties": {"p": {"title": "P", "type": "colour"}}}), 400),
        (json!({"namespace": "n", "objects": [{"description": "no name"}]}), 400),
        (json!({"namespace": "n", "tags": [{"name": "x".repeat(81)}]}), 400),
        (json!({"namespace": "n", "self": "/v2"}), 403),
        (json!({"namespace": "n", "created_at": "2026-11-21T00:00:00Z"}), 403),
    ] {
        cloud.call(&admin, "POST", NAMESPACES, body).await.expect(status);
    }
    create(&cloud, json!({"namespace": "n"})).await;
    for (kind, body, status) in [
        ("objects", json!({"name": "o", "required": ["a", "a"]}), 400),
        ("objects", json!({"name": "o", "properties": {"p": {"title": "P"}}}), 400),
        ("objects", json!({"name": "o", "schema": "x"}), 403),
        ("properties", json!({"title": "P", "type": "string"}), 400),
        ("properties", json!({"name": "p", "title": "P", "type": "string", "updated_at": "now"}), 403),
        ("tags", json!({}), 400),
        ("tags", json!({"tags": [{"name": ""}]}), 400),
        ("resource_types", json!({"prefix": "hw_"}), 400),
        ("resource_types", json!({"name": "t", "prefix": "x".repeat(81)}), 400),
    ] {
        cloud.call(&admin, "POST", &format!("{}/{kind}", path("n")), body).await.expect(status);
    }
    cloud.call(&admin, "POST", &format!("{}/tags/{}", path("n"), "x".repeat(81)), Value::Null).await.expect(400);
    cloud.get(&admin, &path("%00")).await.expect(404);
    cloud.get(&admin, &format!("{}/tags/%00", path("n"))).await.expect(404);
    cloud.get(&admin, &format!("{NAMESPACES}?marker=%00")).await.expect(400);
}

#[tokio::test]
async fn a_protected_namespace_keeps_what_it_holds() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        let admin = cloud.admin();
        let mut body = full("ns");
        body["protected"] = json!(true);
        create(&cloud, body).await;
        for (below, words) in [
            ("", "Metadata definition namespace ns is protected and cannot be deleted."),
            ("/objects", "namespace ns is protected"),
            ("/properties", "namespace ns is protected"),
            ("/tags", "namespace ns is protected"),
            ("/objects/disk", "Metadata definition object disk is protected and cannot be deleted."),
            ("/properties/cores", "property cores is protected"),
            ("/tags/Fast", "tag Fast is protected"),
            ("/resource_types/OS::Glance::Image", "resource-type-association OS::Glance::Image is protected"),
        ] {
            cloud.delete(&admin, &format!("{}{below}", path("ns"))).await.refused(403, words);
        }
        // It can change, and be unprotected.
        cloud.call(&admin, "PUT", &format!("{}/tags/Fast", path("ns")), json!({"name": "Slow"})).await.expect(200);
        cloud.call(&admin, "PUT", &path("ns"), json!({"namespace": "ns", "protected": false})).await.expect(200);
        for below in ["/objects/disk", "/properties", "/tags/Slow", "/resource_types/OS::Glance::Image", ""] {
            cloud.delete(&admin, &format!("{}{below}", path("ns"))).await.expect(204);
        }
    }
}

#[tokio::test]
async fn others_see_public_namespaces_only() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        for (name, visibility, owner) in [("a", "public", "p"), ("b", "private", "p"), ("c", "private", "q")] {
            let mut body = full(name);
            body["visibility"] = json!(visibility);
            body["owner"] = json!(owner);
            create(&cloud, body).await;
        }
        let list = async |token: &str, query: &str| {
            let body = cloud.get(token, &format!("{NAMESPACES}{query}")).await.expect(200);
            all(&body["namespaces"], "namespace")
        };
        let (p, q, admin) = (cloud.member("p"), cloud.member("q"), cloud.admin());
        assert_eq!(list(&p, "").await, ["b", "a"]);
        assert_eq!(list(&q, "").await, ["c", "a"]);
        assert_eq!(list(&q, "?visibility=private").await, ["c"]);
        assert_eq!(list(&admin, "").await, ["c", "b", "a"]);
        assert_eq!(list(&admin, "?visibility=public").await, ["a"]);
        cloud.get(&q, &format!("{NAMESPACES}?marker=b")).await.expect(404);
        let reads = [
            "",
            "/objects",
            "/objects/disk",
            "/properties",
            "/properties/cores",
            "/properties/hw_cores?resource_type=OS::Glance::Image",
            "/tags",
            "/tags/Fast",
            "/resource_types",
        ];
        for below in reads {
            for (name, status) in [("a", 200), ("b", 404), ("c", 200)] {
                let answer = cloud.get(&q, &format!("{}{below}", path(name))).await;
                assert_eq!(answer.status, status, "{engine:?} {name}{below}");
            }
        }
        // Neither does a service that acts for a user.
        let headers = [("x-auth-token", q.as_str()), ("x-service-token", &cloud.service())];
        cloud.send("GET", &path("b"), &headers, Body::empty()).await.expect(404);
    }
}

#[tokio::test]
async fn every_route_is_for_whom_upstream_says() {
    let cloud = Cloud::new().await;
    create(&cloud, full("ns")).await;
    let routes = umbel_image::service(cloud.images.clone()).table();
    let definitions: Vec<_> = routes.into_iter().filter(|route| route.path.contains("/metadefs/")).collect();
    assert_eq!(definitions.len(), 29);
    let (nobody, reader) = (cloud.token("p", &[]), cloud.token("p", &["reader"]));
    for route in definitions {
        let method = route.method.name();
        let target = route.path.replace("{namespace}", "ns").replace("{schema}", "tag").replace("{name}", "none");
        let target = format!("/image{target}");
        let status = async |token: &str| cloud.call(token, method, &target, Value::Null).await.status;
        assert_eq!(status("").await, 401, "{method} {target}");
        match route.rule {
            Rule::Authenticated => assert_eq!(status(&nobody).await, 200, "{method} {target}"),
            Rule::Reader => {
                assert_eq!(status(&nobody).await, 403, "{method} {target}");
                assert!([200, 404].contains(&status(&reader).await), "{method} {target}");
            }
            Rule::Admin => {
                assert_eq!(status(&cloud.member("p")).await, 403, "{method} {target}");
                assert_eq!(status(&cloud.token("ops", &["member", "reader"])).await, 403, "{method} {target}");
            }
            other => panic!("{method} {target}: {other:?}"),
        }
        assert_eq!(route.method == Method::Get, route.rule != Rule::Admin, "{method} {target}");
    }
}

#[tokio::test]
async fn lists_of_namespaces_are_paged_sorted_and_filtered() {
    for engine in Engine::ALL {
        let cloud = Cloud::on(engine).await;
        for (name, display) in [("b", Some("1")), ("a", None), ("c", Some("2")), ("d", None)] {
            let mut body = json!({"namespace": name, "visibility": "public"});
            if let Some(display) = display {
                body["display_name"] = json!(display);
                body["resource_type_associations"] = json!([{"name": format!("T{display}")}, {"name": "T"}]);
            }
            create(&cloud, body).await;
        }
        let token = cloud.member("p");
        let get = async |query: &str| cloud.get(&token, &format!("{NAMESPACES}{query}")).await.expect(200);
        let names = async |query: &str| all(&get(query).await["namespaces"], "namespace");
        assert_eq!(names("").await, ["d", "c", "a", "b"]);
        assert_eq!(names("?sort_key=namespace&sort_dir=asc").await, ["a", "b", "c", "d"]);
        assert_eq!(names("?limit=0").await, Vec::<String>::new());
        assert_eq!(names("?resource_types=T1").await, ["b"]);
        assert_eq!(names("?resource_types=T,T2").await, ["c", "b"]);
        assert_eq!(names("?resource_types=").await, Vec::<String>::new());
        for sort in ["namespace", "display_name", "owner", "visibility", "created_at", "updated_at"] {
            for direction in ["asc", "desc"] {
                let query = format!("?sort_key={sort}&sort_dir={direction}");
                let whole = names(&query).await;
                let (mut paged, mut next) = (Vec::new(), Some(format!("{query}&limit=1")));
                while let Some(query) = next {
                    let page = get(&query).await;
                    paged.extend(all(&page["namespaces"], "namespace"));
                    assert!(page["first"].as_str().unwrap().starts_with("/v2/metadefs/namespaces?sort_key="));
                    next = page.get("next").map(|next| {
                        let next = next.as_str().unwrap();
                        next.strip_prefix("/v2/metadefs/namespaces").unwrap().to_owned()
                    });
                }
                assert_eq!(paged, whole, "{engine:?} {query}");
            }
        }
        let body = get("").await;
        assert_eq!((&body["first"], body.get("next")), (&json!("/v2/metadefs/namespaces"), None));
        assert_eq!(body["schema"], "/v2/schemas/metadefs/namespaces");
        assert_eq!(all(&body["namespaces"][1]["resource_type_associations"], "name"), ["T", "T2"]);
        assert_eq!(body["namespaces"][0].get("resource_type_associations"), None);
        for bad in ["limit=x", "limit=-1", "sort_key=id;", "sort_dir=up", "visibility=shared"] {
            cloud.get(&token, &format!("{NAMESPACES}?{bad}")).await.expect(400);
        }
        cloud.get(&token, &format!("{NAMESPACES}?marker=none")).await.expect(404);
    }
}

#[tokio::test]
async fn schemas_describe_definitions() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    for (schema, name) in [
        ("namespace", "namespace"),
        ("namespaces", "namespaces"),
        ("object", "object"),
        ("objects", "objects"),
        ("property", "property"),
        ("properties", "properties"),
        ("tag", "tag"),
        ("tags", "tags"),
        ("resource_type", "resource_type_association"),
        ("resource_types", "resource_type_associations"),
    ] {
        let body = cloud.get(&token, &format!("/image/v2/schemas/metadefs/{schema}")).await.expect(200);
        assert_eq!(body["name"], name);
    }
    cloud.get(&token, "/image/v2/schemas/metadefs/other").await.expect(404);
    let schema = cloud.get(&token, "/image/v2/schemas/metadefs/namespace").await.expect(200);
    for name in create(&cloud, full("ns")).await.as_object().unwrap().keys() {
        assert!(schema["properties"].get(name).is_some(), "the schema lacks {name}");
    }
}
