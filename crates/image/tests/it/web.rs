//! Imports from the web, and from another region's image service.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use umbel_db::Engine;
use umbel_image::{Config, Filters};

use crate::cloud::{Cloud, file, noise};

/// A web server on a port of its own; its root. `answer` makes the whole reply to a path.
pub async fn site(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("");
                let _ = socket.write_all(&answer(path)).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    root
}

pub fn found(bytes: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", bytes.len());
    [head.as_bytes(), bytes].concat()
}

fn moved(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

/// Trusts this host, on any port.
pub fn trusting() -> Config {
    let filters =
        Filters { allowed_hosts: vec!["127.0.0.1".to_owned()], allowed_ports: Vec::new(), ..Filters::default() };
    Config { web_download: filters, ..Config::default() }
}

fn web(uri: &str) -> Value {
    json!({"method": {"name": "web-download", "uri": uri}})
}

#[tokio::test]
async fn what_is_on_the_web_becomes_an_image() {
    let bytes = noise(1, 300_000);
    let served = bytes.clone();
    let root = site(move |path| match path {
        "/there" => found(&served),
        _ => moved("/there"),
    })
    .await;
    for engine in Engine::ALL {
        let cloud = Cloud::with(engine, trusting()).await;
        let token = cloud.member("p");
        for path in ["there", "elsewhere"] {
            let id = cloud.queued(&token, "raw").await;
            cloud.import(&token, &id, web(&format!("{root}/{path}"))).await.expect(202);
            assert_eq!(cloud.show(&id).await["status"], "importing");
            cloud.work().await;
            assert_eq!(cloud.tasks(&id).await, [("success".to_owned(), String::new())]);
            assert_eq!(cloud.get(&token, &file(&id)).await.bytes, bytes);
        }
        assert_eq!(cloud.disks().await.len(), 2);
    }
}

#[tokio::test]
async fn what_cannot_be_had_leaves_the_image_queued() {
    let root = site(|path| match path {
        "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_vec(),
        "/away" => moved("http://localhost:1/x"),
        "/down" => moved("file:///etc/passwd"),
        "/round" => moved("/round"),
        "/text" => found(b"This is no image of that format."),
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
    })
    .await;
    let cloud = Cloud::with(Engine::Sqlite, trusting()).await;
    let token = cloud.member("p");
    let expected = [
        ("short", "ended"),
        ("away", "filtering"),
        ("down", "URL"),
        ("round", "redirects"),
        ("text", "qcow2"),
        ("missing", "404"),
    ];
    for (path, words) in expected {
        let id = cloud.queued(&token, "qcow2").await;
        cloud.import(&token, &id, web(&format!("{root}/{path}"))).await.expect(202);
        cloud.work().await;
        let shown = cloud.show(&id).await;
        assert_eq!((&shown["status"], &shown["size"]), (&json!("queued"), &json!(null)), "{path}");
        let [(status, message)] = <[_; 1]>::try_from(cloud.tasks(&id).await).unwrap();
        assert_eq!(status, "failure");
        assert!(message.contains(words), "{path}: {message}");
    }
    assert!(cloud.disks().await.is_empty());
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_followed() {
    let filters = Filters { allowed_ports: Vec::new(), ..Filters::default() };
    let cloud = Cloud::with(Engine::Sqlite, Config { web_download: filters, ..Config::default() }).await;
    let root = site(|_| found(b"secret")).await;
    let token = cloud.member("p");
    let id = cloud.queued(&token, "raw").await;
    cloud.import(&token, &id, web(&root)).await.refused(400, "address");
    // A name is resolved when it is connected to, and then found to be this host.
    let named = root.replace("127.0.0.1", "localhost");
    cloud.import(&token, &id, web(&named)).await.expect(202);
    cloud.work().await;
    assert_eq!(cloud.show(&id).await["status"], "queued");
    assert_eq!(cloud.tasks(&id).await[0].0, "failure");
}
