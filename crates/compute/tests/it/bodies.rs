//! Which members a server has at which version: those that upstream's clients and its own test suite expect, no more and
//! no fewer.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cloud::{Cloud, IMAGE, keys};

const VERSIONS: [u16; 18] = [1, 2, 3, 9, 16, 19, 26, 47, 48, 63, 69, 71, 73, 75, 90, 96, 98, 100];

const COMMON: &str = "OS-DCF:diskConfig accessIPv4 accessIPv6 addresses created flavor hostId id image links metadata name \
     progress status tenant_id updated user_id";
const SHOWN: &str = "OS-EXT-AZ:availability_zone OS-EXT-STS:power_state OS-EXT-STS:task_state OS-EXT-STS:vm_state \
     OS-SRV-USG:launched_at OS-SRV-USG:terminated_at config_drive key_name os-extended-volumes:volumes_attached \
     security_groups";
const ADMIN: &str = "OS-EXT-SRV-ATTR:host OS-EXT-SRV-ATTR:hypervisor_hostname OS-EXT-SRV-ATTR:instance_name";
const ADMIN_3: &str = "OS-EXT-SRV-ATTR:hostname OS-EXT-SRV-ATTR:kernel_id OS-EXT-SRV-ATTR:launch_index \
     OS-EXT-SRV-ATTR:ramdisk_id OS-EXT-SRV-ATTR:reservation_id OS-EXT-SRV-ATTR:root_device_name \
     OS-EXT-SRV-ATTR:user_data";

#[derive(Clone, Copy, PartialEq)]
enum View {
    Show,
    Detail,
    Update,
}

fn expected(view: View, minor: u16, admin: bool) -> Vec<String> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    let mut add = |names: &str| all.extend(names.split_ascii_whitespace().map(str::to_owned));
    let whole = view != View::Update || minor >= 75;
    add(COMMON);
    if whole {
        add(SHOWN);
    }
    if whole && admin {
        add(ADMIN);
        if minor >= 3 {
            add(ADMIN_3);
        }
        if minor >= 16 {
            add("host_status");
        }
    }
    if whole && minor >= 90 {
        add("OS-EXT-SRV-ATTR:hostname");
    }
    for (since, name) in [
        (9, "locked"),
        (19, "description"),
        (26, "tags"),
        (63, "trusted_image_certificates"),
        (73, "locked_reason"),
        (96, "pinned_availability_zone"),
        (100, "scheduler_hints"),
    ] {
        if minor >= since {
            add(name);
        }
    }
    if minor >= 71 && view != View::Detail {
        add("server_groups");
    }
    all.into_iter().collect()
}

#[tokio::test]
async fn a_server_has_the_members_of_its_version() {
    let cloud = Cloud::new().await;
    let id = cloud.running("vm").await;
    for minor in VERSIONS {
        for admin in [false, true] {
            let client = if admin { cloud.client("p", "admin") } else { cloud.member() };
            let client = client.at(&format!("2.{minor}"));
            let show = client.get(&format!("/servers/{id}")).await;
            assert_eq!(keys(&show["server"]), expected(View::Show, minor, admin), "show at 2.{minor}, {admin}");
            let detail = client.get("/servers/detail").await;
            assert_eq!(keys(&detail["servers"][0]), expected(View::Detail, minor, admin), "detail at 2.{minor}");
            assert_eq!(keys(&detail), ["servers"]);
            let body = json!({"server": {"name": "vm"}});
            let update = client.expect(200, "PUT", &format!("/servers/{id}"), Some(body)).await;
            assert_eq!(keys(&update["server"]), expected(View::Update, minor, admin), "update at 2.{minor}");
            let list = client.get("/servers").await;
            assert_eq!(keys(&list["servers"][0]), ["id", "links", "name"]);

            let flavor: &[&str] = match minor {
                47.. => &["disk", "ephemeral", "extra_specs", "original_name", "ram", "swap", "vcpus"],
                _ => &["id", "links"],
            };
            let image: &[&str] = if minor >= 98 { &["id", "links", "properties"] } else { &["id", "links"] };
            for server in [&show["server"], &detail["servers"][0], &update["server"]] {
                assert_eq!(keys(&server["flavor"]), flavor, "flavor at 2.{minor}");
                assert_eq!(keys(&server["image"]), image, "image at 2.{minor}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_shows_what_it_is() {
    let cloud = Cloud::new().await;
    let id = cloud.running("Web Server").await;
    let body = cloud.client("p", "admin").get(&format!("/servers/{id}")).await;
    let server = &body["server"];
    let is = |name: &str, want: Value| assert_eq!(server[name], want, "{name}");
    is("status", json!("ACTIVE"));
    is("OS-EXT-STS:vm_state", json!("active"));
    is("OS-EXT-STS:task_state", Value::Null);
    is("OS-EXT-STS:power_state", json!(1));
    is("OS-EXT-AZ:availability_zone", json!("nova"));
    is("OS-EXT-SRV-ATTR:host", json!("cell1-h1"));
    is("OS-EXT-SRV-ATTR:hostname", json!("web-server"));
    is("OS-EXT-SRV-ATTR:root_device_name", json!("/dev/vda"));
    is("host_status", json!("UP"));
    is("created", json!("2026-11-21T10:00:00Z"));
    is("OS-SRV-USG:launched_at", json!("2026-11-21T10:00:00.000000"));
    is("OS-SRV-USG:terminated_at", Value::Null);
    is("key_name", Value::Null);
    is("config_drive", json!(""));
    is("tenant_id", json!("p"));
    is("user_id", json!("p-user"));
    is("security_groups", json!([{"name": "default"}]));
    is(
        "links",
        json!([
            {"rel": "self", "href": format!("http://cloud:8774/compute/v2.1/servers/{id}")},
            {"rel": "bookmark", "href": format!("http://cloud:8774/compute/servers/{id}")},
        ]),
    );
    is(
        "image",
        json!({
            "id": IMAGE,
            "links": [{"rel": "bookmark", "href": format!("http://cloud:8774/compute/images/{IMAGE}")}],
            "properties": {"os_distro": "linux"},
        }),
    );
    is(
        "flavor",
        json!({
            "original_name": "m1.tiny", "vcpus": 1, "ram": 512, "disk": 1, "ephemeral": 0, "swap": 0, "extra_specs": {},
        }),
    );
    assert_eq!(server["hostId"].as_str().unwrap().len(), 56);
    assert_eq!(server["progress"], json!(0));
    assert!(server.get("fault").is_none());
}

#[tokio::test]
async fn versions_are_told_and_negotiated() {
    let cloud = Cloud::new().await;
    let mut client = cloud.member();
    client.token = None;
    let one = client.get("").await;
    assert_eq!(one["version"]["id"], "v2.1");
    assert_eq!((&one["version"]["version"], &one["version"]["min_version"]), (&json!("2.104"), &json!("2.1")));
    let request = http::Request::get("/compute/").header("host", "cloud").body(umbel_http::Body::empty()).unwrap();
    let response = umbel_http::oneshot(&cloud.router, request).await;
    assert_eq!(response.status(), 200);
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let list: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&list["versions"][0]["id"], &list["versions"][1]["id"]), (&json!("v2.0"), &json!("v2.1")));
    assert_eq!(list["versions"][1]["links"][0]["href"], "http://cloud/compute/v2.1/");

    let member = cloud.member();
    let answer = member.at("2.53").call("GET", "/servers", None).await;
    assert_eq!(answer.headers["openstack-api-version"], "compute 2.53");
    assert_eq!(answer.headers["x-openstack-nova-api-version"], "2.53");
    member.at("2.105").expect(406, "GET", "/servers", None).await;
    member.at("two").expect(400, "GET", "/servers", None).await;
    assert_eq!(
        member.at("latest").call("GET", "/servers", None).await.headers["x-openstack-nova-api-version"],
        "2.104"
    );
    let gone = member.expect(410, "GET", "/os-cells", None).await;
    assert!(gone.is_object());
}
