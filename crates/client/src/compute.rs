use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use umbel_core::{Error, Kind, Result};

use crate::Cloud;
use crate::cloud::accepted;
use crate::transport::{Body, Transport, collect};

/// A server as far as a client that waits for it looks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerView {
    pub id: String,
    pub name: String,
    pub status: String,
    pub fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Fault {
    pub code: u16,
    pub message: String,
}

pub struct NewServer<'a> {
    pub name: &'a str,
    pub image_id: &'a str,
    pub flavor_id: &'a str,
    /// As many in one request.
    pub count: u32,
}

/// 2.37 is the first version that takes `networks: none`; 2.60 is spoken by every cloud of the last years.
const VERSION: &str = "2.60";

#[derive(Deserialize)]
struct Wrapped {
    server: ServerView,
}

#[derive(Deserialize)]
struct Created {
    server: Named,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Page {
    servers: Vec<ServerView>,
}

impl Cloud {
    /// Asks for servers without network; the id of the first.
    pub async fn create_server(&self, new: &NewServer<'_>) -> Result<String> {
        let mut server = json!({
            "name": new.name, "imageRef": new.image_id, "flavorRef": new.flavor_id, "networks": "none",
        });
        if new.count > 1 {
            server["min_count"] = json!(new.count);
            server["max_count"] = json!(new.count);
        }
        let created: Created = self.post("compute", "/servers", Some(VERSION), &json!({"server": server})).await?;
        Ok(created.server.id)
    }

    pub async fn server(&self, id: &str) -> Result<ServerView> {
        Ok(self.get::<Wrapped>("compute", &format!("/servers/{id}"), Some(VERSION)).await?.server)
    }

    /// The project's servers whose name contains `name`, at most one page.
    pub async fn servers(&self, name: &str) -> Result<Vec<ServerView>> {
        let path = format!("/servers/detail?limit=1000&name={name}");
        Ok(self.get::<Page>("compute", &path, Some(VERSION)).await?.servers)
    }

    pub async fn delete_server(&self, id: &str) -> Result<()> {
        self.delete("compute", &format!("/servers/{id}")).await
    }

    /// Looks every `every` until the server is ACTIVE; its fault where it ends in ERROR.
    pub async fn wait_active(&self, id: &str, every: Duration, limit: Duration) -> Result<()> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let server = self.server(id).await?;
            match server.status.as_str() {
                "ACTIVE" => return Ok(()),
                "ERROR" => {
                    let fault = server.fault.map_or("no reason given".to_owned(), |fault| fault.message);
                    return Err(Error::conflict(format!("Server {id} is in ERROR: {fault}")));
                }
                _ if tokio::time::Instant::now() > deadline => {
                    return Err(Error::new(Kind::Timeout, format!("Server {id} is still {}.", server.status)));
                }
                _ => tokio::time::sleep(every).await,
            }
        }
    }

    pub async fn wait_gone(&self, id: &str, every: Duration, limit: Duration) -> Result<()> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            match self.server(id).await {
                Err(error) if error.is(Kind::NotFound) => return Ok(()),
                Err(error) => return Err(error),
                Ok(server) if tokio::time::Instant::now() > deadline => {
                    return Err(Error::new(Kind::Timeout, format!("Server {id} is still {}.", server.status)));
                }
                Ok(_) => tokio::time::sleep(every).await,
            }
        }
    }
}

/// Compute, as other services tell it what happened to a server's parts.
#[derive(Clone)]
pub struct ServerEvents {
    transport: Arc<dyn Transport>,
    /// With the version, `…/v2.1`.
    endpoint: Arc<str>,
}

impl ServerEvents {
    pub fn new(transport: Arc<dyn Transport>, endpoint: &str) -> Self {
        ServerEvents { transport, endpoint: endpoint.trim_end_matches('/').into() }
    }

    /// A volume that the server has has grown.
    pub async fn volume_extended(&self, service_token: &str, server_id: &str, volume_id: &str) -> Result<()> {
        self.tell(service_token, "volume-extended", server_id, volume_id).await
    }

    /// A volume that the server has is to go to another disk; where that is, its attachment says.
    pub async fn volume_moving(&self, service_token: &str, server_id: &str, volume_id: &str) -> Result<()> {
        self.tell(service_token, "umbel-volume-moving", server_id, volume_id).await
    }

    async fn tell(&self, service_token: &str, name: &str, server_id: &str, volume_id: &str) -> Result<()> {
        let event = json!({"name": name, "server_uuid": server_id, "tag": volume_id});
        let body = serde_json::to_vec(&json!({"events": [event]})).map_err(Error::internal)?;
        let request = http::Request::builder()
            .method(http::Method::POST)
            .uri(format!("{}/os-server-external-events", self.endpoint))
            .header("x-auth-token", service_token)
            .header("content-type", "application/json")
            // The first version that knows events of volumes.
            .header("openstack-api-version", "compute 2.51")
            .body(Body::Bytes(body.into()))
            .map_err(|error| Error::internal(error).because("an event for compute"))?;
        let response = self.transport.send(request).await?;
        let status = response.status();
        let bytes = collect(response.into_body(), 1 << 20).await?;
        accepted(status, &bytes)
    }

    /// The volume service's attachment by which the server has the volume: `None` if it has not, or is no server at all;
    /// `Some(None)` if the attachment is not made yet.
    pub async fn attachment(
        &self,
        service_token: &str,
        server_id: &str,
        volume_id: &str,
    ) -> Result<Option<Option<String>>> {
        let request = http::Request::builder()
            .uri(format!("{}/servers/{server_id}/os-volume_attachments/{volume_id}", self.endpoint))
            .header("x-auth-token", service_token)
            // The first version that tells the attachment.
            .header("openstack-api-version", "compute 2.89")
            .body(Body::Empty)
            .map_err(|error| Error::internal(error).because("a server's volume"))?;
        let response = self.transport.send(request).await?;
        let status = response.status();
        let bytes = collect(response.into_body(), 1 << 20).await?;
        if status == http::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        accepted(status, &bytes)?;
        let wrapped: WrappedVolume =
            serde_json::from_slice(&bytes).map_err(|error| Error::internal(error).because("a server's volume"))?;
        Ok(Some(wrapped.attachment.attachment_id))
    }
}

#[derive(Deserialize)]
struct WrappedVolume {
    #[serde(rename = "volumeAttachment")]
    attachment: ServerVolume,
}

#[derive(Deserialize)]
struct ServerVolume {
    attachment_id: Option<String>,
}
