//! Uploads that must not get in. What each format's header can do is tested beside the inspector; here, that a refusal
//! reaches the client and leaves nothing.

use bytes::Bytes;
use serde_json::json;
use umbel_db::Engine;
use umbel_image::Config;

use crate::cloud::{Cloud, body, file, noise};

fn qcow2(backing: bool) -> Vec<u8> {
    let mut bytes = vec![0; 256 << 10];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    if backing {
        bytes[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 11]);
        bytes[256..267].copy_from_slice(b"/etc/shadow");
    }
    bytes[20..24].copy_from_slice(&16_u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
    bytes[36..40].copy_from_slice(&2_u32.to_be_bytes());
    bytes[40..48].copy_from_slice(&(3_u64 << 16).to_be_bytes());
    bytes
}

async fn refused(format: &str, bytes: &[u8], words: &str) {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, format).await;
    cloud.upload(&token, &id, bytes).await.refused(400, words);
    let shown = cloud.show(&id).await;
    assert_eq!((&shown["status"], &shown["size"], &shown["checksum"]), (&json!("queued"), &json!(null), &json!(null)));
    assert!(cloud.disks().await.is_empty(), "{format}: {words}");
    assert_eq!(cloud.get(&token, &file(&id)).await.status, 204);
}

#[tokio::test]
async fn lies_about_the_format_are_refused() {
    refused("raw", &qcow2(false), "claims the disk format raw, but its content is qcow2").await;
    refused("qcow2", &noise(1, 100_000), "claims the disk format qcow2, but its content is raw").await;
    refused("vmdk", &qcow2(false), "claims the disk format vmdk, but its content is qcow2").await;
    refused("qcow2", &qcow2(true), "backing file").await;
    let descriptor = b"# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 9 FLAT \"/etc/shadow\" 0\n";
    refused("raw", descriptor, "vmdk").await;
    refused("vmdk", descriptor, "descriptor").await;
    refused("vhd", &noise(1, 100_000), "raw").await;
}

#[tokio::test]
async fn what_shows_at_the_end_only_is_refused_too() {
    let mut vhd = noise(4, 1 << 20);
    let footer = vhd.len() - 512;
    vhd[footer..].fill(0);
    vhd[footer..footer + 8].copy_from_slice(b"conectix");
    vhd[footer + 48..footer + 56].copy_from_slice(&((1_u64 << 20) - 512).to_be_bytes());
    vhd[footer + 63] = 2;
    refused("raw", &vhd, "content is vhd").await;
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "vhd").await;
    cloud.upload(&token, &id, &vhd).await.expect(204);
    assert_eq!(cloud.show(&id).await["virtual_size"], (1 << 20) - 512);
}

#[tokio::test]
async fn honest_qcow2_is_kept_as_it_came() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "qcow2").await;
    cloud.upload(&token, &id, &qcow2(false)).await.expect(204);
    let shown = cloud.show(&id).await;
    assert_eq!((&shown["size"], &shown["virtual_size"]), (&json!(256 << 10), &json!(1 << 30)));
    assert!(cloud.get(&token, &file(&id)).await.bytes == qcow2(false));
    let locations = cloud.get(&cloud.service(), &format!("/image/v2/images/{id}/locations")).await.expect(200);
    assert_eq!(locations[0]["metadata"]["format"], "qcow2");
}

#[tokio::test]
async fn packages_are_not_looked_into() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.create(&token, json!({"disk_format": "vmdk", "container_format": "ova"})).await;
    cloud.upload(&token, &id, &noise(1, 50_000)).await.expect(204);
    let shown = cloud.show(&id).await;
    assert_eq!((&shown["size"], &shown["virtual_size"]), (&json!(50_000), &json!(null)));
}

#[tokio::test]
async fn absurd_sizes_are_refused() {
    let config = Config { max_virtual_size: (1 << 30) - 1, ..Config::default() };
    let cloud = Cloud::with(Engine::Sqlite, config).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "qcow2").await;
    cloud.upload(&token, &id, &qcow2(false)).await.refused(400, "virtual size");
}

#[tokio::test]
async fn a_refusal_comes_before_the_data_end() {
    let cloud = Cloud::new().await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    // More than is read after a refusal: whoever read all of it would meet the error at its end.
    let mut pieces = vec![Ok(Bytes::from(qcow2(false)))];
    pieces.extend((0..80).map(|_| Ok(Bytes::from(vec![0; 1 << 20]))));
    pieces.push(Err(std::io::Error::other("too far")));
    cloud.upload_with(&token, &id, &[], body(pieces)).await.refused(400, "qcow2");
}

#[tokio::test]
async fn a_site_may_store_what_lies() {
    let config = Config { require_image_format_match: false, ..Config::default() };
    let cloud = Cloud::with(Engine::Sqlite, config).await;
    let token = cloud.member("p");
    let bytes = noise(1, 5_000);
    let id = cloud.queued(&token, "qcow2").await;
    cloud.upload(&token, &id, &bytes).await.expect(204);
    let staged = cloud.queued(&token, "vmdk").await;
    cloud.stage(&token, &staged, &bytes).await.expect(204);
    cloud.import(&token, &staged, json!({"method": {"name": "glance-direct"}})).await.expect(202);
    cloud.work().await;
    for id in [&id, &staged] {
        let shown = cloud.show(id).await;
        assert_eq!((&shown["status"], &shown["virtual_size"]), (&json!("active"), &json!(null)));
        assert_eq!(cloud.get(&token, &file(id)).await.bytes, bytes);
    }
}
