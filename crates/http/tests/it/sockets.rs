use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use umbel_api::{Method, Route};
use umbel_core::{Error, Result};
use umbel_http::{Bytes, Limits, Reply, Req, Routes, Server, serve, serve_with};

use crate::support::{Keys, PUBLIC, compute, eventually};

static QUICK: Route = Route::new(Method::Get, "/quick", "quick", PUBLIC);
static EMPTY: Route = Route::new(Method::Get, "/empty", "empty", PUBLIC);
static PANIC: Route = Route::new(Method::Get, "/panic", "panic", PUBLIC);
static ROOT: Route = Route::new(Method::Get, "/root", "root", PUBLIC);
static HELD_READ: Route = Route::new(Method::Get, "/held", "held", PUBLIC);
static HELD_WRITE: Route = Route::new(Method::Post, "/held", "held", PUBLIC);
static BROKEN: Route = Route::new(Method::Get, "/broken", "broken", PUBLIC);
static FEED: Route = Route::new(Method::Get, "/feed", "feed", PUBLIC);
static UPLOAD: Route = Route::new(Method::Put, "/upload", "upload", PUBLIC);
static JSON: Route = Route::new(Method::Post, "/json", "json", PUBLIC);

/// What tests see of handlers, and hold them by.
#[derive(Default)]
struct Stage {
    held: AtomicUsize,
    left: AtomicUsize,
    go: Notify,
    finished: AtomicUsize,
    uploaded: AtomicUsize,
    cut: AtomicBool,
}

/// Counts handlers that are gone, at their end or before it.
struct Leaving(Arc<Stage>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, Ordering::SeqCst);
    }
}

async fn held(stage: Arc<Stage>, _: Req) -> Result<Reply> {
    let _leaving = Leaving(stage.clone());
    stage.held.fetch_add(1, Ordering::SeqCst);
    stage.go.notified().await;
    stage.finished.fetch_add(1, Ordering::SeqCst);
    Ok(Reply::bytes(200, "text/plain", "held"))
}

async fn upload(stage: Arc<Stage>, mut req: Req) -> Result<Reply> {
    let mut stream = req.stream();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => {
                stage.uploaded.fetch_add(chunk.len(), Ordering::SeqCst);
            }
            Err(error) => {
                // Cleaning up takes a while, as in a pool.
                tokio::task::yield_now().await;
                stage.go.notified().await;
                stage.cut.store(true, Ordering::SeqCst);
                return Err(error);
            }
        }
    }
    Ok(Reply::empty(204))
}

async fn feed(stage: Arc<Stage>, _: Req) -> Result<Reply> {
    let chunks = stream::unfold((stage, 0), |(stage, at)| async move {
        match at {
            0 => {}
            1 => stage.go.notified().await,
            _ => return None,
        }
        Some((Ok(Bytes::from_static(b"chunk")), (stage, at + 1)))
    });
    Ok(Reply::stream(200, "application/octet-stream", None, Box::pin(chunks)))
}

async fn broken(stage: Arc<Stage>, _: Req) -> Result<Reply> {
    let end = async move {
        stage.go.notified().await;
        Err(Error::internal("the pool went away"))
    };
    let chunks = stream::iter([Ok(Bytes::from_static(b"half"))]).chain(stream::once(end));
    Ok(Reply::stream(200, "application/octet-stream", Some(8), Box::pin(chunks)))
}

async fn start(limits: Limits) -> (Server, Arc<Stage>) {
    let stage = Arc::new(Stage::default());
    let routes = Routes::new(stage.clone())
        .on(&QUICK, async |_, _: Req| Ok(Reply::bytes(200, "text/plain", "quick")))
        .on(&EMPTY, async |_, _: Req| Ok(Reply::empty(204)))
        .on(&PANIC, async |_, _: Req| -> Result<Reply> { panic!("on purpose") })
        .on(&ROOT, async |_, req: Req| Ok(Reply::bytes(200, "text/plain", req.url("/x"))))
        .on(&HELD_READ, held)
        .on(&HELD_WRITE, held)
        .on(&BROKEN, broken)
        .on(&FEED, feed)
        .on(&UPLOAD, upload)
        .on(&JSON, async |_, mut req: Req| Ok(Reply::json(200, &req.json::<serde_json::Value>().await?)));
    let router = Keys::new().app.router(vec![compute().routes(routes)]);
    (serve_with("127.0.0.1:0".parse().unwrap(), router, limits).await.unwrap(), stage)
}

/// A client that says exactly what it is told to.
struct Client(TcpStream);

impl Client {
    async fn of(server: &Server) -> Self {
        Client(TcpStream::connect(server.address).await.unwrap())
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn get(&mut self, path: &str) {
        self.say(&format!("GET /compute{path} HTTP/1.1\r\nhost: cloud:1\r\n\r\n")).await;
    }

    /// Reads until the text ends so, or the other side closes.
    async fn hear_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while !text.ends_with(end.as_bytes()) {
            let read = timeout(Duration::from_secs(10), self.0.read(&mut buffer)).await;
            match read.unwrap_or_else(|_| panic!("{end:?} did not come after {:?}", String::from_utf8_lossy(&text))) {
                Ok(0) | Err(_) => panic!("the end came after {:?}", String::from_utf8_lossy(&text)),
                Ok(count) => text.extend_from_slice(&buffer[..count]),
            }
        }
        String::from_utf8(text).unwrap()
    }

    /// Reads until the other side closes.
    async fn hear_all(&mut self) -> String {
        let mut text = Vec::new();
        // A reset is an end as well; what came before it counts.
        let _ = timeout(Duration::from_secs(10), self.0.read_to_end(&mut text)).await.expect("the end did not come");
        String::from_utf8(text).unwrap()
    }
}

fn quickly() -> Limits {
    Limits { header: Duration::from_millis(200), stall: Duration::from_millis(200), ..Limits::default() }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let (server, _) = start(Limits::default()).await;
    let mut client = Client::of(&server).await;
    for _ in 0..3 {
        client.get("/quick").await;
        let answer = client.hear_until("quick").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("content-length: 5\r\n"), "{answer}");
    }
    client.get("/empty").await;
    let answer = client.hear_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 204 ") && !answer.contains("content-length"), "{answer}");
    client.say("HEAD /compute/quick HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.hear_until("\r\n\r\n").await;
    assert!(answer.contains("content-length: 5\r\n"), "{answer}");
    client.get("/root").await;
    client.hear_until("http://cloud:1/compute/x").await;
}

#[tokio::test]
async fn a_panic_costs_one_request_and_not_its_connection() {
    let (server, _) = start(Limits::default()).await;
    let mut client = Client::of(&server).await;
    client.get("/panic").await;
    let answer = client.hear_until("}}").await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("computeFault"), "{answer}");
    client.get("/quick").await;
    client.hear_until("quick").await;
}

#[tokio::test]
async fn an_address_is_taken_once() {
    let (server, _) = start(Limits::default()).await;
    let error = serve(server.address, umbel_http::Router::new()).await.err().unwrap();
    assert_eq!(error.message(), format!("Another program listens on {}.", server.address));
}

#[tokio::test]
async fn a_download_streams_as_it_is_made() {
    let (server, stage) = start(Limits::default()).await;
    let mut client = Client::of(&server).await;
    client.get("/feed").await;
    client.hear_until("chunk\r\n").await;
    stage.go.notify_one();
    client.hear_until("5\r\nchunk\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_download_that_breaks_ends_early() {
    let (server, stage) = start(Limits::default()).await;
    let mut client = Client::of(&server).await;
    client.get("/broken").await;
    let answer = client.hear_until("half").await;
    assert!(answer.contains("content-length: 8\r\n"), "{answer}");
    stage.go.notify_one();
    assert_eq!(client.hear_all().await, "");
}

#[tokio::test]
async fn an_upload_that_is_cut_is_cleaned_up_behind() {
    let (server, stage) = start(Limits::default()).await;
    let mut client = Client::of(&server).await;
    client.say("PUT /compute/upload HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n0123456789").await;
    eventually("the upload's start", || stage.uploaded.load(Ordering::SeqCst) == 10).await;
    drop(client);
    stage.go.notify_one();
    eventually("the clean-up", || stage.cut.load(Ordering::SeqCst)).await;
    server.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_reads_ends_with_its_client_and_what_writes_does_not() {
    let (server, stage) = start(Limits::default()).await;
    let mut reader = Client::of(&server).await;
    reader.get("/held").await;
    eventually("the read", || stage.held.load(Ordering::SeqCst) == 1).await;
    drop(reader);
    eventually("the end of the read", || stage.left.load(Ordering::SeqCst) == 1).await;
    assert_eq!(stage.finished.load(Ordering::SeqCst), 0);

    let mut writer = Client::of(&server).await;
    writer.say("POST /compute/held HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    eventually("the write", || stage.held.load(Ordering::SeqCst) == 2).await;
    drop(writer);
    let mut drained = tokio::spawn(server.drain(Duration::from_secs(30)));
    let early = timeout(Duration::from_millis(200), &mut drained).await;
    assert!(early.is_err(), "a server that drains waits for it");
    stage.go.notify_one();
    timeout(Duration::from_secs(5), drained).await.expect("it drained").unwrap();
    assert_eq!(stage.finished.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_large_body_is_refused_and_the_answer_arrives() {
    let (server, _) = start(Limits::default()).await;
    let body = "x".repeat(200_000);
    for head in ["content-length: 200000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n30d40\r\n"] {
        let mut client = Client::of(&server).await;
        client.say(&format!("POST /compute/json HTTP/1.1\r\nhost: a\r\n{head}")).await;
        // The server need not take all of it.
        let _ = client.0.write_all(body.as_bytes()).await;
        let answer = client.hear_all().await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("overLimit"), "{head}: {answer}");
    }
}

#[tokio::test]
async fn a_body_is_asked_for_only_where_it_is_wanted() {
    let (server, _) = start(Limits::default()).await;
    let mut client = Client::of(&server).await;
    let expecting = "host: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    client.say(&format!("POST /compute/json HTTP/1.1\r\n{expecting}")).await;
    client.hear_until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.say("{}").await;
    client.hear_until("\r\n\r\n{}").await;
    client.say(&format!("POST /compute/nothing HTTP/1.1\r\n{expecting}")).await;
    let answer = client.hear_all().await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn a_header_has_a_size() {
    let (server, _) = start(Limits::default()).await;
    let ask = async |bytes: usize| {
        let mut client = Client::of(&server).await;
        let long = "x".repeat(bytes);
        let header = format!("GET /compute/quick HTTP/1.1\r\nconnection: close\r\nx-long: {long}\r\n\r\n");
        let _ = client.0.write_all(header.as_bytes()).await;
        client.hear_all().await
    };
    assert!(ask(60_000).await.starts_with("HTTP/1.1 200 "));
    assert!(ask(70_000).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn who_is_slow_or_silent_is_cut_off() {
    let (server, stage) = start(quickly()).await;
    let (mut silent, mut slow) = (Client::of(&server).await, Client::of(&server).await);
    slow.say("GET /compute/quick HTTP/1.1\r\nx-").await;
    assert_eq!(silent.hear_all().await, "");
    assert_eq!(slow.hear_all().await, "");
    let mut idle = Client::of(&server).await;
    idle.get("/quick").await;
    assert!(idle.hear_all().await.ends_with("quick"));
    let mut patient = Client::of(&server).await;
    patient.get("/held").await;
    let mut byte = [0];
    let early = timeout(Duration::from_millis(500), patient.0.read(&mut byte)).await;
    assert!(early.is_err(), "who waits for an answer is not idle");
    stage.go.notify_one();
    patient.hear_until("held").await;

    let mut stalled = Client::of(&server).await;
    stage.go.notify_one();
    stalled.say("PUT /compute/upload HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n0123456789").await;
    let answer = stalled.hear_all().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("ended before it was complete"), "{answer}");
    assert!(stage.cut.load(Ordering::SeqCst));
}

#[tokio::test]
async fn more_connections_than_places_wait_their_turn() {
    let (server, _) = start(Limits { connections: 1, ..Limits::default() }).await;
    let (mut first, mut second) = (Client::of(&server).await, Client::of(&server).await);
    first.get("/quick").await;
    first.hear_until("quick").await;
    second.get("/quick").await;
    let mut byte = [0];
    let early = timeout(Duration::from_millis(100), second.0.read(&mut byte)).await;
    assert!(early.is_err(), "the second was served beside the first");
    drop(first);
    second.hear_until("quick").await;
}

#[tokio::test]
async fn draining_ends_idle_connections_and_awaits_busy_ones() {
    let (server, stage) = start(Limits::default()).await;
    let address = server.address;
    let (mut fresh, mut idle, mut busy) =
        (Client::of(&server).await, Client::of(&server).await, Client::of(&server).await);
    idle.get("/quick").await;
    idle.hear_until("quick").await;
    busy.get("/held").await;
    eventually("the request", || stage.held.load(Ordering::SeqCst) == 1).await;
    let drained = tokio::spawn(server.drain(Duration::from_secs(30)));
    assert_eq!((fresh.hear_all().await, idle.hear_all().await), (String::new(), String::new()));
    assert!(TcpStream::connect(address).await.is_err(), "it still listens");
    assert!(!drained.is_finished());
    stage.go.notify_one();
    let answer = busy.hear_all().await;
    assert!(answer.ends_with("held") && answer.contains("connection: close"), "{answer}");
    timeout(Duration::from_secs(5), drained).await.expect("it drained").unwrap();
}

#[tokio::test]
async fn draining_is_quick_where_all_is_idle() {
    let (server, _) = start(Limits::default()).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::of(&server).await;
        client.get("/quick").await;
        client.hear_until("quick").await;
        clients.push(client);
    }
    let started = Instant::now();
    server.drain(Duration::from_secs(30)).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn draining_has_an_end() {
    let (server, stage) = start(Limits::default()).await;
    let mut busy = Client::of(&server).await;
    busy.get("/held").await;
    eventually("the request", || stage.held.load(Ordering::SeqCst) == 1).await;
    server.drain(Duration::from_millis(50)).await;
    assert_eq!(busy.hear_all().await, "");
}

#[tokio::test]
async fn a_dropped_server_stops() {
    let (server, _) = start(Limits::default()).await;
    let mut idle = Client::of(&server).await;
    drop(server);
    assert_eq!(idle.hear_all().await, "");
}
