//! The operator's half: types, QoS specs, quotas, services, pools, group types, messages. What touches tables runs on
//! all three engines.

use serde_json::{Value, json};
use umbel_db::Engine;
use umbel_driver::Limits;

use crate::cloud::{Cloud, ids};

const NONE: &str = "00000000-0000-4000-8000-000000000000";

async fn on_all<F: Future<Output = ()>>(test: impl Fn(Cloud) -> F) {
    for engine in Engine::ALL {
        test(Cloud::on(engine).await).await;
    }
}

async fn new_type(cloud: &Cloud, body: Value) -> String {
    let made = cloud.post(&cloud.admin(), "/types", json!({ "volume_type": body })).await.expect(200);
    made["volume_type"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn types_are_made_changed_and_deleted() {
    on_all(|cloud| async move {
        let (admin, member) = (cloud.admin(), cloud.member("p"));
        let specs = json!({"volume_backend_name": "fast", "multiattach": "<is> True"});
        let id = new_type(&cloud, json!({"name": "one", "description": "d", "extra_specs": specs})).await;
        let path = format!("/types/{id}");
        let shown = cloud.get(&admin, &path).await.expect(200)["volume_type"].clone();
        assert_eq!(
            shown,
            json!({"id": id, "name": "one", "description": "d", "is_public": true, "extra_specs": specs,
                "qos_specs_id": null, "os-volume-type-access:is_public": true})
        );
        let own = cloud.get(&member, &path).await.expect(200)["volume_type"].clone();
        assert_eq!(own["extra_specs"], json!({"multiattach": "<is> True"}));
        assert_eq!(own.get("qos_specs_id"), None);
        let again = json!({"volume_type": {"name": "one"}});
        cloud.post(&admin, "/types", again.clone()).await.refused(409, "Volume Type one already exists.");
        cloud.post(&member, "/types", again).await.expect(403);
        cloud.post(&admin, "/types", json!({"volume_type": {"name": ""}})).await.expect(400);
        cloud.get(&admin, &format!("/types/{NONE}")).await.refused(404, "could not be found");
        let change = json!({"volume_type": {"name": "two", "is_public": "False"}});
        let changed = cloud.put(&admin, &path, change).await.expect(200)["volume_type"].clone();
        assert_eq!((&changed["name"], &changed["is_public"]), (&json!("two"), &json!(false)));
        assert_eq!(changed.get("os-volume-type-access:is_public"), None);
        cloud.put(&admin, &path, json!({"volume_type": {}})).await.expect(400);
        cloud.get(&member, &path).await.expect(404);
        // As the openstack client spells it.
        for (spelled, status) in [(true, 200), (false, 404)] {
            let change = json!({"volume_type": {"os-volume-type-access:is_public": spelled}});
            cloud.put(&admin, &path, change).await.expect(200);
            cloud.get(&member, &path).await.expect(status);
        }
        cloud.delete(&admin, &path).await.expect(202);
        cloud.delete(&admin, &path).await.expect(404);
        let default = cloud.get(&member, "/types/default").await.expect(200)["volume_type"].clone();
        assert_eq!(default["name"], "__DEFAULT__");
        let path = format!("/types/{}", default["id"].as_str().unwrap());
        cloud.delete(&admin, &path).await.refused(400, "is a default volume type and cannot be deleted.");
    })
    .await;
}

#[tokio::test]
async fn private_types_are_opened_to_projects() {
    on_all(|cloud| async move {
        let (admin, member) = (cloud.admin(), cloud.member("p"));
        let id = new_type(&cloud, json!({"name": "own", "os-volume-type-access:is_public": false})).await;
        let wanted = json!({"volume": {"size": 1, "volume_type": id}});
        cloud.post(&member, "/volumes", wanted.clone()).await.expect(404);
        let (path, access) = (format!("/types/{id}/action"), format!("/types/{id}/os-volume-type-access"));
        let add = json!({"addProjectAccess": {"project": "p"}});
        cloud.post(&admin, &path, add.clone()).await.expect(202);
        cloud.post(&admin, &path, add.clone()).await.refused(409, "combination already exists.");
        let listed = cloud.get(&admin, &access).await.expect(200);
        assert_eq!(listed["volume_type_access"], json!([{"volume_type_id": id, "project_id": "p"}]));
        let made = cloud.post(&member, "/volumes", wanted).await.expect(202);
        assert_eq!(made["volume"]["volume_type"], "own");
        assert!(ids(&cloud.get(&member, "/types").await.expect(200)["volume_types"]).contains(&id));
        assert!(!ids(&cloud.get(&cloud.member("q"), "/types").await.expect(200)["volume_types"]).contains(&id));
        assert!(ids(&cloud.get(&admin, "/types?is_public=None").await.expect(200)["volume_types"]).contains(&id));
        cloud.delete(&admin, &format!("/types/{id}")).await.refused(400, "still in use");
        let specs = json!({"extra_specs": {"a": "b"}});
        cloud.post(&admin, &format!("/types/{id}/extra_specs"), specs).await.refused(400, "currently in use");
        cloud.post(&admin, &path, json!({"removeProjectAccess": {"project": "p"}})).await.expect(202);
        cloud.post(&admin, &path, json!({"removeProjectAccess": {"project": "p"}})).await.expect(404);
        let public = new_type(&cloud, json!({"name": "public"})).await;
        cloud.get(&admin, &format!("/types/{public}/os-volume-type-access")).await.expect(404);
        cloud.post(&admin, &format!("/types/{public}/action"), add).await.expect(400);
    })
    .await;
}

#[tokio::test]
async fn extra_specs_are_kept_one_by_one() {
    on_all(|cloud| async move {
        let admin = cloud.admin();
        let id = new_type(&cloud, json!({"name": "t", "extra_specs": {"spec1": "val1"}})).await;
        let (all, one) = (format!("/types/{id}/extra_specs"), format!("/types/{id}/extra_specs/spec2"));
        let more = json!({"extra_specs": {"spec2": "a"}});
        assert_eq!(cloud.post(&admin, &all, more.clone()).await.expect(200), more);
        assert_eq!(cloud.put(&admin, &one, json!({"spec2": "b"})).await.expect(200), json!({"spec2": "b"}));
        assert_eq!(cloud.get(&admin, &one).await.expect(200), json!({"spec2": "b"}));
        let both = json!({"extra_specs": {"spec1": "val1", "spec2": "b"}});
        assert_eq!(cloud.get(&admin, &all).await.expect(200), both);
        for bad in [json!({"spec1": "x"}), json!({"spec2": "x", "spec1": "y"}), json!({}), json!([])] {
            cloud.put(&admin, &one, bad).await.expect(400);
        }
        for bad in [json!({"extra_specs": null}), json!({"extra_specs": ["x"]}), json!({"extra_specs": {"a b": "c"}})] {
            cloud.post(&admin, &all, bad).await.expect(400);
        }
        cloud.post(&admin, &format!("/types/{NONE}/extra_specs"), more).await.expect(404);
        cloud.put(&admin, &format!("/types/{NONE}/extra_specs/spec2"), json!({"spec2": "b"})).await.expect(404);
        cloud.get(&admin, &format!("/types/{NONE}/extra_specs")).await.expect(404);
        cloud.delete(&admin, &one).await.expect(202);
        cloud.get(&admin, &one).await.refused(404, "has no extra specs with key spec2.");
        cloud.delete(&admin, &one).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn a_type_is_encrypted_in_one_way() {
    on_all(|cloud| async move {
        let admin = cloud.admin();
        let id = new_type(&cloud, json!({"name": "t"})).await;
        let path = format!("/types/{id}/encryption");
        assert_eq!(cloud.get(&admin, &path).await.expect(200), json!({}));
        let wanted = json!({"provider": "luks", "key_size": 256, "cipher": "aes-xts-plain64",
            "control_location": "front-end"});
        let made = cloud.post(&admin, &path, json!({ "encryption": wanted })).await.expect(200)["encryption"].clone();
        assert_eq!((&made["key_size"], &made["volume_type_id"]), (&json!(256), &json!(id)));
        cloud.post(&admin, &path, json!({ "encryption": wanted })).await.refused(400, "already exists");
        let one = format!("{path}/{}", made["encryption_id"].as_str().unwrap());
        let change = json!({"encryption": {"key_size": 128, "control_location": "back-end"}});
        assert_eq!(cloud.put(&admin, &one, change.clone()).await.expect(200), change);
        let shown = cloud.get(&admin, &path).await.expect(200);
        assert_eq!((&shown["key_size"], &shown["provider"]), (&json!(128), &json!("luks")));
        let cipher = cloud.get(&admin, &format!("{path}/cipher")).await.expect(200);
        assert_eq!(cipher, json!({"cipher": "aes-xts-plain64"}));
        cloud.delete(&admin, &one).await.expect(202);
        assert_eq!(cloud.get(&admin, &path).await.expect(200), json!({}));
        let bad = json!({"encryption": {"provider": "luks", "control_location": "middle"}});
        cloud.post(&admin, &path, bad).await.expect(400);
        cloud.post(&admin, &format!("/types/{NONE}/encryption"), json!({ "encryption": wanted })).await.expect(404);
        let volume = cloud.volume(&cloud.member("p"), json!({"size": 1})).await;
        let of_volume = cloud.get(&cloud.member("p"), &format!("/volumes/{volume}/encryption")).await.expect(200);
        assert_eq!(of_volume, json!({"encryption_key_id": null}));
    })
    .await;
}

#[tokio::test]
async fn projects_have_default_types() {
    on_all(|cloud| async move {
        let (admin, member) = (cloud.admin(), cloud.member("p"));
        let id = new_type(&cloud, json!({"name": "t"})).await;
        let wanted = json!({"default_type": {"volume_type": "t"}});
        let set = cloud.put(&admin, "/default-types/p", wanted).await.expect(200);
        assert_eq!(set["default_type"], json!({"project_id": "p", "volume_type_id": id}));
        assert_eq!(cloud.get(&member, "/types/default").await.expect(200)["volume_type"]["id"], json!(id));
        let made = cloud.post(&member, "/volumes", json!({"volume": {"size": 1}})).await.expect(202);
        assert_eq!(made["volume"]["volume_type"], "t");
        let listed = cloud.get(&admin, "/default-types").await.expect(200);
        assert_eq!(listed["default_types"].as_array().unwrap().len(), 1);
        cloud.delete(&admin, &format!("/types/{id}")).await.refused(400, "default volume type");
        cloud.delete(&admin, "/default-types/p").await.expect(204);
        cloud.get(&admin, "/default-types/p").await.expect(404);
        cloud.put(&admin, "/default-types/p", json!({"default_type": {"volume_type": "x"}})).await.expect(400);
        cloud.call_at("3.61", &admin, "GET", "/default-types", Value::Null).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn qos_specs_are_associated_with_types() {
    on_all(|cloud| async move {
        let admin = cloud.admin();
        let wanted = json!({"qos_specs": {"name": "q", "consumer": "back-end", "total_iops_sec": "100"}});
        let made = cloud.post(&admin, "/qos-specs", wanted.clone()).await.expect(200)["qos_specs"].clone();
        assert_eq!(made["specs"], json!({"total_iops_sec": "100"}));
        cloud.post(&admin, "/qos-specs", wanted).await.expect(409);
        cloud.post(&admin, "/qos-specs", json!({"qos_specs": {"name": "r", "consumer": "x"}})).await.expect(400);
        let path = format!("/qos-specs/{}", made["id"].as_str().unwrap());
        let more = json!({"qos_specs": {"total_iops_sec_max": "200", "odd": "1"}});
        assert_eq!(cloud.put(&admin, &path, more.clone()).await.expect(200), more);
        cloud.put(&admin, &format!("{path}/delete_keys"), json!({"keys": ["odd"]})).await.expect(202);
        cloud.put(&admin, &format!("{path}/delete_keys"), json!({"keys": ["odd"]})).await.expect(404);
        let id = new_type(&cloud, json!({"name": "t"})).await;
        cloud.get(&admin, &format!("{path}/associate?vol_type_id={id}")).await.expect(202);
        cloud.get(&admin, &format!("{path}/associate?vol_type_id={NONE}")).await.expect(404);
        let found = cloud.get(&admin, &format!("{path}/associations")).await.expect(200);
        assert_eq!(found["qos_associations"], json!([{"association_type": "volume_type", "id": id, "name": "t"}]));
        let volume = cloud.volume(&cloud.member("p"), json!({"size": 1, "volume_type": "t"})).await;
        let limits = cloud.pool.limits(&format!("volume-{volume}")).await.unwrap();
        assert_eq!(limits, Limits { iops: Some(100), iops_burst: Some(200), ..Limits::default() });
        cloud.delete(&admin, &path).await.refused(400, "Qos specs still in use.");
        cloud.get(&admin, &format!("{path}/disassociate?vol_type_id={id}")).await.expect(202);
        cloud.get(&admin, &format!("{path}/disassociate_all")).await.expect(202);
        assert_eq!(cloud.get(&admin, &format!("{path}/associations")).await.expect(200)["qos_associations"], json!([]));
        cloud.delete(&admin, &format!("{path}?force=True")).await.expect(202);
        cloud.get(&admin, &path).await.expect(404);
        assert_eq!(cloud.get(&admin, "/qos-specs").await.expect(200)["qos_specs"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn quotas_hold() {
    on_all(|cloud| async move {
        let (admin, member) = (cloud.admin(), cloud.member("p"));
        let shown = cloud.get(&member, "/os-quota-sets/p").await.expect(200)["quota_set"].clone();
        assert_eq!((&shown["volumes"], &shown["groups"], &shown["id"]), (&json!(10), &json!(10), &json!("p")));
        assert_eq!(shown["volumes___DEFAULT__"], -1);
        cloud.get(&cloud.member("q"), "/os-quota-sets/p").await.expect(403);
        let set = async |limits: Value| cloud.put(&admin, "/os-quota-sets/p", json!({ "quota_set": limits })).await;
        set(json!({"volumes": 1, "gigabytes": "3"})).await.expect(200);
        let volume = cloud.volume(&member, json!({"size": 2})).await;
        let more = json!({"volume": {"size": 1}});
        cloud.post(&member, "/volumes", more.clone()).await.refused(413, "Maximum number of volumes allowed (1)");
        set(json!({"volumes": 5})).await.expect(200);
        let large = json!({"volume": {"size": 2}});
        cloud.post(&member, "/volumes", large).await.refused(413, "quota is 3G and 2G has been consumed.");
        set(json!({"gigabytes": 1})).await.refused(400, "Current usage is 2 and the requested limit is 1.");
        set(json!({"nonsense": 1})).await.refused(400, "Bad key(s) in quota set: nonsense");
        set(json!({})).await.expect(400);
        let used = cloud.get(&admin, "/os-quota-sets/p?usage=True").await.expect(200)["quota_set"].clone();
        assert_eq!(used["gigabytes"], json!({"limit": 3, "in_use": 2, "reserved": 0}));
        let absolute = cloud.get(&member, "/limits").await.expect(200)["limits"]["absolute"].clone();
        assert_eq!((&absolute["maxTotalVolumes"], &absolute["totalVolumesUsed"]), (&json!(5), &json!(1)));
        assert_eq!(absolute["totalGigabytesUsed"], 2);
        set(json!({"per_volume_gigabytes": 2, "gigabytes": 100})).await.expect(200);
        let larger = json!({"volume": {"size": 3}});
        let told = "Requested volume size 3G is larger than maximum allowed limit 2G.";
        cloud.post(&member, "/volumes", larger).await.refused(413, told);
        cloud.act(&member, &volume, json!({"os-extend": {"new_size": 3}})).await.refused(413, told);
        set(json!({"volumes___DEFAULT__": 1})).await.expect(200);
        cloud.post(&member, "/volumes", more.clone()).await.refused(413, "quota 'volumes___DEFAULT__'");
        cloud.delete(&admin, "/os-quota-sets/p").await.expect(200);
        cloud.delete(&member, &format!("/volumes/{volume}")).await.expect(202);
        cloud.post(&member, "/volumes", more).await.expect(202);
    })
    .await;
}

#[tokio::test]
async fn a_class_is_everybodys_default() {
    on_all(|cloud| async move {
        let admin = cloud.admin();
        new_type(&cloud, json!({"name": "t"})).await;
        let change = json!({"quota_class_set": {"volumes": 11, "volumes_t": 3}});
        let set = cloud.put(&admin, "/os-quota-class-sets/default", change).await.expect(200);
        assert_eq!(set["quota_class_set"]["volumes_t"], 3);
        let shown = cloud.get(&admin, "/os-quota-class-sets/default").await.expect(200)["quota_class_set"].clone();
        assert_eq!((&shown["id"], &shown["volumes"]), (&json!("default"), &json!(11)));
        let defaults = cloud.get(&admin, "/os-quota-sets/other/defaults").await.expect(200)["quota_set"].clone();
        assert_eq!((&defaults["volumes"], &defaults["volumes_t"]), (&json!(11), &json!(3)));
    })
    .await;
}

#[tokio::test]
async fn services_are_listed_and_closed() {
    on_all(|cloud| async move {
        let (admin, member) = (cloud.admin(), cloud.member("p"));
        cloud.get(&member, "/os-services").await.expect(403);
        let all = cloud.get(&admin, "/os-services").await.expect(200)["services"].clone();
        assert_eq!(all.as_array().unwrap().len(), 4);
        assert!(all.as_array().unwrap().iter().all(|one| one["state"] == "up" && one["status"] == "enabled"));
        let of_host = cloud.get(&admin, "/os-services?host=umbel&binary=cinder-volume").await.expect(200);
        assert_eq!(of_host["services"].as_array().unwrap().len(), 2);
        let change = json!({"host": "umbel@fast", "binary": "cinder-volume", "disabled_reason": "disks"});
        let done = cloud.put(&admin, "/os-services/disable-log-reason", change).await.expect(200);
        assert_eq!((&done["disabled"], &done["disabled_reason"]), (&json!(true), &json!("disks")));
        let volume = cloud.volume(&member, json!({"size": 1})).await;
        assert_eq!(cloud.show(&volume).await["os-vol-host-attr:host"], "umbel@slow#slow");
        let enable = json!({"host": "umbel@fast", "binary": "cinder-volume"});
        cloud.put(&admin, "/os-services/enable", enable).await.expect(200);
        for (body, status) in [
            (json!({"host": "invalid_host", "binary": "cinder-volume"}), 404),
            (json!({"host": "umbel@fast", "binary": "invalid"}), 404),
            (json!({"binary": "cinder-volume"}), 400),
        ] {
            cloud.put(&admin, "/os-services/disable", body).await.expect(status);
        }
        let silent = json!({"host": "umbel@fast", "binary": "cinder-volume", "disabled_reason": null});
        cloud.put(&admin, "/os-services/disable-log-reason", silent).await.expect(400);
        for what in ["freeze", "thaw"] {
            cloud.put(&admin, &format!("/os-services/{what}"), json!({"host": "umbel@slow"})).await.expect(200);
            cloud.put(&admin, &format!("/os-services/{what}"), json!({"host": "none"})).await.expect(400);
        }
        cloud.put(&admin, "/os-services/failover_host", json!({"host": "umbel@slow"})).await.expect(400);
        cloud.put(&admin, "/os-services/set-log", json!({"level": "loud"})).await.expect(400);
        let hosts = cloud.get(&admin, "/os-hosts").await.expect(200)["hosts"].clone();
        assert_eq!(hosts.as_array().unwrap().len(), 4);
        let host = cloud.get(&admin, "/os-hosts/umbel@slow").await.expect(200)["host"].clone();
        assert_eq!(host[0]["resource"]["total_volume_gb"], "1");
        assert_eq!(host[1]["resource"]["project"], "p");
        cloud.get(&admin, "/os-hosts/other").await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn pools_tell_what_they_can() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin();
    let brief = cloud.get(&admin, "/scheduler-stats/get_pools").await.expect(200);
    assert_eq!(brief["pools"], json!([{"name": "umbel@fast#fast"}, {"name": "umbel@slow#slow"}]));
    let path = "/scheduler-stats/get_pools?detail=True&name=umbel@slow%23slow";
    let pools = cloud.get(&admin, path).await.expect(200)["pools"].clone();
    assert_eq!(pools.as_array().unwrap().len(), 1);
    assert_eq!(pools[0]["capabilities"]["vendor_name"], "Open Source");
    for host in ["umbel@slow", "umbel@slow%23slow"] {
        let able = cloud.get(&admin, &format!("/capabilities/{host}")).await.expect(200);
        assert_eq!((&able["volume_backend_name"], &able["pool_name"]), (&json!("slow"), &json!("slow")));
    }
    cloud.get(&admin, "/capabilities/other@slow").await.expect(404);
    let zones = cloud.get(&cloud.member("p"), "/os-availability-zone").await.expect(200);
    assert_eq!(zones["availabilityZoneInfo"], json!([{"zoneName": "nova", "zoneState": {"available": true}}]));
    let known = cloud.get(&cloud.member("p"), "/extensions").await.expect(200)["extensions"].clone();
    assert!(known.as_array().unwrap().iter().any(|one| one["name"] == "Hosts"));
    let filters = cloud.get(&cloud.member("p"), "/resource_filters?resource=pool").await.expect(200);
    assert_eq!(filters["resource_filters"], json!([{"resource": "pool", "filters": ["name", "volume_type"]}]));
    assert_eq!(cloud.get(&admin, "/clusters").await.expect(200), json!({"clusters": []}));
    cloud.get(&admin, "/clusters/x").await.expect(404);
    cloud.post(&admin, "/workers/cleanup", json!({})).await.expect(202);
}

#[tokio::test]
async fn a_volume_that_fits_nowhere_leaves_a_message() {
    on_all(|cloud| async move {
        let member = cloud.member("p");
        new_type(&cloud, json!({"name": "bogus", "extra_specs": {"vendor_name": "nobody"}})).await;
        let volume = cloud.begin(&member, json!({"size": 1, "volume_type": "bogus"})).await;
        cloud.work().await;
        assert_eq!(cloud.show(&volume).await["status"], "error");
        let listed = cloud.get(&member, &format!("/messages?resource_uuid={volume}")).await.expect(200);
        let message = &listed["messages"][0];
        assert_eq!(message["event_id"], "VOLUME_VOLUME_001_003");
        assert_eq!(message["user_message"], "schedule allocate volume:Could not find any available weighted backend.");
        let by_event = cloud.get(&member, "/messages?event_id=VOLUME_VOLUME_001_003").await.expect(200);
        assert_eq!(by_event["messages"].as_array().unwrap().len(), 1);
        let path = format!("/messages/{}", message["id"].as_str().unwrap());
        cloud.get(&cloud.member("q"), &path).await.expect(404);
        assert_eq!(cloud.get(&member, &path).await.expect(200)["message"]["resource_uuid"], json!(volume));
        cloud.get(&member, "/messages?odd=1").await.expect(400);
        cloud.delete(&member, &path).await.expect(204);
        cloud.get(&member, &path).await.expect(404);
        cloud.call_at("3.2", &member, "GET", "/messages", Value::Null).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn group_types_have_specs() {
    on_all(|cloud| async move {
        let admin = cloud.admin();
        let new = async |name: &str, is_public: bool| {
            let body = json!({"group_type": {"name": name, "is_public": is_public, "group_specs": {"a": "b"}}});
            let made = cloud.post(&admin, "/group_types", body).await.expect(202);
            made["group_type"]["id"].as_str().unwrap().to_owned()
        };
        let (first, second) = (new("a_type", true).await, new("b_type", false).await);
        let listed = async |query: &str| {
            ids(&cloud.get(&admin, &format!("/group_types?{query}")).await.expect(200)["group_types"])
        };
        assert_eq!(listed("sort=name:asc&is_public=None").await, [first.clone(), second.clone()]);
        assert_eq!(listed("sort=name:desc&is_public=None").await, [second.clone(), first.clone()]);
        assert_eq!(listed("is_public=False").await, [second.as_str()]);
        assert_eq!(listed("is_public=True").await, [first.as_str()]);
        assert_eq!(listed(&format!("is_public=None&sort=name:asc&marker={first}")).await, [second.as_str()]);
        let path = format!("/group_types/{first}");
        let change = json!({"group_type": {"name": "new", "description": "d"}});
        assert_eq!(cloud.put(&admin, &path, change).await.expect(200)["group_type"]["name"], "new");
        let specs = format!("{path}/group_specs");
        let more = json!({"group_specs": {"c": "d"}});
        assert_eq!(cloud.post(&admin, &specs, more.clone()).await.expect(202), more);
        assert_eq!(cloud.put(&admin, &format!("{specs}/c"), json!({"c": "e"})).await.expect(200), json!({"c": "e"}));
        assert_eq!(cloud.get(&admin, &specs).await.expect(200), json!({"group_specs": {"a": "b", "c": "e"}}));
        cloud.delete(&admin, &format!("{specs}/c")).await.expect(202);
        cloud.get(&admin, &format!("{specs}/c")).await.expect(404);
        cloud.get(&cloud.member("p"), &format!("/group_types/{second}")).await.expect(404);
        cloud.get(&admin, "/group_types/default").await.expect(404);
        cloud.delete(&admin, &path).await.expect(202);
        cloud.delete(&admin, &path).await.expect(404);
    })
    .await;
}
