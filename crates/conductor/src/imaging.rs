//! What the flows that make images of servers have in common: they wait for the name, show how far they are, and end.

use std::time::Duration;

use umbel_compute::Who;
use umbel_compute::model::{Fault, Server, ServerId, Task, imaged, imaging};
use umbel_compute::store::servers;
use umbel_core::{Error, Kind, OnBehalf, Result};
use umbel_db::{read, tx};
use umbel_workflow::{Next, Run};

use crate::CellConductor;
use crate::attach::close;
use crate::cell::{one, unwanted};
use crate::volumes::{gone_is_good, is_refusal};

/// For how long a request may be between its flow and the image.
const NAMING: Duration = Duration::from_secs(60);

/// Between two looks for a name.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct Imaging<'a> {
    pub conductor: &'a CellConductor,
    pub server: ServerId,
    pub image: &'a str,
    pub behalf: &'a OnBehalf,
    /// By which the server's action tells of it.
    pub event: &'static str,
}

impl Imaging<'_> {
    /// Waits for the request to have named the image. One that was refused has taken its task back.
    pub async fn named<S>(&self, run: &Run, next: S) -> Result<Next<S>> {
        let conductor = self.conductor;
        let found = conductor.images.state(self.image).await;
        let unnamed = matches!(&found, Err(error) if error.is(Kind::NotFound));
        let naming = unnamed && conductor.clock.now() < run.created_at.plus(NAMING);
        let server = self.read().await?;
        let ours = |server: &Server| imaged(server, &run.request_id, conductor.clock.now()).is_some();
        match &server {
            // A request that goes on although its server went would leave an image that nobody makes.
            None if naming => return Ok(Next::Wait(PAUSE)),
            Some(server) if ours(server) => {}
            _ => return Err(Error::conflict("The server is to have no image any more.")),
        }
        match found {
            Err(_) if naming => Ok(Next::Wait(PAUSE)),
            Err(error) if error.is(Kind::NotFound) => {
                Err(Error::new(Kind::Internal, "The request that named the image did not end.")
                    .because(error.for_log()))
            }
            Err(error) => Err(error),
            Ok(_) => {
                self.show(Task::ImageSnapshot, run).await?;
                Ok(Next::Go(next))
            }
        }
    }

    /// The server, unless it goes or is gone.
    pub async fn read(&self) -> Result<Option<Server>> {
        let id = self.server;
        let server = read!(self.conductor.cell.db, "read server", |tx| one(tx, id).await)?;
        Ok(server.filter(|server| !unwanted(server)))
    }

    /// Whether the server waits for this image still. One that is gone waits for none, and has no other made.
    pub async fn is_under_way(&self, run: &Run) -> Result<bool> {
        let now = self.conductor.clock.now();
        let server = self.read().await?;
        Ok(server.is_none_or(|server| imaged(&server, &run.request_id, now).is_some()))
    }

    /// The task as the owner sees it, where it is still this one.
    pub async fn show(&self, task: Task, run: &Run) -> Result<()> {
        let now = self.conductor.clock.now();
        let id = self.server;
        tx!(self.conductor.cell.db, "image under way", |tx| {
            let Some(mut server) = one(tx, id).await? else {
                return Ok(());
            };
            if server.state.task == Some(task) || imaged(&server, &run.request_id, now).is_none() {
                return Ok(());
            }
            server.state = imaging(&server, task, &run.request_id, now);
            servers::update(tx, &mut server).await
        })
    }

    /// For its owner, and then as compute itself. What both may not delete is left to its owner.
    pub async fn drop_image(&self) -> Result<()> {
        let images = &self.conductor.images;
        let own = gone_is_good(images.delete(Who::For(self.behalf), self.image).await);
        let Err(error) = own else {
            return Ok(());
        };
        if !error.is(Kind::Unauthorized) && !error.is(Kind::Forbidden) {
            return Err(error);
        }
        match gone_is_good(images.delete(Who::Compute, self.image).await) {
            Err(error) if error.is(Kind::Forbidden) || is_refusal(&error) => {
                tracing::warn!(image = self.image, cause = error.cause(), "an image that failed stays: {error}");
                Ok(())
            }
            other => other,
        }
    }

    /// Ends the task and the action. The server is none the worse for an image that failed.
    pub async fn end(&self, run: &Run, error: Option<&Error>) -> Result<()> {
        let now = self.conductor.clock.now();
        let id = self.server;
        tx!(self.conductor.cell.db, "image has ended", |tx| {
            let Some(mut server) = one(tx, id).await? else {
                return Ok(());
            };
            if let Some(ended) = imaged(&server, &run.request_id, now) {
                server.state = ended;
                if let Some(error) = error {
                    let message = error.message().to_owned();
                    server.state.fault = Some(Fault { code: 500, message, details: None, created: now });
                }
                servers::update(tx, &mut server).await?;
            }
            close(tx, &server, self.event, (run, now), error.map(Error::message)).await
        })?;
        // A report of the guest that said nothing new while the task lasted may say something now.
        self.conductor.told.forget(id.uuid());
        Ok(())
    }
}
