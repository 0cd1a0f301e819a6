//! Who may do what.

use serde_json::{Value, json};
use umbel_api::Rule;
use umbel_identity::service;

use crate::cloud::{ADMIN_PASSWORD, Cloud, DEMO_PASSWORD, column};

#[tokio::test]
async fn no_route_answers_without_a_token() {
    let cloud = Cloud::new().await;
    let table = service(cloud.identity.clone()).table();
    assert!(table.len() > 120, "{}", table.len());
    for route in table.into_iter().filter(|route| route.rule != Rule::Public) {
        let path = format!("/identity{}", route.path.replace(['{', '}'], ""));
        for token in ["", "nonsense"] {
            let answer = cloud.call(route.method.name(), &path, token, json!({})).await;
            assert_eq!(answer.status, 401, "{} {path}", route.method.name());
        }
    }
}

#[tokio::test]
async fn public_routes_are_few() {
    let cloud = Cloud::new().await;
    let table = service(cloud.identity.clone()).table();
    let mut public: Vec<String> = table
        .iter()
        .filter(|route| route.rule == Rule::Public)
        .map(|route| format!("{} {}", route.method.name(), route.path))
        .collect();
    public.sort();
    let want =
        ["GET /", "GET /v3", "GET /v3/OS-TOKEN/keys", "POST /v3/auth/tokens", "POST /v3/users/{user_id}/password"];
    assert_eq!(public, want);
}

/// Whatever a member of one project asks, it learns and changes nothing of others.
#[tokio::test]
async fn a_member_sees_itself_only() {
    let cloud = Cloud::new().await;
    let demo = cloud.demo().await;
    let me = cloud.on_token("GET", "", &demo, &demo).await.expect(200);
    let (user, project) = (me["token"]["user"]["id"].as_str().unwrap(), me["token"]["project"]["id"].as_str().unwrap());
    for own in [
        format!("users/{user}"),
        format!("users/{user}/projects"),
        format!("users/{user}/groups"),
        format!("users/{user}/application_credentials"),
        format!("users/{user}/access_rules"),
        format!("projects/{project}"),
        "domains/default".to_owned(),
        format!("role_assignments?user.id={user}"),
        "credentials".to_owned(),
        "regions".to_owned(),
    ] {
        cloud.get(&format!("/identity/v3/{own}"), &demo).await.expect(200);
    }
    let admin = &cloud.ids.admin_user_id;
    for foreign in [
        "users".to_owned(),
        "users?name=admin".to_owned(),
        format!("users/{admin}"),
        "users/nobody".to_owned(),
        format!("users/{admin}/projects"),
        format!("users/{admin}/groups"),
        format!("users/{admin}/application_credentials"),
        format!("users/{admin}/access_rules"),
        "projects".to_owned(),
        format!("projects/{}", cloud.ids.admin_project_id),
        format!("projects/{}/tags", cloud.ids.admin_project_id),
        "projects/nothing".to_owned(),
        "domains".to_owned(),
        "domains/nothing".to_owned(),
        "projects/default".to_owned(),
        "groups".to_owned(),
        "groups/nothing".to_owned(),
        "roles".to_owned(),
        "role_assignments".to_owned(),
        format!("role_assignments?user.id={admin}"),
        "role_inferences".to_owned(),
        "services".to_owned(),
        "endpoints".to_owned(),
        "policies".to_owned(),
        format!("projects/{project}/users/{admin}/roles"),
        format!("system/users/{admin}/roles"),
        "OS-REVOKE/events".to_owned(),
    ] {
        cloud.get(&format!("/identity/v3/{foreign}"), &demo).await.expect(403);
    }
}

/// Every change by a route that a member has no business with is refused, with a body that would be good.
#[tokio::test]
async fn a_member_changes_nothing() {
    let cloud = Cloud::new().await;
    let demo = cloud.demo().await;
    let body = |path: &str| {
        let one = path.trim_start_matches("/v3/").split('/').next().unwrap_or("").trim_end_matches('s').to_owned();
        let one = if one == "policie" { "policy".to_owned() } else { one };
        json!({ one: {"name": "x", "type": "t", "blob": "b"}, "tags": [], "credential": {"type": "t", "blob": "b", "user_id": "x"},
            "application_credential": {"name": "x"}, "tenant_id": "x",
            "trust": {"trustor_user_id": "x"} })
    };
    let own = ["/v3/auth/tokens", "/v3/credentials"];
    for route in service(cloud.identity.clone()).table() {
        let changes = matches!(route.method.name(), "POST" | "PUT" | "PATCH" | "DELETE");
        if !changes || route.rule == Rule::Public || own.contains(&route.path) {
            continue;
        }
        let path = format!("/identity{}", route.path.replace(['{', '}'], ""));
        let answer = cloud.call(route.method.name(), &path, &demo, body(route.path)).await;
        // A trust that is not there is told so before anything else, as its id says nothing.
        let refused = if path.ends_with("/OS-TRUST/trusts/trust_id") { 404 } else { 403 };
        assert_eq!(answer.status, refused, "{} {path}: {}", route.method.name(), answer.body);
    }
}

#[tokio::test]
async fn a_domains_manager_stays_in_its_domain() {
    for cloud in Cloud::all().await {
        let domain = cloud.make("domains", "domain", json!({"name": "d"})).await;
        let boss = cloud.make("users", "user", json!({"name": "boss", "domain_id": domain, "password": "p"})).await;
        let manager = cloud.role("manager").await;
        cloud.grant(&format!("domains/{domain}/users/{boss}/roles/{manager}")).await;
        let identity = json!({"methods": ["password"], "password": {"user": {"id": boss, "password": "p"}}});
        let auth = json!({"identity": identity, "scope": {"domain": {"id": domain}}});
        let token = cloud.authenticate(auth).await.token();
        let call = async |method: &str, path: &str, body: Value| {
            cloud.call(method, &format!("/identity/v3/{path}"), &token, body).await
        };
        // Inside.
        let user = call("POST", "users", json!({"user": {"name": "u"}})).await.expect(201);
        assert_eq!(user["user"]["domain_id"], json!(domain));
        let user = user["user"]["id"].as_str().unwrap().to_owned();
        let project = call("POST", "projects", json!({"project": {"name": "p"}})).await.expect(201);
        assert_eq!(project["project"]["domain_id"], json!(domain));
        let project = project["project"]["id"].as_str().unwrap().to_owned();
        let member = cloud.role("member").await;
        call("PUT", &format!("projects/{project}/users/{user}/roles/{member}"), Value::Null).await.expect(204);
        let users = call("GET", "users", Value::Null).await.expect(200);
        let mut names = column(&users["users"], "name");
        names.sort();
        assert_eq!(names, ["boss", "u"]);
        assert_eq!(call("GET", "projects", Value::Null).await.expect(200)["projects"].as_array().unwrap().len(), 1);
        let grants = call("GET", "role_assignments", Value::Null).await.expect(200);
        assert_eq!(grants["role_assignments"].as_array().unwrap().len(), 2);
        let domains = call("GET", "domains", Value::Null).await.expect(200);
        assert_eq!(column(&domains["domains"], "id"), [domain.as_str()]);
        // Outside, and above.
        let admin_role = cloud.role("admin").await;
        let (admin, theirs) = (&cloud.ids.admin_user_id, &cloud.ids.admin_project_id);
        for (method, path, body) in [
            ("PUT", format!("projects/{project}/users/{user}/roles/{admin_role}"), Value::Null),
            ("PUT", format!("projects/{theirs}/users/{user}/roles/{member}"), Value::Null),
            ("PUT", format!("projects/{project}/users/{admin}/roles/{member}"), Value::Null),
            ("PUT", format!("system/users/{user}/roles/{member}"), Value::Null),
            ("DELETE", format!("projects/{theirs}/users/{admin}/roles/{admin_role}"), Value::Null),
            ("POST", "users".to_owned(), json!({"user": {"name": "x", "domain_id": "default"}})),
            ("POST", "projects".to_owned(), json!({"project": {"name": "x", "domain_id": "default"}})),
            ("POST", "projects".to_owned(), json!({"project": {"name": "x", "is_domain": true}})),
            ("POST", "domains".to_owned(), json!({"domain": {"name": "x"}})),
            ("PATCH", format!("domains/{domain}"), json!({"domain": {"name": "x"}})),
            ("PATCH", format!("projects/{domain}"), json!({"project": {"name": "x"}})),
            ("PATCH", format!("users/{admin}"), json!({"user": {"password": "x"}})),
            ("DELETE", format!("users/{admin}"), Value::Null),
            ("DELETE", "users/nobody".to_owned(), Value::Null),
            ("DELETE", format!("projects/{theirs}"), Value::Null),
            ("GET", format!("users/{admin}"), Value::Null),
            ("GET", "domains/default".to_owned(), Value::Null),
            ("GET", "roles?domain_id=default".to_owned(), Value::Null),
            ("POST", "roles".to_owned(), json!({"role": {"name": "x"}})),
            ("GET", "services".to_owned(), Value::Null),
        ] {
            let answer = call(method, &path, body).await;
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_reader_on_the_system_reads() {
    let cloud = Cloud::new().await;
    let user = cloud.make("users", "user", json!({"name": "auditor", "password": "p"})).await;
    let reader = cloud.role("reader").await;
    cloud.grant(&format!("system/users/{user}/roles/{reader}")).await;
    let token = cloud.login("auditor", "p", json!({"system": {"all": true}})).await.token();
    for list in ["users", "projects", "domains", "groups", "roles", "services", "endpoints", "role_assignments"] {
        cloud.get(&format!("/identity/v3/{list}"), &token).await.expect(200);
    }
    cloud.call("POST", "/identity/v3/users", &token, json!({"user": {"name": "x"}})).await.expect(403);
    cloud.call("POST", "/identity/v3/roles", &token, json!({"role": {"name": "x"}})).await.expect(403);
    let admin = cloud.login("admin", ADMIN_PASSWORD, Value::Null).await.token();
    cloud.get("/identity/v3/users", &admin).await.expect(403);
    let demo = cloud.login("demo", DEMO_PASSWORD, Value::Null).await.token();
    cloud.get("/identity/v3/regions", &demo).await.expect(200);
}
