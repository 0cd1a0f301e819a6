//! Who descends from whom: from any disk up to the oldest that is known, and from there down to all clones.
//!
//! Pools answer for disks in sight alone. Where a parent was removed and lives on for its clones, its other clones are
//! found by asking every disk for its parent: rare, and slow only then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::OnceCell;
use umbel_api::storage::{Node, Owner, SnapshotNode, Tree};
use umbel_core::{Error, Result};
use umbel_driver::{Location, Pool};

use super::StorageAudit;
use super::audit::parents;
use super::compare::Known;
use super::names::Noun;
use super::rows::Aliases;

/// Generations that are followed. Pools bound their chains far below.
const DEEPEST: usize = 64;

/// Disks of one answer; who has more sees a part.
const MOST: usize = 10_000;

impl StorageAudit {
    /// `kind`: `any`, `image`, `server`, `volume` with an id or a name; `disk` with `POOL/DISK`. 409 for a name that
    /// several things have.
    pub async fn tree(&self, kind: &str, text: &str) -> Result<Tree> {
        let aliases = self.aliases();
        let known = self.sources.known(&aliases).await?;
        let asked = self.asked(kind, text, &known).await?;
        let lineage = Lineage::new(&self.pools, &aliases, &known, &asked);
        let mut tops = Vec::new();
        for (pool, disk) in &asked {
            let top = lineage.top(pool, disk).await?;
            if !tops.contains(&top) {
                tops.push(top);
            }
        }
        let mut roots = Vec::new();
        for top in tops {
            roots.push(lineage.top_node(top).await?);
        }
        Ok(Tree { roots })
    }

    /// Pool and disk of all that was asked for.
    async fn asked(&self, kind: &str, text: &str, known: &Known) -> Result<BTreeSet<(String, String)>> {
        if kind == "disk" || (kind == "any" && text.contains('/')) {
            let (pool, disk) =
                text.split_once('/').ok_or_else(|| Error::bad_request("A disk is named as POOL/DISK."))?;
            self.pool(pool).ok_or_else(|| Error::not_found(format!("There is no pool '{pool}' here.")))?;
            return Ok([(pool.to_owned(), disk.to_owned())].into());
        }
        let nouns: Vec<Noun> = Noun::ALL.into_iter().filter(|noun| kind == "any" || noun.name() == kind).collect();
        if nouns.is_empty() {
            return Err(Error::bad_request(format!("'{kind}' is none of any, image, server, volume, disk.")));
        }
        let found = self.sources.find(&nouns, text).await?;
        let owner = match found.as_slice() {
            [owner] => owner,
            [] => return Err(Error::not_found(format!("Nothing here has the id or name '{text}'."))),
            many => return Err(ambiguous(text, many)),
        };
        let mut owners = vec![(owner.kind.clone(), owner.id.clone())];
        if owner.kind == Noun::Server.name() {
            let volumes = self.sources.volumes_of(&owner.id).await?;
            owners.extend(volumes.into_iter().map(|id| (Noun::Volume.name().to_owned(), id)));
        }
        let theirs = |row: &Owner| owners.iter().any(|(kind, id)| *kind == row.kind && *id == row.id);
        let disks = known.disks.iter().filter(|(_, row)| theirs(&row.owner)).map(|(at, _)| at.clone());
        // A row can be of a disk that is not there (yet), or in a pool of another host.
        let mut there = BTreeSet::new();
        for (pool, disk) in disks {
            if let Some(reached) = self.pool(&pool)
                && reached.stat(&disk).await?.is_some()
            {
                there.insert((pool, disk));
            }
        }
        match there.is_empty() {
            true => {
                Err(Error::not_found(format!("The {} '{text}' has no disk in a pool of this process.", owner.kind)))
            }
            false => Ok(there),
        }
    }
}

fn ambiguous(text: &str, found: &[Owner]) -> Error {
    let ids: Vec<String> = found.iter().map(|owner| format!("{} {}", owner.kind, owner.id)).collect();
    Error::conflict(format!("'{text}' is the name of several things; say which by its id: {}.", ids.join(", ")))
}

/// Where a lineage begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Top {
    /// Name of the pool, and the disk.
    Seen(String, String),
    /// A parent out of sight: a disk that was removed, or one in a pool that is not here.
    Unseen(Location),
}

struct Lineage<'a> {
    pools: &'a [Arc<dyn Pool>],
    aliases: &'a Aliases,
    known: &'a Known,
    asked: &'a BTreeSet<(String, String)>,
    parents: OnceCell<BTreeMap<(String, String), Location>>,
    nodes: AtomicUsize,
}

impl<'a> Lineage<'a> {
    fn new(
        pools: &'a [Arc<dyn Pool>],
        aliases: &'a Aliases,
        known: &'a Known,
        asked: &'a BTreeSet<(String, String)>,
    ) -> Lineage<'a> {
        let nodes = AtomicUsize::new(0);
        Lineage { pools, aliases, known, asked, parents: OnceCell::new(), nodes }
    }

    fn pool(&self, name: &str) -> Option<&Arc<dyn Pool>> {
        self.pools.iter().find(|pool| pool.name() == name)
    }

    /// Our pool at a place in a cluster.
    fn pool_at(&self, scheme: &str, cluster: &str, pool: &str) -> Option<&Arc<dyn Pool>> {
        self.pools.iter().find(|ours| {
            let at = ours.location("disk", "snapshot");
            at.scheme == scheme && at.cluster == cluster && at.pool == pool
        })
    }

    async fn top(&self, pool: &str, disk: &str) -> Result<Top> {
        let mut at = (pool.to_owned(), disk.to_owned());
        for _ in 0..DEEPEST {
            let Some(pool) = self.pool(&at.0) else { break };
            let Some(parent) = pool.stat(&at.1).await?.and_then(|stat| stat.parent) else { break };
            let Some(above) = self.pool_at(&parent.scheme, &parent.cluster, &parent.pool) else {
                return Ok(Top::Unseen(parent));
            };
            if above.stat(&parent.disk).await?.is_none_or(|stat| !stat.snapshots.contains(&parent.snapshot)) {
                return Ok(Top::Unseen(parent));
            }
            at = (self.aliases.of(above.name()).to_owned(), parent.disk);
        }
        Ok(Top::Seen(at.0, at.1))
    }

    async fn top_node(&self, top: Top) -> Result<Node> {
        let parent = match top {
            Top::Seen(pool, disk) => return self.node(pool, disk, DEEPEST).await,
            Top::Unseen(parent) => parent,
        };
        let pool = self.pool_at(&parent.scheme, &parent.cluster, &parent.pool);
        let pool = pool.map_or_else(|| parent.pool.clone(), |pool| self.aliases.of(pool.name()).to_owned());
        self.unseen(pool, &parent, DEEPEST).await
    }

    /// A disk that cannot be asked: its clones are those that say so. `pool` is its pool's name here.
    async fn unseen(&self, pool: String, at: &Location, depth: usize) -> Result<Node> {
        let parents = self.parents.get_or_try_init(|| parents(self.pools)).await?;
        let mut by_snapshot: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        let theirs = |parent: &Location| {
            let same = parent.scheme == at.scheme && parent.cluster == at.cluster;
            same && parent.pool == at.pool && parent.disk == at.disk
        };
        for ((pool, child), parent) in parents {
            if theirs(parent) && self.aliases.of(pool) == pool {
                by_snapshot.entry(parent.snapshot.clone()).or_default().push((pool.clone(), child.clone()));
            }
        }
        let mut snapshots = Vec::new();
        for (name, clones) in by_snapshot {
            let mut children = Vec::new();
            for (pool, clone) in clones {
                children.push(self.node(pool, clone, depth.saturating_sub(1)).await?);
            }
            snapshots.push(SnapshotNode { name, used: None, children });
        }
        Ok(Node { pool, disk: at.disk.clone(), hidden: true, snapshots, ..Node::default() })
    }

    /// Boxed, as it calls itself.
    fn node(
        &self,
        pool: String,
        disk: String,
        depth: usize,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Node>> + Send + '_>> {
        Box::pin(async move {
            let owner = self.known.get(&pool, &disk).map(|row| row.owner.clone());
            let asked = self.asked.contains(&(pool.clone(), disk.clone()));
            let mut node = Node { owner, pool, disk, asked, ..Node::default() };
            let Some(ours) = self.pool(&node.pool) else { return Ok(node) };
            let Some(stat) = ours.stat(&node.disk).await? else { return Ok(node) };
            // Figures are worth less than the tree: a pool that cannot count still tells who descends from whom.
            let usage = ours.usage(&node.disk).await.ok();
            node.size = Some(stat.size);
            node.used = usage.as_ref().map(|usage| usage.head);
            let used: BTreeMap<String, u64> = usage.into_iter().flat_map(|usage| usage.snapshots).collect();
            if depth == 0 || self.nodes.fetch_add(1, Ordering::Relaxed) >= MOST {
                return Ok(node);
            }
            for name in stat.snapshots {
                let children = self.children(ours, &node.disk, &name, depth).await?;
                node.snapshots.push(SnapshotNode { used: used.get(&name).copied(), name, children });
            }
            Ok(node)
        })
    }

    async fn children(&self, pool: &Arc<dyn Pool>, disk: &str, snapshot: &str, depth: usize) -> Result<Vec<Node>> {
        let at = pool.location(disk, snapshot);
        let mut clones = pool.children(disk, snapshot).await?;
        clones.sort_by(|one, two| (&one.pool, &one.disk).cmp(&(&two.pool, &two.disk)));
        let mut children = Vec::new();
        for clone in clones {
            let ours = self.pool_at(&at.scheme, &at.cluster, &clone.pool);
            let name = ours.map_or_else(|| clone.pool.clone(), |pool| self.aliases.of(pool.name()).to_owned());
            children.push(match clone.hidden {
                false => self.node(name, clone.disk, depth - 1).await?,
                true => {
                    let unseen = Location { pool: clone.pool, disk: clone.disk, ..at.clone() };
                    self.unseen(name, &unseen, depth - 1).await?
                }
            });
        }
        Ok(children)
    }
}
