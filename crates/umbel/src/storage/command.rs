//! `umbel storage`: asks the cloud that runs.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde::de::DeserializeOwned;
use umbel_api::storage::{Audit, Finding, Mend, Progress, Tree, Which};
use umbel_client::{Body, Cloud, HttpTransport, Transport, collect, find_cloud, find_cloud_in};
use umbel_core::{Error, Kind, Result};

use super::draw;

/// Answers beyond this are a fault: a finding has some hundred bytes.
const MAX_ANSWER: usize = 256 << 20;

#[derive(Args)]
pub struct StorageArgs {
    #[command(subcommand)]
    what: What,
    /// Name of the cloud in clouds.yaml; its user is to be an administrator.
    #[arg(long, global = true, default_value = "umbel")]
    cloud: String,
    /// The directory of the cloud, whose clouds.yaml is read.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Compares pools with databases: prints 0, or what differs.
    Audit {
        /// Mend what can be mended, after showing it and asking.
        #[arg(long)]
        fix: bool,
        /// Do not ask.
        #[arg(long, requires = "fix")]
        yes: bool,
        /// Mend this disk alone, as POOL/DISK; may be given more than once.
        #[arg(long, requires = "fix", value_name = "POOL/DISK")]
        only: Vec<String>,
    },
    /// Lists what is being copied, converted and flattened, with how far it is.
    Progress {
        /// Show it again each second until nothing is left.
        #[arg(long)]
        follow: bool,
    },
    /// Draws who descends from whom: parents, snapshots, clones, and the room they take.
    Tree {
        /// Id or name of an image, a server or a volume; or POOL/DISK.
        #[arg(value_name = "IMAGE|VOLUME|SERVER")]
        what: String,
        /// Where a name says too little: `image`, `server`, `volume`, `disk`.
        #[arg(long, default_value = "any")]
        kind: String,
    },
}

/// An error if something differs and was not mended.
pub async fn run(args: StorageArgs) -> Result<()> {
    let config = match &args.dir {
        Some(dir) => find_cloud_in(&dir.join("clouds.yaml"), &args.cloud)?,
        None => find_cloud(&args.cloud)?,
    };
    let transport: Arc<dyn Transport> = Arc::new(HttpTransport::of(&config)?);
    let cloud = Cloud::connect(&config, transport.clone()).await?;
    let operator = Operator { root: root(&cloud)?, cloud, transport };
    match args.what {
        What::Audit { fix, yes, only } => {
            let wanted = fix.then_some(Wanted { yes, only });
            audit(&operator, wanted, args.json).await
        }
        What::Progress { follow } => progress(&operator, follow, args.json).await,
        What::Tree { what, kind } => {
            let path = format!("/v1/tree/{}/{}", segment(&kind), segment(&what));
            let tree: Tree = operator.ask(Method::GET, &path, Body::Empty).await?;
            match args.json {
                true => print_json(&tree),
                false => print(&draw::tree(&tree)),
            }
        }
    }
}

/// Between two looks of `--follow`.
const AGAIN: Duration = Duration::from_secs(1);

async fn progress(operator: &Operator, follow: bool, json: bool) -> Result<()> {
    loop {
        let progress: Progress = operator.ask(Method::GET, "/v1/progress", Body::Empty).await?;
        match json {
            true => print_json(&progress)?,
            false => print(&draw::progress(&progress))?,
        }
        if !follow || progress.running.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What is to be mended.
struct Wanted {
    yes: bool,
    /// All if there is none.
    only: Vec<String>,
}

impl Wanted {
    /// What is to be mended of what was found.
    ///
    /// # Errors
    /// `NotFound` for a name that no finding has: who has misspelled it should not read that all is well.
    fn among(&self, findings: &[Finding]) -> Result<Vec<String>> {
        let name = |found: &Finding| format!("{}/{}", found.pool, found.name);
        if let Some(unknown) = self.only.iter().find(|only| !findings.iter().any(|found| name(found) == **only)) {
            return Err(Error::not_found(format!("No finding is named '{unknown}'.")));
        }
        let asked = |found: &&Finding| self.only.is_empty() || self.only.contains(&name(found));
        Ok(findings.iter().filter(|found| found.fix.is_some()).filter(asked).map(|found| found.id.clone()).collect())
    }
}

async fn audit(operator: &Operator, wanted: Option<Wanted>, json: bool) -> Result<()> {
    let mut audit: Audit = operator.ask(Method::GET, "/v1/audit", Body::Empty).await?;
    let wanted = wanted.map(|wanted| wanted.among(&audit.findings).map(|ids| (wanted.yes, ids))).transpose()?;
    if let Some((yes, ids)) = wanted.filter(|(_, ids)| !ids.is_empty()) {
        if !json {
            tell(&audit)?;
        }
        if !yes && !confirmed(ids.len())? {
            return Err(Error::conflict("Nothing was changed."));
        }
        let body = serde_json::to_vec(&Mend { fix: Which::Some(ids) }).map_err(Error::internal)?;
        audit = operator.ask(Method::POST, "/v1/audit", Body::Bytes(body.into())).await?;
    }
    match json {
        true => print_json(&audit)?,
        false => tell(&audit)?,
    }
    let left =
        audit.findings.iter().filter(|found| found.outcome.as_ref().is_none_or(|outcome| !outcome.mended)).count();
    match left {
        0 => Ok(()),
        1 => Err(Error::conflict("Pools and databases differ in 1 place.")),
        left => Err(Error::conflict(format!("Pools and databases differ in {left} places."))),
    }
}

/// What differs to standard output; what is somebody else's, and no fault, beside it.
fn tell(audit: &Audit) -> Result<()> {
    for foreign in &audit.foreign {
        eprintln!("umbel: foreign {}/{}: not of our making, and left alone.", foreign.pool, foreign.name);
    }
    for one in &audit.unmanaged {
        eprintln!("umbel: unmanaged {}/{}: since {}, and left alone.", one.pool, one.name, one.since);
    }
    print(&draw::audit(audit))
}

/// Asks whoever sits there. Nobody there is no.
fn confirmed(count: usize) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::bad_request("Nobody is there to be asked: say --yes to mend."));
    }
    print(&format!("Mend {count}? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Error::internal)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::internal)
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value).map_err(Error::internal)? + "\n"))
}

/// A session at the operator's API.
struct Operator {
    root: String,
    cloud: Cloud,
    transport: Arc<dyn Transport>,
}

impl Operator {
    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.root))
            .header("x-auth-token", self.cloud.token())
            .header("content-type", "application/json");
        let response = self.transport.send(request.body(body).map_err(Error::internal)?).await?;
        let status = response.status();
        let bytes = collect(response.into_body(), MAX_ANSWER).await?;
        match status.as_u16() {
            ..400 => {
                serde_json::from_slice(&bytes).map_err(|error| Error::internal(error).because("reading the answer"))
            }
            404 => Err(refusal(Kind::NotFound, &bytes, "There is no storage API at this cloud's image service.")),
            403 => Err(refusal(Kind::Forbidden, &bytes, "This is for administrators.")),
            _ => Err(refusal(Kind::BadRequest, &bytes, &format!("The cloud answered {status}."))),
        }
    }
}

fn refusal(kind: Kind, body: &[u8], otherwise: &str) -> Error {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let told = value["errors"][0]["detail"].as_str().filter(|told| !told.is_empty());
    Error::new(kind, told.unwrap_or(otherwise).to_owned())
}

/// The operator's API stands beside the image service: where images are served pools are open.
fn root(cloud: &Cloud) -> Result<String> {
    let image = cloud.endpoint("image")?;
    let base = image.strip_suffix("/image").ok_or_else(|| {
        Error::bad_request(format!(
            "The catalog has the image service at {image}, which is no address of this program."
        ))
    })?;
    Ok(format!("{base}/storage"))
}

/// One segment of a path, whatever is in it.
fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("vms/a b%é"), "vms%2Fa%20b%25%C3%A9");
    }
}
