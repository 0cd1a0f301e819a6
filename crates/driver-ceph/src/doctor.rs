use std::sync::Arc;

use crate::cluster::CephCluster;
use crate::errno::Failed;
use crate::ffi::{self, Connection};
use crate::pool::CephName;

/// Ceph's number of Mimic, the first release with clones of the second form.
const MIMIC: i8 = 13;

/// One thing that `umbel doctor` looked at. For operators: it names files, users and commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub good: bool,
    /// What was found, in one sentence.
    pub found: String,
    /// The command or the line of configuration that mends it; nothing to mend if empty.
    pub mend: String,
}

impl Finding {
    fn good(found: String) -> Self {
        Finding { good: true, found, mend: String::new() }
    }

    fn bad(found: String, mend: impl Into<String>) -> Self {
        Finding { good: false, found, mend: mend.into() }
    }
}

impl CephCluster {
    /// Looks at everything that disks in `pools` (as Ceph calls them) need, and writes nothing. Takes as long as
    /// `connect_timeout` if the cluster is down.
    pub async fn doctor(&self, pools: &[&str]) -> Vec<Finding> {
        match ffi::api() {
            Ok(api) => {
                let version = api.version();
                let found = format!("librbd {}.{}.{} is installed.", version[0], version[1], version[2]);
                let mut findings = vec![Finding::good(found)];
                findings.extend(self.look(pools).await);
                findings
            }
            Err(error) => vec![Finding::bad(error.for_log(), "apt-get install librbd1")],
        }
    }

    async fn look(&self, pools: &[&str]) -> Vec<Finding> {
        let config = self.config();
        let conf = config.conf.display();
        if let Err(error) = std::fs::File::open(&config.conf) {
            let found = format!("{conf} cannot be read: {error}.");
            return vec![Finding::bad(found, "copy the output of `ceph config generate-minimal-conf` there")];
        }
        let pools: Vec<CephName> = pools.iter().map(|pool| CephName((*pool).into())).collect();
        let user = config.user.clone();
        let looked = self.run(move |connection| Ok(look(connection, &pools, &user))).await;
        match looked {
            Ok(findings) => findings,
            Err(error) => {
                let found = format!("client.{} cannot reach the cluster of {conf}: {}.", config.user, error.for_log());
                let mend = format!("ceph -c {conf} --id {} -s", config.user);
                vec![Finding::bad(found, mend)]
            }
        }
    }
}

fn look(connection: &Arc<Connection>, pools: &[CephName], user: &str) -> Vec<Finding> {
    let mut findings = vec![Finding::good(format!("Cluster {} answers client.{user}.", connection.fsid()))];
    findings.push(match connection.required_client_release() {
        Ok(release) if release >= MIMIC => {
            Finding::good("Clients older than Mimic are refused, so clones need no protection.".into())
        }
        Ok(_) => Finding::bad(
            "Clients older than Mimic may connect; they cannot read clones of the second form.".into(),
            "ceph osd set-require-min-compat-client mimic",
        ),
        Err(failed) => Finding::bad(format!("The oldest permitted client is not known: {failed}."), ""),
    });
    findings.extend(pools.iter().map(|pool| look_at_pool(connection, pool, user)));
    findings
}

fn look_at_pool(connection: &Arc<Connection>, ceph: &CephName, user: &str) -> Finding {
    let name = &ceph.0;
    let pool = match ceph.open(connection) {
        Ok(pool) => pool,
        Err(error) => {
            let mend = format!("ceph osd pool create {name} && rbd pool init {name}");
            return Finding::bad(format!("Pool {name}: {}.", error.for_log()), mend);
        }
    };
    let refused = |failed: Failed| {
        let mend = format!(
            "ceph auth caps client.{user} mon 'profile rbd' osd 'profile rbd pool={name}' mgr 'profile rbd pool={name}' (and its other pools)"
        );
        Finding::bad(format!("Pool {name} cannot be read by client.{user}: {failed}."), mend)
    };
    match pool.applications() {
        Ok(names) if names.iter().any(|name| name == "rbd") => {}
        Ok(_) => return Finding::bad(format!("Pool {name} is not enabled for rbd."), format!("rbd pool init {name}")),
        Err(failed) => return refused(failed),
    }
    match pool.list() {
        Ok(images) => Finding::good(format!("Pool {name} holds {} images.", images.len())),
        Err(failed) => refused(failed),
    }
}
