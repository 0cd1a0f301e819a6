use std::net::SocketAddr;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use umbel_core::{Error, Kind, Result};

/// A listening server; dropped or told to, it stops taking connections and finishes what runs.
pub struct Server {
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Serves a router on an address; port 0 takes a free one, told in [`Server::address`].
pub async fn serve(address: SocketAddr, router: axum::Router) -> Result<Server> {
    let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Error::new(Kind::Conflict, format!("Another program listens on {address}.")).because(error)
        }
        _ => Error::internal(error).because(format!("listening on {address}")),
    })?;
    let address = listener.local_addr().map_err(Error::internal)?;
    let (stop, mut stopped) = watch::channel(false);
    // Without it each small answer waits for the client's delayed acknowledgement.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let task = tokio::spawn(async move {
        let done = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        axum::serve(listener, router).with_graceful_shutdown(done).await
    });
    Ok(Server { address, stop, task })
}

impl Server {
    /// Takes no more connections and waits for the running requests, at most `grace`.
    pub async fn drain(self, grace: std::time::Duration) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(grace, self.task).await.is_err() {
            tracing::warn!("requests still ran at the end of the grace period");
        }
    }
}
